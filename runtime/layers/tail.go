package layers

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/anchorhold/anchorhold/runtime/onnx"
)

// meaning is what a value behind the last layer says.
type meaning uint8

const (
	scores        meaning = iota + 1 // of the classes: the last layer's outputs, or rising with them
	positive                         // probability of the second of two classes, from one output
	negative                         // one minus it
	index                            // place of the highest score
	answer                           // its label
	probabilities                    // a map from label to score
)

// behind is the state of the walk behind the last layer.
type behind struct {
	*builder
	means map[string]meaning
}

// tail lists the operators behind the last layer. All of them leave the order of the
// scores as it is, so that cutting them off changes no answer.
var tail = map[string]func(*behind, *onnx.Node) (meaning, error){
	"Softmax": softmax, "LogSoftmax": softmax, "Sigmoid": sigmoid, "Sub": complement, "Concat": pair,
	"ArgMax": argMax, "ai.onnx.ml.ArrayFeatureExtractor": lookUp, "ai.onnx.ml.ZipMap": zipMap,
	"Identity": keep, "Cast": keep, "Reshape": keep, "Squeeze": keep,
}

// tail recognises every node that is left, and takes the labels.
func (b *builder) tail() error {
	w := &behind{builder: b, means: map[string]meaning{b.value: scores}}
	for i := range b.g.Nodes {
		n := &b.g.Nodes[i]
		if b.done[i] || !slices.ContainsFunc(n.Inputs, func(in string) bool { return w.means[in] != 0 }) {
			continue
		}
		op, known := tail[key(n)]
		if !known {
			return refuse(n, "is not supported behind the last layer")
		}
		m, err := op(w, n)
		if err != nil {
			return fmt.Errorf("operator %s (node %q), behind the last layer: %w", key(n), n.Name, err)
		}
		w.means[n.Outputs[0]], b.done[i] = m, true
	}
	if len(b.g.Outputs) == 0 {
		return errors.New("the graph has no output")
	}
	for _, out := range b.g.Outputs {
		switch w.means[out] {
		case scores, index, answer, probabilities:
		default:
			return fmt.Errorf("output %q is no score, class or probability of the last layer", out)
		}
	}
	return nil
}

// of is the meaning of a node's only input that is not a constant.
func (w *behind) of(n *onnx.Node, inputs int) (meaning, error) {
	if len(n.Inputs) != inputs {
		return 0, fmt.Errorf("%d inputs", len(n.Inputs))
	}
	return w.means[n.Inputs[0]], nil
}

var errMisplaced = errors.New("works on other values than expected here")

// lastAxis checks the axis of an operator over the scores of a row.
func lastAxis(n *onnx.Node, otherwise int64) error {
	if axis := intOf(n, "axis", otherwise); axis != 1 && axis != -1 {
		return fmt.Errorf("axis %d; want the classes, 1", axis)
	}
	return nil
}

func softmax(w *behind, n *onnx.Node) (meaning, error) {
	m, err := w.of(n, 1)
	if err != nil || m != scores || n.Inputs[0] != w.value || w.classes() < 2 {
		return 0, errors.Join(err, errMisplaced)
	}
	return scores, errors.Join(lastAxis(n, -1), only(n, "axis"))
}

// classes is the number of outputs of the last layer.
func (w *behind) classes() int { return w.net.Layers[len(w.net.Layers)-1].Out }

// sigmoid of a single output is how scikit-learn decides between two classes. The layer
// is given two outputs, half of it negated and half of it, whose softmax is the same.
func sigmoid(w *behind, n *onnx.Node) (meaning, error) {
	m, err := w.of(n, 1)
	last := &w.net.Layers[len(w.net.Layers)-1]
	if err != nil || m != scores || n.Inputs[0] != w.value || last.Out != 1 || last.Kind != Dense {
		return 0, errors.Join(err, fmt.Errorf("want it behind a single output; hidden layers have ReLU: %w", errMisplaced))
	}
	last.Out = 2
	last.Weights, last.Bias = halves(last.Weights), halves(last.Bias)
	w.shape = Shape{2, 1, 1}
	return positive, only(n)
}

func halves(v []float64) []float64 {
	out := make([]float64, 2*len(v))
	for i, x := range v {
		out[i], out[len(v)+i] = -x/2, x/2
	}
	return out
}

// complement is one minus the probability of the second class.
func complement(w *behind, n *onnx.Node) (meaning, error) {
	if len(n.Inputs) != 2 || w.means[n.Inputs[1]] != positive {
		return 0, errMisplaced
	}
	one := w.constants[n.Inputs[0]]
	if one == nil || one.Len() != 1 || len(one.Floats) != 1 || one.Floats[0] != 1 {
		return 0, errors.New("want one minus a probability")
	}
	return negative, only(n)
}

// pair joins the probabilities of two classes.
func pair(w *behind, n *onnx.Node) (meaning, error) {
	if len(n.Inputs) != 2 || w.means[n.Inputs[0]] != negative || w.means[n.Inputs[1]] != positive {
		return 0, errMisplaced
	}
	return scores, errors.Join(lastAxis(n, 0), only(n, "axis"))
}

// argMax is the place of the highest score, of equal ones the first, as in a Network.
func argMax(w *behind, n *onnx.Node) (meaning, error) {
	m, err := w.of(n, 1)
	if err != nil || m != scores || w.classes() < 2 {
		return 0, errors.Join(err, errMisplaced)
	}
	if intOf(n, "select_last_index", 0) != 0 {
		return 0, errors.New("takes the last of equal scores; want the first")
	}
	return index, errors.Join(lastAxis(n, 0), only(n, "axis", "keepdims", "select_last_index"))
}

// lookUp is the label of the answer.
func lookUp(w *behind, n *onnx.Node) (meaning, error) {
	if len(n.Inputs) != 2 || w.means[n.Inputs[1]] != index {
		return 0, errMisplaced
	}
	t := w.constants[n.Inputs[0]]
	if t == nil {
		return 0, errors.New("the class labels are no constant")
	}
	return answer, errors.Join(w.setLabels(t.Strings, t.Ints), only(n))
}

// zipMap is the map from labels to scores.
func zipMap(w *behind, n *onnx.Node) (meaning, error) {
	m, err := w.of(n, 1)
	if err != nil || m != scores {
		return 0, errors.Join(err, errMisplaced)
	}
	a, b := n.Attributes["classlabels_strings"], n.Attributes["classlabels_int64s"]
	return probabilities, errors.Join(w.setLabels(a.Strings, b.Ints), only(n, "classlabels_strings", "classlabels_int64s"))
}

// keep passes a value on in another type or shape.
func keep(w *behind, n *onnx.Node) (meaning, error) {
	if len(n.Inputs) == 0 {
		return 0, errMisplaced
	}
	m := w.means[n.Inputs[0]]
	if n.Op == "Cast" && m != index && m != answer {
		if to := onnx.DataType(n.Attributes["to"].Int); to != onnx.Float32 && to != onnx.Float64 {
			return 0, fmt.Errorf("casts scores to type %d", to)
		}
	}
	if (n.Op == "Reshape" || n.Op == "Squeeze") && m != index && m != answer || m == 0 {
		return 0, errMisplaced
	}
	return m, nil
}

// setLabels keeps the class labels. Where the file names them twice, both lists are equal.
func (b *builder) setLabels(text []string, ints []int64) error {
	list, integers := slices.Clone(text), false
	if len(ints) > 0 {
		list, integers = make([]string, len(ints)), true
		for i, v := range ints {
			list[i] = strconv.FormatInt(v, 10)
		}
	}
	if len(list) == 0 || len(ints) > 0 && len(text) > 0 {
		return errors.New("want class labels, integers or strings")
	}
	sorted := slices.Sorted(slices.Values(list))
	if len(slices.Compact(sorted)) != len(list) {
		return errors.New("two classes have the same label")
	}
	if b.net.Labels != nil && (!slices.Equal(b.net.Labels, list) || b.net.IntegerLabels != integers) {
		return errors.New("class labels differ from those given elsewhere")
	}
	b.net.Labels, b.net.IntegerLabels = list, integers
	return nil
}
