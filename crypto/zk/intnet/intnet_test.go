package intnet

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

func dense(out int, relu bool) Layer { return Layer{Kind: Dense, Out: out, ReLU: relu} }

// random is a network of random constants.
func random(t testing.TB, a Architecture, seed uint64) *Network {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 9))
	n := &Network{Architecture: a}
	for _, g := range a.Geometries() {
		p := LayerParameters{Weights: make([]int8, g.Weights())}
		for i := range p.Weights {
			p.Weights[i] = int8(r.IntN(255) - 127)
		}
		for range g.Biases() {
			p.Bias = append(p.Bias, int32(r.IntN(20001)-10000))
		}
		for range g.Multipliers() {
			p.Multiplier = append(p.Multiplier, 1+uint32(r.IntN(40000)))
		}
		for range g.Negatives() {
			p.Negative = append(p.Negative, 1+uint32(r.IntN(40000)))
		}
		n.Parameters.Layers = append(n.Parameters.Layers, p)
	}
	if err := n.Check(); err != nil {
		t.Fatal(err)
	}
	return n
}

// Every intermediate of a 4-3-2 network, computed by hand.
func TestASmallNetworkByHand(t *testing.T) {
	n := &Network{Architecture: Architecture{Input: Shape{4, 1, 1}, Layers: []Layer{dense(3, true), dense(2, false)}},
		Parameters: Parameters{[]LayerParameters{
			{Weights: []int8{1, 2, 3, 4, -5, 6, -7, 8, 127, 127, 127, 127}, Bias: []int32{10, -20, 0}, Multiplier: []uint32{1 << 22, 1 << 23, 1 << 23}},
			{Weights: []int8{1, -1, 2, 3, 5, -7}, Bias: []int32{100, -100}}}}}
	if err := n.Check(); err != nil {
		t.Fatal(err)
	}
	trace, err := n.Trace([]int8{-128, 127, 3, 50})
	if err != nil {
		t.Fatal(err)
	}
	want := &Trace{In: [][]int32{{-128, 127, 3, 50}, {86, 127, 127}},
		// 10-128+254+9+200; -20+640+762-21+400; 127*(-128+127+3+50)
		Acc: [][]int32{{345, 1761, 6604}, {100 + 86 - 127 + 254, -100 + 258 + 635 - 889}}}
	if !reflect.DeepEqual(trace, want) {
		t.Errorf("%+v", trace)
	}
	if out, err := n.Forward([]int8{-128, 127, 3, 50}); err != nil || !reflect.DeepEqual(out, want.Acc[1]) {
		t.Errorf("%v, %v", out, err)
	}
	if _, err := n.Forward(make([]int8, 3)); !errors.Is(err, ErrInput) {
		t.Errorf("three values: %v", err)
	}
}

func TestRescaleRoundsHalfUpAndClamps(t *testing.T) {
	const half = 1 << (Shift - 1)
	for _, c := range []struct {
		acc        int32
		multiplier uint32
		relu       bool
		want       int8
	}{
		{1, half, false, 1}, {-1, half, false, 0}, {1, half - 1, false, 0}, {-1, half + 1, false, -1}, {3, half, false, 2}, {-3, half, false, -1},
		{-3, half, true, 0}, {1000, half, false, 127}, {-1000, half, false, -127}, {254, half, true, 127}, {253, half, true, 127}, {252, half, true, 126},
		{math.MaxInt32, 1<<MultiplierBits - 1, true, 127}, {math.MinInt32, 1<<MultiplierBits - 1, false, -127}, {math.MinInt32, 1<<MultiplierBits - 1, true, 0}, {5, 0, false, 0},
	} {
		if got := Rescale(c.acc, c.multiplier, c.relu); got != c.want {
			t.Errorf("%d * %d: %d, want %d", c.acc, c.multiplier, got, c.want)
		}
	}
}

// A convolution is a dense layer whose matrix repeats the kernel.
func TestAConvolutionIsItsMatrix(t *testing.T) {
	a := Architecture{Input: Shape{2, 7, 6}, Layers: []Layer{Convolution(3, 3, 2, 1, false)}}
	if err := a.Check(); err != nil {
		t.Fatal(err)
	}
	n := random(t, a, 1)
	g := a.Geometries()[0]
	if g.To != (Shape{3, 4, 3}) {
		t.Fatalf("%s", g.To)
	}
	m := &Network{Architecture: Architecture{Input: a.Input, Layers: []Layer{dense(g.To.Size(), false)}}}
	p := LayerParameters{Weights: make([]int8, g.To.Size()*a.Input.Size()), Bias: make([]int32, g.To.Size())}
	for o := range g.Out {
		for y := range g.To.H {
			for x := range g.To.W {
				row := (o*g.To.H+y)*g.To.W + x
				p.Bias[row] = n.Parameters.Layers[0].Bias[o]
				for c := range 2 {
					for ky := range 3 {
						for kx := range 3 {
							iy, ix := 2*y+ky-1, 2*x+kx-1
							if iy >= 0 && iy < 7 && ix >= 0 && ix < 6 {
								p.Weights[row*a.Input.Size()+(c*7+iy)*6+ix] = n.Parameters.Layers[0].Weights[((o*2+c)*3+ky)*3+kx]
							}
						}
					}
				}
			}
		}
	}
	m.Parameters.Layers = []LayerParameters{p}
	in := make([]int8, a.Input.Size())
	r := rand.New(rand.NewPCG(3, 3))
	for i := range in {
		in[i] = int8(r.IntN(256) - 128)
	}
	got, err := n.Forward(in)
	if err != nil {
		t.Fatal(err)
	}
	want, err := m.Forward(in)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n%v, %v", got, want, err)
	}
}

func TestLimitsOfArchitectures(t *testing.T) {
	good := Architecture{Input: Shape{1, 8, 8}, Layers: []Layer{Convolution(4, 3, 1, 0, true), dense(10, false)}}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Architecture){
		"0x8x8":              func(a *Architecture) { a.Input.C = 0 },
		"4097":               func(a *Architecture) { a.Input.H = 4097 },
		"more than 1048576":  func(a *Architecture) { a.Input = Shape{4096, 4096, 1} },
		"0 layers":           func(a *Architecture) { a.Layers = nil },
		"65 layers":          func(a *Architecture) { a.Layers = make([]Layer, 65) },
		"0 outputs":          func(a *Architecture) { a.Layers[1].Out = 0 },
		"must not have ReLU": func(a *Architecture) { a.Layers[1].ReLU = true },
		"not have a kernel":  func(a *Architecture) { a.Layers[1].Window = Square(1, 1, 0) },
		"kernel {0 0}":       func(a *Architecture) { a.Layers[0].Window = Square(0, 1, 0) },
		"stride {0 0}":       func(a *Architecture) { a.Layers[0].Window.Stride = Size{} },
		"Left:3":             func(a *Architecture) { a.Layers[0].Window.Pad.Left = 3 },
		"larger than":        func(a *Architecture) { a.Layers[0].Window = Square(9, 1, 0) },
		"one value":          func(a *Architecture) { a.Layers[0].Window = Window{Size{1, 3}, Size{1, 1}, Size{2, 1}, Edges{}} },
		"at most 15":         func(a *Architecture) { a.Input.H, a.Input.W, a.Layers[0].Window = 20, 20, Square(16, 1, 0) },
		"do not divide":      func(a *Architecture) { a.Layers[0].Groups = 2 },
		"0 groups":           func(a *Architecture) { a.Layers[0].Groups = 0 },
		"only averages":      func(a *Architecture) { a.Layers[0].Counted.Top = 1 },
		"more activations":   func(a *Architecture) { a.Layers[0].Leaky = true },
		"0 of a pool":        func(a *Architecture) { a.Layers[0] = Layer{Kind: MaxPool, Out: 1, Window: Square(2, 2, 0)} },
		"nor be a pool":      func(a *Architecture) { a.Layers[1] = Layer{Kind: MaxPool, Window: Square(2, 2, 0)} },
		"not within": func(a *Architecture) {
			a.Layers[0] = Layer{Kind: AveragePool, Window: Square(2, 2, 1), Counted: Edges{2, 0, 0, 0}}
		},
		"nothing but": func(a *Architecture) {
			a.Layers[0] = Layer{Kind: MaxPool, Window: Window{Size{2, 2}, Size{2, 1}, Size{2, 1}, Edges{1, 0, 1, 0}}}
			a.Input.H = 1
		},
		"common multiple": func(a *Architecture) {
			a.Input, a.Layers[0] = Shape{1, 200, 200}, Layer{Kind: AveragePool, Window: Square(200, 200, 0)}
		},
		"products": func(a *Architecture) {
			a.Input = Shape{2, 512, 1024}
			a.Layers[0] = Layer{Kind: MaxPool, Window: Square(101, 1, 50)}
		},
		"the sums of a pool": func(a *Architecture) { a.Layers = []Layer{pool(SumPool, 2, 2), pool(MaxPool, 2, 2), dense(2, false)} },
		"pool of largest":    func(a *Architecture) { a.Layers = []Layer{pool(SumPool, 8, 1)} },
		"576 inputs can overflow": func(a *Architecture) {
			a.Input, a.Layers = Shape{64, 63, 63}, []Layer{pool(SumPool, 21, 21), dense(2, false)}
		},
		"kind 7":   func(a *Architecture) { a.Layers[0].Kind = 7 },
		"overflow": func(a *Architecture) { a.Input, a.Layers = Shape{4096, 33, 1}, []Layer{dense(2, false)} },
		"weights":  func(a *Architecture) { a.Input, a.Layers = Shape{4096, 4, 1}, []Layer{dense(4096, false)} },
	} {
		a := good
		a.Layers = append([]Layer(nil), good.Layers...)
		change(&a)
		err := a.Check()
		if !errors.Is(err, ErrArchitecture) || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
		if _, err := a.MarshalBinary(); err == nil {
			t.Errorf("%s was encoded", want)
		}
		if _, err := a.UnmarshalParameters(nil); err == nil {
			t.Errorf("%s took parameters", want)
		}
	}
}

func TestLimitsOfParameters(t *testing.T) {
	a := Architecture{Input: Shape{2, 1, 1}, Layers: []Layer{dense(2, true), dense(1, false)}}
	for want, change := range map[string]func(*Network){
		"constants for 1":     func(n *Network) { n.Parameters.Layers = n.Parameters.Layers[:1] },
		"3 weights":           func(n *Network) { n.Parameters.Layers[0].Weights = n.Parameters.Layers[0].Weights[:3] },
		"1 multipliers and 0": func(n *Network) { n.Parameters.Layers[1].Multiplier = []uint32{1} },
		"is -128":             func(n *Network) { n.Parameters.Layers[0].Weights[2] = -128 },
		"overflow":            func(n *Network) { n.Parameters.Layers[0].Bias[1] = math.MinInt32 },
		"32 bits":             func(n *Network) { n.Parameters.Layers[0].Bias[1] = math.MaxInt32 - 2*127*128 + 1 },
		"multiplier 0 ":       func(n *Network) { n.Parameters.Layers[0].Multiplier[1] = 0 },
		"16777216 of":         func(n *Network) { n.Parameters.Layers[0].Multiplier[1] = 1 << 24 },
	} {
		n := random(t, a, 2)
		change(n)
		if err := n.Check(); !errors.Is(err, ErrParameters) || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
		if _, err := n.MarshalParameters(); err == nil {
			t.Errorf("%s was encoded", want)
		}
	}
	n := random(t, a, 2)
	n.Parameters.Layers[0].Bias[1] = math.MaxInt32 - 2*127*128
	if err := n.Check(); err != nil {
		t.Errorf("the largest bias: %v", err)
	}
}

func TestEncodings(t *testing.T) {
	a := Architecture{Input: Shape{1, 8, 8}, Layers: []Layer{Convolution(4, 3, 2, 1, true), dense(10, false)}}
	n := random(t, a, 5)
	raw, err := a.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var back Architecture
	if err := back.UnmarshalBinary(raw); err != nil || !reflect.DeepEqual(back, a) {
		t.Errorf("%+v, %v", back, err)
	}
	one, err := a.Digest()
	if err != nil {
		t.Fatal(err)
	}
	a.Layers[0].ReLU = false
	if two, err := a.Digest(); err != nil || one == two {
		t.Errorf("one digest for two architectures: %v", err)
	}
	for _, bad := range [][]byte{nil, raw[:len(raw)-1], append(bytes.Clone(raw), 0), append([]byte("x"), raw[1:]...)} {
		if err := back.UnmarshalBinary(bad); !errors.Is(err, ErrArchitecture) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
	params, err := n.MarshalParameters()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := n.Architecture.UnmarshalParameters(params); err != nil || !reflect.DeepEqual(again, n) {
		t.Errorf("%v", err)
	}
	for _, bad := range [][]byte{nil, params[1:], append(bytes.Clone(params), 0)} {
		if _, err := n.Architecture.UnmarshalParameters(bad); !errors.Is(err, ErrParameters) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

// What decodes encodes to the same bytes.
func FuzzArchitecture(f *testing.F) {
	raw, err := Architecture{Input: Shape{1, 8, 8}, Layers: []Layer{Convolution(4, 3, 2, 1, true), dense(10, false)}}.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	second, err := Architecture{Input: Shape{2, 6, 6}, Layers: []Layer{{Kind: Conv, Out: 2, Groups: 2, Window: Square(3, 1, 1), Leaky: true}, pool(MaxPool, 2, 2), pool(AveragePool, 3, 1), dense(2, false)}}.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(second)
	f.Fuzz(func(t *testing.T, data []byte) {
		var a Architecture
		if a.UnmarshalBinary(data) != nil {
			return
		}
		if again, err := a.MarshalBinary(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("another encoding comes back: %v", err)
		}
		for _, g := range a.Geometries() {
			if from := g.Source(g.Out-1, g.Positions()-1, g.Fan-1); from < -1 || from >= g.From.Size() {
				t.Errorf("%+v: source %d", g, from)
			}
		}
	})
}

// FuzzParameters is FuzzArchitecture for constants.
func FuzzParameters(f *testing.F) {
	a := Architecture{Input: Shape{3, 1, 1}, Layers: []Layer{dense(2, true), dense(1, false)}}
	raw, err := random(f, a, 1).MarshalParameters()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := a.UnmarshalParameters(data)
		if err != nil {
			return
		}
		if again, err := n.MarshalParameters(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("another encoding comes back: %v", err)
		}
	})
}
