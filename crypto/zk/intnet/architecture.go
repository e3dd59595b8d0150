package intnet

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrArchitecture means an architecture outside the limits.
var ErrArchitecture = errors.New("intnet: architecture refused")

// Limits on architectures.
const (
	MaxLayers  = 16
	MaxWeights = 1 << 22 // of a network
	maxSide    = 4096    // of a shape
	maxValues  = 1 << 20 // of a tensor
	maxKernel  = 15
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
	Conv  Kind = 2 // square kernel, one stride, zero padding on all sides
)

// Layer is one layer's shape. Its constants are Parameters.
type Layer struct {
	Kind                Kind
	Out                 int // units, or output channels
	Kernel, Stride, Pad int // of Conv; 0 of Dense
	ReLU                bool
}

// Architecture is a network without its numbers.
type Architecture struct {
	Input  Shape
	Layers []Layer
}

// Geometry is one layer with the shapes around it.
type Geometry struct {
	Layer
	From, To Shape
	// Fan is the number of weights of one output.
	Fan int
	// Last layers have no multiplier: their outputs are accumulators.
	Last bool
}

// Weights is the number of weights of the layer.
func (g Geometry) Weights() int { return g.Out * g.Fan }

// Positions is the number of times that the weights of one output are used.
func (g Geometry) Positions() int { return g.To.H * g.To.W }

// Geometries are the layers with their shapes. The architecture must be checked.
func (a Architecture) Geometries() []Geometry {
	list := make([]Geometry, len(a.Layers))
	from := a.Input
	for i, l := range a.Layers {
		g := Geometry{Layer: l, From: from, Last: i == len(a.Layers)-1}
		switch l.Kind {
		case Dense:
			g.To, g.Fan = Shape{l.Out, 1, 1}, from.Size()
		case Conv:
			g.To = Shape{l.Out, (from.H+2*l.Pad-l.Kernel)/l.Stride + 1, (from.W+2*l.Pad-l.Kernel)/l.Stride + 1}
			g.Fan = from.C * l.Kernel * l.Kernel
		}
		list[i], from = g, g.To
	}
	return list
}

// Check compares an architecture with the limits.
func (a Architecture) Check() error {
	if err := a.Input.check(); err != nil {
		return err
	}
	if len(a.Layers) < 1 || len(a.Layers) > MaxLayers {
		return fmt.Errorf("got %d layers, want 1 to %d: %w", len(a.Layers), MaxLayers, ErrArchitecture)
	}
	from, weights := a.Input, 0
	for i, l := range a.Layers {
		refuse := func(format string, args ...any) error {
			return fmt.Errorf("layer %d: "+format+": %w", append(append([]any{i + 1}, args...), ErrArchitecture)...)
		}
		if l.Out < 1 || l.Out > maxSide {
			return refuse("got %d outputs, want 1 to %d", l.Out, maxSide)
		}
		if i == len(a.Layers)-1 && l.ReLU {
			return refuse("the last layer outputs accumulators, so it must not have ReLU")
		}
		switch l.Kind {
		case Dense:
			if l.Kernel != 0 || l.Stride != 0 || l.Pad != 0 {
				return refuse("a dense layer must not have a kernel")
			}
		case Conv:
			if l.Kernel < 1 || l.Kernel > maxKernel || l.Stride < 1 || l.Stride > maxKernel || l.Pad < 0 || l.Pad >= l.Kernel {
				return refuse("kernel %d, stride %d and padding %d are out of range", l.Kernel, l.Stride, l.Pad)
			}
			if from.H+2*l.Pad < l.Kernel || from.W+2*l.Pad < l.Kernel {
				return refuse("the kernel is larger than %s", from)
			}
		default:
			return refuse("kind %d is unknown", l.Kind)
		}
		g := Architecture{Input: from, Layers: []Layer{l}}.Geometries()[0]
		if err := g.To.check(); err != nil {
			return refuse("%v", err)
		}
		if weights += g.Weights(); weights > MaxWeights {
			return refuse("more than %d weights", MaxWeights)
		}
		// The largest accumulator without its bias.
		if reach(g.Fan) >= 1<<31 {
			return refuse("%d inputs can overflow 32 bits", g.Fan)
		}
		from = g.To
	}
	return nil
}

// reach is the largest sum of so many products of a weight and a value.
func reach(fan int) int64 { return int64(fan) * 127 * 128 }

const architectureMagic = "anchorhold/intnet/architecture/1\n"

// MarshalBinary is the architecture's one encoding: a line, then numbers of 32 bits,
// little-endian.
func (a Architecture) MarshalBinary() ([]byte, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	out := []byte(architectureMagic)
	put := func(v ...int) {
		for _, x := range v {
			out = binary.LittleEndian.AppendUint32(out, uint32(x))
		}
	}
	put(a.Input.C, a.Input.H, a.Input.W, len(a.Layers))
	for _, l := range a.Layers {
		relu := 0
		if l.ReLU {
			relu = 1
		}
		put(int(l.Kind), l.Out, l.Kernel, l.Stride, l.Pad, relu)
	}
	return out, nil
}

// UnmarshalBinary reads what MarshalBinary writes, and nothing else.
func (a *Architecture) UnmarshalBinary(data []byte) error {
	bad := func() error { return fmt.Errorf("malformed encoding: %w", ErrArchitecture) }
	head := len(architectureMagic) + 4*4
	if len(data) < head || string(data[:len(architectureMagic)]) != architectureMagic {
		return bad()
	}
	next := data[len(architectureMagic):]
	take := func() int {
		v := binary.LittleEndian.Uint32(next)
		next = next[4:]
		return int(v)
	}
	var b Architecture
	b.Input = Shape{take(), take(), take()}
	layers := take()
	if layers > MaxLayers || len(next) != layers*6*4 {
		return bad()
	}
	for range layers {
		kind := take()
		l := Layer{Kind: Kind(kind), Out: take(), Kernel: take(), Stride: take(), Pad: take()}
		relu := take()
		if kind > 255 || relu > 1 {
			return bad()
		}
		l.ReLU = relu == 1
		b.Layers = append(b.Layers, l)
	}
	if err := b.Check(); err != nil {
		return err
	}
	*a = b
	return nil
}

// Digest is the SHA-256 of the encoding; it names the architecture.
func (a Architecture) Digest() ([32]byte, error) {
	raw, err := a.MarshalBinary()
	return sha256.Sum256(raw), err
}
