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

	"github.com/spf13/cobra"
)

// version is set at link time.
var version = "development"

// command is the whole command line.
var command = Program{Version: version, Commands: commands}

// commands are the families of commands.
func commands(inv *invocation) []*cobra.Command {
	return []*cobra.Command{
		newKeygen(inv), newSeal(inv), newInspect(inv), newProof(inv, newProofSetup(inv), newCeremony(inv), newProofRegister(inv), newProofChallenge(inv), newProofStatus(inv), newProofAudit(inv)),
		newPolicy(inv), newSecret(inv), newLeases(inv), newAudit(inv), newEpoch(inv),
		newEvidence(inv), newReceipt(inv), newStatus(inv), newChat(inv), newDoctor(inv),
		newFed(inv, newRound(inv), newFedAggregate(inv), newFedLedger(inv)), newJobs(inv), newParams(inv),
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks the command to end; what waits where no context reaches, as for
	// a file on a server that is gone, ends with the second.
	context.AfterFunc(ctx, stop)
	if err := command.Main(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "anchorhold: %s\n", printable(err.Error()))
		stop()
		os.Exit(exitCode(err))
	}
}
