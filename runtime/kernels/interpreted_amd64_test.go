package kernels

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/kernels/x86test"
)

// Where the interpreter sees the arguments of a kernel: far apart, and aligned no better than
// callers promise.
const (
	groupsAt = 0x0000_1111_0000_0010
	inputsAt = 0x0000_2222_0000_0004
	outputAt = 0x0000_3333_0000_0004
	strideAt = 0x0000_0001_0000_0010
)

// TestInterpreterComputesWhatTheProcessorDoes runs the AVX2 kernels natively and interpreted: the
// same bits, NaNs included, prove the decoding and the semantics that AVX-512 shares. A processor
// without AVX2 is replaced by the reference, which does not say which NaN.
func TestInterpreterComputesWhatTheProcessorDoes(t *testing.T) {
	avx2 := interpreted(t, avx2Set())
	for _, p := range problems(t, allTypes) {
		got := p.product(t, avx2)
		p.compare(t, avx2, got, p.product(t, genericSet()), false)
		for _, native := range sets() {
			if native.Name() == "avx2" {
				p.compare(t, avx2, got, p.product(t, native), true)
			}
		}
	}
}

// TestAVX512KernelsGiveTheReferencesBits interprets every kernel of the set. The interpreter also
// refuses memory outside the arguments, and instructions of other extensions.
func TestAVX512KernelsGiveTheReferencesBits(t *testing.T) {
	avx512 := interpreted(t, avx512Set())
	for _, p := range problems(t, quantTypes) {
		p.compare(t, avx512, p.product(t, avx512), p.product(t, genericSet()), false)
	}
}

// TestAVX512SetPassesItsSelfTest: on a processor that computes as the manual says, the set is selected.
func TestAVX512SetPassesItsSelfTest(t *testing.T) {
	if avx512 := interpreted(t, avx512Set()); !avx512.agrees() {
		t.Error("the set differs from the reference")
	}
}

// TestAVX512RandomProducts is the same for many random problems.
func TestAVX512RandomProducts(t *testing.T) {
	longtest.Arithmetic(t, "it interprets eight million instructions")
	avx512, rng := interpreted(t, avx512Set()), rand.New(rand.NewPCG(23, 24))
	for round := range 100 {
		for _, typ := range quantTypes {
			rows, cols := 16*(1+rng.IntN(4)), width(typ, 32*(1+rng.IntN(20)))
			p := newProblem(t, rng, typ, rows, cols, 1+rng.IntN(9), weightKinds[round%len(weightKinds)], inputKinds[rng.IntN(len(inputKinds))])
			p.compare(t, avx512, p.product(t, avx512), p.product(t, genericSet()), false)
		}
	}
}

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

func fill(x []float32, rng *rand.Rand, kind string) {
	const lowest = (256*126 - 128) / float32(maxCode) // its code's low half is -128
	for c := range x {
		first := c%BlockCols == 0 // decides the scale
		switch kind {
		case "sizes":
			x[c] = float32(math.Ldexp(float64(x[c]), rng.IntN(240)-120))
		case "largest":
			x[c] = 1
		case "smallest":
			x[c] = -1
		case "lowest":
			if x[c] = -lowest; first {
				x[c] = 1
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

// interpreted is a set whose products the interpreter computes.
func interpreted(t testing.TB, s *Set) *Set {
	return &Set{name: s.name + ", interpreted", vector: genericVector,
		one: interpretOne(t, s.one), four: interpretFour(t, s.four),
		oneFloat: interpretOne(t, s.oneFloat), fourFloat: interpretFour(t, s.fourFloat)}
}

func interpretOne[In any](t testing.TB, kernels map[Type]kernel[In]) map[Type]kernel[In] {
	out := map[Type]kernel[In]{}
	for typ, f := range kernels {
		program := load(t, f)
		out[typ] = func(dst *float32, groups *byte, in *In, n, groupCount int) {
			interpret(t, program, typ, 1, dst, 0, groups, in, n, groupCount)
		}
	}
	return out
}

func interpretFour[In any](t testing.TB, kernels map[Type]batched[In]) map[Type]batched[In] {
	out := map[Type]batched[In]{}
	for typ, f := range kernels {
		program := load(t, f)
		out[typ] = func(dst *float32, stride int, groups *byte, in *In, n, groupCount int) {
			interpret(t, program, typ, batch, dst, stride, groups, in, n, groupCount)
		}
	}
	return out
}

func load(t testing.TB, f any) *x86test.Program {
	t.Helper()
	program, err := x86test.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// interpret runs a kernel for some tokens. It reaches its weights, its inputs, and 16 outputs
// for each token and group, and nothing beside them.
func interpret[In any](t testing.TB, program *x86test.Program, typ Type, tokens int, dst *float32, stride int, groups *byte, in *In, n, groupCount int) {
	t.Helper()
	var m x86test.Machine
	cols := n
	if !typ.float() {
		cols *= BlockCols
	}
	m.Map(groupsAt, bytesOf(groups, groupCount*TileBytes(typ, cols)), false)
	m.Map(inputsAt, bytesOf(in, tokens*n), false)
	for i := range tokens {
		y := (*float32)(unsafe.Add(unsafe.Pointer(dst), i*stride))
		m.Map(outputAt+uint64(i)*strideAt, bytesOf(y, groupCount*TileRows), true)
	}
	arguments := []uint64{outputAt, groupsAt, inputsAt, uint64(n), uint64(groupCount)}
	if tokens > 1 {
		arguments = slices.Insert(arguments, 1, strideAt)
	}
	if err := m.Call(program, arguments...); err != nil {
		t.Fatal(err)
	}
}

// bytesOf is the memory of n values.
func bytesOf[T any](first *T, n int) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(first)), n*int(unsafe.Sizeof(*first)))
}
