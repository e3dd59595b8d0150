// Command anchorhold-agent is the daemon in the guest: it attests, receives the
// keys of sealed models, and answers on a unix socket.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/anchorhold/anchorhold/systemd/journal"
)

// version is set at link time.
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(command(ctx, os.Args[1:], journal.Stdout(), journal.Stderr("anchorhold-agent")))
}

// command runs one sub-command and returns the exit code.
func command(ctx context.Context, args []string, out io.Writer, complaint *journal.Output) int {
	if len(args) == 0 {
		fmt.Fprint(complaint, usage)
		return 2
	}
	switch args[0] {
	case "run":
		flags := flag.NewFlagSet("run", flag.ContinueOnError)
		flags.SetOutput(complaint)
		path := flags.String("config", "/etc/anchorhold/agent.yaml", "configuration file")
		if flags.Parse(args[1:]) != nil {
			return 2
		}
		if flags.NArg() != 0 {
			fmt.Fprintf(complaint, "anchorhold-agent run: unexpected argument %q; name the configuration with --config FILE\n", flags.Arg(0))
			return 2
		}
		return run(ctx, *path, complaint)
	case "check":
		return checkCommand(ctx, args[1:], out, complaint)
	case "localseal":
		return localseal(ctx, args[1:], out, complaint)
	case "reload":
		if len(args) != 1 {
			fmt.Fprintln(complaint, "anchorhold-agent reload takes no arguments: the running agent knows its file")
			return 2
		}
		return reload(ctx, out, complaint)
	case "volume":
		return volumeCommand(ctx, args[1:], out, complaint)
	case "version", "--version", "help", "-h", "--help":
		if len(args) != 1 {
			fmt.Fprintf(complaint, "anchorhold-agent %s takes no arguments\n", args[0])
			return 2
		}
		if !strings.HasSuffix(args[0], "version") {
			fmt.Fprint(out, usage)
			return 0
		}
		fmt.Fprintf(out, "anchorhold-agent %s, %s\n", version, buildKind)
		return 0
	}
	if code, known := developmentCommand(ctx, args, out, complaint); known {
		return code
	}
	fmt.Fprintf(complaint, "anchorhold-agent: unknown command %q\n\n%s", args[0], usage)
	return 2
}
