package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Invocation is one run of the program: the flags that commands share, and where a command
// reads and writes.
type Invocation struct {
	// In, Out and Err are the standard streams. They are set where a command runs.
	In       io.Reader
	Out, Err io.Writer
	// AsJSON asks for JSON in place of text.
	AsJSON bool
	// Agent and Broker are the sockets of the local daemons.
	Agent, Broker string
	// Patience is how long the broker may say nothing.
	Patience time.Duration
}

// ShowsOutput says whether standard output is a terminal, where whoever passes by reads it.
func (inv *Invocation) ShowsOutput() bool {
	w := inv.Out
	if c, ok := w.(*countingWriter); ok {
		w = c.to
	}
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Run is the work of a command, without its flags: those are the receiver's.
type Run func(ctx context.Context, inv *Invocation, args []string) error

// RunE turns a command's run into the function that cobra calls. The required flags must have a
// value.
func (inv *Invocation) RunE(run Run, needed ...string) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		if err := Need(c, needed...); err != nil {
			return err
		}
		one := *inv
		one.In, one.Out, one.Err = c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr()
		return run(c.Context(), &one, args)
	}
}

// List is how a list is printed as JSON: an object that has it by name, in which other fields may follow in a later
// version. An empty list is [].
func List[T any](name string, items []T) map[string][]T {
	return map[string][]T{name: append([]T{}, items...)}
}

// errBareList is the mistake of a command: see [List].
var errBareList = errors.New("a command's JSON is one object, and this is a bare list")

// Print writes a value as JSON if that was asked for, else as text. The JSON is one object, whatever the command. What
// could not be written, as on a full disk, fails the command: a checkpoint that was not kept is none.
func (inv *Invocation) Print(value any, text func(io.Writer)) error {
	if !inv.AsJSON {
		p := &PrintableWriter{To: inv.Out}
		text(p)
		return p.err
	}
	if kind := reflect.ValueOf(value).Kind(); kind == reflect.Slice || kind == reflect.Array {
		return errBareList
	}
	enc := json.NewEncoder(inv.Out)
	enc.SetIndent("", "  ")
	return enc.Encode(value)
}
