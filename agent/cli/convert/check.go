package convert

import (
	"errors"
	"io/fs"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/runtime/layers"
	"github.com/anchorhold/anchorhold/runtime/onnx"
	"github.com/anchorhold/anchorhold/runtime/quantize"
	"github.com/anchorhold/anchorhold/runtime/servable"
)

// Check looks at all that does not need rows of inputs. The codes of its findings are
// those of docs/classifiers.md.
func Check(path string) (findings []servable.Finding, err error) {
	m, err := onnx.ParseFile(path)
	var n *layers.Network
	if err == nil {
		n, err = layers.FromONNX(m)
	}
	if err == nil {
		err = quantize.Check(n)
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok || err == nil {
		return nil, err
	}
	reasons := []*refusal.Error{{Reason: refusal.Reason(servable.CodeClassifier), Detail: err.Error()}}
	if refused, ok := errors.AsType[*layers.Refused](err); ok {
		reasons = refused.Reasons
	} else if one, ok := errors.AsType[*refusal.Error](err); ok {
		reasons = []*refusal.Error{one}
	}
	for _, r := range reasons {
		findings = append(findings, servable.Finding{Code: servable.Code(r.Reason), Name: "graph", Detail: r.Detail})
	}
	return findings, nil
}
