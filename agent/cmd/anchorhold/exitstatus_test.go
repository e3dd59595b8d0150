package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/spf13/cobra"
)

// statusesOf reads the statuses of a command's help, each with what the help says of it.
func statusesOf(help string) map[string]string {
	_, text, found := strings.Cut(help, "Exit status:")
	if !found {
		return nil
	}
	text, _, _ = strings.Cut(text, "\n\n")
	said := map[string]string{}
	for _, part := range regexp.MustCompile(`(?:^|, |\n|: )\s*([0-9]) +([^,\n]+)`).FindAllStringSubmatch(" : "+strings.TrimSpace(text), -1) {
		said[part[1]] = part[2]
	}
	return said
}

// TestHelpsNameOneTableOfStatuses: whatever a command says of its statuses is a case of the one table.
func TestHelpsNameOneTableOfStatuses(t *testing.T) {
	seen := 0
	everyCommand(command.Root(), func(c *cobra.Command) {
		said := statusesOf(c.Long)
		if said == nil {
			return
		}
		seen++
		for status, says := range said {
			if !strings.Contains("01234", status) || status == "2" && !strings.HasPrefix(says, "wrong command line") || status != "2" && strings.HasPrefix(says, "wrong command line") {
				t.Errorf("%s: status %s: %q", c.CommandPath(), status, says)
			}
		}
		if said["0"] == "" || said["1"] == "" || said["2"] == "" || said["3"] == "" {
			t.Errorf("%s names the statuses %v", c.CommandPath(), said)
		}
	})
	if seen < 10 {
		t.Errorf("%d helps were read", seen)
	}
}

// TestStatusesOfFilesAreTheTables: docs/operations.md, "Exit statuses". A file that is missing fails a command, one that
// is malformed is refused.
func TestStatusesOfFilesAreTheTables(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Mkdir(path("dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	clitest.Write(t, path("malformed"), "nothing: of the kind\n")
	for _, args := range []string{
		"policy check FILE",
		"policy migrate FILE",
		"policy test FILE",
		"policy replay FILE --log " + path("dir"),
		"policy explain FILE models/a --policy FILE",
		"policy values extract FILE --unsigned x",
		"evidence verify FILE",
		"evidence show FILE",
		"seal --check FILE",
	} {
		words := func(file string) []string { return strings.Fields(strings.ReplaceAll(args, "FILE", path(file))) }
		if out, status, err := run(t, words("missing")...); status != cli.StatusFailed {
			t.Errorf("%s, a file that is missing: status %d, want %d: %s, %v", args, status, cli.StatusFailed, out, err)
		}
		if out, status, err := run(t, words("malformed")...); status != cli.StatusRefused {
			t.Errorf("%s, a malformed file: status %d, want %d: %s, %v", args, status, cli.StatusRefused, out, err)
		}
	}
}
