package main

import (
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/keybuf/keybuftest"
	"github.com/anchorhold/anchorhold/systemd/commandline"
	"github.com/anchorhold/anchorhold/systemd/journal"
)

// An aggregator has no key of a round, but that of its own certificate.
func TestAggregatorLeavesItsMemoryToNobody(t *testing.T) {
	keybuftest.Undumpable(t, func() error { return run(journal.Stderr("test"), []string{"version"}) })
}

// A word that is no command, or a file without --config, never has the default configuration
// checked in its place.
func TestWrongWordsAreWrongCommandLines(t *testing.T) {
	for _, args := range []string{"", "chck", "check FILE", "run FILE", "version stray", "--config FILE"} {
		if err := run(journal.Stderr("test"), strings.Fields(args)); commandline.ExitCode(err) != commandline.ExitUsage {
			t.Errorf("%q: %v", args, err)
		}
	}
	if err := run(journal.Stderr("test"), []string{"check", "--config", "absent.yaml"}); commandline.ExitCode(err) != commandline.ExitUsage || !strings.Contains(err.Error(), "absent.yaml") {
		t.Errorf("a file that is not there: %v", err)
	}
}
