package volume

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/keybroker/generation"
)

func TestStates(t *testing.T) {
	dir := t.TempDir()
	if s, err := readStates(dir); err != nil || s != (states{}) {
		t.Errorf("%+v, %v", s, err)
	}
	next, err := generation.After()
	if err != nil {
		t.Fatal(err)
	}
	if err := writeStates(dir, states{Confirmed: next}); err != nil {
		t.Fatal(err)
	}
	if s, err := readStates(dir); err != nil || s.Confirmed != next || !s.Unconfirmed.Zero() {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"", "{", "{}", `{"format":2}`, `{"format":1,"more":1}`, `{"format":1,"confirmed":{"generation":-1}}`, `{"format":1}{}`, strings.Repeat(" ", maxStates) + `{"format":1}`} {
		if err := os.WriteFile(filepath.Join(dir, statesFile), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := readStates(dir)
		refusaltest.Want(t, bad, err, ReasonGeneration)
	}
}

// TestStatesAreOfAnOrdinaryFile: a service that owns the top of its volume can put something else in the file's place.
func TestStatesAreOfAnOrdinaryFile(t *testing.T) {
	elsewhere := t.TempDir()
	next, err := generation.After()
	if err = errors.Join(err, writeStates(elsewhere, states{Confirmed: next})); err != nil {
		t.Fatal(err)
	}
	for what, put := range map[string]func(path string) error{
		"a link": func(path string) error { return os.Symlink(filepath.Join(elsewhere, statesFile), path) },
		// Opening one that nobody writes to would wait for ever.
		"a pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		dir := t.TempDir()
		if err := put(filepath.Join(dir, statesFile)); err != nil {
			t.Fatal(err)
		}
		_, err := readStates(dir)
		refusaltest.Want(t, what, err, ReasonGeneration)
	}
}
