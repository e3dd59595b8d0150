package layers

import (
	"errors"
	"fmt"
	"math"
	"slices"

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

// Layer is one linear layer and what follows it.
type Layer struct {
	Kind                Kind
	Out                 int // units, or output channels
	Kernel, Stride, Pad int // Conv only
	ReLU                bool
	Weights             []float64 // [out][in]; Conv: [out][in channels][kernel][kernel]
	Bias                []float64 // [out]
}

// Network is a classifier in floating point: each input value x becomes x*Scale+Offset,
// then come the layers. The last layer's outputs are scores: the class with the highest is
// the answer, and their softmax the probabilities.
type Network struct {
	Input         Shape
	Scale, Offset []float64 // one for each input value
	Layers        []Layer
	Labels        []string // of the classes, in the order of the outputs; nil if the file has none
	IntegerLabels bool     // the labels are integers in decimal
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
		return nil, fmt.Errorf("layers: an input of %d values, the network has %d", len(in), n.Input.Len())
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

// builder walks a graph from its input to its outputs.
type builder struct {
	g         *onnx.Graph
	opsets    map[string]int64
	constants map[string]*onnx.Tensor
	consumers map[string][]int // nodes that read a value
	done      []bool           // nodes that were understood
	left      int              // weights that may still be made

	net   Network
	value string // the name of the value that was computed so far
	shape Shape
	rank  int   // 2: a row of values; 4: an image
	batch int64 // fixed size of the first dimension, or 0
	open  bool  // the last layer may still get a bias or ReLU
}

// FromONNX returns the classifier that a model's graph computes. It refuses, by name, every
// operator and every arrangement that a Network does not have.
func FromONNX(m *onnx.Model) (*Network, error) {
	b := &builder{g: &m.Graph, opsets: m.Opsets, constants: map[string]*onnx.Tensor{}, consumers: map[string][]int{}, left: onnx.MaxElements, done: make([]bool, len(m.Graph.Nodes))}
	if err := b.build(); err != nil {
		return nil, fmt.Errorf("layers: %w", err)
	}
	return &b.net, nil
}

func (b *builder) build() error {
	if err := b.index(); err != nil {
		return err
	}
	if err := b.input(); err != nil {
		return err
	}
	for {
		i, ok := b.next()
		if !ok {
			break
		}
		n := &b.g.Nodes[i]
		op, known := body[key(n)]
		if !known {
			return refuse(n, "is not supported here; classifiers of dense and convolutional layers with ReLU are")
		}
		if err := op(b, n); err != nil {
			return fmt.Errorf("operator %s (node %q): %w", n.Op, n.Name, err)
		}
		b.done[i], b.value = true, n.Outputs[0]
	}
	if len(b.net.Layers) == 0 {
		for _, i := range b.consumers[b.value] {
			return refuse(&b.g.Nodes[i], "stands where a layer is expected, or reads what another node reads too")
		}
		return errors.New("the graph has no layer")
	}
	if err := b.tail(); err != nil {
		return err
	}
	for i, understood := range b.done {
		if !understood {
			return refuse(&b.g.Nodes[i], "is not on the way from the input to the outputs")
		}
	}
	return b.finish()
}

// key names an operator with its domain.
func key(n *onnx.Node) string {
	if n.Domain == "" {
		return n.Op
	}
	return n.Domain + "." + n.Op
}

func refuse(n *onnx.Node, why string) error {
	return fmt.Errorf("operator %s (node %q) %s", key(n), n.Name, why)
}

// index notes who reads what, and computes constants: nodes whose inputs are all known.
func (b *builder) index() error {
	for domain := range b.opsets {
		if domain != "" && domain != "ai.onnx.ml" {
			return fmt.Errorf("operator set %q is not supported", domain)
		}
	}
	made := map[string]bool{}
	for name, t := range b.g.Initializers {
		b.constants[name], made[name] = t, true
	}
	for _, in := range b.g.Inputs {
		made[in.Name] = true
	}
	for i := range b.g.Nodes {
		n := &b.g.Nodes[i]
		for _, in := range n.Inputs {
			if in != "" && !made[in] {
				return refuse(n, fmt.Sprintf("reads %q before it is computed", in))
			}
		}
		for j, out := range n.Outputs {
			if out == "" || made[out] || j > 0 {
				return refuse(n, "has no output, more than one, or one that another node has")
			}
			made[out] = true
		}
		if len(n.Outputs) == 0 {
			return refuse(n, "has no output")
		}
		t, err := b.constant(n)
		if err != nil {
			return refuse(n, err.Error())
		}
		if t != nil {
			b.constants[n.Outputs[0]], b.done[i] = t, true
			continue
		}
		for _, in := range n.Inputs {
			if readers := b.consumers[in]; b.constants[in] == nil && in != "" && !slices.Contains(readers, i) {
				b.consumers[in] = append(b.consumers[in], i)
			}
		}
	}
	return nil
}

// input takes the one input: rows of values, or images.
func (b *builder) input() error {
	if len(b.g.Inputs) != 1 {
		return fmt.Errorf("the graph has %d inputs; want one tensor of all features", len(b.g.Inputs))
	}
	in := b.g.Inputs[0]
	switch in.Type {
	case onnx.Float32, onnx.Float64, onnx.Int64, onnx.Int32:
	default:
		return fmt.Errorf("input %q has type %d; want numbers", in.Name, in.Type)
	}
	dims := []int{1, 1, 1}
	for i, d := range in.Dims {
		if i > 0 && (d < 1 || d > MaxFeatures) || d < 0 {
			return fmt.Errorf("input %q has shape %v; only the first dimension, of rows, may be open", in.Name, in.Dims)
		}
	}
	switch len(in.Dims) {
	case 2:
		dims[0] = int(in.Dims[1])
	case 3:
		dims[1], dims[2] = int(in.Dims[1]), int(in.Dims[2])
	case 4:
		dims[0], dims[1], dims[2] = int(in.Dims[1]), int(in.Dims[2]), int(in.Dims[3])
	default:
		return fmt.Errorf("input %q has shape %v; want rows of values or images", in.Name, in.Dims)
	}
	b.value, b.batch, b.rank = in.Name, in.Dims[0], len(in.Dims)
	b.shape = Shape{dims[0], dims[1], dims[2]}
	if b.shape.C*b.shape.H > MaxFeatures || b.shape.Len() > MaxFeatures {
		return fmt.Errorf("input %q has shape %v, more than %d values", in.Name, in.Dims, MaxFeatures)
	}
	b.net.Input = b.shape
	b.net.Scale, b.net.Offset = slices.Repeat([]float64{1}, b.shape.Len()), make([]float64, b.shape.Len())
	return nil
}

// next is the one node that reads the value, unless what follows is the tail.
func (b *builder) next() (int, bool) {
	readers := b.consumers[b.value]
	if len(readers) != 1 || slices.Contains(b.g.Outputs, b.value) {
		return 0, false
	}
	_, isTail := tail[key(&b.g.Nodes[readers[0]])]
	_, isBody := body[key(&b.g.Nodes[readers[0]])]
	return readers[0], isBody || !isTail
}

// finish checks the values, and that labels suit the outputs.
func (b *builder) finish() error {
	last := &b.net.Layers[len(b.net.Layers)-1]
	switch {
	case last.ReLU:
		return errors.New("the last layer has ReLU; scores of classes have none")
	case last.Kind != Dense:
		return errors.New("the last layer is a convolution; want a dense one with an output for each class")
	case last.Out < 2 || last.Out > MaxClasses:
		return fmt.Errorf("the last layer has %d outputs; want 2 to %d classes", last.Out, MaxClasses)
	case b.net.Labels != nil && len(b.net.Labels) != last.Out:
		return fmt.Errorf("%d labels for %d classes", len(b.net.Labels), last.Out)
	}
	lists := [][]float64{b.net.Scale, b.net.Offset}
	for _, l := range b.net.Layers {
		lists = append(lists, l.Weights, l.Bias)
	}
	for _, list := range lists {
		for _, v := range list {
			if math.IsNaN(v) || math.Abs(v) > math.MaxFloat32 {
				return errors.New("a weight is no finite number of float32's range")
			}
		}
	}
	return nil
}
