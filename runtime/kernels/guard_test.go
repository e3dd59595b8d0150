package kernels

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// FuzzQuantize quantizes tokens with every set, inputs, records and the form for tiles each beside an unmapped page:
// all write the reference's, and nothing of other tokens.
func FuzzQuantize(f *testing.F) {
	for kind := range uint8(14) {
		f.Add(uint64(kind), kind, 3*kind, kind)
	}
	f.Fuzz(func(t *testing.T, seed uint64, blocks, token, kind uint8) {
		rng, cols, inputs := rand.New(rand.NewPCG(seed, 5)), (int(blocks)%20+1)*BlockCols, inputKinds[int(kind)%len(inputKinds)]
		const tokens = 2 * wide
		x := make([]float32, cols)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		fill(x, rng, inputs)
		before := make([]byte, ActivationBytes(tokens, cols))
		randomize(rng, before)
		at, atStart := int(token)%tokens, seed%2 == 0
		run := func(quantize func(a *Activations, token int, x []float32)) *Activations {
			a, err := NewActivations(slices.Clone(before), tokens, cols)
			if err != nil {
				t.Fatal(err)
			}
			n := cols / BlockCols
			// The token's own records end or begin at an unmapped page: what is beside them is another's.
			own := &Activations{tokens: 1, cols: cols, records: guardedCopy(t, a.records[at*n:(at+1)*n], atStart), wide: guardedCopy(t, a.wide, atStart)}
			quantize(own, at, guardedCopy(t, x, atStart))
			return own
		}
		want := run(func(a *Activations, token int, x []float32) {
			genericQuantize(a.records, x)
			genericWiden(a.tile(token/wide), token%wide, a.records)
		})
		for _, s := range sets() {
			got := run(func(a *Activations, token int, x []float32) {
				s.vector.quantize(a.records, x)
				if s.vector.widen != nil {
					s.vector.widen(a.tile(token/wide), token%wide, a.records)
				}
			})
			sameRecords(t, s.Name()+" quantizes "+inputs, got.records, want.records)
			// Of what is not finite the form for tiles has a NaN, and the reference says not which.
			if s.vector.widen != nil && inputs != "infinite" && !bytes.Equal(got.wide, want.wide) {
				t.Fatalf("%s, %s: another form for tiles of token %d", s.Name(), inputs, at)
			}
		}
	})
}

// sameRecords wants the same bits, and of NaNs that both are one.
func sameRecords(t *testing.T, what string, got, want []record) {
	t.Helper()
	for i := range want {
		a, b := got[i], want[i]
		sameBits(t, what, []float32{a.scale, a.offset}, []float32{b.scale, b.offset})
		a.scale, a.offset, b.scale, b.offset = 0, 0, 0, 0
		if a != b {
			t.Fatalf("%s: block %d is\n%v\nreference\n%v", what, i, a, b)
		}
	}
}

// FuzzHalves converts vectors of any length and of any bits.
func FuzzHalves(f *testing.F) {
	for n := range uint8(40) {
		f.Add(uint64(n), n, n)
	}
	f.Fuzz(func(t *testing.T, seed uint64, length, kind uint8) {
		x, atStart := anyFloats(seed, int(length)+1, kind), seed%2 == 0
		want := make([]uint16, len(x))
		genericHalves(want, x)
		for _, s := range sets() {
			got := guardedCopy(t, make([]uint16, len(x)), atStart)
			s.Halves(got, guardedCopy(t, x, atStart))
			for i, v := range want {
				if got[i] != v {
					t.Fatalf("%s: %v of %d becomes %#x, reference %#x", s.Name(), x[i], len(x), got[i], v)
				}
			}
		}
	})
}

// FuzzSelection asks for what sampling selects with: the largest number of a vector, and those that are not below another.
func FuzzSelection(f *testing.F) {
	for n := range uint8(40) {
		f.Add(uint64(n), 5*n, n)
	}
	f.Fuzz(func(t *testing.T, seed uint64, length, kind uint8) {
		x, atStart := anyFloats(seed, int(length)+1, kind), seed%2 == 0
		floor, want := x[len(x)/2], make([]uint64, (len(x)+63)/64)
		genericNotBelow(want, x, floor)
		top := genericLargest(x)
		for _, s := range sets() {
			in := guardedCopy(t, x, atStart)
			if got := s.Largest(in); got != top {
				t.Fatalf("%s: the largest of %v is %v, reference %v", s.Name(), x, got, top)
			}
			bits := guardedCopy(t, slices.Repeat([]uint64{math.MaxUint64}, len(want)), atStart)
			if got := s.NotBelow(bits, in, floor); !slices.Equal(got, want) {
				t.Fatalf("%s: of %v not below %v are %x, reference %x", s.Name(), x, floor, got, want)
			}
		}
	})
}

// anyFloats are numbers of some kind, or any bits.
func anyFloats(seed uint64, n int, kind uint8) []float32 {
	rng, x := rand.New(rand.NewPCG(seed, 6)), make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	if k := int(kind) % (len(inputKinds) + 1); k < len(inputKinds) {
		fill(x, rng, inputKinds[k])
		return x
	}
	for i := range x {
		x[i] = math.Float32frombits(rng.Uint32())
	}
	return x
}
