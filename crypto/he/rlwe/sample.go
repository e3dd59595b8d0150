package rlwe

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"math/bits"
)

const (
	// errorCoins is the number of fair coins in one error: their sum less its mean
	// has variance 12 (the centred binomial distribution, as in ML-KEM).
	errorCoins = 48

	ternaryBytes = BlockValues * 4
	errorBytes   = BlockValues * 6
)

// stream is AES-256 in counter mode from one seed: 16 random bytes a value.
type stream struct {
	ctr  cipher.Stream
	buf  []byte // errorBytes long
	zero []byte
}

func newStream(seed *[SeedSize]byte) (*stream, error) {
	block, err := aes.NewCipher(seed[:])
	if err != nil {
		return nil, err
	}
	var iv [aes.BlockSize]byte
	return &stream{ctr: cipher.NewCTR(block, iv[:]), buf: make([]byte, errorBytes), zero: make([]byte, errorBytes)}, nil
}

// next returns the next n bytes, valid until the next call.
func (s *stream) next(n int) []byte {
	s.ctr.XORKeyStream(s.buf[:n], s.zero[:n])
	return s.buf[:n]
}

// wipe clears what was drawn last.
func (s *stream) wipe() { clear(s.buf) }

// ternary fills x with uniform values of -1, 0 and 1 from four random bytes each.
// One of them is more likely than the others by 2^-32.
func (r *ring) ternary(x []int32, random []byte) {
	_, _ = x[BlockValues-1], random[ternaryBytes-1]
	if r.vector {
		ternaryAVX2(&x[0], &random[0])
		return
	}
	for i := range x {
		x[i] = int32(uint64(binary.LittleEndian.Uint32(random[4*i:]))*3>>32) - 1
	}
}

// addErrors adds an error to each value of x, from six random bytes each: of three
// random rows, the first two give 32 coins to one row of values each, the halves
// of the third 16 more.
func (r *ring) addErrors(x []int32, random []byte) {
	_, _ = x[BlockValues-1], random[errorBytes-1]
	if r.vector {
		errorsAVX2(&x[0], &random[0])
		return
	}
	word := func(row, lane int) uint32 { return binary.LittleEndian.Uint32(random[4*(row*Lanes+lane):]) }
	for pair := range N / 2 {
		for lane := range Lanes {
			shared := word(3*pair+2, lane)
			x[2*pair*Lanes+lane] += coins(word(3*pair, lane), shared&0xFFFF)
			x[(2*pair+1)*Lanes+lane] += coins(word(3*pair+1, lane), shared>>16)
		}
	}
}

func coins(a, b uint32) int32 {
	return int32(bits.OnesCount32(a)+bits.OnesCount32(b)) - errorCoins/2
}
