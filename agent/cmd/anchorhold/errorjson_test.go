package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
)

// A command that fails with --json prints one object, with the reason of whoever refused it, and
// ends with the status that it has without --json.
func TestFailuresAreJSONToo(t *testing.T) {
	const id = "5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c"
	small := clitest.Refusing(t, http.StatusConflict, "cohort-too-small", "1 contributions; the round allows 2 to 8")
	busy := clitest.Refusing(t, http.StatusConflict, "already-contributed", "this agent has contributed")
	killed := clitest.ServeUnix(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	away := filepath.Join(t.TempDir(), "away.sock")
	vector := clitest.Write(t, filepath.Join(t.TempDir(), "v.f32"), "\x00\x00\x00\x00")
	for name, c := range map[string]struct {
		args    []string
		status  int
		reason  string
		message string
	}{
		"the broker refuses":   {[]string{"fed", "round", "abandon", id, "--json", "--broker", small}, cli.StatusRefused, "cohort-too-small", "1 contributions; the round allows 2 to 8"},
		"the agent refuses":    {[]string{"--json", "fed", "submit", id, vector, "--agent", busy}, cli.StatusRefused, "already-contributed", "this agent has contributed"},
		"no broker":            {[]string{"fed", "round", "status", id, "--json", "--broker", away}, cli.StatusFailed, "broker-unreachable", ""},
		"no agent":             {[]string{"fed", "result", id, "--json", "--agent", away}, cli.StatusFailed, "agent-unreachable", ""},
		"the broker is killed": {[]string{"fed", "round", "abandon", id, "--json", "--broker", killed}, cli.StatusFailed, "broker-cut-off", ""},
		"the agent is killed":  {[]string{"fed", "submit", id, vector, "--json", "--agent", killed}, cli.StatusFailed, "agent-cut-off", ""},
		"no aggregator":        {[]string{"fed", "aggregate", id, "--json", "--aggregator", away}, cli.StatusRefused, "aggregator-unreachable", ""},
		"no such set":          {[]string{"params", "check", "nothing", "--json"}, cli.StatusRefused, "refused", ""},
		"no round":             {[]string{"fed", "round", "status", "x", "--json"}, cli.StatusUsage, "command-line-invalid", ""},
		"an unknown flag":      {[]string{"fed", "round", "status", "--bogus", "--json"}, cli.StatusUsage, "command-line-invalid", ""},
		"a file that is away":  {[]string{"fed", "submit", id, away, "--json", "--agent", busy}, cli.StatusFailed, "failed", ""},
	} {
		var out bytes.Buffer
		err := command.Run(t.Context(), c.args, &out)
		var said struct {
			Error cli.Failure `json:"error"`
		}
		if bad := json.Unmarshal(out.Bytes(), &said); bad != nil || err == nil || cli.StatusOf(err) != c.status {
			t.Errorf("%s: %q, status %d, %v", name, out.String(), cli.StatusOf(err), err)
			continue
		}
		if said.Error.Reason != c.reason || said.Error.Message == "" || c.message != "" && said.Error.Message != c.message {
			t.Errorf("%s: %+v of %v", name, said.Error, err)
		}
	}
}

// Without --json nothing is written, and a verdict that was printed is the only object.
func TestAnAnswerStaysAlone(t *testing.T) {
	away := filepath.Join(t.TempDir(), "away.sock")
	for _, args := range [][]string{{"fed", "round", "status", "--broker", away}, {"policy", "--bogus"}, {"fed", "round", "status", "--broker", away, "--", "--json"}} {
		var out bytes.Buffer
		if err := command.Run(t.Context(), args, &out); err == nil || strings.Contains(out.String(), "error") {
			t.Errorf("%v: %q, %v", args, out.String(), err)
		}
	}
	model := clitest.Write(t, filepath.Join(t.TempDir(), "m.gguf"), "no model")
	var out bytes.Buffer
	err := command.Run(t.Context(), []string{"seal", "--check", model, "--json"}, &out)
	d := json.NewDecoder(&out)
	var first, second map[string]any
	if bad := d.Decode(&first); err == nil || bad != nil || first["servable"] != false || d.Decode(&second) != io.EOF {
		t.Errorf("%v, %v, then %v (%v)", first, bad, second, err)
	}
}
