package layers

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/runtime/onnx"
)

// Reasons of this package, those that say most about a file first.
const (
	// ReasonTrees: the model is one of decision trees.
	ReasonTrees refusal.Reason = "model-trees"
	// ReasonKernels: the model is a support vector machine with a kernel, or a Gaussian process.
	ReasonKernels refusal.Reason = "model-kernels"
	// ReasonNeighbours: the model looks for nearest neighbours.
	ReasonNeighbours refusal.Reason = "model-neighbours"
	// ReasonSeveral: several classifiers are combined.
	ReasonSeveral refusal.Reason = "model-several"
	// ReasonRecurrent: the model reads a sequence step by step.
	ReasonRecurrent refusal.Reason = "model-recurrent"
	// ReasonAttention: the model multiplies computed matrices.
	ReasonAttention refusal.Reason = "model-attention"
	// ReasonQuantized: the file is already quantized.
	ReasonQuantized refusal.Reason = "model-quantized"
	// ReasonActivation: a layer has an activation other than ReLU.
	ReasonActivation refusal.Reason = "operator-activation"
	// ReasonPooling: values are pooled.
	ReasonPooling refusal.Reason = "operator-pooling"
	// ReasonNormalization: values are divided by a value computed from the same row.
	ReasonNormalization refusal.Reason = "operator-normalization"
	// ReasonPreprocessing: inputs are prepared by steps other than scaling and selection.
	ReasonPreprocessing refusal.Reason = "operator-preprocessing"
	// ReasonControl: the file has branches or loops.
	ReasonControl refusal.Reason = "operator-control-flow"
	// ReasonOperator: any other operator that layers of weights with ReLU do not have.
	ReasonOperator refusal.Reason = "operator-unsupported"
	// ReasonResidual: two computed values are added.
	ReasonResidual refusal.Reason = "model-residual"
	// ReasonArrangement: a known operator, in a place or form that a network does not have.
	ReasonArrangement refusal.Reason = "operator-arrangement"
	// ReasonAttribute: an attribute, or a value of one, that is not supported.
	ReasonAttribute refusal.Reason = "operator-attribute"
	// ReasonType: values of a type that is not supported.
	ReasonType refusal.Reason = "onnx-type"
	// ReasonOpset: an unknown version of an operator set.
	ReasonOpset refusal.Reason = "onnx-opset"
	// ReasonInput: not one input of rows or images.
	ReasonInput refusal.Reason = "onnx-input"
	// ReasonOutput: an output that is not a score, class or probability.
	ReasonOutput refusal.Reason = "onnx-output"
	// ReasonClasses: classes or labels that do not fit the last layer.
	ReasonClasses refusal.Reason = "model-classes"
	// ReasonWeights: a weight that is not a finite float32.
	ReasonWeights refusal.Reason = "model-weights"
	// ReasonSize: the network is larger than this package's limits.
	ReasonSize refusal.Reason = "model-too-large"
)

// key names an operator with its domain.
func key(n *onnx.Node) string {
	if n.Domain == "" {
		return n.Op
	}
	return n.Domain + "." + n.Op
}

// refuse names the operator and the node.
func refuse(reason refusal.Reason, n *onnx.Node, why string) error {
	return refusal.New(reason, "operator %s (node %q) %s", key(n), n.Name, why)
}

// at names the operator and the node of an error that does not.
func at(n *onnx.Node, where string, err error) error {
	reason, named := refusal.ReasonOf(err)
	if !named {
		reason = ReasonArrangement
	}
	text := err.Error()
	if r, ok := errors.AsType[*refusal.Error](err); ok && r.Detail != "" {
		text = r.Detail
	}
	return refusal.New(reason, "operator %s (node %q)%s: %s", key(n), n.Name, where, text)
}

func misarranged(format string, args ...any) error {
	return refusal.New(ReasonArrangement, format, args...)
}

func badAttribute(format string, args ...any) error {
	return refusal.New(ReasonAttribute, format, args...)
}

func tooLarge(format string, args ...any) error {
	return refusal.New(ReasonSize, format, args...)
}

// A Refused lists everything for which a file cannot become a Network, the most informative
// reason first.
type Refused struct {
	Reasons []*refusal.Error
}

// Error has a line for each reason.
func (r *Refused) Error() string {
	lines := make([]string, len(r.Reasons))
	for i, one := range r.Reasons {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the reasons.
func (r *Refused) Unwrap() []error {
	list := make([]error, len(r.Reasons))
	for i, one := range r.Reasons {
		list[i] = one
	}
	return list
}

// ranks are the reasons, in the order in which they are told.
var ranks = []refusal.Reason{ReasonTrees, ReasonKernels, ReasonNeighbours, ReasonRecurrent, ReasonAttention, ReasonQuantized, ReasonSeveral, ReasonControl,
	ReasonActivation, ReasonPooling, ReasonNormalization, ReasonResidual, ReasonPreprocessing, ReasonOperator}

// refused makes an error of what was found, or nil of nothing.
func refused(found []*refusal.Error) error {
	if len(found) == 0 {
		return nil
	}
	rank := func(r *refusal.Error) int {
		if i := slices.Index(ranks, r.Reason); i >= 0 {
			return i
		}
		return len(ranks)
	}
	slices.SortStableFunc(found, func(x, y *refusal.Error) int { return rank(x) - rank(y) })
	return &Refused{Reasons: found}
}

// asRefused gives every error of this package the same type.
func asRefused(err error) error {
	if _, ok := errors.AsType[*Refused](err); ok {
		return err
	}
	if r, ok := errors.AsType[*refusal.Error](err); ok {
		return &Refused{Reasons: []*refusal.Error{r}}
	}
	return &Refused{Reasons: []*refusal.Error{{Reason: ReasonArrangement, Detail: fmt.Sprint(err), Err: err}}}
}
