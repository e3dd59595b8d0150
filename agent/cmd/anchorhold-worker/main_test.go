package main

import (
	"strings"
	"testing"
)

// TestHelpIsNoFailure: who asks for it gets it, with status 0; any other word is refused as a task that nobody sent.
func TestHelpIsNoFailure(t *testing.T) {
	for args, want := range map[string]string{
		"help": usage, "-h": usage, "--help": usage, "version": "anchorhold-worker development\n", "--version": "anchorhold-worker development\n",
		"": "", "serve": "", "--what": "", "help stray": "", "--version stray": "",
	} {
		if got := answer(strings.Fields(args)); got != want {
			t.Errorf("%q: got %q, want %q", args, got, want)
		}
	}
}
