package socket

import (
	"os"
	"path/filepath"
	"testing"
)

func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l, err := Listen(t.Context(), path, true)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o660 {
		t.Fatal(st, err)
	}
	if _, err := Listen(t.Context(), path, false); err == nil {
		t.Fatal("took the socket of a broker that answers")
	}
	// A broker that was killed leaves its socket behind.
	if err := l.(*socketListener).Listener.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = Listen(t.Context(), path, false)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatal(st, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), path, false); err == nil {
		t.Fatal("replaced a file")
	}
}
