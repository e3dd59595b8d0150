package evidencelook

import (
	"context"
	"fmt"
	"io"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/evidencefile"
	"github.com/spf13/cobra"
)

// The words of "show".
const (
	showUse   = "show FILE..."
	showShort = "Print what evidence in files says, without verifying it"
	showLong  = `Recognises by the bytes what each file is, as 'evidence verify' does, and prints the fields.
Nothing is verified: no signature, no certificate, no date.`
	showExample = "  anchorhold evidence show quote.bin\n  anchorhold evidence show hclreport.bin --json | jq .parts"
)

// shown is what "show --json" prints.
type shown struct {
	Verified bool                `json:"verified"` // never
	Form     evidencefile.Form   `json:"form"`
	Kind     string              `json:"kind,omitempty"`
	MadeFor  string              `json:"made_for,omitempty"`
	Unread   []string            `json:"unread,omitempty"`
	Files    []evidencefile.File `json:"files"`
	Parts    []part              `json:"parts"`
}

// part is one piece of evidence with its fields in order.
type part struct {
	Type   string  `json:"type"`
	Bytes  int     `json:"bytes"`
	Fields []field `json:"fields"`
}

type field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// NewShow is the command "evidence show".
func NewShow(inv *cli.Invocation) *cobra.Command {
	return &cobra.Command{Use: showUse, Short: showShort, Long: showLong, Example: showExample, Args: cli.AtLeast(1, verifyNeeds), RunE: inv.RunE(runShow)}
}

func runShow(_ context.Context, inv *cli.Invocation, args []string) error {
	c, err := evidencefile.Open(args, "")
	if err != nil {
		return cli.RefusedFor(err)
	}
	e := c.Evidence
	out := shown{Form: e.Form, Kind: string(e.Kind), Unread: e.Unread, Files: c.Files, Parts: []part{}}
	if len(e.MadeFor) > 0 {
		out.MadeFor = fmt.Sprintf("%x", e.MadeFor)
	}
	for _, p := range e.Parts {
		out.Parts = append(out.Parts, part{Type: string(p.Type), Bytes: len(p.Data), Fields: fieldsOf(p)})
	}
	return inv.Print(out, func(w io.Writer) {
		io.WriteString(w, printNotVerified)
		printFiles(w, out.Files)
		for _, p := range out.Parts {
			fmt.Fprintf(w, headingIndented, fmt.Sprintf("%s, %d bytes", p.Type, p.Bytes))
			for _, f := range p.Fields {
				fmt.Fprintf(w, fieldLine, "  ", f.Name, f.Value)
			}
		}
	})
}
