package kernels

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
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
		for n := 1; n < 100; n++ {
			for _, edgy := range []bool{false, true} {
				x, up := values(n, 30, edgy), values(n, 1, false)
				a, b := clone(x), clone(x)
				s.SiLUMul(a, up)
				g.SiLUMul(b, up)
				sameBits(t, s.Name()+" SiLUMul", a, b)
				a, b = clone(x), clone(x)
				sum, want := s.Exponentials(a), g.Exponentials(b)
				sameBits(t, s.Name()+" Exponentials", append(a, sum), append(b, want))
				compareHalves(t, s, x)
				bits := [2][]uint64{make([]uint64, 2), make([]uint64, 2)}
				for i, set := range []*Set{s, g} {
					bits[i] = set.NotBelow(bits[i], x, up[0])
				}
				if !slices.Equal(bits[0], bits[1]) || s.Largest(x) != g.Largest(x) {
					t.Fatalf("%s: of %v not below %v are %x, reference %x", s.Name(), x, up[0], bits[0], bits[1])
				}
			}
		}
		for _, size := range []int{1, 16, 48, 64, 128} {
			for n := 1; n <= MaxQueries; n++ {
				const tiles = 2
				for _, positions := range []int{1, 17, tiles * KeyTile} {
					queries, rows := values(n*size, 1, false), make([]uint16, size*tiles*KeyTile)
					for i := range rows {
						rows[i] = Float32to16(float32(rng.NormFloat64()))
					}
					a, b := make([]float32, n*tiles*KeyTile), make([]float32, n*tiles*KeyTile)
					s.Scores(a, tiles*KeyTile, queries, n, rows, tiles)
					g.Scores(b, tiles*KeyTile, queries, n, rows, tiles)
					sameBits(t, s.Name()+" Scores", a, b)
					sums := values(n*size, 1, false)
					c, d := clone(sums), clone(sums)
					s.WeightedSum(c, n, size, a, tiles*KeyTile, rows, positions)
					g.WeightedSum(d, n, size, a, tiles*KeyTile, rows, positions)
					sameBits(t, s.Name()+" WeightedSum", c, d)
				}
			}
		}
	}
}

// compareHalves compares float16 values of a set with plain Go's.
func compareHalves(t *testing.T, s *Set, x []float32) {
	t.Helper()
	got, want := make([]uint16, len(x)), make([]uint16, len(x))
	s.Halves(got, x)
	genericHalves(want, x)
	for i, v := range want {
		if got[i] != v {
			t.Fatalf("%s Halves of %v: %#x, reference %#x", s.Name(), x[i], got[i], v)
		}
	}
}

// TestFusedRoundsOnce compares with arithmetic of many bits, near halfway and small values included.
func TestFusedRoundsOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(37, 38))
	number := func() float32 {
		v := math.Float32frombits(rng.Uint32())
		for v-v != 0 {
			v = math.Float32frombits(rng.Uint32())
		}
		switch rng.IntN(4) {
		case 0:
			return float32(rng.IntN(1 << 13))
		case 1:
			return v * 0x1p-100
		case 2:
			return float32(1+rng.IntN(3)) * float32(math.Ldexp(1, rng.IntN(60)-40))
		}
		return v
	}
	for range 500_000 {
		x, y, z := number(), number(), number()
		if rng.IntN(2) == 0 { // sums that lie about halfway between two float32
			z = float32(math.Ldexp(float64(float32(x*y)), rng.IntN(60)-30))
		}
		if z-z != 0 {
			continue
		}
		product := new(big.Float).SetPrec(600).Mul(big.NewFloat(float64(x)), big.NewFloat(float64(y)))
		want, _ := product.Add(product, big.NewFloat(float64(z))).Float32()
		if got := fused(x, y, z); got != want {
			t.Fatalf("%v * %v + %v = %v, want %v", x, y, z, got, want)
		}
	}
	inf := float32(math.Inf(1))
	for _, v := range [][4]float32{{inf, 1, 1, inf}, {1, 1, -inf, -inf}, {0, 1, 0, 0}, {math.MaxFloat32, 2, 0, inf}} {
		if got := fused(v[0], v[1], v[2]); got != v[3] {
			t.Errorf("%v * %v + %v = %v, want %v", v[0], v[1], v[2], got, v[3])
		}
	}
	if got := fused(inf, 0, 1); got == got {
		t.Errorf("infinity times 0 is %v", got)
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
			"Dot":          func(s *Set, x, y, w []float32, _ []uint16) { w[0] = s.Dot(x, y) },
			"SiLUMul":      func(s *Set, x, y, _ []float32, _ []uint16) { s.SiLUMul(x, y) },
			"Exponentials": func(s *Set, x, _, w []float32, _ []uint16) { w[0] = s.Exponentials(x) },
			"NotBelow": func(s *Set, x, y, _ []float32, _ []uint16) {
				for i, v := range s.NotBelow(make([]uint64, (len(x)+63)/64), x, y[0]) {
					y[i] = math.Float32frombits(uint32(v ^ v>>32))
				}
			},
			"Scale":       func(s *Set, x, y, _ []float32, _ []uint16) { s.Scale(x, y[0]) },
			"WeightedSum": func(s *Set, x, _, w []float32, h []uint16) { s.WeightedSum(x, 1, len(x), w, 0, h, rows) },
			"WeightedSums": func(s *Set, x, _, w []float32, h []uint16) {
				for n := 2; n <= min(len(w), MaxQueries); n++ {
					s.WeightedSum(x, n, len(x)/n, w, 1, h, len(w)-n+1)
				}
			},
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

// FuzzScores does the same for scores of one tile.
func FuzzScores(f *testing.F) {
	for n := range uint8(MaxQueries) {
		f.Add(uint64(n)<<8+uint64(n), 5*n, n)
	}
	f.Add(uint64(2<<8), uint8(255), uint8(MaxQueries-1))
	f.Fuzz(func(t *testing.T, seed uint64, length, count uint8) {
		rng, size, n, tiles := rand.New(rand.NewPCG(seed, 3)), int(length)+1, int(count)%MaxQueries+1, int(seed>>8)%3+1
		queries, keys := make([]float32, n*size), make([]uint16, size*KeyTile*tiles)
		inputs := inputKinds[int(seed>>1)%len(inputKinds)]
		fill(queries, rng, inputs)
		for i := range keys {
			keys[i] = uint16(rng.Uint32())
		}
		run := func(s *Set) []float32 {
			atStart := seed%2 == 0
			scores := guardedCopy(t, make([]float32, n*KeyTile*tiles), atStart)
			s.Scores(scores, KeyTile*tiles, guardedCopy(t, queries, atStart), n, guardedCopy(t, keys, atStart), tiles)
			return scores
		}
		want := run(genericSet())
		for _, s := range sets() {
			sameBits(t, s.Name()+" Scores, "+inputs, run(s), want)
		}
	})
}

// BenchmarkAttention is what one key head computes for the tokens of MaxQueries queries, and for one of three, at
// position 511, in multiplications for a second.
func BenchmarkAttention(b *testing.B) {
	const size, positions = 64, 512
	rng := rand.New(rand.NewPCG(1, 1))
	queries, scores, out, rows := make([]float32, MaxQueries*size), make([]float32, MaxQueries*positions), make([]float32, MaxQueries*size), make([]uint16, size*positions)
	for i := range queries {
		queries[i] = float32(rng.NormFloat64())
	}
	for i := range rows {
		rows[i] = Float32to16(float32(rng.NormFloat64()))
	}
	for _, s := range sets() {
		for _, n := range []int{MaxQueries, 3} {
			for name, do := range map[string]func(){
				"scores": func() { s.Scores(scores, positions, queries[:n*size], n, rows, positions/KeyTile) },
				"softmax": func() {
					for i := range n {
						s.Exponentials(scores[i*positions:][:positions])
					}
				},
				"sum": func() { s.WeightedSum(out, n, size, scores, positions, rows, positions) },
			} {
				b.Run(fmt.Sprintf("%s/%d/%s", name, n, s.Name()), func(b *testing.B) {
					best := fastest(b, func(int) { do() })
					b.ReportMetric(float64(n*size*positions)/best/1e9, "G/s")
				})
			}
		}
	}
}
