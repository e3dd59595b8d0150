package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
)

// TestAnImageNeedsAPackage: without one it would have no agent, and that is said before anything is done.
func TestAnImageNeedsAPackage(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	for _, c := range []struct{ args, says string }{
		{"--name a --base b --out o", "--package is required: a package to install"},
		{"--name a --package p", "--base and --out are required"},
		{"stray --name a", "stray"},
	} {
		var out bytes.Buffer
		err := command.Run(t.Context(), strings.Fields(c.args), &out)
		if cli.StatusOf(err) != cli.StatusUsage || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: status %d, %v, want %q", c.args, cli.StatusOf(err), err, c.says)
		}
	}
}
