package main

import (
	"bytes"
	"io"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
)

// run runs the command line, and returns what it printed and its exit status.
func run(t *testing.T, args ...string) (string, int, error) {
	t.Helper()
	return runTelling(t, &bytes.Buffer{}, args...)
}

// runTelling runs a command line whose standard error is kept.
func runTelling(t *testing.T, told io.Writer, args ...string) (string, int, error) {
	t.Helper()
	var out bytes.Buffer
	c := command.Root()
	c.SetArgs(append([]string{}, args...)) // of nil, cobra would take the test binary's own
	c.SetOut(&out)
	c.SetErr(told)
	err := c.ExecuteContext(t.Context())
	status := 0
	if err != nil {
		status = cli.StatusOf(err)
	}
	return out.String(), status, err
}
