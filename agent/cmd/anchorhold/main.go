// Command anchorhold is the command line for people and scripts: it makes
// identities, seals models, operates a broker, talks to an agent, checks
// receipts and audit logs, and says what a machine lacks.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/auditlog"
	"github.com/anchorhold/anchorhold/agent/cli/broker"
	"github.com/anchorhold/anchorhold/agent/cli/doctor"
	"github.com/anchorhold/anchorhold/agent/cli/epoch"
	"github.com/anchorhold/anchorhold/agent/cli/fed"
	"github.com/anchorhold/anchorhold/agent/cli/guest"
	"github.com/anchorhold/anchorhold/agent/cli/proof"
	"github.com/anchorhold/anchorhold/agent/cli/registry"
	"github.com/anchorhold/anchorhold/agent/cli/release"
	"github.com/anchorhold/anchorhold/agent/cli/round"
	"github.com/anchorhold/anchorhold/agent/cli/score"
	"github.com/anchorhold/anchorhold/agent/cli/seal"
	"github.com/spf13/cobra"
)

// version is set at link time.
var version = "development"

// command is the whole command line.
var command = cli.Program{Version: version, Commands: commands}

// commands are the families of commands.
func commands(inv *cli.Invocation) []*cobra.Command {
	return append(slices.Concat(broker.New(inv, guest.NewSecretGet(inv)), guest.New(inv), seal.New(inv)), auditlog.New(inv), epoch.New(inv),
		proof.New(inv, registry.NewRegister(inv), registry.NewChallenge(inv), registry.NewStatus(inv), registry.NewAudit(inv)),
		doctor.New(inv), score.New(inv),
		fed.New(inv, round.New(inv), round.NewAggregate(inv), round.NewLedger(inv)), fed.NewParams(inv), release.New(inv))
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks the command to end; what waits where no context reaches, as for
	// a file on a server that is gone, ends with the second.
	context.AfterFunc(ctx, stop)
	if err := command.Main(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "anchorhold: %s\n", cli.Printable(err.Error()))
		stop()
		os.Exit(cli.StatusOf(err))
	}
}
