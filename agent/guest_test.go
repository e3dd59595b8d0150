package agent

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/settings"
)

func TestStaleSocketsAreRemovedAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.sock")
	d := &daemon{Options: Options{Config: settings.Config{Socket: settings.Socket{Path: path}}}}
	l, err := d.listen()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if _, err := d.listen(); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a socket in use: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = d.listen(); err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.listen(); err == nil {
		t.Error("a file was replaced by a socket")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
		t.Errorf("%q %v", data, err)
	}
	d.Config.Socket.Path = filepath.Join(dir, "absent", "agent.sock")
	if _, err := d.listen(); err == nil || !strings.Contains(err.Error(), "create the directory") {
		t.Errorf("a socket in a missing directory: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(d.Config.Socket.Path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket's directory was made: %v", err)
	}
	d.Config.Socket.Path = ""
	if _, err := d.listen(); err == nil {
		t.Error("no path and no socket passed")
	}
}
