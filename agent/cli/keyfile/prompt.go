package keyfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"golang.org/x/term"
)

// The words of the prompt.
const (
	promptNoTerminal = "there is no terminal to prompt for a passphrase: give --passphrase-file or --credential-file"
	promptPassphrase = "Passphrase: "
	promptEmpty      = "the passphrase is empty"
)

func askPassphrase(ctx context.Context, prompt io.Writer) (*keybuf.Buffer, error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return nil, cli.Usage(errors.New(promptNoTerminal))
	}
	shown, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	fmt.Fprint(prompt, promptPassphrase)
	data, err := unlessCancelled(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
	fmt.Fprintln(prompt)
	if err != nil {
		return nil, errors.Join(err, term.Restore(fd, shown)) // who gives up wants to see again what is typed
	}
	if len(data) == 0 {
		return nil, errors.New(promptEmpty)
	}
	return keybuf.Take(data)
}

// unlessCancelled returns what read reads, or gives up with the context. A terminal cannot be
// interrupted: read is then left behind, and ends with the program.
func unlessCancelled(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type typed struct {
		data []byte
		err  error
	}
	done := make(chan typed, 1)
	go func() {
		data, err := read()
		done <- typed{data, err}
	}()
	select {
	case t := <-done:
		return t.data, t.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
