package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/runtime/layers"
	"github.com/anchorhold/anchorhold/runtime/onnx"
	"github.com/anchorhold/anchorhold/runtime/quantize"
	"github.com/anchorhold/anchorhold/runtime/sealer"
	"github.com/anchorhold/anchorhold/runtime/servable"
	"github.com/spf13/cobra"
)

// sealCheck is what `seal --check` says of a file.
type sealCheck struct {
	File         string             `json:"file"`
	Servable     bool               `json:"servable"`
	Reason       string             `json:"reason,omitempty"` // servable.Reason if it is not
	Kind         string             `json:"kind"`             // "language model" or "classifier"
	Architecture string             `json:"architecture,omitempty"`
	Tensors      int                `json:"tensors,omitempty"`
	Bytes        int64              `json:"bytes,omitempty"`
	Findings     []servable.Finding `json:"findings"`
	Notes        []servable.Note    `json:"notes"`
}

// checkFile says whether the file can be served, without key or output.
func checkFile(c *cobra.Command, inv *invocation, path string) error {
	if stray := given(c, append([]string{"out", "key", "publisher", "name", "model-version", "parameter-set"}, (*quantizing)(nil).flags()...)...); stray != nil {
		return usageError{fmt.Errorf("--check seals nothing and takes no %s\nSee '%s --help'", strings.Join(stray, ", "), c.CommandPath())}
	}
	v := sealCheck{File: path, Kind: "language model", Findings: []servable.Finding{}, Notes: []servable.Note{}}
	if isONNX(path) {
		v.Kind = "classifier"
		findings, err := checkONNX(path)
		if err != nil {
			return err
		}
		v.Findings = append(v.Findings, findings...)
	} else {
		r, err := sealer.Check(c.Context(), path, progress(c.ErrOrStderr(), "checked"))
		if err != nil {
			return err
		}
		v.Architecture, v.Tensors, v.Bytes = r.Architecture, r.Tensors, r.Bytes
		v.Findings, v.Notes = append(v.Findings, r.Findings...), append(v.Notes, r.Notes...)
	}
	v.Servable = len(v.Findings) == 0
	if !v.Servable {
		v.Reason = servable.Reason
	}
	if err := inv.print(c.OutOrStdout(), v, v.write); err != nil || v.Servable {
		return err
	}
	return fmt.Errorf("%w: %s: %s cannot be served as it is", errRefused, servable.Reason, path)
}

// checkONNX looks at all that does not need rows of inputs. The codes of its findings are
// those of docs/classifiers.md.
func checkONNX(path string) (findings []servable.Finding, err error) {
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
	reasons := []*evidence.Refusal{{Reason: evidence.Reason(servable.CodeClassifier), Detail: err.Error()}}
	if refused, ok := errors.AsType[*layers.Refused](err); ok {
		reasons = refused.Reasons
	} else if one, ok := errors.AsType[*evidence.Refusal](err); ok {
		reasons = []*evidence.Refusal{one}
	}
	for _, r := range reasons {
		findings = append(findings, servable.Finding{Code: servable.Code(r.Reason), Name: "graph", Detail: r.Detail})
	}
	return findings, nil
}

func (v sealCheck) write(w io.Writer) {
	if v.Servable {
		fmt.Fprintf(w, "%s can be served: %s", v.File, v.Kind)
		if v.Architecture != "" {
			fmt.Fprintf(w, " of the architecture %s, %d tensors, %.1f MB", v.Architecture, v.Tensors, float64(v.Bytes)/1e6)
		}
		fmt.Fprintln(w)
	} else {
		fmt.Fprintf(w, "%s cannot be served (%s):\n", v.File, v.Reason)
	}
	for _, f := range v.Findings {
		name := f.Name
		if f.Count > 1 {
			name = fmt.Sprintf("%s (%d of them)", f.Name, f.Count)
		}
		fmt.Fprintf(w, "  %-24s  %s: %s\n", f.Code, name, f.Detail)
	}
	for _, n := range v.Notes {
		fmt.Fprintf(w, "  %-24s  %s: %s\n", "not used", n.Name, n.Why)
	}
}
