// Command anchorhold-verify verifies proofs of inference and of gradient bounds. It needs
// no agent, no broker and no network, and contains no prover.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/anchorhold/anchorhold/agent/proofcheck"
)

// version is set at link time.
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := proofcheck.Run(ctx, version, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
