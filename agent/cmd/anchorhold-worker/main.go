// Command anchorhold-worker does one task for the agent in a process of its own and exits:
// it encrypts or decrypts for a federated round, or makes or verifies a proof. It has no
// network, no files except those handed to it, and no key of the agent. The agent or the
// service manager starts it; it is not meant for people.
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/anchorhold/anchorhold/agent/fed/fedwork"
	"github.com/anchorhold/anchorhold/agent/prove/provework"
	"github.com/anchorhold/anchorhold/agent/worker"
)

// version is set at link time.
var version = "development"

const usage = `usage: anchorhold-worker serve      do the one task that arrives on descriptor 3
       anchorhold-worker version
anchorhold-agent or anchorhold-worker@.service starts it.
`

// handlers are all classes of tasks.
func handlers() map[string]worker.Handler {
	all := fedwork.Handlers()
	maps.Copy(all, provework.Handlers())
	return all
}

// answer is what a command line asks for that starts no task; empty for any other.
func answer(args []string) string {
	switch {
	case len(args) != 1:
	case slices.Contains([]string{"version", "--version"}, args[0]):
		return "anchorhold-worker " + version + "\n"
	case slices.Contains([]string{"help", "-h", "--help"}, args[0]):
		return usage
	}
	return ""
}

func main() {
	if text := answer(os.Args[1:]); text != "" {
		fmt.Print(text)
		return
	}
	if len(os.Args) != 2 || os.Args[1] != worker.Mode {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(worker.Refused.Code())
	}
	conn, err := worker.Inherited()
	if err != nil {
		fmt.Fprintf(os.Stderr, "anchorhold-worker: %v\n", err)
		os.Exit(worker.Refused.Code())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	exit := worker.Serve(ctx, conn, handlers())
	stop()
	os.Exit(exit.Code())
}
