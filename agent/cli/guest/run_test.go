package guest

import (
	"io"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/spf13/cobra"
)

// commands are those that the tests here run.
func commands(inv *cli.Invocation) []*cobra.Command {
	return []*cobra.Command{NewEvidence(inv), NewReceipt(inv), NewStatus(inv), NewChat(inv), NewEmbed(inv), NewJobs(inv)}
}

// run runs a command line, and returns its output, its exit status and its error.
func run(t *testing.T, args ...string) (string, int, error) {
	t.Helper()
	return clitest.Run(t, commands, io.Discard, args...)
}

// expectRun runs a command line and wants a status and a text in the output or the error.
func expectRun(t *testing.T, status int, says string, args ...string) {
	t.Helper()
	clitest.Expect(t, commands, status, says, args...)
}
