package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/spf13/cobra"
)

// TestAStoppedBrokerEndsACommand: it takes connections, and nothing comes. Every command that
// asks a broker has the flag.
func TestAStoppedBrokerEndsACommand(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, command := range []string{"epoch list", "audit verify", "policy show", "proof status", "leases list", "status --agent " + socket} {
		args := append(strings.Fields(command), "--broker", socket, "--timeout", "50ms")
		expectRun(t, cli.StatusFailed, "the broker does not answer", args...)
	}
	expectRun(t, cli.StatusFailed, "the agent at "+socket+" has not answered for 50ms", "status", "--agent", socket, "--broker", socket, "--timeout", "50ms")
	expectRun(t, cli.StatusFailed, "systemctl status anchorhold-broker", "epoch", "list", "--broker", socket, "--timeout", "50ms")
	expectRun(t, cli.StatusUsage, "--timeout 0s leaves no time", "epoch", "list", "--broker", socket, "--timeout", "0")
	expectRun(t, cli.StatusUsage, "--timeout -1s leaves no time", "epoch", "list", "--broker", socket, "--timeout", "-1s")
	everyCommand(command.Root(), func(c *cobra.Command) {
		if c.Flag("broker") != nil && c.Flag("timeout") == nil {
			t.Errorf("%s has --broker and no --timeout", c.CommandPath())
		}
	})
}

func TestWhatTheCommandLineMakesOfMistakes(t *testing.T) {
	socket := clitest.Answers(t, []audit.Entry{{Record: audit.Record{Kind: audit.KindRefusal, Reasons: []audit.Reason{{Code: "a-code", Detail: "why"}, {Code: "bare"}}}}})
	for _, says := range []string{"reason       a-code: why\n", "reason       bare\n"} {
		expectRun(t, 0, says, "audit", "show", "--broker", socket)
	}
	expectRun(t, cli.StatusUsage, "0 shows all", "audit", "show", "--last", "-1", "--broker", socket)
	expectRun(t, cli.StatusUsage, `"bogus"; there are service, grant, release, receipt, refusal, operator, anomaly, volume`, "audit", "show", "--kind", "bogus", "--broker", socket)
	key := clitest.Write(t, filepath.Join(t.TempDir(), "key"), strings.Repeat("k", 32))
	expectRun(t, cli.StatusUsage, "segments of a-z", "secret", "put", "Models/X", "--file", key, "--broker", socket)
	expectRun(t, cli.StatusUsage, "segments of a-z", "secret", "retire", "Models/X", "1", "--broker", socket)
	expectRun(t, cli.StatusUsage, "segments of a-z", "secret", "destroy", "Models/X", "1", "--broker", socket)
}

// TestEveryCommandHasAnExample of how it is called, which begins with the program's name.
func TestEveryCommandHasAnExample(t *testing.T) {
	everyCommand(command.Root(), func(c *cobra.Command) {
		if c.Hidden || c.HasAvailableSubCommands() || strings.HasPrefix(c.CommandPath(), "anchorhold completion") || c.Name() == "help" {
			return
		}
		if !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s: example %q", c.CommandPath(), c.Example)
		}
	})
}

// TestHelpsAreWrapped: a terminal breaks longer lines in the middle of a word.
func TestHelpsAreWrapped(t *testing.T) {
	const widest = 104
	everyCommand(command.Root(), func(c *cobra.Command) {
		for line := range strings.Lines(c.Long) {
			if n := utf8.RuneCountInString(strings.TrimSpace(line)); n > widest {
				t.Errorf("%s: a line of %d characters: %s", c.CommandPath(), n, line)
			}
		}
	})
}
