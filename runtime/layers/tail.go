package layers

import (
	"slices"
	"strconv"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/runtime/onnx"
)

// meaning is what a value behind the last layer says.
type meaning uint8

const (
	scores        meaning = iota + 1 // of the classes: the last layer's outputs
	single                           // the last layer's one output: the second of two classes where it is positive
	negated                          // minus that
	positive                         // probability of the second of two classes, from one output
	negative                         // one minus it
	probabilities                    // of the classes, or other numbers above zero that rise with the scores
	logarithms                       // of those
	total                            // the logarithm of the sum of the scores' exponentials, one for each row
	totals                           // the same as a column
	column                           // a part of the scores or probabilities
	index                            // place of the highest score
	answer                           // its label
	labelled                         // a map from label to score
)

// behind is the state of the walk behind the last layer.
type behind struct {
	*builder
	means map[string]meaning
}

// tail lists the operators behind the last layer. All of them leave the order of the
// scores as it is, so that cutting them off changes no answer.
var tail = map[string]func(*behind, *onnx.Node) (meaning, error){
	"Softmax": softmax, "LogSoftmax": softmax, "Sigmoid": sigmoid, "Mul": negate, "Sub": difference, "Concat": pair,
	"ReduceLogSumExp": logSumExp, "Exp": exponential, "ai.onnx.ml.Normalizer": normalizer, "Slice": slice,
	"ArgMax": argMax, "ai.onnx.ml.ArrayFeatureExtractor": lookUp, "ai.onnx.ml.ZipMap": zipMap,
	"Identity": keep, "Cast": recast, "Reshape": reshaped, "Squeeze": reshaped,
}

// tail recognises every node that is left, and takes the labels.
func (b *builder) tail() error {
	w := &behind{builder: b, means: map[string]meaning{}}
	if b.rank != 2 {
		return misarranged("the scores are reshaped to %d dimensions, so a later operator may not work on the classes; want a row of scores", b.rank)
	}
	switch {
	case b.labelled != "":
		w.means[b.labelled] = answer
		if b.value != "" {
			w.means[b.value] = b.transformed
		}
	case w.classes() == 1:
		w.means[b.value] = single
	default:
		w.means[b.value] = scores
	}
	for i := range b.g.Nodes {
		n := &b.g.Nodes[i]
		if b.done[i] || !slices.ContainsFunc(n.Inputs, func(in string) bool { return w.means[in] != 0 }) {
			continue
		}
		op, known := tail[key(n)]
		if !known {
			if k := kindOf(key(n)); k.reason != ReasonOperator {
				return refuse(k.reason, n, k.says)
			}
			return refuse(ReasonArrangement, n, "is not supported after the last layer")
		}
		m, err := op(w, n)
		if err != nil {
			return at(n, ", after the last layer", err)
		}
		w.means[n.Outputs[0]], b.done[i] = m, true
	}
	if len(b.g.Outputs) == 0 {
		return refusal.New(ReasonOutput, "the graph has no output")
	}
	for _, out := range b.g.Outputs {
		switch w.means[out] {
		case scores, probabilities, logarithms, positive, column, index, answer, labelled:
		case single:
			return refusal.New(ReasonClasses, "output %q is one number, and nothing says which class it stands for; want an output for each class, or a Sigmoid after a single output", out)
		default:
			return refusal.New(ReasonOutput, "output %q is not a score, class or probability of the last layer", out)
		}
	}
	return nil
}

// of is the meaning of a node's first input.
func (w *behind) of(n *onnx.Node) meaning { return w.means[n.Inputs[0]] }

func misplaced() error { return misarranged("is applied to unexpected values") }

// lastAxis checks the axis of an operator over the scores of a row.
func lastAxis(n *onnx.Node, otherwise int64) error {
	if axis := intOf(n, "axis", otherwise); axis != 1 && axis != -1 {
		return badAttribute("got axis %d; want 1, the classes", axis)
	}
	return nil
}

func softmax(w *behind, n *onnx.Node) (meaning, error) {
	if w.of(n) != scores || w.labelled != "" {
		return 0, misplaced()
	}
	w.net.Probabilities = true
	if n.Op == "LogSoftmax" {
		return logarithms, lastAxis(n, -1)
	}
	return probabilities, lastAxis(n, -1)
}

// classes is the number of outputs of the last layer.
func (w *behind) classes() int { return w.net.Layers[len(w.net.Layers)-1].Out }

// sigmoid of a single output is how scikit-learn decides between two classes. The layer
// is given two outputs, half of it negated and half of it, whose softmax is the same.
func sigmoid(w *behind, n *onnx.Node) (meaning, error) {
	switch m := w.of(n); {
	case w.net.Layers[len(w.net.Layers)-1].Kind != Dense:
		return 0, misplaced()
	case m == scores && w.feedsALayer(n):
		return 0, refusal.New(ReasonActivation, "%s", kindOf("Tanh").says)
	case m == scores:
		return 0, refusal.New(ReasonClasses, "decides on each of %d classes separately, so a row may belong to several; want Softmax, or a single output", w.classes())
	case m != single || w.classes() != 1:
		return 0, misplaced()
	}
	w.split(0.5)
	w.net.Probabilities = true
	return positive, nil
}

// split gives the last layer, of one output z, two: -z*by and z*by.
func (w *behind) split(by float64) {
	last := &w.net.Layers[len(w.net.Layers)-1]
	last.Out = 2
	for _, list := range []*[]float64{&last.Weights, &last.Bias} {
		both := append(slices.Clone(*list), *list...)
		scale(both[:len(*list)], -by)
		scale(both[len(*list):], by)
		*list = both
	}
	w.shape = Shape{2, 1, 1}
}

// number is a constant of one value.
func (w *behind) number(name string) (float64, bool) {
	t := w.constants[name]
	if t == nil || len(t.Floats) != 1 {
		return 0, false
	}
	return t.Floats[0], true
}

// negate is minus a single output.
func negate(w *behind, n *onnx.Node) (meaning, error) {
	if v, ok := w.number(n.Inputs[1]); !ok || v != -1 || w.of(n) != single {
		return 0, misplaced()
	}
	return negated, nil
}

// difference is one minus the probability of the second class, or the scores minus the
// logarithm of the sum of their exponentials.
func difference(w *behind, n *onnx.Node) (meaning, error) {
	switch {
	case w.means[n.Inputs[1]] == positive:
		if v, ok := w.number(n.Inputs[0]); !ok || v != 1 {
			return 0, misarranged("want one minus a probability")
		}
		return negative, nil
	case w.of(n) == scores && w.means[n.Inputs[1]] == totals:
		w.net.Probabilities = true
		return logarithms, nil
	}
	return 0, misplaced()
}

// pair joins what is said of two classes.
func pair(w *behind, n *onnx.Node) (meaning, error) {
	if len(n.Inputs) != 2 {
		return 0, misplaced()
	}
	switch first, second := w.of(n), w.means[n.Inputs[1]]; {
	case first == negative && second == positive:
		return probabilities, lastAxis(n, 0)
	case first == negated && second == single && w.classes() == 1 && w.net.Layers[len(w.net.Layers)-1].Kind == Dense:
		w.split(1)
		return scores, lastAxis(n, 0)
	}
	return 0, misplaced()
}

// overClasses checks that a reduction is over the classes: its axes are an attribute, or
// its second input.
func (w *behind) overClasses(n *onnx.Node) error {
	axes := n.Attributes["axes"].Ints
	if len(n.Inputs) == 2 && axes == nil {
		if t := w.constants[n.Inputs[1]]; t != nil && len(t.Dims) == 1 {
			axes = t.Ints
		}
	}
	if !slices.Equal(axes, []int64{1}) && !slices.Equal(axes, []int64{-1}) {
		return badAttribute("got axes %v; want 1, the classes", axes)
	}
	return nil
}

func logSumExp(w *behind, n *onnx.Node) (meaning, error) {
	if w.of(n) != scores {
		return 0, misplaced()
	}
	if intOf(n, "keepdims", 1) != 0 {
		return totals, w.overClasses(n)
	}
	return total, w.overClasses(n)
}

func exponential(w *behind, n *onnx.Node) (meaning, error) {
	if w.of(n) != logarithms {
		return 0, misplaced()
	}
	return probabilities, nil
}

// normalizer divides numbers above zero by their sum, which keeps their order.
func normalizer(w *behind, n *onnx.Node) (meaning, error) {
	if norm := n.Attributes["norm"].String; norm != "L1" {
		return 0, badAttribute("got norm %q; want L1", norm)
	}
	if w.of(n) != probabilities {
		return 0, misplaced()
	}
	return probabilities, nil
}

// slice takes some of the classes' scores.
func slice(w *behind, n *onnx.Node) (meaning, error) {
	if m := w.of(n); m != scores && m != probabilities && m != logarithms {
		return 0, misplaced()
	}
	for _, name := range n.Inputs[1:] {
		if t := w.constants[name]; t == nil || len(t.Ints) != 1 {
			return 0, misarranged("want one constant for each of start, end, axis and step")
		}
	}
	if axis := w.constants[n.Inputs[3]].Ints[0]; axis != 1 && axis != -1 {
		return 0, misarranged("takes some of the rows; want some of the classes (axis 1)")
	}
	return column, nil
}

// argMax is the place of the highest score, of equal ones the first, as in a Network.
func argMax(w *behind, n *onnx.Node) (meaning, error) {
	if m := w.of(n); m != scores && m != probabilities && m != logarithms {
		return 0, misplaced()
	}
	if intOf(n, "select_last_index", 0) != 0 {
		return 0, badAttribute("select_last_index takes the last of equal scores; want the first")
	}
	return index, lastAxis(n, 0)
}

// lookUp is the label of the answer, or one of the scores.
func lookUp(w *behind, n *onnx.Node) (meaning, error) {
	if m := w.of(n); m == scores || m == probabilities {
		if t := w.constants[n.Inputs[1]]; t != nil && t.Type == onnx.Int64 {
			return column, nil
		}
	}
	if w.means[n.Inputs[1]] != index {
		return 0, misplaced()
	}
	t := w.constants[n.Inputs[0]]
	if t == nil || t.Type != onnx.String && t.Type != onnx.Int64 && t.Type != onnx.Int32 {
		return 0, refusal.New(ReasonClasses, "the class labels are not a constant of integers or strings")
	}
	if len(t.Dims) == 0 || t.Dims[len(t.Dims)-1] != int64(t.Len()) {
		return 0, refusal.New(ReasonClasses, "the class labels have shape %v; want a row", t.Dims)
	}
	return answer, w.setLabels(t.Strings, t.Ints)
}

// zipMap is the map from labels to scores.
func zipMap(w *behind, n *onnx.Node) (meaning, error) {
	if m := w.of(n); m != scores && m != probabilities && m != logarithms {
		return 0, misplaced()
	}
	return labelled, w.setLabels(n.Attributes["classlabels_strings"].Strings, n.Attributes["classlabels_int64s"].Ints)
}

// keep passes a value on.
func keep(w *behind, n *onnx.Node) (meaning, error) { return w.of(n), nil }

// recast passes a value on in another type, one that can hold it.
func recast(w *behind, n *onnx.Node) (meaning, error) {
	m, to := w.of(n), onnx.DataType(n.Attributes["to"].Int)
	limit := int64(0) // up to which the type holds integers
	switch to {
	case onnx.Float32:
		limit = 1 << 24
	case onnx.Float64:
		limit = 1 << 53
	case onnx.Int32:
		limit = 1<<31 - 1
	case onnx.Int64:
		limit = 1<<63 - 1
	}
	switch {
	case m == answer && !w.net.IntegerLabels:
		if to != onnx.String {
			return 0, refusal.New(ReasonType, "casts class labels from text to type %v", to)
		}
	case m == answer || m == index:
		if limit == 0 || m == answer && slices.ContainsFunc(w.net.Labels, func(text string) bool { return !within(text, limit) }) {
			return 0, refusal.New(ReasonType, "casts class labels to type %v, which cannot hold them", to)
		}
	case to != onnx.Float32 && to != onnx.Float64:
		return 0, refusal.New(ReasonType, "casts scores to type %v", to)
	}
	return m, nil
}

// within says whether an integer in decimal is at most the limit, either way.
func within(text string, limit int64) bool {
	v, err := strconv.ParseInt(text, 10, 64)
	return err == nil && v <= limit && v >= -limit
}

// reshaped passes a value on in another shape. Scores keep theirs.
func reshaped(w *behind, n *onnx.Node) (meaning, error) {
	if n.Op == "Reshape" {
		if t := w.constants[n.Inputs[1]]; t == nil || t.Type != onnx.Int64 || len(t.Dims) != 1 {
			return 0, misarranged("want a constant shape")
		}
	}
	switch m := w.of(n); m {
	case total:
		if n.Op == "Reshape" && slices.Equal(w.constants[n.Inputs[1]].Ints, []int64{-1, 1}) {
			return totals, nil
		}
	case index, answer, column, positive:
		return m, nil
	}
	return 0, misplaced()
}

// setLabels keeps the class labels. Where the file names them twice, both lists are equal.
func (b *builder) setLabels(text []string, ints []int64) error {
	refuse := func(why string) error { return refusal.New(ReasonClasses, "%s", why) }
	list, integers := slices.Clone(text), false
	if len(ints) > 0 {
		list, integers = make([]string, len(ints)), true
		for i, v := range ints {
			list[i] = strconv.FormatInt(v, 10)
		}
	}
	if len(list) == 0 || len(ints) > 0 && len(text) > 0 {
		return refuse("want class labels, integers or strings")
	}
	sorted := slices.Sorted(slices.Values(list))
	if len(slices.Compact(sorted)) != len(list) {
		return refuse("two classes have the same label")
	}
	if b.net.Labels != nil && (!slices.Equal(b.net.Labels, list) || b.net.IntegerLabels != integers) {
		return refuse("class labels differ from those given elsewhere")
	}
	b.net.Labels, b.net.IntegerLabels = list, integers
	return nil
}
