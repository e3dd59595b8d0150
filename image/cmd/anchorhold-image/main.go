// Command anchorhold-image makes a guest image from Debian packages, the same bytes from the same inputs. See package
// image/build.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/spf13/cobra"
)

// version is set at link time.
var version = "development"

// command is the whole command line.
var command = cli.Program{Version: version, Top: newImage, Commands: func(*cli.Invocation) []*cobra.Command { return nil }}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends what waits where no context reaches
	if err := command.Main(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "anchorhold-image: %s\n", cli.Printable(err.Error()))
		stop()
		os.Exit(cli.StatusOf(err))
	}
}
