package main

import (
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/spf13/cobra"
)

// answers is an operator socket with one answer to everything.
func answers(t *testing.T, value any) (socket string) {
	t.Helper()
	return serveUnix(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(value) // the client sees what is missing
	}))
}

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
		expectRun(t, exitFailure, "the broker does not answer", args...)
	}
	expectRun(t, exitFailure, "the agent at "+socket+" has not answered for 50ms", "status", "--agent", socket, "--broker", socket, "--timeout", "50ms")
	expectRun(t, exitFailure, "systemctl status anchorhold-broker", "epoch", "list", "--broker", socket, "--timeout", "50ms")
	expectRun(t, exitUsage, "--timeout 0s leaves no time", "epoch", "list", "--broker", socket, "--timeout", "0")
	expectRun(t, exitUsage, "--timeout -1s leaves no time", "epoch", "list", "--broker", socket, "--timeout", "-1s")
	everyCommand(command.root(), func(c *cobra.Command) {
		if c.Flag("broker") != nil && c.Flag("timeout") == nil {
			t.Errorf("%s has --broker and no --timeout", c.CommandPath())
		}
	})
}

func TestPoliciesThatCannotBeReadAreNamed(t *testing.T) {
	good := operator.PolicyInfo{ID: "p", Version: 3, Active: true}
	expectRun(t, 0, "* p", "policy", "list", "--broker", answers(t, []operator.PolicyInfo{good}))
	bad := answers(t, []operator.PolicyInfo{good, {File: "policies/history/x.yaml", Unreadable: "line 3"}})
	for _, says := range []string{"* p", "! policies/history/x.yaml: line 3", "1 of 2 policies cannot be read: policies/history/x.yaml"} {
		expectRun(t, exitFailure, says, "policy", "list", "--broker", bad)
	}
	expectRun(t, exitFailure, `"unreadable": "line 3"`, "policy", "list", "--json", "--broker", bad)
}

func TestWhatTheCommandLineMakesOfMistakes(t *testing.T) {
	socket := answers(t, []audit.Entry{{Record: audit.Record{Kind: audit.KindRefusal, Reasons: []audit.Reason{{Code: "a-code", Detail: "why"}, {Code: "bare"}}}}})
	for _, says := range []string{"reason       a-code: why\n", "reason       bare\n"} {
		expectRun(t, 0, says, "audit", "show", "--broker", socket)
	}
	expectRun(t, exitUsage, "0 shows all", "audit", "show", "--last", "-1", "--broker", socket)
	expectRun(t, exitUsage, `"bogus"; there are service, grant, release, receipt, refusal, operator, anomaly`, "audit", "show", "--kind", "bogus", "--broker", socket)
	key := write(t, filepath.Join(t.TempDir(), "key"), strings.Repeat("k", 32))
	expectRun(t, exitUsage, "segments of a-z", "secret", "put", "Models/X", "--file", key, "--broker", socket)
	expectRun(t, exitUsage, "segments of a-z", "secret", "retire", "Models/X", "1", "--broker", socket)
	expectRun(t, exitUsage, "segments of a-z", "secret", "destroy", "Models/X", "1", "--broker", socket)
}

// TestEveryCommandHasAnExample of how it is called, which begins with the program's name.
func TestEveryCommandHasAnExample(t *testing.T) {
	everyCommand(command.root(), func(c *cobra.Command) {
		if c.Hidden || c.HasAvailableSubCommands() || strings.HasPrefix(c.CommandPath(), "anchorhold completion") || c.Name() == "help" {
			return
		}
		if !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s: example %q", c.CommandPath(), c.Example)
		}
	})
}
