package kernels

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// problem is a product of weights and inputs with chosen extremes.
type problem struct {
	name      string
	typ       Type
	rows      int
	groups    []byte
	act       *Activations
	x         []float32
	unwritten float32
}

// Kinds of weights: any rows; all bytes equal, with finite scales; any bytes, so that some scales are
// infinite or not numbers; and any bytes as tiles, which rows do not give.
var weightKinds = []string{"rows", "0x00", "0x7f", "0x80", "0xff", "bytes", "tiles"}

var fillers = map[string]byte{"0x00": 0x00, "0x7f": 0x7f, "0x80": 0x80, "0xff": 0xff}

// Kinds of inputs: of one size; of all sizes; the largest codes of one sign; those
// whose low halves are the lowest; zeros; and one input that is infinite.
var inputKinds = []string{"normal", "sizes", "largest", "smallest", "lowest", "zeros", "infinite"}

// problems are shapes of one and several blocks and groups for one token, four, and both.
func problems(t testing.TB, types []Type) []*problem {
	t.Helper()
	rng := rand.New(rand.NewPCG(21, 22))
	var list []*problem
	for _, typ := range types {
		for _, kind := range weightKinds {
			list = append(list, newProblem(t, rng, typ, 16, typ.Span(), 5, kind, "lowest"))
		}
		for _, kind := range inputKinds {
			list = append(list, newProblem(t, rng, typ, 16, typ.Span(), 5, "rows", kind))
		}
		list = append(list, newProblem(t, rng, typ, 48, width(typ, 96), 1, "rows", "normal"),
			newProblem(t, rng, typ, 32, 2*typ.Span(), 4, "rows", "normal"),
			newProblem(t, rng, typ, 16, 2*typ.Span(), 1, "0xff", "largest"))
	}
	return list
}

func newProblem(t testing.TB, rng *rand.Rand, typ Type, rows, cols, tokens int, weights, inputs string) *problem {
	t.Helper()
	source := randomRows(rng, typ, rows, cols)
	if filler, ok := fillers[weights]; ok {
		copy(source, bytes.Repeat([]byte{filler}, len(source)))
		tame(source, typ)
	}
	if weights == "bytes" {
		randomize(rng, source)
	}
	p := &problem{name: fmt.Sprintf("%s, %d rows, %d columns, %d tokens, weights %s, inputs %s", typ, rows, cols, tokens, weights, inputs),
		typ: typ, rows: rows, groups: pack(t, typ, rows, cols, source), unwritten: float32(rng.IntN(1000) + 1)}
	if weights == "tiles" {
		randomize(rng, p.groups)
	}
	p.act, p.x = quantize(t, rng, tokens, cols)
	for i := range tokens {
		x := p.x[i*cols:][:cols]
		fill(x, rng, inputs)
		p.act.Quantize(i, x)
	}
	return p
}

func randomize(rng *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
}

// With a scale of 2^-15, the code of largestInput is the largest, 256*127, and that of lowestInput has the low half -128.
const (
	largestInput = (256*127 - 0.4) / 32768
	lowestInput  = (256*126 - 128) / float32(32768)
)

func fill(x []float32, rng *rand.Rand, kind string) {
	for c := range x {
		first := c%BlockCols == 0 // decides the scale
		switch kind {
		case "sizes":
			x[c] = float32(math.Ldexp(float64(x[c]), rng.IntN(240)-120))
		case "largest":
			x[c] = largestInput
		case "smallest":
			x[c] = -largestInput
		case "lowest":
			if x[c] = -lowestInput; first {
				x[c] = largestInput
			}
		case "zeros":
			x[c] = 0
		case "infinite":
			if first {
				x[c] = float32(math.Inf(1))
			}
		}
	}
}

// product is what a set computes. Every output must be written.
func (p *problem) product(t testing.TB, s *Set) []float32 {
	t.Helper()
	dst := slices.Repeat([]float32{p.unwritten}, p.act.Tokens()*p.rows)
	if err := s.MatMul(dst, p.rows, p.groups, p.typ, p.rows, p.act, p.x); err != nil {
		t.Fatal(err)
	}
	return dst
}

// compare wants the same bits; and of NaNs, unless payload, no more than that both are one.
func (p *problem) compare(t testing.TB, s *Set, got, want []float32, payload bool) {
	t.Helper()
	for i := range want {
		if got[i] != got[i] && want[i] != want[i] && !payload {
			continue
		}
		if a, b := math.Float32bits(got[i]), math.Float32bits(want[i]); a != b {
			t.Fatalf("%s: %s: output %d is %v (%#x), want %v (%#x)", s.Name(), p.name, i, got[i], a, want[i], b)
		}
	}
}

// exact compares with float64 arithmetic on the unpacked weights: the quantized activations for
// quantized types, the inputs for others.
func (p *problem) exact(t testing.TB, s *Set, got []float32) {
	t.Helper()
	cols := p.act.Cols()
	weights, size := make([]float32, cols), TileBytes(p.typ, cols)
	for r := range p.rows {
		if err := UnpackRow(weights, p.groups[r/TileRows*size:][:size], p.typ, r%TileRows, cols); err != nil {
			t.Fatal(err)
		}
		for token := range p.act.Tokens() {
			var want, magnitude float64
			for c, w := range weights {
				in := float64(p.x[token*cols+c])
				if !p.typ.float() {
					rec := p.act.row(token)[c/BlockCols]
					in = float64(rec.scale) * float64(rec.code(c%BlockCols))
				}
				want += float64(w) * in
				magnitude += math.Abs(float64(w) * in)
			}
			if y := got[token*p.rows+r]; !(math.Abs(float64(y)-want) <= 1e-5*magnitude+1e-38*float64(cols)) {
				t.Fatalf("%s: %s: row %d of token %d is %v, want %v", s.name, p.name, r, token, y, want)
			}
		}
	}
}

// guarded is memory between two unmapped pages: it ends at the second, or begins at the first.
func guarded(t testing.TB, n int, fromStart bool) []byte {
	t.Helper()
	const page = 4096
	size := page + (n+page-1)/page*page + page
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	for _, guard := range [][]byte{mem[:page], mem[size-page:]} {
		if err := unix.Mprotect(guard, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	if fromStart {
		return mem[page:][:n:n]
	}
	return mem[size-page-n:][:n:n]
}

// guardedCopy is a copy of values between unmapped pages.
func guardedCopy[T any](t testing.TB, of []T, fromStart bool) []T {
	t.Helper()
	mem := guarded(t, len(of)*int(unsafe.Sizeof(of[0])), fromStart)
	out := unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(mem))), len(of))
	copy(out, of)
	return out
}

// FuzzProducts computes problems with every set of this processor, each buffer beside an unmapped
// page: all give the reference's bits, and the reference what float64 arithmetic gives.
func FuzzProducts(f *testing.F) {
	for kind := range allTypes {
		f.Add(uint64(9), uint8(kind), uint8(3), uint8(5), uint8(6), uint8(kind))
		f.Add(uint64(10), uint8(kind), uint8(17), uint8(2), uint8(20), uint8(7*kind))
	}
	f.Fuzz(func(t *testing.T, seed uint64, kind, blocks, groups, tokens, extremes uint8) {
		typ, rng := allTypes[int(kind)%len(allTypes)], rand.New(rand.NewPCG(seed, 1))
		weights, inputs := weightKinds[int(extremes)%len(weightKinds)], inputKinds[int(extremes)/len(weightKinds)%len(inputKinds)]
		cols, rows := width(typ, (int(blocks)%20+1)*BlockCols), (int(groups)%4+1)*TileRows
		p := newProblem(t, rng, typ, rows, cols, int(tokens)%70+1, weights, inputs)
		want := p.product(t, genericSet())
		if weights == "rows" && (inputs == "normal" || inputs == "largest" || inputs == "smallest" || inputs == "lowest" || inputs == "zeros") {
			p.exact(t, genericSet(), want)
		}
		atStart := seed%2 == 0
		p.groups, p.x = guardedCopy(t, p.groups, atStart), guardedCopy(t, p.x, atStart)
		p.act.records = guardedCopy(t, p.act.records, atStart)
		if len(p.act.wide) > 0 { // a multiple of what it is aligned to
			p.act.wide = guardedCopy(t, p.act.wide, atStart)
		}
		got := guardedCopy(t, want, atStart)
		for _, s := range sets() {
			for i := range got {
				got[i] = p.unwritten
			}
			if err := s.MatMul(got, rows, p.groups, typ, rows, p.act, p.x); err != nil {
				t.Fatal(err)
			}
			p.compare(t, s, got, want, false)
		}
	})
}
