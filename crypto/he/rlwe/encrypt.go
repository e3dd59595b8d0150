package rlwe

import (
	"errors"
	"fmt"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// ErrRange means a value whose absolute value is above q/4, which no set allows.
var ErrRange = errors.New("value out of range")

// maxValue keeps value and error far below q/2.
const maxValue = Modulus / 4

// Encryptor encrypts one vector, block after block.
type Encryptor struct {
	key      *PublicKey
	random   *stream
	u, e     []int32
	residues []int32
}

// NewEncryptor takes the secret seed of one vector. Two vectors under one seed
// would be told apart by subtraction: a seed is used once.
func NewEncryptor(key *PublicKey, seed *keybuf.Buffer) (*Encryptor, error) {
	if seed.Len() != SeedSize {
		return nil, fmt.Errorf("seed of %d bytes: %w", seed.Len(), ErrLength)
	}
	var s [SeedSize]byte
	copy(s[:], seed.Bytes())
	random, err := newStream(&s)
	clear(s[:])
	if err != nil {
		return nil, err
	}
	return &Encryptor{key: key, random: random, u: make([]int32, BlockValues), e: make([]int32, BlockValues), residues: make([]int32, BlockValues)}, nil
}

// Encrypt writes the next block, BlockBytes long, of at most BlockValues values;
// missing ones are zeros.
func (e *Encryptor) Encrypt(dst []byte, values []int32) error {
	if len(dst) != BlockBytes || len(values) > BlockValues {
		return fmt.Errorf("block of %d bytes for %d values: %w", len(dst), len(values), ErrLength)
	}
	for _, v := range values {
		if v > maxValue || v < -maxValue {
			return ErrRange
		}
	}
	r := e.key.ring
	r.ternary(e.u, e.random.next(ternaryBytes))
	r.ntt(e.u)
	clear(e.e[copy(e.e, values):])
	e.half(dst[:polyBytes], e.key.b)
	clear(e.e)
	e.half(dst[polyBytes:], e.key.a)
	return nil
}

// half makes one polynomial: key*u + error + what stands in e.e.
func (e *Encryptor) half(dst []byte, key []factor) {
	r := e.key.ring
	r.addErrors(e.e, e.random.next(errorBytes))
	r.ntt(e.e)
	r.combine(e.residues, e.u, e.e, key)
	r.pack(dst, e.residues)
}

// Wipe clears the last block's secrets.
func (e *Encryptor) Wipe() {
	e.random.wipe()
	clear(e.u)
	clear(e.e)
}

// combine is key*u + v in every lane, canonical. |u| and |v| are below 9q.
func (r *ring) combine(dst, u, v []int32, key []factor) {
	_, _, _, _ = dst[BlockValues-1], u[BlockValues-1], v[BlockValues-1], key[N-1]
	if r.vector {
		combineAVX2(&dst[0], &u[0], &v[0], &key[0], &r.one)
		return
	}
	for row, k := range key {
		for i := row * Lanes; i < (row+1)*Lanes; i++ {
			dst[i] = int32(canonical(r.one.mul(k.mul(u[i]) + v[i])))
		}
	}
}
