package operator

import (
	"os"
	"strings"
	"testing"
)

func TestListen(t *testing.T) {
	t.Chdir(t.TempDir()) // a relative path, so that its length is the test's own
	path := strings.Repeat("s", MaxPath)
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
