package ckks

import (
	"errors"
	"math/big"
	"math/bits"
	"math/rand/v2"
	"testing"
)

func randomResidues(p Params, seed uint64) *Residues {
	rng := rand.New(rand.NewPCG(seed, 1))
	r := NewResidues(p)
	for _, part := range r.parts {
		for i, q := range p.Q {
			for k := range part[i] {
				part[i][k] = rng.Uint64N(q)
			}
			part[i][0], part[i][1] = q-1, 0
		}
	}
	return r
}

func marshal(tb testing.TB, p Params, r *Residues) []byte {
	tb.Helper()
	ct := make([]byte, p.CiphertextBytes())
	if err := r.Marshal(ct); err != nil {
		tb.Fatal(err)
	}
	return ct
}

// The encoding against its definition: one big integer per prime.
func TestPackingIsLowestBitsFirst(t *testing.T) {
	p := Template()
	r := randomResidues(p, 1)
	ct := marshal(t, p, r)
	if len(ct) != 2*16384*(60+40+40)/8 {
		t.Fatalf("%d bytes", len(ct))
	}
	for _, part := range r.parts {
		for i, q := range p.Q {
			width := bits.Len64(q)
			want := new(big.Int)
			for k := 99; k >= 0; k-- {
				want.Lsh(want, uint(width)).Or(want, new(big.Int).SetUint64(part[i][k]))
			}
			got := make([]byte, 100*width/8)
			for k := range got {
				got[len(got)-1-k] = ct[k]
			}
			if new(big.Int).SetBytes(got).Cmp(want) != 0 {
				t.Errorf("prime %d is packed otherwise", q)
			}
			ct = ct[width*p.N()/8:]
		}
	}
}

func TestPackedResiduesReturn(t *testing.T) {
	for width := 20; width <= 60; width++ {
		q := uint64(1)<<width - 1
		rng := rand.New(rand.NewPCG(uint64(width), 2))
		in, out := make([]uint64, 128), make([]uint64, 128)
		for i := range in {
			in[i] = rng.Uint64N(q)
		}
		packed := make([]byte, 16*width)
		pack(packed, in, width)
		if !unpack(out, packed, width, q) {
			t.Fatalf("%d bits: refused", width)
		}
		for i := range in {
			if in[i] != out[i] {
				t.Fatalf("%d bits: residue %d", width, i)
			}
		}
	}
}

// Every prime of both polynomials is held to its bound.
func TestResiduesNotBelowTheirPrimeAreRefused(t *testing.T) {
	p := Template()
	for part := range 2 {
		for i, q := range p.Q {
			for _, at := range []int{0, 7, p.N() - 1} {
				r := randomResidues(p, 3)
				r.parts[part][i][at] = q
				err := NewResidues(p).Unmarshal(marshal(t, p, r))
				if !errors.Is(err, ErrNotCanonical) {
					t.Errorf("part %d prime %d place %d: %v", part, i, at, err)
				}
			}
		}
	}
}

func TestOtherLengthsAreRefused(t *testing.T) {
	p := small()
	ct := marshal(t, p, randomResidues(p, 4))
	for name, bad := range map[string][]byte{"none": nil, "cut": ct[:len(ct)-1], "longer": append(ct[:len(ct):len(ct)], 0)} {
		if err := NewResidues(p).Unmarshal(bad); !errors.Is(err, ErrNotCanonical) {
			t.Errorf("%s: %v", name, err)
		}
		if err := randomResidues(p, 4).Marshal(bad); !errors.Is(err, ErrNotCanonical) {
			t.Errorf("room %s: %v", name, err)
		}
	}
}

func TestSumsAreModular(t *testing.T) {
	p := Template()
	a, b := randomResidues(p, 5), randomResidues(p, 6)
	sum := NewResidues(p)
	AddInto(sum, a)
	AddInto(sum, b)
	for part := range 2 {
		for i, q := range p.Q {
			for k, got := range sum.parts[part][i] {
				if want := (a.parts[part][i][k] + b.parts[part][i][k]) % q; got != want {
					t.Fatalf("part %d prime %d place %d: %d, not %d", part, i, k, got, want)
				}
			}
		}
	}
	if err := NewResidues(p).Unmarshal(marshal(t, p, sum)); err != nil {
		t.Error(err)
	}
}
