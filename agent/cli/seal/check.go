package seal

import (
	"fmt"
	"io"
	"strings"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/convert"
	"github.com/anchorhold/anchorhold/runtime/sealer"
	"github.com/anchorhold/anchorhold/runtime/servable"
	"github.com/spf13/cobra"
)

// Verdict is what `seal --check` says of a file.
type Verdict struct {
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
func checkFile(c *cobra.Command, inv *cli.Invocation, path string) error {
	if stray := cli.Given(c, append([]string{"out", "key", "publisher", "name", "model-version", "parameter-set"}, (*convert.Options)(nil).Flags()...)...); stray != nil {
		return cli.Usage(fmt.Errorf("--check seals nothing and takes no %s\nSee '%s --help'", strings.Join(stray, ", "), c.CommandPath()))
	}
	v := Verdict{File: path, Kind: "language model", Findings: []servable.Finding{}, Notes: []servable.Note{}}
	if convert.IsONNX(path) {
		v.Kind = "classifier"
		findings, err := convert.Check(path)
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
	if err := inv.Print(c.OutOrStdout(), v, v.write); err != nil || v.Servable {
		return err
	}
	return fmt.Errorf("%w: %s: %s cannot be served as it is", cli.ErrRefused, servable.Reason, path)
}

func (v Verdict) write(w io.Writer) {
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
