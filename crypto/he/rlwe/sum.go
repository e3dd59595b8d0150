package rlwe

import "fmt"

// maxPending is how many blocks are added before a reduction: 31 residues below q
// and a reduced sum stay below 2^32.
const maxPending = 30

// Sum adds blocks at one place of their vectors. It needs no key. Its memory is
// 128 KiB, which stays in a second-level cache while blocks stream past.
type Sum struct {
	ring    *ring
	words   []int32 // c0 and c1, BlockValues each, below 32q as unsigned words
	pending int
}

// NewSum returns an empty sum: a ciphertext of zeros without noise.
func NewSum() *Sum { return &Sum{ring: newRing(), words: make([]int32, 2*BlockValues)} }

// Reset begins again.
func (s *Sum) Reset() {
	clear(s.words)
	s.pending = 0
}

// Add adds a block. A block that is not canonical is an error, after which the sum is undefined
// until Reset.
func (s *Sum) Add(block []byte) error {
	if len(block) != BlockBytes {
		return fmt.Errorf("block of %d bytes: %w", len(block), ErrLength)
	}
	if s.pending == maxPending {
		s.reduce()
	}
	s.pending++
	first := s.ring.addPacked(s.words[:BlockValues], block[:polyBytes])
	second := s.ring.addPacked(s.words[BlockValues:], block[polyBytes:])
	if !first || !second {
		return ErrNotCanonical
	}
	return nil
}

func (s *Sum) reduce() {
	s.ring.reduce(s.words[:BlockValues])
	s.ring.reduce(s.words[BlockValues:])
	s.pending = 0
}

// Write writes the sum as a block, BlockBytes long.
func (s *Sum) Write(dst []byte) error {
	if len(dst) != BlockBytes {
		return fmt.Errorf("block of %d bytes: %w", len(dst), ErrLength)
	}
	s.reduce()
	s.ring.pack(dst[:polyBytes], s.words[:BlockValues])
	s.ring.pack(dst[polyBytes:], s.words[BlockValues:])
	return nil
}
