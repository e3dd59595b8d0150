package seal

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/convert"
	"github.com/anchorhold/anchorhold/runtime/sealer"
	"github.com/anchorhold/anchorhold/runtime/servable"
	"github.com/spf13/cobra"
)

// The words of "seal --check".
const (
	checkStrayFlags     = "--check seals nothing and takes no %s\nSee '%s --help'"
	checkRefused        = "%w: %s: %s cannot be served as it is"
	checkKindLanguage   = "language model"
	checkKindEmbedding  = "embedding model"
	verdictServable     = "%s can be served: %s"
	verdictArchitecture = " of the architecture %s, %d tensors, %s"
	verdictNotServable  = "%s cannot be served (%s):\n"
	verdictNote         = "not used"
	verdictCount        = "%s (%d of them)"
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

// checkAlone refuses the flags of sealing beside --check.
func checkAlone(c *cobra.Command) error {
	if stray := cli.Given(c, append([]string{"out", "key", "publisher", "name", "model-version", "parameter-set"}, (*convert.Options)(nil).Flags()...)...); stray != nil {
		return cli.Usage(fmt.Errorf(checkStrayFlags, strings.Join(stray, ", "), c.CommandPath()))
	}
	return nil
}

// checkFile says whether a file can be served, without key or output.
func checkFile(ctx context.Context, inv *cli.Invocation, args []string) error {
	path := args[0]
	v := Verdict{File: path, Kind: checkKindLanguage, Findings: []servable.Finding{}, Notes: []servable.Note{}}
	if convert.IsONNX(path) {
		v.Kind = "classifier"
		findings, err := convert.Check(path)
		if err != nil {
			return err
		}
		v.Findings = append(v.Findings, findings...)
	} else {
		r, err := sealer.Check(ctx, path, progress(inv.Err, "checked"))
		if err != nil {
			return err
		}
		v.Architecture, v.Tensors, v.Bytes = r.Architecture, r.Tensors, r.Bytes
		if servable.Embeds(r.Architecture) {
			v.Kind = checkKindEmbedding
		}
		v.Findings, v.Notes = append(v.Findings, r.Findings...), append(v.Notes, r.Notes...)
	}
	v.Servable = len(v.Findings) == 0
	if !v.Servable {
		v.Reason = servable.Reason
	}
	if err := inv.Print(v, v.write); err != nil || v.Servable {
		return err
	}
	return fmt.Errorf(checkRefused, cli.ErrRefused, servable.Reason, path)
}

func (v Verdict) write(w io.Writer) {
	if v.Servable {
		fmt.Fprintf(w, verdictServable, v.File, v.Kind)
		if v.Architecture != "" {
			fmt.Fprintf(w, verdictArchitecture, v.Architecture, v.Tensors, size(v.Bytes))
		}
		fmt.Fprintln(w)
	} else {
		fmt.Fprintf(w, verdictNotServable, v.File, v.Reason)
	}
	for _, f := range v.Findings {
		name := f.Name
		if f.Count > 1 {
			name = fmt.Sprintf(verdictCount, f.Name, f.Count)
		}
		fmt.Fprintf(w, "  %-24s  %s: %s\n", f.Code, name, f.Detail)
	}
	for _, n := range v.Notes {
		fmt.Fprintf(w, "  %-24s  %s: %s\n", verdictNote, n.Name, n.Why)
	}
}
