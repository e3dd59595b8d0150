package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// FuzzUnpack8 unpacks random tiles and rows with every set, each buffer beside an unmapped page: all give
// what plain Go does, with any scale.
func FuzzUnpack8(f *testing.F) {
	for n := range uint8(6) {
		f.Add(uint64(n), n)
	}
	f.Fuzz(func(t *testing.T, seed uint64, count uint8) {
		rng, blocks := rand.New(rand.NewPCG(seed, 4)), int(count)%5+1
		codes, rowScales, tileScales := make([]int8, blocks*PackedBlock*KeyTile), make([]uint16, blocks*KeyTile), make([]uint16, blocks*KeyTile)
		for i := range codes {
			codes[i] = int8(rng.Uint32())
		}
		for i := range rowScales {
			rowScales[i], tileScales[i] = uint16(rng.Uint32()), uint16(rng.Uint32())
		}
		run := func(s *Set) (tile, rows []float32) {
			atStart := seed%2 == 0
			c, out := guardedCopy(t, codes, atStart), guardedCopy(t, make([]uint16, len(codes)), atStart)
			wide := func() (x []float32) {
				for _, v := range out {
					x = append(x, Float16to32(v))
				}
				return x
			}
			s.Unpack8Keys(out, c, guardedCopy(t, tileScales, atStart), blocks*PackedBlock, 1)
			tile = wide()
			s.Unpack8(out, c, guardedCopy(t, rowScales, atStart))
			return tile, wide()
		}
		tile, rows := run(genericSet())
		for _, s := range sets() {
			gotTile, gotRows := run(s)
			sameBits(t, s.Name()+" Unpack8Keys", gotTile, tile)
			sameBits(t, s.Name()+" Unpack8", gotRows, rows)
		}
	})
}

// TestPack8KeepsValues: each value is off by at most half a step, and a key in a tile comes out where it was put.
func TestPack8KeepsValues(t *testing.T) {
	const size, position = 64, KeyTile + 5
	rng := rand.New(rand.NewPCG(5, 5))
	for _, magnitude := range []float32{0, 1e-12, 1e-3, 1, 354, 1e4} {
		x := make([]float32, size)
		for i := range x {
			x[i] = float32(rng.NormFloat64()) * magnitude
		}
		codes, scales := make([]int8, size), make([]uint16, size/PackedBlock)
		Pack8(codes, scales, x)
		tileCodes, tileScales := make([]int8, 2*KeyTile*size), make([]uint16, 2*KeyTile*size/PackedBlock)
		PutKey8(tileCodes, tileScales, position, codes, scales)
		out, row := make([]uint16, len(tileCodes)), make([]uint16, size)
		genericSet().Unpack8Keys(out, tileCodes, tileScales, size, 2)
		genericSet().Unpack8(row, codes, scales)
		for d, v := range x {
			got := Float16to32(row[d])
			scale := Float16to32(scales[d/PackedBlock])
			if tile := out[KeyTile*size+d*KeyTile+position%KeyTile]; tile != row[d] {
				t.Fatalf("element %d of the key is %x in its tile, %x in a row", d, tile, row[d])
			}
			// Half a step, what the scale's own rounding moves the largest by, and float16's rounding.
			if far := math.Abs(float64(got - v)); far > 0.5*float64(scale)+2e-3*math.Abs(float64(v))+1e-5 {
				t.Errorf("%g became %g with a scale of %g", v, got, scale)
			}
		}
	}
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32} {
		x, codes, scales, row := make([]float32, size), make([]int8, size), make([]uint16, 2), make([]uint16, size)
		x[3], x[40] = bad, 1
		Pack8(codes, scales, x)
		genericSet().Unpack8(row, codes, scales)
		if v := Float16to32(row[0]); v == v {
			t.Errorf("a block with %g begins with %g, want no number", bad, v)
		}
		if v := Float16to32(row[40]); math.Abs(float64(v-1)) > 0.005 {
			t.Errorf("the block behind one with %g has %g, want 1", bad, v)
		}
	}
}

// BenchmarkUnpack8 is what one head of 512 positions takes, in values for a second.
func BenchmarkUnpack8(b *testing.B) {
	const size, positions = 64, 512
	codes, scales, out := make([]int8, size*positions), make([]uint16, size*positions/PackedBlock), make([]uint16, size*positions)
	for _, s := range sets() {
		for name, do := range map[string]func(){
			"keys": func() { s.Unpack8Keys(out, codes, scales, size, positions/KeyTile) },
			"rows": func() { s.Unpack8(out, codes, scales) },
		} {
			b.Run(fmt.Sprintf("%s/%s", name, s.Name()), func(b *testing.B) {
				best := fastest(b, func(int) { do() })
				b.ReportMetric(size*positions/best/1e9, "G/s")
			})
		}
	}
}
