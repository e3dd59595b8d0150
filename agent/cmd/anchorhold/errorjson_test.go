package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/keybroker/operator"
)

// refusing answers every request with an error object of agent and broker.
func refusing(t *testing.T, status int, code, message string) string {
	t.Helper()
	return serveUnix(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(map[string]any{"error": operator.Error{Code: code, Message: message}}); err != nil {
			t.Error(err)
		}
	}))
}

// A command that fails with --json prints one object, with the reason of whoever refused it, and
// ends with the status that it has without --json.
func TestFailuresAreJSONToo(t *testing.T) {
	const id = "5f2c5f2c5f2c5f2c5f2c5f2c5f2c5f2c"
	small := refusing(t, http.StatusConflict, "cohort-too-small", "1 contributions; the round allows 2 to 8")
	busy := refusing(t, http.StatusConflict, "already-contributed", "this agent has contributed")
	killed := serveUnix(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	away := filepath.Join(t.TempDir(), "away.sock")
	vector := write(t, filepath.Join(t.TempDir(), "v.f32"), "\x00\x00\x00\x00")
	for name, c := range map[string]struct {
		args    []string
		status  int
		reason  string
		message string
	}{
		"the broker refuses":   {[]string{"fed", "round", "abandon", id, "--json", "--broker", small}, exitRefused, "cohort-too-small", "1 contributions; the round allows 2 to 8"},
		"the agent refuses":    {[]string{"--json", "fed", "submit", id, vector, "--agent", busy}, exitRefused, "already-contributed", "this agent has contributed (already-contributed)"},
		"no broker":            {[]string{"fed", "round", "status", id, "--json", "--broker", away}, exitFailure, "broker-unreachable", ""},
		"no agent":             {[]string{"fed", "result", id, "--json", "--agent", away}, exitFailure, "agent-unreachable", ""},
		"the broker is killed": {[]string{"fed", "round", "abandon", id, "--json", "--broker", killed}, exitFailure, "broker-cut-off", ""},
		"the agent is killed":  {[]string{"fed", "submit", id, vector, "--json", "--agent", killed}, exitFailure, "agent-cut-off", ""},
		"no aggregator":        {[]string{"fed", "aggregate", id, "--json", "--aggregator", away}, exitRefused, "aggregator-unreachable", ""},
		"no such set":          {[]string{"params", "check", "nothing", "--json"}, exitRefused, "refused", ""},
		"no round":             {[]string{"fed", "round", "status", "x", "--json"}, exitUsage, "command-line-invalid", ""},
		"an unknown flag":      {[]string{"fed", "round", "status", "--bogus", "--json"}, exitUsage, "command-line-invalid", ""},
		"a file that is away":  {[]string{"fed", "submit", id, away, "--json", "--agent", busy}, exitFailure, "failed", ""},
	} {
		var out bytes.Buffer
		err := command.run(t.Context(), c.args, &out)
		var said struct {
			Error failure `json:"error"`
		}
		if bad := json.Unmarshal(out.Bytes(), &said); bad != nil || err == nil || exitCode(err) != c.status {
			t.Errorf("%s: %q, status %d, %v", name, out.String(), exitCode(err), err)
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
		if err := command.run(t.Context(), args, &out); err == nil || strings.Contains(out.String(), "error") {
			t.Errorf("%v: %q, %v", args, out.String(), err)
		}
	}
	model := write(t, filepath.Join(t.TempDir(), "m.gguf"), "no model")
	var out bytes.Buffer
	err := command.run(t.Context(), []string{"seal", "--check", model, "--json"}, &out)
	d := json.NewDecoder(&out)
	var first, second map[string]any
	if bad := d.Decode(&first); err == nil || bad != nil || first["servable"] != false || d.Decode(&second) != io.EOF {
		t.Errorf("%v, %v, then %v (%v)", first, bad, second, err)
	}
}
