package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/spf13/cobra"
)

// Reasons of failures that no part of Anchorhold named, by exit status.
const (
	reasonFailed  = "failed"
	reasonUsage   = "command-line-invalid"
	reasonRefused = "refused"
	reasonOpen    = "not-known-to-be-sound"
)

// reasonInterrupted is the reason of a command that a signal ended.
const reasonInterrupted = "interrupted"

// Failure is an error as scripts see it.
type Failure struct {
	// Reason is stable: of what refused, or of the exit status.
	Reason string `json:"reason"`
	// Message is for people.
	Message string `json:"message"`
}

// FailureOf is an error as scripts see it: whoever refused named the reason.
func FailureOf(err error) Failure {
	f := Failure{Reason: map[int]string{StatusFailed: reasonFailed, StatusUsage: reasonUsage, StatusRefused: reasonRefused, StatusOpen: reasonOpen}[StatusOf(err)]}
	named, isNamed := errors.AsType[namedError](err)
	reason, isReason := refusal.ReasonOf(err)
	switch {
	case errors.Is(err, context.Canceled):
		f.Reason = reasonInterrupted
	case isNamed && named.reason != "":
		f.Reason = named.reason
	case isReason:
		f.Reason = string(reason)
	}
	f.Message = strings.TrimPrefix(strings.TrimPrefix(err.Error(), ErrRefused.Error()+": "), f.Reason+": ")
	f.Message = strings.TrimSuffix(f.Message, " ("+f.Reason+")")
	return f
}

// Run runs a command line. Where it fails with --json and wrote no answer, such as
// the verdict on what was checked, the answer is the error, so that a script always has one object.
func (p Program) Run(ctx context.Context, args []string, stdout io.Writer) error {
	root, out := p.Root(), &countingWriter{to: stdout}
	root.SetArgs(args)
	root.SetOut(out)
	err := root.ExecuteContext(ctx)
	if err == nil || out.written || !wantsJSON(root, args) {
		return err
	}
	enc := json.NewEncoder(stdout)
	enc.SetIndent("", "  ")
	if lost := enc.Encode(map[string]Failure{"error": FailureOf(err)}); lost != nil {
		return fmt.Errorf("%w (%w)", err, lost)
	}
	return err
}

// wantsJSON says whether --json was given. Of a line that could not be parsed the words tell.
func wantsJSON(root *cobra.Command, args []string) bool {
	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}
	return root.PersistentFlags().Lookup("json").Value.String() == "true" || slices.Contains(args, "--json")
}

// countingWriter knows whether anything was written.
type countingWriter struct {
	to      io.Writer
	written bool
}

func (c *countingWriter) Write(p []byte) (int, error) {
	c.written = c.written || len(p) > 0
	return c.to.Write(p)
}

// Main runs one command line. Many commands hold keys, so none leaves memory to dumps and
// debuggers.
func (p Program) Main(ctx context.Context, args []string, stdout io.Writer) error {
	if err := keybuf.ForbidDumps(); err != nil {
		return err
	}
	return p.Run(ctx, args, stdout)
}
