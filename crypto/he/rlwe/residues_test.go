package rlwe

import (
	"bytes"
	"errors"
	"math/big"
	"math/rand/v2"
	"testing"
)

var templatePrimes = []uint64{1152921504606683137, 1099508121601, 1099510054913}

// packBig packs residues by big-integer arithmetic: an oracle of another kind.
func packBig(words []uint64, width int) []byte {
	total := new(big.Int)
	for i, w := range words {
		total.Or(total, new(big.Int).Lsh(new(big.Int).SetUint64(w), uint(i*width)))
	}
	out := make([]byte, len(words)*width/8)
	be := total.FillBytes(make([]byte, len(out)))
	for i := range out {
		out[i] = be[len(be)-1-i]
	}
	return out
}

func TestResidueSumsAreModular(t *testing.T) {
	const n = 64
	r := rand.New(rand.NewPCG(1, 9))
	s := NewResidueSum(templatePrimes, n)
	want := make([]uint64, 2*n*len(templatePrimes))
	const k = 5
	for range k {
		var block []byte
		for p := range 2 {
			for i, q := range templatePrimes {
				words := make([]uint64, n)
				for j := range words {
					words[j] = r.Uint64N(q)
					if j < 2 {
						words[j] = q - 1
					}
					at := (p*len(templatePrimes)+i)*n + j
					want[at] = (want[at] + words[j]) % q
				}
				block = append(block, packBig(words, []int{60, 40, 40}[i])...)
			}
		}
		if err := s.Add(block); err != nil {
			t.Fatal(err)
		}
	}
	for i, w := range want {
		if s.words[i] != w {
			t.Fatalf("word %d is %d, want %d", i, s.words[i], w)
		}
	}
	out := make([]byte, s.blockBytes())
	if err := s.Write(out); err != nil {
		t.Fatal(err)
	}
	again := NewResidueSum(templatePrimes, n)
	back := make([]byte, len(out))
	if err := errors.Join(again.Add(out), again.Write(back)); err != nil || !bytes.Equal(out, back) {
		t.Errorf("the sum does not come back: %v", err)
	}
}

func TestResidueSumRefuses(t *testing.T) {
	const n = 64
	s := NewResidueSum(templatePrimes, n)
	block := make([]byte, s.blockBytes())
	if err := s.Add(block[1:]); !errors.Is(err, ErrLength) {
		t.Errorf("short: %v", err)
	}
	if err := s.Write(block[1:]); !errors.Is(err, ErrLength) {
		t.Errorf("no room: %v", err)
	}
	for _, at := range []int{0, n - 1} {
		words := make([]uint64, n)
		words[at] = templatePrimes[0]
		copy(block, packBig(words, 60))
		s.Reset()
		if err := s.Add(block); !errors.Is(err, ErrNotCanonical) {
			t.Errorf("residue %d is the prime itself: %v", at, err)
		}
	}
}
