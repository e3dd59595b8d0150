package emulator

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// What a killed run left goes; what runs, and what -keep left, stays.
func TestSweep(t *testing.T) {
	base := t.TempDir()
	dir := func(name string) string {
		path := filepath.Join(base, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	running, killed, kept := dir("boot-1"), dir("boot-2"), dir("boot-3")
	mark, err := markOwned(running)
	if err != nil {
		t.Fatal(err)
	}
	defer mark.Close()
	other, err := markOwned(killed)
	if err := errors.Join(err, other.Close()); err != nil { // the kernel does so at the end of a process
		t.Fatal(err)
	}
	if err := sweep(base); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{running: nil, killed: syscall.ENOENT, kept: nil} {
		if _, err := os.Stat(path); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}

func TestLinesComeWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var l Lines
	for _, step := range []struct {
		text string
		want []string
	}{{"", nil}, {"a\r\nb", []string{"a"}}, {"c\n\n", []string{"bc", ""}}, {"", nil}} {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString(step.text)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		if got, err := l.Read(path); err != nil || !slices.Equal(got, step.want) {
			t.Errorf("%q: got %q, %v", step.text, got, err)
		}
	}
	if got, err := l.Read(path + "-other"); err != nil || got != nil {
		t.Error(got, err)
	}
}
