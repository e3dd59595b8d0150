package clitest

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/keybroker/operator"
)

// Call is one call of a command's run, whose options are a struct and whose flags nobody parsed.
type Call struct {
	Run  cli.Run
	Args []string
	// Agent and Broker are sockets; JSON asks for an object.
	Agent, Broker string
	JSON          bool
	// In is standard input, Out standard output; nil for what is kept and looked at.
	In  io.Reader
	Out io.Writer
	// Cancelled says that the command is interrupted before it begins.
	Cancelled bool
	// Status is the exit status that the error must have, Reason what scripts read of it: empty
	// for any.
	Status int
	Reason string
	// Says is in the output or the error; Silent in neither.
	Says, Silent string
}

// Calls makes calls, by what they are about.
func Calls(t *testing.T, calls map[string]Call) {
	t.Helper()
	for name, c := range calls {
		c.Expect(t, name)
	}
}

// Expect makes the call, and returns its output.
func (c Call) Expect(t *testing.T, name string) string {
	t.Helper()
	var kept bytes.Buffer
	inv := &cli.Invocation{In: c.In, Out: c.Out, Err: io.Discard, AsJSON: c.JSON, Agent: c.Agent, Broker: c.Broker, Patience: operator.DefaultSilence}
	if c.In == nil {
		inv.In = strings.NewReader("")
	}
	if c.Out == nil {
		inv.Out = &kept
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if c.Cancelled {
		cancel()
	}
	err := c.Run(ctx, inv, c.Args)
	status, reason := 0, ""
	if err != nil {
		status, reason = cli.StatusOf(err), cli.FailureOf(err).Reason
	}
	text := kept.String() + ErrorText(err)
	if status != c.Status || c.Reason != "" && reason != c.Reason || !strings.Contains(text, c.Says) || c.Silent != "" && strings.Contains(text, c.Silent) {
		t.Errorf("%s: status %d for %q with\n%s\nwant %d for %q with %q and without %q", name, status, reason, text, c.Status, c.Reason, c.Says, c.Silent)
	}
	return kept.String()
}

// Full is an output that takes nothing, as a disk that is full.
type Full struct{}

// Write implements io.Writer.
func (Full) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
