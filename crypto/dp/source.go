package dp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
)

const sourceBuffer = 1 << 13

// Source is a stream of random bytes: AES-256 in counter mode. It is not safe for
// concurrent use.
type Source struct {
	ctr  cipher.Stream
	buf  []byte
	at   int
	zero []byte
}

// NewSource expands a seed; the same seed gives the same stream.
func NewSource(seed [32]byte) (*Source, error) {
	block, err := aes.NewCipher(seed[:])
	if err != nil {
		return nil, err
	}
	return &Source{ctr: cipher.NewCTR(block, make([]byte, aes.BlockSize)), buf: make([]byte, sourceBuffer), at: sourceBuffer, zero: make([]byte, sourceBuffer)}, nil
}

// RandomSource returns a stream with a random seed that nobody knows.
func RandomSource() (*Source, error) {
	var seed [32]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, err
	}
	defer clear(seed[:])
	return NewSource(seed)
}

// Uint64 returns 64 random bits.
func (s *Source) Uint64() uint64 {
	if s.at == sourceBuffer {
		s.refill()
	}
	v := binary.LittleEndian.Uint64(s.buf[s.at:])
	s.at += 8
	return v
}

func (s *Source) refill() {
	s.ctr.XORKeyStream(s.buf, s.zero)
	s.at = 0
}

// Wipe clears the random bytes that were drawn ahead.
func (s *Source) Wipe() {
	clear(s.buf)
	s.at = sourceBuffer
}
