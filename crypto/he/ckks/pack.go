package ckks

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// ErrNotCanonical means bytes that are not the one encoding of what they should be:
// another length, or a residue that is not below its prime.
var ErrNotCanonical = errors.New("ckks: not the canonical encoding")

// A polynomial is packed prime after prime: the residues of its coefficients in
// order, each in as many bits as the prime has, lowest bits first. It is in
// coefficient form: the order of a number theoretic transform is each library's own.

// polyBytes is the length of a packed polynomial of n residues for each prime.
func polyBytes(n int, primes []uint64) (total int) {
	for _, q := range primes {
		total += bits.Len64(q) * n / 8
	}
	return total
}

// packPoly writes residues that are below their primes, and returns what is left of
// dst.
func packPoly(dst []byte, coeffs [][]uint64, primes []uint64) []byte {
	for i, q := range primes {
		width := bits.Len64(q)
		pack(dst, coeffs[i], width)
		dst = dst[width*len(coeffs[i])/8:]
	}
	return dst
}

// unpackPoly fills coeffs from src, which has the length of polyBytes, and says
// whether every residue is below its prime.
func unpackPoly(coeffs [][]uint64, src []byte, primes []uint64) bool {
	good := true
	for i, q := range primes {
		width := bits.Len64(q)
		good = unpack(coeffs[i], src, width, q) && good
		src = src[width*len(coeffs[i])/8:]
	}
	return good
}

// pack writes words of width bits; their number is a multiple of 64.
func pack(dst []byte, words []uint64, width int) {
	var held uint64
	n := 0
	for _, v := range words {
		held |= v << n
		if n += width; n >= 64 {
			binary.LittleEndian.PutUint64(dst, held)
			dst = dst[8:]
			n -= 64
			held = v >> (width - n)
		}
	}
}

func unpack(words []uint64, src []byte, width int, q uint64) bool {
	mask, over := uint64(1)<<width-1, uint64(0)
	// A field is read as nine bytes; the last eight fields are read from a copy that
	// has them.
	body := len(words) - 8
	var tail [8*maxPrimeBits/8 + 9]byte
	copy(tail[:], src[body*width/8:])
	for i := range words[:body] {
		v := field(src, i*width) & mask
		words[i] = v
		over |= (q - 1 - v) >> 63
	}
	for i := range words[body:] {
		v := field(tail[:], i*width) & mask
		words[body+i] = v
		over |= (q - 1 - v) >> 63
	}
	return over == 0
}

// field is what stands from a bit on, 64 bits of it.
func field(b []byte, bit int) uint64 {
	at, shift := b[bit>>3:], bit&7
	return binary.LittleEndian.Uint64(at)>>shift | uint64(at[8])<<(64-shift)
}

func clearAll(coeffs [][]uint64) {
	for _, c := range coeffs {
		clear(c)
	}
}

// newPoly is a polynomial of n residues for each of count primes.
func newPoly(n, count int) [][]uint64 {
	words := make([]uint64, n*count)
	coeffs := make([][]uint64, count)
	for i := range coeffs {
		coeffs[i] = words[i*n : (i+1)*n : (i+1)*n]
	}
	return coeffs
}
