package layers

import (
	"math"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/runtime/onnx"
)

// builder walks a graph from its input to its outputs.
type builder struct {
	g         *onnx.Graph
	opsets    map[string]int64
	constants map[string]*onnx.Tensor
	consumers map[string][]int // nodes that read a value
	done      []bool           // nodes that were understood
	left      int              // weights that may still be made
	merged    int              // multiplications that merges took

	net   Network
	value string // the name of the value that was computed so far
	shape Shape
	made  Shape // of the last layer's output, before it was given another shape
	rank  int   // with the rows' dimension: 2 a row of values; 3 channels of lines; 4 an image
	// order is where each value lies among those that the last layer made, or among the
	// input's; nil if all are in their place. Exporters that keep channels last exchange
	// dimensions between layers.
	order []int
	pad   intnet.Edges // zeros around an image that no layer has taken yet
	batch int64        // fixed size of the first dimension, or 0
	open  bool         // the last layer may still get a bias, a factor or ReLU
	// pending is a step value*scale+offset behind the last layer that the next one takes into
	// its weights; nil if there is none.
	pending *affineStep
	// labelled is the value of class labels that a LinearClassifier gives beside its scores.
	labelled    string
	transformed meaning // of those scores
}

// affineStep is a factor and an offset for each value.
type affineStep struct{ scale, offset []float64 }

// FromONNX returns the classifier that a model's graph computes. It refuses, by name, every
// operator and every arrangement that a Network does not have; the error wraps a *Refused with
// all reasons that were found.
func FromONNX(m *onnx.Model) (*Network, error) {
	b := &builder{g: &m.Graph, opsets: m.Opsets, constants: map[string]*onnx.Tensor{}, consumers: map[string][]int{}, left: onnx.MaxElements, done: make([]bool, len(m.Graph.Nodes))}
	if err := b.build(); err != nil {
		return nil, asRefused(err)
	}
	return &b.net, nil
}

func (b *builder) build() error {
	if err := b.survey(); err != nil {
		return err
	}
	if err := b.index(); err != nil {
		return err
	}
	if err := b.input(); err != nil {
		return err
	}
	if err := b.walk(); err != nil {
		return b.explain(err)
	}
	return b.finish()
}

// walk goes along the graph, layers first and then what stands behind them.
func (b *builder) walk() error {
	for b.labelled == "" {
		i, ok := b.next()
		if !ok {
			break
		}
		n := &b.g.Nodes[i]
		op, known := body[key(n)]
		if !known {
			return refuse(ReasonArrangement, n, "is not a layer, where one is expected")
		}
		if !throughPadding[key(n)] {
			if err := b.unpadded(); err != nil {
				return at(n, "", err)
			}
		}
		if err := op(b, n); err != nil {
			return at(n, "", err)
		}
		b.done[i] = true
		if b.labelled == "" {
			b.value = n.Outputs[0]
		}
	}
	if len(b.net.Layers) == 0 {
		if readers := b.consumers[b.value]; len(readers) > 0 {
			n := &b.g.Nodes[readers[0]]
			if key(n) == "ai.onnx.ml.Normalizer" {
				return refuse(ReasonNormalization, n, "divides each row by a value computed from that row, which no layer of weights does; do that before passing rows to the model, and export the model without it")
			}
			return refuse(ReasonArrangement, n, "is not a layer, where one is expected, or shares its input with another node")
		}
		return misarranged("the graph has no layer of weights")
	}
	if err := b.unpadded(); err != nil {
		return err
	}
	if err := b.flatten(); err != nil {
		return err
	}
	if err := b.tail(); err != nil {
		return err
	}
	for i, understood := range b.done {
		if !understood {
			return refuse(ReasonArrangement, &b.g.Nodes[i], "is not on the way from the input to the outputs")
		}
	}
	return nil
}

// throughPadding are the operators that may follow zeros around an image.
var throughPadding = map[string]bool{"Conv": true, "MaxPool": true, "AveragePool": true, "Pad": true, "Identity": true, "Dropout": true}

// index notes who reads what, and computes constants: nodes whose inputs are all known.
func (b *builder) index() error {
	made := map[string]bool{}
	for name, t := range b.g.Initializers {
		b.constants[name], made[name] = t, true
	}
	for _, in := range b.g.Inputs {
		made[in.Name] = true
	}
	for i := range b.g.Nodes {
		n := &b.g.Nodes[i]
		if err := checkNode(n); err != nil {
			return at(n, "", err)
		}
		for _, in := range n.Inputs {
			if in != "" && !made[in] {
				return refuse(ReasonArrangement, n, "reads a value before it is computed: "+in)
			}
		}
		for j, out := range n.Outputs {
			if out == "" && j > 0 {
				continue
			}
			if out == "" || made[out] || j > 0 && !second(n, j) {
				return refuse(ReasonArrangement, n, "has no output, too many outputs, or shares one with another node")
			}
			made[out] = true
		}
		if len(n.Outputs) == 0 {
			return refuse(ReasonArrangement, n, "has no output")
		}
		t, err := b.constant(n)
		if err != nil {
			return at(n, "", err)
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

// second says whether a node may have an output at place j, behind the first: the scores of
// a LinearClassifier, and what Dropout dropped, which is nothing outside training.
func second(n *onnx.Node, j int) bool {
	return j == 1 && (key(n) == "ai.onnx.ml.LinearClassifier" || key(n) == "Dropout")
}

// input takes the one input: rows of values, or images.
func (b *builder) input() error {
	refuse := func(format string, args ...any) error { return refusal.New(ReasonInput, format, args...) }
	if len(b.g.Inputs) != 1 {
		return refuse("the graph has %d inputs; want one tensor of all features", len(b.g.Inputs))
	}
	in := b.g.Inputs[0]
	switch in.Type {
	case onnx.Float32, onnx.Float64, onnx.Int64, onnx.Int32:
	case 0:
		return refuse("input %q is not a tensor; want one of all features", in.Name)
	default:
		return refuse("input %q has values of type %v; want float32, float64, int32 or int64", in.Name, in.Type)
	}
	dims := []int{1, 1, 1}
	for i, d := range in.Dims {
		if i > 0 && (d < 1 || d > MaxFeatures) || d < 0 {
			return refuse("input %q has shape %v; only the first dimension, the rows, may be left open (0)", in.Name, in.Dims)
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
		return refuse("input %q has shape %v; want rows of values or images", in.Name, in.Dims)
	}
	b.value, b.batch, b.rank = in.Name, in.Dims[0], len(in.Dims)
	b.shape = Shape{dims[0], dims[1], dims[2]}
	if b.shape.C*b.shape.H > MaxFeatures || b.shape.Len() > MaxFeatures {
		return tooLarge("input %q has shape %v, which is more than %d values", in.Name, in.Dims, MaxFeatures)
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
	n := &b.g.Nodes[readers[0]]
	_, isTail := tail[key(n)]
	_, isBody := body[key(n)]
	return readers[0], isBody || !isTail
}

// finish checks the values, and that labels suit the outputs.
func (b *builder) finish() error {
	classes := func(format string, args ...any) error { return refusal.New(ReasonClasses, format, args...) }
	last := &b.net.Layers[len(b.net.Layers)-1]
	switch {
	case b.pending != nil:
		return misarranged("the last layer has ReLU, or its outputs are changed by something other than a bias or a factor; class scores must have neither")
	case last.active():
		return misarranged("the last layer has ReLU or another activation; class scores must not")
	case last.Kind == MaxPool:
		return misarranged("the last layer is a pool of largest values, and nothing computes scores from them")
	case last.output(b.shapeBefore()).Len() != last.Out:
		return misarranged("the last layer is a convolution or a pool of several places; want an output for each class")
	case last.Out == 1:
		return classes("the last layer has one output, and nothing says which class it stands for; want an output for each class, or a Sigmoid after a single output")
	case last.Out > MaxClasses:
		return classes("the last layer has %d outputs; want 2 to %d classes", last.Out, MaxClasses)
	case b.net.Labels != nil && len(b.net.Labels) != last.Out:
		return classes("got %d labels for %d classes", len(b.net.Labels), last.Out)
	}
	if b.net.Probabilities && last.Kind == Dense {
		last.center()
	}
	lists := [][]float64{b.net.Scale, b.net.Offset}
	for _, l := range b.net.Layers {
		lists = append(lists, l.Weights, l.Bias, l.Slope, []float64{l.Limit})
	}
	for _, list := range lists {
		for _, v := range list {
			if math.IsNaN(v) || math.Abs(v) > math.MaxFloat32 {
				return refusal.New(ReasonWeights, "a weight is not a finite float32")
			}
		}
	}
	return nil
}

// shapeBefore is the shape of what enters the last layer.
func (b *builder) shapeBefore() Shape {
	shapes := b.net.Shapes()
	return shapes[len(shapes)-2]
}

// flatten makes a last convolution whose outputs have one place each a dense layer.
func (b *builder) flatten() error {
	l := &b.net.Layers[len(b.net.Layers)-1]
	from := b.shapeBefore()
	if l.Kind != Conv || l.output(from) != (Shape{l.Out, 1, 1}) {
		return nil
	}
	if err := b.spend(from.Len() * l.Out); err != nil {
		return err
	}
	g := l.geometry(from)
	weights := make([]float64, from.Len()*l.Out)
	for o := range l.Out {
		for k := range g.Fan {
			if at := g.Source(o, 0, k); at >= 0 {
				weights[o*from.Len()+at] = l.Weights[o*g.Fan+k]
			}
		}
	}
	l.Kind, l.Weights, l.Window, l.Groups = Dense, weights, intnet.Window{}, 0
	return nil
}

// center takes from all classes what they have in common, which changes neither their order
// nor their softmax: the logarithms of naive Bayes are large and nearly the same, and INT8
// has digits for one of both. It does so where the largest weight falls to less than a quarter.
func (l *Layer) center() {
	fan := len(l.Weights) / l.Out
	mean, bias := make([]float64, fan), 0.0
	for o := range l.Out {
		bias += l.Bias[o] / float64(l.Out)
		for k := range fan {
			mean[k] += l.Weights[o*fan+k] / float64(l.Out)
		}
	}
	before, after := 0.0, 0.0
	for i, w := range l.Weights {
		before, after = max(before, math.Abs(w)), max(after, math.Abs(w-mean[i%fan]))
	}
	if after >= before/4 {
		return
	}
	for i := range l.Weights {
		l.Weights[i] -= mean[i%fan]
	}
	for o := range l.Bias {
		l.Bias[o] -= bias
	}
}
