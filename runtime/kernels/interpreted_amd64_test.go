package kernels

import (
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

// TestInterpreterComputesWhatTheProcessorDoes runs each kernel interpreted and, where the processor
// has its instructions, natively: the same bits, NaNs included. It compares both with the reference,
// which does not say which NaN. The interpreter also refuses memory outside the arguments, and
// instructions of other extensions.
func TestInterpreterComputesWhatTheProcessorDoes(t *testing.T) {
	for _, s := range []*Set{avx2Set(), avx512Set()} {
		with := interpreted(t, s)
		for _, p := range problems(t, allTypes) {
			p.compareSets(t, with)
		}
	}
}

// TestAVX512SetPassesItsSelfTest: on a processor that computes as the manual says, the set is selected.
func TestAVX512SetPassesItsSelfTest(t *testing.T) {
	if avx512 := interpreted(t, avx512Set()); !avx512.agrees() {
		t.Error("the set differs from the reference")
	}
}

// TestInterpretedRandomProducts is the same as the first test for many random problems.
func TestInterpretedRandomProducts(t *testing.T) {
	longtest.Arithmetic(t, "it interprets twenty million instructions")
	rng := rand.New(rand.NewPCG(23, 24))
	avx2, avx512 := interpreted(t, avx2Set()), interpreted(t, avx512Set())
	for round := range 100 {
		for _, typ := range quantTypes {
			rows, cols := 16*(1+rng.IntN(4)), width(typ, 32*(1+rng.IntN(20)))
			p := newProblem(t, rng, typ, rows, cols, 1+rng.IntN(9), weightKinds[round%len(weightKinds)], inputKinds[rng.IntN(len(inputKinds))])
			p.compareSets(t, avx512)
			if round < 20 {
				p.compareSets(t, avx2)
			}
		}
	}
}

// compareSets compares an interpreted set with the reference, and with the set of the same name that
// the processor runs.
func (p *problem) compareSets(t testing.TB, interpreted *Set) {
	t.Helper()
	got := p.product(t, interpreted)
	p.compare(t, interpreted, got, p.product(t, genericSet()), false)
	for _, native := range sets() {
		if native.name == interpreted.name {
			p.compare(t, interpreted, got, p.product(t, native), true)
		}
	}
}

// interpreted is a set whose products the interpreter computes.
func interpreted(t testing.TB, s *Set) *Set {
	return &Set{name: s.name, vector: genericVector,
		one: interpretOne(t, s.one), four: interpretBatched(t, s.four, batch),
		oneFloat: interpretOne(t, s.oneFloat), fourFloat: interpretBatched(t, s.fourFloat, batch),
		sixteenFloat: interpretBatched(t, s.sixteenFloat, wide)}
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

func interpretBatched[In any](t testing.TB, kernels map[Type]batched[In], tokens int) map[Type]batched[In] {
	out := map[Type]batched[In]{}
	for typ, f := range kernels {
		program := load(t, f)
		out[typ] = func(dst *float32, stride int, groups *byte, in *In, n, groupCount int) {
			interpret(t, program, typ, tokens, dst, stride, groups, in, n, groupCount)
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

// TestInterpretedWideForm: the form for tiles of bfloat16 is the reference's, and writing a token's row reaches nothing of
// other rows.
func TestInterpretedWideForm(t *testing.T) {
	program := load(t, wideRow)
	rng := rand.New(rand.NewPCG(25, 26))
	for _, inputs := range inputKinds {
		for _, row := range []int{0, 7, wide - 1} {
			const blocks = 5
			act, x := quantize(t, rng, 1, blocks*BlockCols)
			fill(x, rng, inputs)
			act.Quantize(0, x)
			got := make([]byte, blocks*wideBytes)
			want := slices.Clone(got)
			genericWiden(want, row, act.records)
			var m x86test.Machine
			m.Map(inputsAt, bytesOf(&act.records[0], blocks), false)
			for b := range uint64(blocks) {
				block := got[b*wideBytes:][:wideBytes]
				m.Map(outputAt+b*wideBytes+uint64(row)*128, block[row*128:][:128], true)
				m.Map(outputAt+b*wideBytes+wideScales+uint64(row)*16, block[wideScales+row*16:][:16], true)
			}
			if err := m.Call(program, outputAt+uint64(row)*128, outputAt+wideScales+uint64(row)*16, inputsAt, blocks); err != nil {
				t.Fatal(err)
			}
			if inputs != "infinite" && !slices.Equal(got, want) {
				t.Errorf("%s, row %d: another form", inputs, row)
			}
		}
	}
}
