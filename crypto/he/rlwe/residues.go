package rlwe

import (
	"fmt"
	"math/bits"
)

// ResidueSum adds ciphertexts of any set: polynomials of n residues for each prime,
// each packed at the bit length of its prime, lowest bits first. It is what the
// larger sets are added with; Sum is many times faster for the default set.
type ResidueSum struct {
	primes []uint64
	n      int
	words  []uint64 // two polynomials, prime after prime
}

// NewResidueSum returns an empty sum for ciphertexts of two polynomials of n residues, n a
// multiple of 8, over primes below 2^62.
func NewResidueSum(primes []uint64, n int) *ResidueSum {
	return &ResidueSum{primes: primes, n: n, words: make([]uint64, 2*n*len(primes))}
}

// blockBytes is the length of one packed ciphertext.
func (s *ResidueSum) blockBytes() (total int) {
	for _, q := range s.primes {
		total += bits.Len64(q-1) * s.n / 8
	}
	return 2 * total
}

// Reset begins again.
func (s *ResidueSum) Reset() { clear(s.words) }

// Add adds a ciphertext. After an error the sum is undefined until Reset.
func (s *ResidueSum) Add(block []byte) error {
	if len(block) != s.blockBytes() {
		return fmt.Errorf("block of %d bytes: %w", len(block), ErrLength)
	}
	words := s.words
	for range 2 {
		for _, q := range s.primes {
			width := bits.Len64(q - 1)
			size := width * s.n / 8
			if !addResidues(words[:s.n], block[:size], q, width) {
				return ErrNotCanonical
			}
			words, block = words[s.n:], block[size:]
		}
	}
	return nil
}

func addResidues(sum []uint64, packed []byte, q uint64, width int) bool {
	var held, high uint64 // 128 bits, for a residue and a byte may pass 64
	n, good := 0, true
	for i := range sum {
		for n < width {
			b := uint64(packed[0])
			packed = packed[1:]
			held |= b << n
			if n > 56 {
				high |= b >> (64 - n)
			}
			n += 8
		}
		v := held & (1<<width - 1)
		held = held>>width | high<<(64-width)
		high >>= width
		n -= width
		good = good && v < q
		if sum[i] += v; sum[i] >= q {
			sum[i] -= q
		}
	}
	return good
}

// Write writes the sum as a block.
func (s *ResidueSum) Write(dst []byte) error {
	if len(dst) != s.blockBytes() {
		return fmt.Errorf("block of %d bytes: %w", len(dst), ErrLength)
	}
	words := s.words
	for range 2 {
		for _, q := range s.primes {
			width := bits.Len64(q - 1)
			size := width * s.n / 8
			packResidues(dst[:size], words[:s.n], width)
			words, dst = words[s.n:], dst[size:]
		}
	}
	return nil
}

func packResidues(dst []byte, words []uint64, width int) {
	var held, high uint64
	n := 0
	for _, v := range words {
		held |= v << n
		if n > 0 {
			high = v >> (64 - n)
		}
		for n += width; n >= 8; n -= 8 {
			dst[0] = byte(held)
			dst = dst[1:]
			held = held>>8 | high<<56
			high >>= 8
		}
	}
}
