package layers

import (
	"fmt"

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
	Conv  Kind = 2 // square kernel, one stride and one zero padding for both directions
)

// Layer is one linear layer and the activation after it.
type Layer struct {
	Kind                Kind
	Out                 int // units, or output channels
	Kernel, Stride, Pad int // Conv only
	ReLU                bool
	Weights             []float64 // [out][in]; Conv: [out][in channels][kernel][kernel]
	Bias                []float64 // [out]
}

// Network is a classifier in floating point: each input value x becomes x*Scale+Offset, and then
// goes through the layers. The last layer's outputs are scores: the answer is the class with the
// highest score, or the first of equal ones.
type Network struct {
	Input         Shape
	Scale, Offset []float64 // one for each input value
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
	return Shape{l.Out, (in.H+2*l.Pad-l.Kernel)/l.Stride + 1, (in.W+2*l.Pad-l.Kernel)/l.Stride + 1}
}

// Forward computes the scores of one input. When trace is not nil, it is called with the
// values before the first layer and after each, which it must not keep.
func (n *Network) Forward(in []float64, trace func(layer int, values []float64)) ([]float64, error) {
	if len(in) != n.Input.Len() {
		return nil, fmt.Errorf("layers: got an input of %d values, the network takes %d", len(in), n.Input.Len())
	}
	x := make([]float64, len(in))
	for i := range in {
		x[i] = in[i]*n.Scale[i] + n.Offset[i]
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
	for o := range l.Out {
		for y := range shape.H {
			for z := range shape.W {
				out = append(out, l.finish(o, l.patch(x, in, o, y*l.Stride-l.Pad, z*l.Stride-l.Pad)))
			}
		}
	}
	return out, shape
}

func (l *Layer) finish(o int, sum float64) float64 {
	sum += l.Bias[o]
	if l.ReLU {
		return max(sum, 0)
	}
	return sum
}

// patch is the convolution of output channel o at the window that begins at (y, z).
func (l *Layer) patch(x []float64, in Shape, o, y, z int) (sum float64) {
	k := l.Kernel
	for c := range in.C {
		for i := range k {
			for j := range k {
				if y+i >= 0 && y+i < in.H && z+j >= 0 && z+j < in.W {
					sum += l.Weights[((o*in.C+c)*k+i)*k+j] * x[(c*in.H+y+i)*in.W+z+j]
				}
			}
		}
	}
	return sum
}

func dot(a, b []float64) (sum float64) {
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}
