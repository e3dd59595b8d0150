package intnet

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// ErrArchitecture means an architecture outside the limits.
var ErrArchitecture = errors.New("intnet: architecture refused")

// Limits on architectures.
const (
	MaxLayers   = 64
	MaxWeights  = 1 << 22 // of a network
	maxSide     = 4096    // of a shape, or a window
	maxValues   = 1 << 20 // of a tensor
	maxKernel   = 15      // of a convolution's sides
	maxProducts = 1 << 32 // of a layer; for pools, values that are looked at
)

// Shape of a tensor, channels first. A vector of n values is {n, 1, 1}.
type Shape struct{ C, H, W int }

// Size is the number of values.
func (s Shape) Size() int { return s.C * s.H * s.W }

// String is the shape as CxHxW.
func (s Shape) String() string { return fmt.Sprintf("%dx%dx%d", s.C, s.H, s.W) }

func (s Shape) check() error {
	for _, v := range []int{s.C, s.H, s.W} {
		if v < 1 || v > maxSide {
			return fmt.Errorf("shape %s: each side must be 1 to %d: %w", s, maxSide, ErrArchitecture)
		}
	}
	if s.Size() > maxValues {
		return fmt.Errorf("shape %s: more than %d values: %w", s, maxValues, ErrArchitecture)
	}
	return nil
}

// Kind of a layer.
type Kind uint8

// The kinds of layers.
const (
	Dense Kind = 1 // every output sees every input, flattened in C, H, W order
	Conv  Kind = 2 // zero padding
	// MaxPool is the largest value of each window, padding left out. It has no parameters.
	MaxPool Kind = 3
	// AveragePool is the mean of each window. Its accumulators are sums, each times what
	// makes the numbers of values equal (see Geometry.Share). It has one multiplier and no
	// other parameters.
	AveragePool Kind = 4
	// SumPool is AveragePool without its division and rounding: the sums are the values that
	// enter the next layer, which is Dense or Conv and has smaller weights instead. It has no
	// parameters, and costs a proof nothing.
	SumPool Kind = 5
)

// Layer is one layer's shape. Its constants are Parameters.
type Layer struct {
	Kind   Kind
	Out    int    // units, or output channels; 0 of pools, which keep the channels
	Window Window // zero of Dense
	// Groups of a Conv: channels are divided into so many, and each output channel sees
	// those of its group. 0 of other kinds.
	Groups int
	// Counted is the part of an average's or sum's padding that counts as values of zero.
	Counted Edges
	ReLU    bool
	// Leaky is LeakyReLU: accumulators below zero have a multiplier of their own.
	Leaky bool
}

// Convolution is a Conv with a square window, in one group.
func Convolution(out, kernel, stride, pad int, relu bool) Layer {
	return Layer{Kind: Conv, Out: out, Window: Square(kernel, stride, pad), Groups: 1, ReLU: relu}
}

// Architecture is a network without its numbers.
type Architecture struct {
	Input Shape
	// ChannelsLast says that an input's values come in H, W, C order. Everything between
	// layers is in C, H, W order.
	ChannelsLast bool
	Layers       []Layer
}

// Place is the index in C, H, W order of the input's value i.
func (a Architecture) Place(i int) int {
	if !a.ChannelsLast {
		return i
	}
	return i%a.Input.C*a.Input.H*a.Input.W + i/a.Input.C
}

// First says whether the first version of the encoding can express the architecture. Circuits
// depend on it: those that are of this version stay as they are.
func (a Architecture) First() bool {
	for _, l := range a.Layers {
		if l.Kind > Conv || l.Leaky || l.Kind == Conv && (l.Groups != 1 || !l.Window.isSquare()) {
			return false
		}
	}
	return !a.ChannelsLast
}

// Geometry is one layer with the shapes around it.
type Geometry struct {
	Layer    // of pools, Out is the number of channels
	From, To Shape
	// Fan is the number of weights of one output; of pools, the values of a window.
	Fan int
	// Last layers have no multiplier: their outputs are accumulators.
	Last bool

	rows, columns []int // factors of an average or sum
	// Total is by what the accumulators of an average or sum are divided to be means.
	Total int
	// Times is by how much what enters may be larger than a byte: 1, or the Total of the
	// SumPool before.
	Times int
}

// Weights is the number of weights of the layer.
func (g Geometry) Weights() int {
	if g.Pools() {
		return 0
	}
	return g.Out * g.Fan
}

// Pools says whether the layer is a pool, which has neither weights nor biases.
func (g Geometry) Pools() bool { return g.Kind.pools() }

func (k Kind) pools() bool { return k == MaxPool || k.sums() }

func (k Kind) sums() bool { return k == AveragePool || k == SumPool }

// Biases is the number of biases of the layer.
func (g Geometry) Biases() int {
	if g.Pools() {
		return 0
	}
	return g.Out
}

// Multipliers is the number of multipliers of the layer.
func (g Geometry) Multipliers() int {
	switch {
	case g.Last || g.Kind == MaxPool || g.Kind == SumPool:
		return 0
	case g.Kind == AveragePool:
		return 1
	}
	return g.Out
}

// Negatives is the number of multipliers for accumulators below zero.
func (g Geometry) Negatives() int {
	if g.Leaky {
		return g.Multipliers()
	}
	return 0
}

// Positions is the number of times that the weights of one output are used.
func (g Geometry) Positions() int { return g.To.H * g.To.W }

// PerGroup is the number of output channels that see the same input channels.
func (g Geometry) PerGroup() int {
	if g.Kind == Conv {
		return g.Out / g.Groups
	}
	return g.Out
}

// Share is by what an AveragePool's sum at a position is multiplied. Windows at an edge may
// have fewer values, so a mean is sum * Share / Total.
func (g Geometry) Share(position int) int {
	return g.rows[position/g.To.W] * g.columns[position%g.To.W]
}

// Geometries are the layers with their shapes. The architecture must be checked.
func (a Architecture) Geometries() []Geometry {
	list := make([]Geometry, len(a.Layers))
	from, times := a.Input, 1
	for i, l := range a.Layers {
		g := Geometry{Layer: l, From: from, Times: times, Last: i == len(a.Layers)-1}
		switch l.Kind {
		case Dense:
			g.To, g.Fan = Shape{l.Out, 1, 1}, from.Size()
		case Conv:
			g.Fan = from.C / l.Groups * l.Window.Area()
		default:
			g.Out, g.Fan = from.C, l.Window.Area()
		}
		if l.Kind != Dense {
			to := l.Window.Over(from.H, from.W)
			g.To = Shape{g.Out, to.H, to.W}
		}
		if times = 1; l.Kind.sums() {
			g.shares()
		}
		if l.Kind == SumPool {
			times = g.Total
		}
		list[i], from = g, g.To
	}
	return list
}

// values is how many values of the image, and of that and the padding that counts, each row
// and each column of positions has.
func (g *Geometry) values() (inside, counted [2][]int) {
	rows, columns := g.Window.lines()
	inside = [2][]int{rows.counts(g.To.H, 0, g.From.H), columns.counts(g.To.W, 0, g.From.W)}
	counted = [2][]int{rows.counts(g.To.H, -g.Counted.Top, g.From.H+g.Counted.Bottom), columns.counts(g.To.W, -g.Counted.Left, g.From.W+g.Counted.Right)}
	return inside, counted
}

// shares computes the factors and the total of an AveragePool: the total is the least common
// multiple of the numbers of values. A total of zero is too large.
func (g *Geometry) shares() {
	_, counted := g.values()
	h, w := multiple(counted[0]), multiple(counted[1])
	g.Total = h * w
	g.rows, g.columns = make([]int, g.To.H), make([]int, g.To.W)
	for i, n := range counted[0] {
		g.rows[i] = h / max(n, 1)
	}
	for i, n := range counted[1] {
		g.columns[i] = w / max(n, 1)
	}
}

// multiple is the least common multiple, or zero if it is 2^24 or more.
func multiple(list []int) int {
	m := 1
	for _, n := range list {
		if n == 0 || m == 0 {
			continue
		}
		a, b := m, n
		for b != 0 {
			a, b = b, a%b
		}
		if m *= n / a; m >= 1<<24 {
			m = 0
		}
	}
	return m
}

// Check compares an architecture with the limits.
func (a Architecture) Check() error {
	if err := a.Input.check(); err != nil {
		return err
	}
	if len(a.Layers) < 1 || len(a.Layers) > MaxLayers {
		return fmt.Errorf("got %d layers, want 1 to %d: %w", len(a.Layers), MaxLayers, ErrArchitecture)
	}
	from, weights, times := a.Input, 0, 1
	for i, l := range a.Layers {
		refuse := func(format string, args ...any) error {
			return fmt.Errorf("layer %d: "+format+": %w", append(append([]any{i + 1}, args...), ErrArchitecture)...)
		}
		if err := l.check(from); err != nil {
			return refuse("%w", err)
		}
		if i == len(a.Layers)-1 && (l.ReLU || l.Leaky || l.Kind == MaxPool || l.Kind == SumPool) {
			return refuse("the last layer outputs accumulators, so it must not have ReLU, nor be a pool of largest values or sums")
		}
		if i > 0 && a.Layers[i-1].Kind == SumPool && l.Kind.pools() {
			return refuse("a pool must not take the sums of a pool")
		}
		g := Architecture{Input: from, Layers: []Layer{l}}.Geometries()[0]
		g.Times = times
		if err := g.To.check(); err != nil {
			return refuse("%w", err)
		}
		if weights += g.Weights(); weights > MaxWeights {
			return refuse("more than %d weights", MaxWeights)
		}
		if int64(g.Fan)*int64(g.To.Size()) > maxProducts {
			return refuse("more than %d products", int64(maxProducts))
		}
		if err := g.check(); err != nil {
			return refuse("%w", err)
		}
		if from, times = g.To, 1; l.Kind == SumPool {
			times = g.Total
		}
	}
	return nil
}

// check compares a layer with the limits and with what enters it.
func (l Layer) check(from Shape) error {
	pool := l.Kind.pools()
	switch {
	case l.Kind < Dense || l.Kind > SumPool:
		return fmt.Errorf("kind %d is unknown", l.Kind)
	case pool != (l.Out == 0) || l.Out < 0 || l.Out > maxSide:
		return fmt.Errorf("got %d outputs, want 1 to %d, and 0 of a pool", l.Out, maxSide)
	case l.Kind == Dense && l.Window != Window{}:
		return errors.New("a dense layer must not have a kernel")
	case l.Kind != Conv && l.Groups != 0 || l.Kind == Conv && (l.Groups < 1 || from.C%l.Groups != 0 || l.Out%l.Groups != 0):
		return fmt.Errorf("%d groups do not divide %d input and %d output channels", l.Groups, from.C, l.Out)
	case !l.Kind.sums() && l.Counted != Edges{}:
		return errors.New("only averages count padding")
	case l.ReLU && l.Leaky || (l.Kind == MaxPool || l.Kind == SumPool) && l.ReLU || pool && l.Leaky:
		return errors.New("more activations than the layer can have")
	}
	if l.Kind == Dense {
		return nil
	}
	if l.Kind == Conv && (l.Window.Kernel.H > maxKernel && l.Window.Kernel.W > maxKernel) {
		return fmt.Errorf("kernel %v is out of range: one side must be at most %d", l.Window.Kernel, maxKernel)
	}
	if err := l.Window.Fits(from.H, from.W); err != nil {
		return err
	}
	c, p := l.Counted, l.Window.Pad
	if min(c.Top, c.Left, c.Bottom, c.Right) < 0 || c.Top > p.Top || c.Left > p.Left || c.Bottom > p.Bottom || c.Right > p.Right {
		return fmt.Errorf("padding %+v that counts is not within the padding %+v", c, p)
	}
	return nil
}

// check compares a layer's sums with the limits.
func (g *Geometry) check() error {
	// The largest accumulator without its bias.
	if g.reach() >= 1<<31 {
		return fmt.Errorf("%d inputs can overflow 32 bits", g.Fan)
	}
	if !g.Pools() {
		return nil
	}
	inside, _ := g.values()
	for _, list := range inside {
		if slices.Contains(list, 0) {
			return errors.New("a window of the pool has nothing but padding")
		}
	}
	if g.Kind.sums() && (g.Total == 0 || g.Total > maxTotal) {
		return fmt.Errorf("the windows of an average have numbers of values without a common multiple of at most %d", maxTotal)
	}
	return nil
}

// maxTotal keeps the accumulators of averages below 2^31, and their multipliers exact to a
// thousandth.
const maxTotal = 1 << 14

// reach is the largest accumulator, either way, but for its bias.
func (g *Geometry) reach() int64 {
	if g.Pools() {
		return int64(max(g.Total, 1)) * 128
	}
	return reach(g.Fan) * int64(g.Times)
}

// reach is the largest sum of so many products of a weight and a value.
func reach(fan int) int64 { return int64(fan) * 127 * 128 }

// The two encodings. The second one is for what the first one cannot express.
const (
	architectureMagic = "anchorhold/intnet/architecture/1\n"
	secondMagic       = "anchorhold/intnet/architecture/2\n"
	firstWords        = 6 // of a layer
	secondWords       = 18
)

// MarshalBinary is the architecture's one encoding: a line, then numbers of 32 bits,
// little-endian.
func (a Architecture) MarshalBinary() ([]byte, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	var out []byte
	put := func(v ...int) {
		for _, x := range v {
			out = binary.LittleEndian.AppendUint32(out, uint32(x))
		}
	}
	if a.First() {
		out = []byte(architectureMagic)
		put(a.Input.C, a.Input.H, a.Input.W, len(a.Layers))
		for _, l := range a.Layers {
			put(int(l.Kind), l.Out, l.Window.Kernel.H, l.Window.Stride.H, l.Window.Pad.Top, one(l.ReLU))
		}
		return out, nil
	}
	out = []byte(secondMagic)
	put(a.Input.C, a.Input.H, a.Input.W, one(a.ChannelsLast), len(a.Layers))
	for _, l := range a.Layers {
		w := l.Window
		put(int(l.Kind), l.Out, w.Kernel.H, w.Kernel.W, w.Stride.H, w.Stride.W, w.Dilation.H, w.Dilation.W)
		put(w.Pad.Top, w.Pad.Left, w.Pad.Bottom, w.Pad.Right, l.Groups, one(l.ReLU)+2*one(l.Leaky))
		put(l.Counted.Top, l.Counted.Left, l.Counted.Bottom, l.Counted.Right)
	}
	return out, nil
}

func one(claim bool) int {
	if claim {
		return 1
	}
	return 0
}

// UnmarshalBinary reads what MarshalBinary writes, and nothing else.
func (a *Architecture) UnmarshalBinary(data []byte) error {
	next, second := bytes.CutPrefix(data, []byte(secondMagic))
	words := secondWords
	if !second {
		var first bool
		if next, first = bytes.CutPrefix(data, []byte(architectureMagic)); !first {
			return errEncoding
		}
		words = firstWords
	}
	take := func() int {
		if len(next) < 4 {
			next = nil
			return -1
		}
		v := binary.LittleEndian.Uint32(next)
		next = next[4:]
		return int(v)
	}
	b := Architecture{Input: Shape{take(), take(), take()}}
	if second {
		last := take()
		b.ChannelsLast = last == 1
	}
	layers := take()
	if layers < 0 || layers > MaxLayers || len(next) != layers*words*4 {
		return errEncoding
	}
	for range layers {
		l := Layer{Out: 0}
		kind := take()
		l.Kind, l.Out = Kind(kind), take()
		activation := 0
		if second {
			w := &l.Window
			w.Kernel, w.Stride, w.Dilation = Size{take(), take()}, Size{take(), take()}, Size{take(), take()}
			w.Pad = Edges{take(), take(), take(), take()}
			l.Groups, activation = take(), take()
			l.Counted = Edges{take(), take(), take(), take()}
		} else {
			l.Window = Square(take(), take(), take())
			if l.Groups = 1; kind == int(Dense) && l.Window == (Window{Dilation: Size{1, 1}}) {
				l.Window, l.Groups = Window{}, 0
			}
			activation = take()
		}
		if kind > 255 || activation > 2 {
			return errEncoding
		}
		l.ReLU, l.Leaky = activation == 1, activation == 2
		b.Layers = append(b.Layers, l)
	}
	again, err := b.MarshalBinary() // checks it
	if err != nil {
		return err
	}
	if !bytes.Equal(again, data) {
		return errEncoding
	}
	*a = b
	return nil
}

var errEncoding = fmt.Errorf("malformed encoding: %w", ErrArchitecture)

// Digest is the SHA-256 of the encoding; it names the architecture.
func (a Architecture) Digest() ([32]byte, error) {
	raw, err := a.MarshalBinary()
	return sha256.Sum256(raw), err
}
