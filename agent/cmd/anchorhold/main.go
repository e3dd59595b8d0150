// Command anchorhold is the command line for people and scripts: it makes
// identities, seals models, operates a broker, talks to an agent, checks
// receipts and audit logs, and says what a machine lacks.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// version is set at link time.
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks the command to end; what waits where no context reaches, as for
	// a file on a server that is gone, ends with the second.
	context.AfterFunc(ctx, stop)
	if err := execute(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "anchorhold: %s\n", printable(err.Error()))
		stop()
		os.Exit(exitCode(err))
	}
}

// execute runs one command. Many hold keys, so none leaves memory to dumps and debuggers.
func execute(ctx context.Context, args []string, stdout io.Writer) error {
	if err := keybuf.ForbidDumps(); err != nil {
		return err
	}
	return runCommand(ctx, args, stdout)
}
