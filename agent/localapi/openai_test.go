package localapi_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestOpenAIPythonClient drives the socket with the client library that most
// users have.
func TestOpenAIPythonClient(t *testing.T) {
	python := filepath.Join(os.Getenv("ANCHORHOLD_PEERS"), "venv/bin/python")
	if _, err := os.Stat(python); err != nil {
		t.Skip("NOT TESTED against the OpenAI Python client: set ANCHORHOLD_PEERS to a directory whose venv/bin/python has the package openai")
	}
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import openai").CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED against the OpenAI Python client: %s", out)
	}
	f := start(t, func(c *setup) { c.Queue = -1 })
	cmd := exec.CommandContext(t.Context(), python, "testdata/client.py", f.socket)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	busy := start(t, func(c *setup) { c.Queue = -1 })
	busy.engine.step, busy.engine.started = make(chan struct{}), make(chan struct{}, 1)
	go busy.chat(t, `,"max_tokens":1`)
	<-busy.engine.started
	cmd = exec.CommandContext(t.Context(), python, "testdata/client.py", busy.socket, "busy")
	out, err := cmd.CombinedOutput()
	busy.engine.step <- struct{}{}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	expired := start(t, nil)
	expired.expire()
	cmd = exec.CommandContext(t.Context(), python, "testdata/client.py", expired.socket, "expired")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
