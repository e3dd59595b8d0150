// Command anchorhold is the command line for people and scripts: it makes
// identities, seals models, operates a broker, talks to an agent, checks
// receipts and audit logs, and says what a machine lacks.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// version is set at link time.
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "anchorhold: %v\n", err)
		stop()
		os.Exit(exitCode(err))
	}
}
