// Package clitest runs commands in tests, and stands in for agent and broker.
package clitest

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/spf13/cobra"
)

// Write makes a file of a test.
func Write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Refusing answers every request with an error object of agent and broker.
func Refusing(t *testing.T, status int, code, message string) string {
	t.Helper()
	return ServeUnix(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(map[string]any{"error": operator.Error{Code: code, Message: message}}); err != nil {
			t.Error(err)
		}
	}))
}

// Answers is an operator socket with one answer to everything.
func Answers(t *testing.T, value any) (socket string) {
	t.Helper()
	return ServeUnix(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(value) // the client sees what is missing
	}))
}

// ServeUnix serves on an operators' socket until the test ends.
func ServeUnix(t *testing.T, h http.Handler) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "operator.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	})
	return socket
}

// ErrorText is the text of an error; empty for none.
func ErrorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// WriteJSON writes a value to a new file of a test.
func WriteJSON(t *testing.T, name string, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Run runs a command line of these commands, and returns the output, the exit status and the
// error. What goes to standard error is written to told.
func Run(t *testing.T, commands func(*cli.Invocation) []*cobra.Command, told io.Writer, args ...string) (string, int, error) {
	t.Helper()
	var out bytes.Buffer
	c := cli.Program{Version: "test", Commands: commands}.Root()
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

// Expect runs a command line of these commands and wants a status and a text in the output
// or the error.
func Expect(t *testing.T, commands func(*cli.Invocation) []*cobra.Command, status int, says string, args ...string) {
	t.Helper()
	out, got, err := Run(t, commands, io.Discard, args...)
	if text := out + ErrorText(err); got != status || !strings.Contains(text, says) {
		t.Errorf("%v: status %d with %q, want %d with %q", args, got, text, status, says)
	}
}
