package kernels

import (
	"math"
	"math/rand/v2"
	"testing"
)

func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		bothNaN := got[i] != got[i] && want[i] != want[i]
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) && !bothNaN {
			t.Fatalf("%s of %d at %d: %v, reference %v", what, len(want), i, got[i], want[i])
		}
	}
}

// TestElementwiseOperationsGiveTheSameBits compares each set with plain Go, with
// lengths that leave rests and values at every limit.
func TestElementwiseOperationsGiveTheSameBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(31, 32))
	edges := []float32{0, float32(math.Copysign(0, -1)), -87, -87.5, -86.99, 88, 88.5, 87.99, 1e-30, 1e30, -1e30, 5e-41,
		float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), math.MaxFloat32}
	values := func(n int, spread float64, edgy bool) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rng.NormFloat64() * spread)
			if edgy && rng.IntN(4) == 0 {
				x[i] = edges[rng.IntN(len(edges))]
			}
		}
		return x
	}
	clone := func(x []float32) []float32 { return append([]float32(nil), x...) }
	g := genericSet()
	for _, s := range sets() {
		for n := 1; n < 80; n++ {
			for _, edgy := range []bool{false, true} {
				x, up := values(n, 30, edgy), values(n, 1, false)
				a, b := clone(x), clone(x)
				s.SiLUMul(a, up)
				g.SiLUMul(b, up)
				sameBits(t, s.Name()+" SiLUMul", a, b)
				a, b = clone(x), clone(x)
				s.Softmax(a)
				g.Softmax(b)
				sameBits(t, s.Name()+" Softmax", a, b)
			}
		}
		for _, size := range []int{16, 48, 64, 128} {
			for _, count := range []int{1, 2, 17} {
				query, weights := values(size, 1, false), values(count, 1, false)
				rows := make([]uint16, size*count)
				for i := range rows {
					rows[i] = Float32to16(float32(rng.NormFloat64()))
				}
				a, b := make([]float32, count), make([]float32, count)
				s.Scores(a, query, rows, 0.125)
				g.Scores(b, query, rows, 0.125)
				sameBits(t, s.Name()+" Scores", a, b)
				a, b = values(size, 1, false), make([]float32, size)
				s.WeightedSum(a, weights, rows)
				g.WeightedSum(b, weights, rows)
				sameBits(t, s.Name()+" WeightedSum", a, b)
			}
		}
	}
}

func TestQuantizeGivesTheSameCodes(t *testing.T) {
	rng := rand.New(rand.NewPCG(33, 34))
	const blocks = 9
	for _, s := range sets() {
		for range 200 {
			x := make([]float32, blocks*BlockCols)
			for b := range blocks {
				spread := math.Ldexp(1, rng.IntN(260)-140)
				for i := range BlockCols {
					x[b*BlockCols+i] = float32(rng.NormFloat64() * spread)
				}
			}
			switch i := rng.IntN(len(x)); rng.IntN(4) {
			case 0:
				x[i] = float32(math.NaN())
			case 1:
				x[i] = float32(math.Inf(-1))
			case 2:
				clear(x[i/BlockCols*BlockCols:][:BlockCols])
			}
			got, want := make([]record, blocks), make([]record, blocks)
			s.vector.quantize(got, x)
			genericQuantize(want, x)
			for i := range want {
				if want[i].scale != want[i].scale && got[i].scale != got[i].scale && got[i].offset != got[i].offset {
					continue
				}
				if got[i] != want[i] {
					t.Fatalf("%s block %d:\n%v\nreference\n%v", s.Name(), i, got[i], want[i])
				}
			}
		}
	}
}

// FuzzElementwise runs every operation on vectors, each buffer beside an unmapped page: all sets give
// the same bits, and write nothing beside their results.
func FuzzElementwise(f *testing.F) {
	for n := range uint8(20) {
		f.Add(uint64(n), 13*n, n)
	}
	f.Fuzz(func(t *testing.T, seed uint64, length, count uint8) {
		rng, n, rows := rand.New(rand.NewPCG(seed, 2)), int(length)%160+1, int(count)%24+1
		inputs := inputKinds[int(seed>>1)%len(inputKinds)]
		values := func(n int) []float32 {
			x := make([]float32, n)
			for i := range x {
				x[i] = float32(rng.NormFloat64())
			}
			fill(x, rng, inputs)
			return x
		}
		x, y, weights, halves := values(n), values(n), values(rows), make([]uint16, n*rows)
		for i, v := range values(len(halves)) {
			halves[i] = Float32to16(v)
		}
		run := func(s *Set, do func(s *Set, x, y, weights []float32, halves []uint16)) (out [3][]float32) {
			atStart := seed%2 == 0
			out = [3][]float32{guardedCopy(t, x, atStart), guardedCopy(t, y, atStart), guardedCopy(t, weights, atStart)}
			do(s, out[0], out[1], out[2], guardedCopy(t, halves, atStart))
			return out
		}
		for name, do := range map[string]func(s *Set, x, y, weights []float32, halves []uint16){
			"Dot":         func(s *Set, x, y, w []float32, _ []uint16) { w[0] = s.Dot(x, y) },
			"DotF16":      func(s *Set, x, _, w []float32, h []uint16) { w[0] = s.DotF16(x, h[:len(x)]) },
			"AxpyF16":     func(s *Set, x, y, _ []float32, h []uint16) { s.AxpyF16(x, y[0], h[:len(x)]) },
			"SiLUMul":     func(s *Set, x, y, _ []float32, _ []uint16) { s.SiLUMul(x, y) },
			"Softmax":     func(s *Set, x, _, _ []float32, _ []uint16) { s.Softmax(x) },
			"Scores":      func(s *Set, x, _, w []float32, h []uint16) { s.Scores(w, x, h, 0.125) },
			"WeightedSum": func(s *Set, x, _, w []float32, h []uint16) { s.WeightedSum(x, w, h) },
		} {
			want := run(genericSet(), do)
			for _, s := range sets() {
				for i, got := range run(s, do) {
					sameBits(t, s.Name()+" "+name+", "+inputs, got, want[i])
				}
			}
		}
	})
}

// BenchmarkAttention is what one head computes for one token at position 511.
func BenchmarkAttention(b *testing.B) {
	const size, positions = 64, 512
	rng := rand.New(rand.NewPCG(1, 1))
	query, scores, out, rows := make([]float32, size), make([]float32, positions), make([]float32, size), make([]uint16, size*positions)
	for i := range query {
		query[i] = float32(rng.NormFloat64())
	}
	for i := range rows {
		rows[i] = Float32to16(float32(rng.NormFloat64()))
	}
	for _, s := range sets() {
		for name, do := range map[string]func(){
			"scores":  func() { s.Scores(scores, query, rows, 0.125) },
			"softmax": func() { s.Softmax(scores) },
			"sum":     func() { s.WeightedSum(out, scores, rows) },
		} {
			b.Run(name+"/"+s.Name(), func(b *testing.B) {
				for b.Loop() {
					do()
				}
			})
		}
	}
}
