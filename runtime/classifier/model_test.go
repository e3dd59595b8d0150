package classifier

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/runtime/arena"
)

// randomNetwork draws an architecture and parameters at their bounds and between.
func randomNetwork(r *rand.Rand, a intnet.Architecture) intnet.Parameters {
	var p intnet.Parameters
	for _, g := range a.Geometries() {
		l := intnet.LayerParameters{Weights: make([]int8, g.Weights()), Bias: make([]int32, g.Biases())}
		extreme := r.IntN(3) == 0
		for i := range l.Weights {
			l.Weights[i] = int8(r.IntN(255) - 127)
			if extreme {
				l.Weights[i] = int8(127 - 254*r.IntN(2))
			}
		}
		room := int64(1<<31-1) - int64(g.Fan)*127*128*int64(g.Times)
		for i := range l.Bias {
			switch l.Bias[i] = int32(r.Int64N(1<<18) - 1<<17); r.IntN(4) {
			case 0:
				l.Bias[i] = int32(room)
			case 1:
				l.Bias[i] = int32(-room)
			}
		}
		for range g.Multipliers() {
			l.Multiplier = append(l.Multiplier, 1+r.Uint32N(1<<(4+r.IntN(21))-1))
		}
		for range g.Negatives() {
			l.Negative = append(l.Negative, 1+r.Uint32N(1<<(4+r.IntN(21))-1))
		}
		p.Layers = append(p.Layers, l)
	}
	return p
}

func randomArchitecture(r *rand.Rand) intnet.Architecture {
	a := intnet.Architecture{Input: intnet.Shape{C: 1 + r.IntN(3), H: 1 + r.IntN(9), W: 1 + r.IntN(9)}}
	if r.IntN(2) == 0 {
		a.Input = intnet.Shape{C: 1 + r.IntN(70), H: 1, W: 1}
	}
	a.ChannelsLast = r.IntN(4) == 0
	at := a.Input
	for range r.IntN(5) {
		l := randomLayer(r, at)
		if n := len(a.Layers); l.Kind > intnet.Conv && n > 0 && a.Layers[n-1].Kind == intnet.SumPool {
			break
		}
		whole := intnet.Architecture{Input: at, Layers: []intnet.Layer{l, {Kind: intnet.Dense, Out: 2}}}
		if whole.Check() != nil {
			break
		}
		a.Layers = append(a.Layers, l)
		at = whole.Geometries()[0].To
	}
	for range r.IntN(3) {
		l := intnet.Layer{Kind: intnet.Dense, Out: 1 + r.IntN(40), ReLU: r.IntN(3) > 0}
		l.Leaky = !l.ReLU && r.IntN(2) == 0
		a.Layers = append(a.Layers, l)
	}
	last := intnet.Layer{Kind: intnet.Dense, Out: 2 + r.IntN(20)}
	if at.C > 1 && r.IntN(4) == 0 {
		a.Layers, last = a.Layers[:min(len(a.Layers), 3)], intnet.Layer{Kind: intnet.AveragePool}
		list := intnet.Architecture{Input: a.Input, Layers: a.Layers}.Geometries()
		at = a.Input
		if len(list) > 0 {
			at = list[len(list)-1].To
		}
		last.Window = intnet.Square(1, 1, 0)
		last.Window.Kernel = intnet.Size{H: at.H, W: at.W}
	}
	a.Layers = append(a.Layers, last)
	if describe(a).Check() != nil {
		a.Layers[len(a.Layers)-1] = intnet.Layer{Kind: intnet.Dense, Out: 3}
	}
	return a
}

// randomLayer is a convolution or pool with any window.
func randomLayer(r *rand.Rand, at intnet.Shape) intnet.Layer {
	k, pad := 1+r.IntN(4), r.IntN(2)
	l := intnet.Convolution(1+r.IntN(12), k, 1+r.IntN(3), r.IntN(k), r.IntN(3) > 0)
	if r.IntN(2) == 0 {
		l.Window = intnet.Window{Kernel: intnet.Size{H: 1 + r.IntN(4), W: 1 + r.IntN(4)}, Stride: intnet.Size{H: 1 + r.IntN(3), W: 1 + r.IntN(3)},
			Dilation: intnet.Size{H: 1, W: 1}, Pad: intnet.Edges{Top: pad, Left: r.IntN(2), Bottom: pad, Right: r.IntN(2)}}
		if l.Window.Kernel.H > 1 {
			l.Window.Dilation.H += r.IntN(2)
		}
	}
	switch r.IntN(4) {
	case 0:
		return intnet.Layer{Kind: intnet.MaxPool, Window: l.Window}
	case 1:
		l = intnet.Layer{Kind: intnet.AveragePool, Window: l.Window, ReLU: l.ReLU}
		if r.IntN(2) == 0 {
			l.Counted = l.Window.Pad
		}
		if r.IntN(2) == 0 {
			l.Kind, l.ReLU = intnet.SumPool, false
		}
		return l
	}
	if r.IntN(2) == 0 {
		l.Groups, l.Out = at.C, at.C*(1+r.IntN(2))
	}
	l.Leaky = !l.ReLU && r.IntN(2) == 0
	return l
}

func describe(a intnet.Architecture) *Description {
	return &Description{Architecture: a, Quantizer: Quantizer{[]Feature{{Multiplier: 2, Shift: 1}}}, Scale: Scale{Mantissa: 1 << 31}}
}

func build(t testing.TB, d *Description, p intnet.Parameters) (*Model, *Runner, *arena.Budget) {
	t.Helper()
	budget := arena.NewBudget(64 << 20)
	m, err := New(d, p, budget)
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.NewRunner()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(r.Close(), m.Close()); err != nil || budget.Used() != 0 {
			t.Errorf("%d bytes remain, %v", budget.Used(), err)
		}
	})
	return m, r, budget
}

// TestInferIsTheReferenceBitForBit runs random models of every kind of layer, extreme weights, biases at their
// bound and extreme inputs against crypto/zk/intnet.
func TestInferIsTheReferenceBitForBit(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 400 {
		a := randomArchitecture(r)
		p := randomNetwork(r, a)
		n := &intnet.Network{Architecture: a, Parameters: p}
		_, runner, _ := build(t, describe(a), p)
		in, out := make([]int8, a.Input.Size()), make([]int32, describe(a).Classes())
		for range 4 {
			extreme := r.IntN(2) == 0
			for k := range in {
				in[k] = int8(r.IntN(256) - 128)
				if extreme {
					in[k] = int8(127 - 255*r.IntN(2))
				}
			}
			want, err := n.Forward(in)
			if err != nil {
				t.Fatal(err)
			}
			if err := runner.Infer(in, out); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(out, want) {
				t.Fatalf("model %d %+v: %v, want %v", i, a, out, want)
			}
		}
	}
}

// TestAccumulatorsAtTheirBound: the widest layer that is allowed, where both halves of a
// word reach the largest sum, with either sign.
func TestAccumulatorsAtTheirBound(t *testing.T) {
	a := intnet.Architecture{Input: intnet.Shape{C: 4096, H: 4, W: 8}, Layers: []intnet.Layer{{Kind: intnet.Dense, Out: 8}}}
	if describe(a).Check() == nil {
		t.Fatal("an input over the limit passed")
	}
	a.Input = intnet.Shape{C: 4096, H: 4, W: 4}
	in, out := make([]int8, a.Input.Size()), make([]int32, 8)
	for i := range in {
		in[i] = -128
	}
	p := intnet.Parameters{Layers: []intnet.LayerParameters{{Weights: make([]int8, a.Input.Size()*8), Bias: make([]int32, 8)}}}
	for o := range 8 {
		for i := range in {
			p.Layers[0].Weights[o*len(in)+i] = int8(127 - 254*(o>>1&1^o&1))
		}
	}
	want, err := (&intnet.Network{Architecture: a, Parameters: p}).Forward(in)
	if err != nil {
		t.Fatal(err)
	}
	_, runner, _ := build(t, describe(a), p)
	if err := runner.Infer(in, out); err != nil || !slices.Equal(out, want) || out[0] != -127*128*1<<16 {
		t.Errorf("%v, want %v, %v", out, want, err)
	}
}

func TestInferAllocatesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	a := intnet.Architecture{Input: intnet.Shape{C: 1, H: 8, W: 8}, Layers: []intnet.Layer{
		intnet.Convolution(8, 3, 1, 1, true), {Kind: intnet.Dense, Out: 10}}}
	m, runner, _ := build(t, describe(a), randomNetwork(r, a))
	in, floats, out := make([]int8, 64), make([]float32, 64), make([]int32, 10)
	if n := testing.AllocsPerRun(50, func() {
		_, err := Quantize(&m.Description().Quantizer, floats, in)
		if err := errors.Join(err, runner.Infer(in, out)); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestMemoryIsExact: what the budget is charged for is what the formula says.
func TestMemoryIsExact(t *testing.T) {
	a := intnet.Architecture{Input: intnet.Shape{C: 784, H: 1, W: 1}, Layers: []intnet.Layer{{Kind: intnet.Dense, Out: 128, ReLU: true}, {Kind: intnet.Dense, Out: 10}}}
	p := randomNetwork(rand.New(rand.NewPCG(9, 9)), a)
	_, _, budget := build(t, describe(a), p)
	parameters := arena.Cost(784*128 + 128*10 + 4*(128+10+128))
	kernels := arena.Cost(8 * (784*128/2 + 128*16/2))
	values := arena.Cost(8*2*784 + 4*128)
	if budget.Used() != parameters+kernels+values || budget.Peak() != budget.Used() {
		t.Errorf("%d bytes, peak %d, want %d", budget.Used(), budget.Peak(), parameters+kernels+values)
	}
	for _, limit := range []int64{0, parameters, parameters + kernels} {
		small := arena.NewBudget(limit)
		m, err := New(describe(a), p, small)
		if err == nil {
			_, err = m.NewRunner()
			err = errors.Join(err, m.Close())
		}
		var full *arena.DoesNotFit
		if !errors.As(err, &full) || small.Used() != 0 {
			t.Errorf("limit %d: %v, %d bytes remain", limit, err, small.Used())
		}
	}
}

func TestClosedModelRefusesAndIsWiped(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	a := randomArchitecture(r)
	budget := arena.NewBudget(64 << 20)
	m, err := New(describe(a), randomNetwork(r, a), budget)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	for range 4 {
		runner, err := m.NewRunner()
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			in, out := make([]int8, a.Input.Size()), make([]int32, a.Layers[len(a.Layers)-1].Out)
			err := error(nil)
			for tries := 0; err == nil && tries < 1<<21; tries++ {
				err = runner.Infer(in, out)
			}
			if !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
			if err := errors.Join(runner.Close(), runner.Close()); err != nil {
				t.Error(err)
			}
			if err := runner.Infer(in, out); !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		})
	}
	if err := m.WithParameters(func(p intnet.Parameters) error {
		return (&intnet.Network{Architecture: a, Parameters: p}).Check()
	}); err != nil {
		t.Error(err)
	}
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Error(err)
	}
	if err := m.WithParameters(func(intnet.Parameters) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	running.Wait()
	if budget.Used() != 0 {
		t.Errorf("%d bytes remain", budget.Used())
	}
}

// Weights that are wiped under an inference leave no answer behind: it would be another
// network's.
func TestNoAnswerOfWipedWeights(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	a := randomArchitecture(random)
	d := describe(a)
	m, err := New(d, randomNetwork(random, a), arena.NewBudget(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.NewRunner()
	if err != nil {
		t.Fatal(err)
	}
	in, out := make([]int8, d.Architecture.Input.Size()), make([]int32, d.Classes())
	if err := r.Infer(in, out); err != nil {
		t.Fatal(err)
	}
	err = m.WithParameters(func(p intnet.Parameters) error {
		m.Wipe() // the user hangs here
		for _, w := range p.Layers[0].Weights {
			if w != 0 {
				return errors.New("a weight is left")
			}
		}
		return nil
	})
	if !errors.Is(err, ErrClosed) {
		t.Errorf("the user was told %v", err)
	}
	if err := r.Infer(in, out); !errors.Is(err, ErrClosed) {
		t.Errorf("an answer of zeros: %v", err)
	}
	if err := errors.Join(r.Close(), m.Close()); err != nil {
		t.Error(err)
	}
}

func TestInferRefusesOtherSizes(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	a := intnet.Architecture{Input: intnet.Shape{C: 3, H: 1, W: 1}, Layers: []intnet.Layer{{Kind: intnet.Dense, Out: 2}}}
	m, runner, budget := build(t, describe(a), randomNetwork(r, a))
	for _, size := range [][2]int{{2, 2}, {4, 2}, {3, 1}, {3, 3}} {
		if err := runner.Infer(make([]int8, size[0]), make([]int32, size[1])); err == nil {
			t.Errorf("%v was accepted", size)
		}
	}
	if m.Public() != nil || m.Description().Label(1) != "1" || Answer([]int32{3, 5, 5}) != 1 {
		t.Error("a model that was not sealed, without labels")
	}
	p := randomNetwork(r, a)
	p.Layers[0].Weights[0] = -128
	if _, err := New(describe(a), p, budget); err == nil {
		t.Error("parameters that intnet refuses")
	}
	d := describe(a)
	d.Scale = Scale{}
	if _, err := New(d, randomNetwork(r, a), budget); err == nil {
		t.Error("a description that Check refuses")
	}
}

func BenchmarkInfer(b *testing.B) {
	for _, size := range [][3]int{{64, 32, 10}, {30, 16, 2}, {784, 128, 10}} {
		b.Run(fmt.Sprintf("%d-%d-%d", size[0], size[1], size[2]), func(b *testing.B) {
			benchmark(b, intnet.Architecture{Input: intnet.Shape{C: size[0], H: 1, W: 1}, Layers: []intnet.Layer{{Kind: intnet.Dense, Out: size[1], ReLU: true}, {Kind: intnet.Dense, Out: size[2]}}})
		})
	}
	b.Run("cnn-8x8", func(b *testing.B) {
		benchmark(b, intnet.Architecture{Input: intnet.Shape{C: 1, H: 8, W: 8}, Layers: []intnet.Layer{intnet.Convolution(8, 3, 1, 1, true),
			intnet.Convolution(16, 3, 2, 0, true), {Kind: intnet.Dense, Out: 10}}})
	})
}

func benchmark(b *testing.B, a intnet.Architecture) {
	p := randomNetwork(rand.New(rand.NewPCG(1, 2)), a)
	m, runner, _ := build(b, describe(a), p)
	floats, in, out := make([]float32, a.Input.Size()), make([]int8, a.Input.Size()), make([]int32, m.Description().Classes())
	b.Run("quantized", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := runner.Infer(in, out); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("floats", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := Quantize(&m.Description().Quantizer, floats, in)
			if err := errors.Join(err, runner.Infer(in, out)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// bytesOf is the memory of a slice.
func bytesOf(v []int32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), 4*len(v))
}
