package intnet

import (
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// pool is an average of windows without padding.
func pool(kind Kind, kernel, stride int) Layer {
	return Layer{Kind: kind, Window: Square(kernel, stride, 0)}
}

// Every intermediate of a network with each of the pools and LeakyReLU, computed by hand.
func TestPoolsByHand(t *testing.T) {
	n := &Network{Architecture: Architecture{Input: Shape{1, 2, 4}, Layers: []Layer{
		{Kind: Conv, Out: 1, Window: Square(1, 1, 0), Groups: 1, Leaky: true},
		{Kind: MaxPool, Window: Window{Size{1, 2}, Size{1, 2}, Size{1, 1}, Edges{}}},
		{Kind: AveragePool, Window: Square(2, 2, 0)}, dense(2, false)}},
		Parameters: Parameters{[]LayerParameters{
			{Weights: []int8{2}, Bias: []int32{-10}, Multiplier: []uint32{1 << 23}, Negative: []uint32{1 << 21}}, {},
			{Multiplier: []uint32{1 << 22}}, {Weights: []int8{3, -1}, Bias: []int32{1, 0}}}}}
	if err := n.Check(); err != nil {
		t.Fatal(err)
	}
	trace, err := n.Trace([]int8{5, -128, 20, 21, -6, -7, 0, 7})
	if err != nil {
		t.Fatal(err)
	}
	want := &Trace{In: [][]int32{{5, -128, 20, 21, -6, -7, 0, 7}, {0, -33, 15, 16, -3, -3, -1, 2}, {0, 16, -3, 2}, {4}},
		Acc: [][]int32{{0, -266, 30, 32, -22, -24, -10, 4}, {0, 16, -3, 2}, {15}, {13, -4}}}
	if !reflect.DeepEqual(trace, want) {
		t.Errorf("%+v", trace)
	}
}

// direct computes a window's values from the definition: places that are in the image, and
// how many count.
func direct(l Layer, from Shape, c, y, x int) (places []int, counted int) {
	w := l.Window
	for i := range w.Kernel.H {
		for j := range w.Kernel.W {
			row, column := y*w.Stride.H+i*w.Dilation.H-w.Pad.Top, x*w.Stride.W+j*w.Dilation.W-w.Pad.Left
			if row >= -l.Counted.Top && row < from.H+l.Counted.Bottom && column >= -l.Counted.Left && column < from.W+l.Counted.Right {
				counted++
			}
			if row >= 0 && row < from.H && column >= 0 && column < from.W {
				places = append(places, (c*from.H+row)*from.W+column)
			}
		}
	}
	return places, counted
}

// Means have as many values as count at their place, whatever the padding; and the largest is
// one of them.
func TestPoolsAreTheirDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	seen := 0
	for range 3000 {
		from := Shape{1 + r.IntN(3), 1 + r.IntN(9), 1 + r.IntN(9)}
		l := Layer{Kind: MaxPool + Kind(r.IntN(3)), Window: Window{Size{1 + r.IntN(4), 1 + r.IntN(4)}, Size{1 + r.IntN(3), 1 + r.IntN(3)}, Size{1 + r.IntN(2), 1}, Edges{r.IntN(3), r.IntN(3), r.IntN(3), r.IntN(3)}}}
		if l.Kind != MaxPool {
			l.Counted = Edges{r.IntN(l.Window.Pad.Top + 1), 0, 0, r.IntN(l.Window.Pad.Right + 1)}
		}
		a := Architecture{Input: from, Layers: []Layer{l, dense(2, false)}}
		if a.Check() != nil {
			continue
		}
		seen++
		n := random(t, a, 1)
		in := make([]int8, from.Size())
		for i := range in {
			in[i] = int8(r.IntN(256) - 128)
		}
		trace, err := n.Trace(in)
		if err != nil {
			t.Fatal(err)
		}
		g := a.Geometries()[0]
		for k, acc := range trace.Acc[0] {
			places, counted := direct(l, from, k/g.Positions(), k%g.Positions()/g.To.W, k%g.To.W)
			sum, top := 0, math.MinInt8
			for _, p := range places {
				sum, top = sum+int(in[p]), max(top, int(in[p]))
			}
			switch {
			case l.Kind == MaxPool && int(acc) != top:
				t.Fatalf("%+v of %s: largest %d, want %d", l, from, acc, top)
			case l.Kind != MaxPool && int(acc)*counted != sum*g.Total:
				t.Fatalf("%+v of %s: %d of %d, want %d of %d", l, from, acc, g.Total, sum, counted)
			}
		}
	}
	if seen < 500 {
		t.Errorf("only %d pools", seen)
	}
}

// A convolution in groups is one in a single group whose other weights are zero, however its
// window moves.
func TestGroupsAreZeroWeights(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	for range 200 {
		groups, per := 1+r.IntN(3), 1+r.IntN(2)
		a := Architecture{Input: Shape{groups * 2, 5, 6}, Layers: []Layer{{Kind: Conv, Out: groups * per, Groups: groups,
			Window: Window{Size{1 + r.IntN(3), 1 + r.IntN(3)}, Size{1 + r.IntN(2), 1 + r.IntN(2)}, Size{1, 1}, Edges{}}}}}
		n := random(t, a, r.Uint64())
		whole := &Network{Architecture: Architecture{Input: a.Input, Layers: slices.Clone(a.Layers)}}
		whole.Architecture.Layers[0].Groups = 1
		g, w := a.Geometries()[0], whole.Geometries()[0]
		p := LayerParameters{Weights: make([]int8, w.Weights()), Bias: n.Parameters.Layers[0].Bias}
		for o := range g.Out {
			for k := range g.Fan {
				p.Weights[o*w.Fan+o/per*g.Fan+k] = n.Parameters.Layers[0].Weights[o*g.Fan+k]
			}
		}
		whole.Parameters.Layers = []LayerParameters{p}
		in := make([]int8, a.Input.Size())
		for i := range in {
			in[i] = int8(r.IntN(256) - 128)
		}
		got, err := n.Forward(in)
		if err != nil {
			t.Fatal(err)
		}
		if want, err := whole.Forward(in); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v: %v\n%v, %v", a, got, want, err)
		}
	}
}

func TestChannelsLast(t *testing.T) {
	a := Architecture{Input: Shape{2, 1, 3}, ChannelsLast: true, Layers: []Layer{dense(1, false)}}
	n := &Network{Architecture: a, Parameters: Parameters{[]LayerParameters{{Weights: []int8{1, 2, 4, 8, 16, 32}, Bias: []int32{0}}}}}
	// Pixels (1, 0), (0, 1), (1, 1): the first channel is 1, 0, 1, the second 0, 1, 1.
	if got, err := n.Forward([]int8{1, 0, 0, 1, 1, 1}); err != nil || got[0] != 1+4+16+32 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestMultipliersForWhatIsBelowZero(t *testing.T) {
	a := Architecture{Input: Shape{2, 1, 1}, Layers: []Layer{{Kind: Dense, Out: 2, Leaky: true}, dense(1, false)}}
	for want, list := range map[string][]uint32{"1 for what": {1}, "multiplier 0 of output 1": {1, 0}, "16777216 of output 0": {1 << 24, 1}} {
		n := random(t, a, 2)
		n.Parameters.Layers[0].Negative = list
		if err := n.Check(); !errors.Is(err, ErrParameters) || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

// Each architecture has one encoding, and the second version none for what the first can say.
func TestTheSecondEncoding(t *testing.T) {
	a := Architecture{Input: Shape{4, 8, 9}, ChannelsLast: true, Layers: []Layer{
		{Kind: Conv, Out: 8, Groups: 4, Leaky: true, Window: Window{Size{3, 2}, Size{1, 2}, Size{2, 1}, Edges{2, 0, 1, 1}}},
		{Kind: AveragePool, ReLU: true, Window: Square(3, 1, 1), Counted: Edges{1, 0, 1, 0}}, pool(MaxPool, 2, 2), dense(3, false)}}
	raw, err := a.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var back Architecture
	if err := back.UnmarshalBinary(raw); err != nil || !reflect.DeepEqual(back, a) {
		t.Errorf("%+v, %v", back, err)
	}
	n := random(t, a, 3)
	parameters, err := n.MarshalParameters()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := a.UnmarshalParameters(parameters); err != nil || !reflect.DeepEqual(again, n) {
		t.Errorf("%v", err)
	}
	for i := range raw {
		for _, by := range []byte{1, 0x80} {
			bad := slices.Clone(raw)
			bad[i] ^= by
			var b Architecture
			if b.UnmarshalBinary(bad) == nil {
				if again, err := b.MarshalBinary(); err != nil || !slices.Equal(again, bad) {
					t.Fatalf("byte %d: %+v has a second encoding", i, b)
				}
			}
		}
		var b Architecture
		if b.UnmarshalBinary(raw[:i]) == nil {
			t.Fatalf("%d bytes of it were accepted", i)
		}
	}
	plain := Architecture{Input: Shape{1, 8, 8}, Layers: []Layer{Convolution(2, 3, 1, 1, true), dense(2, false)}}
	second := secondOf(plain)
	if err := back.UnmarshalBinary(second); !errors.Is(err, ErrArchitecture) {
		t.Errorf("a second encoding: %v", err)
	}
}

// secondOf writes an architecture of the first version in the second.
func secondOf(a Architecture) []byte {
	a.ChannelsLast = true
	raw, err := a.MarshalBinary()
	if err != nil {
		panic(err)
	}
	raw[len(secondMagic)+12] = 0
	return raw
}

// TestCountsOfAWindow compares the numbers of values with counting them one by one.
func TestCountsOfAWindow(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 1))
	for range 3000 {
		l := line{1 + random.IntN(9), 1 + random.IntN(4), 1 + random.IntN(4), random.IntN(12)}
		positions, low, high := 1+random.IntN(9), -random.IntN(5), random.IntN(20)
		want := make([]int, positions)
		for p := range want {
			for k := range l.kernel {
				if at := l.at(p, k); at >= low && at < high {
					want[p]++
				}
			}
		}
		if got := l.counts(positions, low, high); !slices.Equal(got, want) {
			t.Fatalf("%+v from %d to %d: got %v, want %v", l, low, high, got, want)
		}
	}
}

// TestLargeKernelsAreReadAtOnce: reading three kilobytes once took 14 seconds.
func TestLargeKernelsAreReadAtOnce(t *testing.T) {
	edges := Edges{Top: 2048, Bottom: 2047}
	a := Architecture{Input: Shape{1, maxSide, 64}}
	for range MaxLayers {
		a.Layers = append(a.Layers, Layer{Kind: AveragePool, Counted: edges, Window: Window{Size{maxSide, 1}, Size{1, 1}, Size{1, 1}, edges}})
	}
	raw, err := a.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var again Architecture
	if err := again.UnmarshalBinary(raw); err != nil || !reflect.DeepEqual(again, a) {
		t.Errorf("%+v, %v", again, err)
	}
}
