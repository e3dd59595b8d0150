package setup

import (
	"io"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/spf13/cobra"
)

// commands are those that the tests here run.
func commands(inv *cli.Invocation) []*cobra.Command {
	return []*cobra.Command{cli.Subcommands("proof", "", "", New(inv), NewCeremony(inv))}
}

// run runs a command line, and returns its output, its exit status and its error.
func run(t *testing.T, args ...string) (string, int, error) {
	t.Helper()
	return clitest.Run(t, commands, io.Discard, args...)
}
