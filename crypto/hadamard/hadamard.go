// Package hadamard spreads a block of values evenly over its places, and gathers them again.
//
// A [Rotation] multiplies the block by signs that follow from a seed, and then by the
// Walsh-Hadamard matrix of its length (Ailon and Chazelle 2009; for means of vectors Suresh,
// Yu, Kumar and McMahan 2017). Scaled by 1/sqrt(n), that is a rotation: norms and distances stay
// the same, and a value that stood out is shared by all n places. In a block of norm b, whatever
// its values, a place exceeds t*b/sqrt(n) with a probability of at most 2*exp(-t*t/2) over the
// seed (Hoeffding 1963), so a small multiple of b/sqrt(n) bounds all values.
//
// Gather of integers is exact on every processor, and the inverse of Spread up to the factor n.
// Spread only adds floats, so no processor can fuse an operation: its error is at most
// log2(n) * 2^-53 of the block's norm. The seed must have been chosen without knowledge of the
// values.
//
// Workers spread a contribution before they clamp it, and gather the sum; agents use the package
// to find the largest value that a contribution will have.
package hadamard

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"math"
)

// MaxValues bounds a block: integers below 2^46 are gathered without an overflow.
const MaxValues = 1 << 16

// ErrLength means a block whose length is not a power of two from 16 to MaxValues, or differs
// from the rotation's.
var ErrLength = errors.New("hadamard: invalid block length")

// Rotation is the rotation of all blocks of one length under one seed. It is not safe for
// concurrent use.
type Rotation struct {
	n     int
	signs cipher.Block
	words []uint64 // a bit for each value of the block
	text  []byte
}

// New prepares the rotation of blocks of n values.
func New(seed [32]byte, n int) (*Rotation, error) {
	if n < 16 || n > MaxValues || n&(n-1) != 0 {
		return nil, ErrLength
	}
	block, err := aes.NewCipher(seed[:])
	if err != nil {
		return nil, err
	}
	size := max(n, 64) / 64
	return &Rotation{n: n, signs: block, words: make([]uint64, size), text: make([]byte, 8*size)}, nil
}

// draw computes the signs of a block: AES-256 in counter mode under the seed, from the
// counter block that has the block's number in its first 8 bytes and zeros after them, big-endian; a set bit, lowest
// of the first byte first, is a minus.
func (r *Rotation) draw(block uint64) {
	var counter [aes.BlockSize]byte
	binary.BigEndian.PutUint64(counter[:], block)
	clear(r.text)
	cipher.NewCTR(r.signs, counter[:]).XORKeyStream(r.text, r.text)
	for i := range r.words {
		r.words[i] = binary.LittleEndian.Uint64(r.text[8*i:])
	}
}

// Spread rotates a block in place, without the factor 1/sqrt(n).
func (r *Rotation) Spread(block uint64, values []float64) error {
	if len(values) != r.n {
		return ErrLength
	}
	r.draw(block)
	for i, w := range r.words {
		for part, j := values[64*i:min(64*i+64, r.n)], 0; j < len(part); j++ {
			part[j] = math.Float64frombits(math.Float64bits(part[j]) ^ w<<63)
			w >>= 1
		}
	}
	transform(values)
	return nil
}

// Gather rotates a block of integers back in place, without the factor 1/sqrt(n). The integers
// must be below 2^46.
func (r *Rotation) Gather(block uint64, values []int64) error {
	if len(values) != r.n {
		return ErrLength
	}
	r.draw(block)
	transform(values)
	for i, w := range r.words {
		for part, j := values[64*i:min(64*i+64, r.n)], 0; j < len(part); j++ {
			minus := -int64(w & 1)
			part[j] = (part[j] ^ minus) - minus
			w >>= 1
		}
	}
	return nil
}

// transform multiplies by the Walsh-Hadamard matrix (Fino and Algazi 1976): sixteen
// neighbours at once first, then three levels in each pass over the block while they last.
func transform[T int64 | float64](x []T) {
	n := len(x)
	for i := 0; i+16 <= n; i += 16 {
		sixteen((*[16]T)(x[i:]))
	}
	h := 16
	for ; 8*h <= n; h *= 8 {
		for i := 0; i < n; i += 8 * h {
			eight(x[i:i+8*h], h)
		}
	}
	for ; 2*h <= n; h *= 2 {
		for i := 0; i < n; i += 2 * h {
			two(x[i:i+h], x[i+h:i+2*h])
		}
	}
}

// butterfly is the transform of four.
func butterfly[T int64 | float64](w, x, y, z T) (T, T, T, T) {
	a, b, c, d := w+x, w-x, y+z, y-z
	return a + c, b + d, a - c, b - d
}

func sixteen[T int64 | float64](x *[16]T) {
	a0, a1, a2, a3 := butterfly(x[0], x[1], x[2], x[3])
	b0, b1, b2, b3 := butterfly(x[4], x[5], x[6], x[7])
	c0, c1, c2, c3 := butterfly(x[8], x[9], x[10], x[11])
	d0, d1, d2, d3 := butterfly(x[12], x[13], x[14], x[15])
	x[0], x[4], x[8], x[12] = butterfly(a0, b0, c0, d0)
	x[1], x[5], x[9], x[13] = butterfly(a1, b1, c1, d1)
	x[2], x[6], x[10], x[14] = butterfly(a2, b2, c2, d2)
	x[3], x[7], x[11], x[15] = butterfly(a3, b3, c3, d3)
}

// eight is three levels, of places that are h apart.
func eight[T int64 | float64](x []T, h int) {
	x0, x1, x2, x3 := x[:h], x[h:2*h], x[2*h:3*h], x[3*h:4*h]
	x4, x5, x6, x7 := x[4*h:5*h], x[5*h:6*h], x[6*h:7*h], x[7*h:8*h]
	n := len(x0) // the others are as long: said so that no access is checked
	x1, x2, x3, x4, x5, x6, x7 = x1[:n], x2[:n], x3[:n], x4[:n], x5[:n], x6[:n], x7[:n]
	for i, v := range x0 {
		a0, a1, a2, a3 := butterfly(v, x1[i], x2[i], x3[i])
		b0, b1, b2, b3 := butterfly(x4[i], x5[i], x6[i], x7[i])
		x0[i], x1[i], x2[i], x3[i] = a0+b0, a1+b1, a2+b2, a3+b3
		x4[i], x5[i], x6[i], x7[i] = a0-b0, a1-b1, a2-b2, a3-b3
	}
}

func two[T int64 | float64](x, y []T) {
	y = y[:len(x)]
	for i, v := range x {
		x[i], y[i] = v+y[i], v-y[i]
	}
}
