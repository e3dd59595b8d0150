package kernels

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var quantTypes = []Type{Q4_0, Q4_1, Q8_0, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K}

var allTypes = append([]Type{F32, F16, BF16}, quantTypes...)

// width is the number of columns nearest to n, from below, that the type takes.
func width(t Type, n int) int { return max(n/t.Span(), 1) * t.Span() }

// randomRows makes rows as GGUF stores them, with every byte value possible.
func randomRows(rng *rand.Rand, t Type, rows, cols int) []byte {
	src := make([]byte, rows*RowBytes(t, cols))
	for i := range src {
		src[i] = byte(rng.Uint32())
	}
	block, offsets, size := t.Floats()
	for i := 0; i < len(src); i += block {
		for _, o := range offsets {
			at, v := src[i+o:], float32(rng.NormFloat64())
			switch {
			case size == 1:
				at[0] = byte(rng.IntN(24) + 112)
			case size == 4:
				binary.LittleEndian.PutUint32(at, math.Float32bits(v))
			case t == BF16:
				binary.LittleEndian.PutUint16(at, uint16(math.Float32bits(v)>>16))
			default:
				binary.LittleEndian.PutUint16(at, Float32to16(v*0.05))
			}
		}
	}
	return src
}

func pack(t testing.TB, typ Type, rows, cols int, src []byte) []byte {
	t.Helper()
	groups := (rows + TileRows - 1) / TileRows
	size, rowBytes := TileBytes(typ, cols), RowBytes(typ, cols)
	out := make([]byte, groups*size)
	for g := range groups {
		n := min(TileRows, rows-g*TileRows)
		if err := Pack(out[g*size:(g+1)*size], src[g*TileRows*rowBytes:][:n*rowBytes], typ, n, cols); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func quantize(t testing.TB, rng *rand.Rand, tokens, cols int) (*Activations, []float32) {
	t.Helper()
	act, err := NewActivations(make([]byte, ActivationBytes(tokens, cols)), tokens, cols)
	if err != nil {
		t.Fatal(err)
	}
	x := make([]float32, tokens*cols)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	for i := range tokens {
		act.Quantize(i, x[i*cols:(i+1)*cols])
	}
	return &act, x
}

// TestEverySetGivesTheSameBits holds each kernel of each set against the plain
// Go reference, over shapes that use the batched and the single kernels.
func TestEverySetGivesTheSameBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, typ := range allTypes {
		for _, shape := range [][3]int{{16, 32, 1}, {48, 96, 1}, {20, 64, 3}, {32, 576, 4}, {16, 1536, 9}, {7, 32, 5}, {40, 800, 16}, {16, 512, 18}, {48, 224, 53}} {
			rows, cols, tokens := shape[0], width(typ, shape[1]), shape[2]
			groups := pack(t, typ, rows, cols, randomRows(rng, typ, rows, cols))
			act, x := quantize(t, rng, tokens, cols)
			stride := (rows + 15) / 16 * 16
			want := make([]float32, tokens*stride)
			if err := genericSet().MatMul(want, stride, groups, typ, rows, act, x); err != nil {
				t.Fatal(err)
			}
			for _, s := range sets() {
				got := make([]float32, len(want))
				if err := s.MatMul(got, stride, groups, typ, rows, act, x); err != nil {
					t.Fatal(err)
				}
				for i := range want {
					if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
						t.Fatalf("%s %s %v: output %d is %v, reference %v", s.Name(), typ, shape, i, got[i], want[i])
					}
				}
			}
		}
	}
}

// TestNumbersOfTokensGiveTheSameBits computes any number of tokens, with rows of zeros and without, beside memory that no
// product may change.
func TestNumbersOfTokensGiveTheSameBits(t *testing.T) {
	const rows, most, room, guard = 32, 33, 48, 1.5
	rng := rand.New(rand.NewPCG(17, 18))
	for _, typ := range allTypes {
		cols := width(typ, 288)
		groups := pack(t, typ, rows, cols, randomRows(rng, typ, rows, cols))
		all, x := quantize(t, rng, most, cols)
		want := make([]float32, most*rows)
		if err := genericSet().MatMul(want, rows, groups, typ, rows, all, x); err != nil {
			t.Fatal(err)
		}
		mem := make([]byte, ActivationBytes(room, cols))
		for _, s := range sets() {
			for tokens := 1; tokens <= most; tokens++ {
				for _, room := range []int{tokens, room} {
					for i := range mem {
						mem[i] = byte(rng.Uint32()) // of earlier activations
					}
					act, err := s.NewPadded(mem, tokens, cols, room)
					if err != nil {
						t.Fatal(err)
					}
					for i := range tokens {
						s.Quantize(&act, i, x[i*cols:(i+1)*cols])
					}
					got := slices.Repeat([]float32{guard}, (room+1)*rows)
					if err := s.MatMul(got[:room*rows], rows, groups, typ, rows, &act, x); err != nil {
						t.Fatal(err)
					}
					if !sameValues(got[:tokens*rows], want[:tokens*rows]) {
						t.Errorf("%s %s: %d tokens with room for %d give other bits", s.Name(), typ, tokens, room)
					}
					for _, v := range got[max(act.rows(), tokens)*rows:] {
						if v != guard {
							t.Fatalf("%s %s: %d tokens with room for %d: written behind them", s.Name(), typ, tokens, room)
						}
					}
				}
			}
		}
	}
}

// TestProductsAreThoseOfTheUnpackedWeights compares with float64 arithmetic on
// the unpacked weights and the quantized activations.
func TestProductsAreThoseOfTheUnpackedWeights(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, typ := range allTypes {
		for _, s := range sets() {
			p := newProblem(t, rng, typ, 48, width(typ, 128), 5, "rows", "normal")
			p.exact(t, s, p.product(t, s))
		}
		const rows, padded = 37, 48
		cols := width(typ, 128)
		act, x := quantize(t, rng, 1, cols)
		got := make([]float32, padded)
		if err := sets()[0].MatMul(got, padded, pack(t, typ, rows, cols, randomRows(rng, typ, rows, cols)), typ, rows, act, x); err != nil {
			t.Fatal(err)
		}
		for r, v := range got[rows:] {
			if v != 0 {
				t.Errorf("%s: padded row %d is %v", typ, rows+r, v)
			}
		}
	}
}

func TestShapesThatDoNotAgreeAreRefused(t *testing.T) {
	act, x := quantize(t, rand.New(rand.NewPCG(7, 8)), 2, 64)
	s := sets()[0]
	group := make([]byte, TileBytes(Q4_1, 64))
	ok := make([]float32, 32)
	wholeTiles := &Set{sixteen: map[Type]paneled{Q8_0: nil}}
	for name, call := range map[string]func() error{
		"short groups": func() error { return s.MatMul(ok, 16, group[1:], Q4_1, 16, act, x) },
		"long groups":  func() error { return s.MatMul(ok, 16, append(group, 0), Q4_1, 16, act, x) },
		"short output": func() error { return s.MatMul(ok[:31], 16, group, Q4_1, 16, act, x) },
		"no room for rows of zeros": func() error {
			padded, err := wholeTiles.NewPadded(make([]byte, ActivationBytes(wide, 64)), wide-1, 64, wide)
			if err != nil {
				return nil
			}
			return s.MatMul(make([]float32, (wide-1)*16), 16, group, Q4_1, 16, &padded, nil)
		},
		"narrow stride": func() error { return s.MatMul(ok, 15, group, Q4_1, 16, act, x) },
		"no rows":       func() error { return s.MatMul(ok, 16, nil, Q4_1, 0, act, x) },
		"unknown type":  func() error { return s.MatMul(ok, 16, group, Type(99), 16, act, x) },
		"no inputs":     func() error { return s.MatMul(ok, 16, make([]byte, TileBytes(F32, 64)), F32, 16, act, nil) },
		"pack rows":     func() error { return Pack(group, nil, Q4_1, 17, 64) },
		"pack columns":  func() error { return Pack(group, nil, Q4_1, 1, 33) },
		"super-blocks":  func() error { return Pack(make([]byte, 2368), make([]byte, 144), Q4_K, 1, 128) },
		"unpack row":    func() error { return UnpackRow(make([]float32, 64), group, Q4_1, 16, 64) },
		"activations":   func() error { _, err := NewActivations(nil, 1, 64); return err },
	} {
		if call() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if act.Tokens() != 2 || act.Cols() != 64 {
		t.Errorf("activations of %d tokens and %d columns", act.Tokens(), act.Cols())
	}
}

func TestVectorOperationsGiveTheSameBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	for n := 0; n <= 256; n += 16 {
		x, y := make([]float32, n), make([]float32, n)
		for i := range x {
			x[i], y[i] = float32(rng.NormFloat64()), float32(rng.NormFloat64())
		}
		g := genericSet()
		for _, s := range sets() {
			if a, b := s.Dot(x, y), g.Dot(x, y); math.Float32bits(a) != math.Float32bits(b) {
				t.Errorf("%s Dot of %d: %v, reference %v", s.Name(), n, a, b)
			}
		}
	}
}

func TestFloat16RoundTripsEveryValue(t *testing.T) {
	for h := range 1 << 16 {
		f := Float16to32(uint16(h))
		if f != f {
			if back := Float32to16(f); back&0x7c00 != 0x7c00 || back&0x3ff == 0 {
				t.Fatalf("%#04x is a NaN and becomes %#04x", h, back)
			}
			continue
		}
		if back := Float32to16(f); back != uint16(h) {
			t.Fatalf("%#04x -> %v -> %#04x", h, f, back)
		}
	}
	for _, tc := range []struct {
		in   float32
		want uint16
	}{{65519, 0x7bff}, {65520, 0x7c00}, {1 + 1.0/2048, 0x3c00}, {1 + 3.0/2048, 0x3c02}, {0x1p-25, 0}, {0x1.8p-24, 2}, {1e-30, 0}} {
		if got := Float32to16(tc.in); got != tc.want {
			t.Errorf("Float32to16(%v) = %#04x, want %#04x", tc.in, got, tc.want)
		}
	}
}

func TestExpSoftmaxAndSiLU(t *testing.T) {
	for x := float32(-100); x < 88; x += 0.0137 {
		want := math.Exp(float64(x))
		if got := float64(Exp(x)); math.Abs(got-want) > 3e-7*want && want > 2e-38 {
			t.Fatalf("Exp(%v) = %v, want %v", x, got, want)
		}
	}
	p := []float32{1, 2, 3, -1000}
	genericSet().Scale(p, 1/genericSet().Exponentials(p))
	var sum float32
	for _, v := range p {
		sum += v
	}
	if math.Abs(float64(sum-1)) > 1e-6 || p[3] != 0 || p[2] < p[1] {
		t.Errorf("the softmax is %v", p)
	}
	g := []float32{-90, -1, 0, 2}
	genericSet().SiLUMul(g, []float32{1, 1, 1, 2})
	if math.Abs(float64(g[1])+0.26894142) > 1e-6 || g[2] != 0 || math.Abs(float64(g[3])-3.5231883) > 1e-6 || math.Abs(float64(g[0])) > 1e-30 {
		t.Errorf("SiLUMul gives %v", g)
	}
}

func TestSelect(t *testing.T) {
	for _, s := range sets() {
		got, err := Select(s.Name())
		if err != nil || got.Name() != s.Name() {
			t.Errorf("Select(%q) = %v, %v", s.Name(), got, err)
		}
	}
	if s, err := Select("auto"); err != nil || s.Name() != sets()[0].Name() {
		t.Errorf("auto: %v, %v", s, err)
	}
	wrong := *sets()[0]
	wrong.vector.dot = func(x, y []float32) float32 { return genericDot(x, y) + 1 }
	if wrong.agrees() {
		t.Error("a set with a wrong kernel passed its self-test")
	}
	if _, err := Select("mmx"); err == nil {
		t.Error("an unknown set was selected")
	}
}

// BenchmarkProduct reads matrices beyond the last-level cache, as decoding does, from
// pages of 2 MiB. Its figures are of the fastest round, from which other processes took
// the least time. "read" is what plain reading takes.
func BenchmarkProduct(b *testing.B) {
	const rows, cols, bytes = 2048, 2048, 64 << 20
	rng := rand.New(rand.NewPCG(1, 1))
	memory, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := unix.Munmap(memory); err != nil {
			b.Error(err)
		}
	}()
	if err := unix.Madvise(memory, unix.MADV_HUGEPAGE); err != nil {
		b.Log(err) // slower, no more
	}
	for i := range memory {
		memory[i] = 1 // memory that was never written is one page of zeros
	}
	b.Run("read", func(b *testing.B) { benchmarkRead(b, float32s(memory)) })
	for _, typ := range allTypes {
		whole := rows / TileRows * TileBytes(typ, cols)
		matrix := memory[:bytes/whole*whole]
		group := matrix[:TileBytes(typ, cols)]
		if err := Pack(group, randomRows(rng, typ, 16, cols), typ, 16, cols); err != nil {
			b.Fatal(err)
		}
		for at := len(group); at < len(matrix); at *= 2 {
			copy(matrix[at:], matrix[:at])
		}
		for _, tokens := range []int{1, 64} {
			rows, size := rows, whole
			if tokens > 1 { // a round is as long as that of one token
				rows, size = rows/16, whole/16
			}
			act, x := quantize(b, rng, tokens, cols)
			dst := make([]float32, tokens*rows)
			for _, s := range sets() {
				if s.Name() == "generic" && tokens > 1 {
					continue
				}
				b.Run(fmt.Sprintf("%s/%s/tokens=%d", typ, s.Name(), tokens), func(b *testing.B) {
					best := fastest(b, func(i int) {
						part := matrix[i*size%len(matrix):][:size]
						if err := s.MatMul(dst, rows, part, typ, rows, act, x); err != nil {
							b.Fatal(err)
						}
					})
					b.ReportMetric(float64(size)/best/1e9, "GB/s")
					b.ReportMetric(float64(rows*cols*tokens)/best/1e9, "Gweights/s")
				})
			}
		}
	}
}

// BenchmarkRemainder compares two ways to compute tokens that do not fill a tile of 16, from the cache: a whole tile, and the
// kernels for four tokens and for one. ratio is the time of these over that of the tile.
func BenchmarkRemainder(b *testing.B) {
	const rows, cols = 256, 2048
	s := sets()[0]
	if len(s.sixteen) == 0 {
		b.Skip("no kernels for 16 tokens on this processor")
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, typ := range quantTypes {
		groups, dst := pack(b, typ, rows, cols, randomRows(rng, typ, rows, cols)), make([]float32, wide*rows)
		tile, _ := quantize(b, rng, wide, cols)
		for tokens := 4; tokens < wide; tokens++ {
			b.Run(fmt.Sprintf("%s/tokens=%d", typ, tokens), func(b *testing.B) {
				some, _ := quantize(b, rng, tokens, cols)
				product := func(act *Activations) float64 {
					return fastest(b, func(int) {
						if err := s.MatMul(dst, rows, groups, typ, rows, act, nil); err != nil {
							b.Fatal(err)
						}
					})
				}
				b.ReportMetric(product(some)/product(tile), "ratio")
			})
		}
	}
}

// fastest is the time of the fastest round, in seconds.
func fastest(b *testing.B, round func(i int)) float64 {
	b.Helper()
	best := time.Duration(math.MaxInt64)
	for i := range b.N {
		begin := time.Now()
		round(i)
		best = min(best, time.Since(begin))
	}
	return best.Seconds()
}

func benchmarkRead(b *testing.B, from []float32) {
	const round, piece = 1 << 20, 1024
	s, with := sets()[0], make([]float32, piece)
	best := fastest(b, func(i int) {
		part := from[i*round%len(from):][:round]
		for at := 0; at < round; at += piece {
			s.Dot(part[at:at+piece], with)
		}
	})
	b.ReportMetric(4*round/best/1e9, "GB/s")
}

// BenchmarkPack is the sealer's work on a row group.
func BenchmarkPack(b *testing.B) {
	const cols = 2048
	for _, typ := range allTypes {
		src, dst := randomRows(rand.New(rand.NewPCG(1, 1)), typ, TileRows, cols), make([]byte, TileBytes(typ, cols))
		b.Run(typ.String(), func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				if err := Pack(dst, src, typ, TileRows, cols); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestQuantizeKeepsFifteenBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	act, x := quantize(t, rng, 2, 64)
	for token := range 2 {
		for b, r := range act.row(token) {
			var top, sum float64
			for i := range 32 {
				top = max(top, math.Abs(float64(x[token*64+b*32+i])))
				sum += float64(r.code(i))
			}
			for i := range 32 {
				got, want := float64(r.scale)*float64(r.code(i)), float64(x[token*64+b*32+i])
				if math.Abs(got-want) > top/16256*0.5000001 {
					t.Errorf("value %v quantized to %v", want, got)
				}
			}
			if float64(r.sum) != sum {
				t.Errorf("sum %d, codes add up to %v", r.sum, sum)
			}
		}
	}
}

// TestValuesThatAreNotFiniteShow: a broken activation must not vanish in
// quantization, or a wrong result would look like one.
func TestValuesThatAreNotFiniteShow(t *testing.T) {
	rng := rand.New(rand.NewPCG(15, 16))
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		for _, typ := range allTypes {
			cols := width(typ, 64)
			groups := pack(t, typ, 16, cols, randomRows(rng, typ, 16, cols))
			act, x := quantize(t, rng, 1, cols)
			x[40] = float32(bad)
			act.Quantize(0, x)
			for _, s := range sets() {
				got := make([]float32, 16)
				if err := s.MatMul(got, 16, groups, typ, 16, act, x); err != nil {
					t.Fatal(err)
				}
				for i, v := range got {
					if v-v == 0 {
						t.Errorf("%s %s: %v among the inputs, output %d is %v", s.Name(), typ, bad, i, v)
					}
				}
			}
		}
	}
}
