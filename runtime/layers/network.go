package layers

import (
	"fmt"
	"math"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/runtime/onnx"
)

// Limits of a network.
const (
	MaxFeatures = 1 << 16 // values of an input or of a layer's output
	MaxLayers   = 64
	MaxClasses  = 4096
	maxWeights  = onnx.MaxElements // of all layers
)

// Shape is the shape of an input or an output, channels first. A vector of n values is
// {n, 1, 1}.
type Shape struct{ C, H, W int }

// Len is the number of values.
func (s Shape) Len() int { return s.C * s.H * s.W }

// Kind is the kind of a layer.
type Kind uint8

// The kinds of layers.
const (
	Dense Kind = 1 // every output depends on every input, in C, H, W order
	Conv  Kind = 2 // zero padding
	// MaxPool is the largest value of each window, and AveragePool the mean.
	MaxPool     Kind = 3
	AveragePool Kind = 4
)

// Layer is one linear layer, or a pool, and the activation after it.
type Layer struct {
	Kind    Kind
	Out     int           // units, or output channels
	Window  intnet.Window // of all but Dense
	Groups  int           // Conv only: output channels see the input channels of their group
	Counted intnet.Edges  // AveragePool only: padding that counts as zeros
	ReLU    bool
	// Limit is the largest value behind ReLU, as in ReLU6; without ReLU the largest either
	// way. 0 is none.
	Limit float64
	// Slope is what values below zero are multiplied by, for each output: LeakyReLU and
	// PReLU. nil is none.
	Slope   []float64
	Weights []float64 // [out][in]; Conv: [out][in channels of the group][rows][columns]
	Bias    []float64 // [out]
}

// Pools says whether the layer is a pool.
func (l *Layer) Pools() bool { return l.Kind == MaxPool || l.Kind == AveragePool }

// active says whether the layer has an activation.
func (l *Layer) active() bool { return l.ReLU || l.Limit != 0 || l.Slope != nil }

// Network is a classifier in floating point: each input value x becomes x*Scale+Offset, and then
// goes through the layers. The last layer's outputs are scores: the answer is the class with the
// highest score, or the first of equal ones.
type Network struct {
	Input Shape
	// ChannelsLast says that the input's values come in H, W, C order.
	ChannelsLast  bool
	Scale, Offset []float64 // one for each input value, in the input's order
	Layers        []Layer
	Labels        []string // of the classes, in the order of the outputs; nil if the file has none
	IntegerLabels bool     // the labels are integers in decimal
	// Probabilities means that the file computes probabilities, which are the softmax of the
	// scores. Without it the scores only rank the classes.
	Probabilities bool
}

// Shapes returns the shape before each layer, and after the last.
func (n *Network) Shapes() []Shape {
	shapes := []Shape{n.Input}
	for _, l := range n.Layers {
		shapes = append(shapes, l.output(shapes[len(shapes)-1]))
	}
	return shapes
}

func (l *Layer) output(in Shape) Shape {
	if l.Kind == Dense {
		return Shape{l.Out, 1, 1}
	}
	to := l.Window.Over(in.H, in.W)
	return Shape{l.Out, to.H, to.W}
}

// place is the index in C, H, W order of input value i.
func (n *Network) place(i int) int {
	return intnet.Architecture{Input: intnet.Shape(n.Input), ChannelsLast: n.ChannelsLast}.Place(i)
}

// Forward computes the scores of one input. When trace is not nil, it is called with the
// values before the first layer and after each, in C, H, W order, which it must not keep.
func (n *Network) Forward(in []float64, trace func(layer int, values []float64)) ([]float64, error) {
	if len(in) != n.Input.Len() {
		return nil, fmt.Errorf("layers: got an input of %d values, the network takes %d", len(in), n.Input.Len())
	}
	x := make([]float64, len(in))
	for i := range in {
		x[n.place(i)] = in[i]*n.Scale[i] + n.Offset[i]
	}
	shape := n.Input
	for i := range n.Layers {
		if trace != nil {
			trace(i, x)
		}
		x, shape = n.Layers[i].forward(x, shape)
	}
	if trace != nil {
		trace(len(n.Layers), x)
	}
	return x, nil
}

func (l *Layer) forward(x []float64, in Shape) ([]float64, Shape) {
	shape := l.output(in)
	out := make([]float64, 0, shape.Len())
	if l.Kind == Dense {
		for o := range l.Out {
			out = append(out, l.finish(o, dot(l.Weights[o*len(x):(o+1)*len(x)], x)))
		}
		return out, shape
	}
	w := &l.Window
	for o := range l.Out {
		for y := range shape.H {
			for z := range shape.W {
				out = append(out, l.finish(o, l.patch(x, in, o, y*w.Stride.H-w.Pad.Top, z*w.Stride.W-w.Pad.Left)))
			}
		}
	}
	return out, shape
}

func (l *Layer) finish(o int, sum float64) float64 {
	if l.Bias != nil {
		sum += l.Bias[o]
	}
	low, high := math.Inf(-1), math.Inf(1)
	if l.Limit != 0 {
		low, high = -l.Limit, l.Limit
	}
	if l.ReLU {
		low = 0
	}
	if l.Slope != nil && sum < 0 {
		sum *= l.Slope[o]
	}
	return min(max(sum, low), high)
}

// patch is the convolution of output channel o at the window that begins at (y, z), or the
// largest or mean of its values.
func (l *Layer) patch(x []float64, in Shape, o, y, z int) (sum float64) {
	first, channels := o, 1
	if l.Kind == Conv {
		channels = in.C / l.Groups
		first = o / (l.Out / l.Groups) * channels
	}
	w, at := &l.Window, o*channels*l.Window.Area()
	top, counted := math.Inf(-1), 0
	for c := first; c < first+channels; c++ {
		for i := range w.Kernel.H {
			for j := range w.Kernel.W {
				row, column := y+i*w.Dilation.H, z+j*w.Dilation.W
				if row >= -l.Counted.Top && row < in.H+l.Counted.Bottom && column >= -l.Counted.Left && column < in.W+l.Counted.Right {
					counted++
				}
				if row >= 0 && row < in.H && column >= 0 && column < in.W {
					v := x[(c*in.H+row)*in.W+column]
					if l.Kind == Conv {
						v *= l.Weights[at]
					}
					sum, top = sum+v, max(top, v)
				}
				at++
			}
		}
	}
	switch l.Kind {
	case MaxPool:
		return top
	case AveragePool:
		return sum / float64(counted)
	}
	return sum
}

func dot(a, b []float64) (sum float64) {
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}
