package convert

import (
	"errors"
	"io/fs"
	"os"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/layers"
	"github.com/anchorhold/anchorhold/runtime/onnx"
	"github.com/anchorhold/anchorhold/runtime/quantize"
	"github.com/anchorhold/anchorhold/runtime/sealer"
	"github.com/anchorhold/anchorhold/runtime/servable"
)

const (
	notONNX = "not an ONNX file, but %s"
	isGGUF  = "a GGUF file under a name that ends in .onnx: rename it"
)

// Check looks at all that does not need rows of inputs. The codes of its findings are
// those of docs/classifiers.md.
func Check(path string) (findings []servable.Finding, err error) {
	m, err := parse(path)
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

// parse reads an ONNX file, and says of a file that is none what it is, where its first bytes tell.
func parse(path string) (*onnx.Model, error) {
	m, err := onnx.ParseFile(path)
	if reason, _ := refusal.ReasonOf(err); reason != onnx.ReasonMalformed && reason != onnx.ReasonTooLarge {
		return m, err
	}
	f, opened := os.Open(path)
	if opened != nil {
		return nil, opened
	}
	defer f.Close()
	info, stat := f.Stat()
	if stat != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	is := sealer.Foreign(f, info.Size())
	head := make([]byte, len(gguf.Magic))
	if _, read := f.ReadAt(head, 0); read == nil && string(head) == gguf.Magic {
		is = isGGUF
	}
	if is == "" {
		return nil, err
	}
	return nil, refusal.New(onnx.ReasonMalformed, notONNX, is)
}
