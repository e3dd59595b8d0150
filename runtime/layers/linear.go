package layers

import (
	"slices"

	"github.com/anchorhold/anchorhold/runtime/onnx"
)

// linearClassifier is ONNX's operator of that name, as skl2onnx writes LogisticRegression,
// RidgeClassifier, LinearSVC and LinearDiscriminantAnalysis: one dense layer, whose
// coefficients are [class][feature], with the labels and the answer beside the scores.
//
// The label is that of the highest score before post_transform, of equal ones the first
// (onnxruntime 1.32, which the tests compare with; ai.onnx.ml's text does not say). The
// attribute multi_class changes nothing that is computed.
func linearClassifier(b *builder, n *onnx.Node) error {
	if n.Inputs[0] != b.value || b.rank != 2 || b.order != nil {
		return misarranged("want rows of values")
	}
	if m := intOf(n, "multi_class", 0); m != 0 && m != 1 {
		return badAttribute("got multi_class %d; want 0 or 1", m)
	}
	weights, bias := n.Attributes["coefficients"].Floats, n.Attributes["intercepts"].Floats
	features, classes := b.shape.Len(), len(bias)
	if classes < 2 || len(weights) != classes*features {
		return badAttribute("got %d coefficients and %d intercepts for %d features; want a row of coefficients and an intercept for each of at least two classes", len(weights), classes, features)
	}
	if err := b.spend(len(weights)); err != nil {
		return err
	}
	l := Layer{Kind: Dense, Out: classes, Weights: slices.Clone(weights)}
	bias = slices.Clone(bias)
	transform := "NONE"
	if a, ok := n.Attributes["post_transform"]; ok {
		transform = a.String
	}
	means := scores
	switch transform {
	case "NONE":
	case "SOFTMAX":
		means, b.net.Probabilities = probabilities, true
	case "LOGISTIC":
		means = probabilities
		// The logistic functions of -z and z are the softmax of -z/2 and z/2.
		if opposite(bias) && opposite(weights) {
			scale(l.Weights, 0.5)
			scale(bias, 0.5)
			b.net.Probabilities = true
		}
	default:
		return badAttribute("post_transform %q is not supported; want NONE, SOFTMAX or LOGISTIC", transform)
	}
	if len(n.Outputs) > 1 {
		b.value = n.Outputs[1]
	} else {
		b.value = ""
	}
	b.labelled, b.transformed = n.Outputs[0], means
	texts, ints := n.Attributes["classlabels_strings"].Strings, n.Attributes["classlabels_ints"].Ints
	if err := b.setLabels(texts, ints); err != nil {
		return err
	}
	return b.add(l, &onnx.Tensor{Type: onnx.Float32, Dims: []int64{int64(classes)}, Floats: bias})
}

// opposite says whether the second half of a list is the first, negated.
func opposite(list []float64) bool {
	half := len(list) / 2
	if len(list) != 2*half {
		return false
	}
	for i, v := range list[:half] {
		if list[half+i] != -v {
			return false
		}
	}
	return true
}

func scale(list []float64, by float64) {
	for i := range list {
		list[i] *= by
	}
}
