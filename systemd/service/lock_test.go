package service

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestAStateIsOfOneProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first, err := LockState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := LockState(dir); !errors.Is(err, ErrRunning) || second != nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	third, err := LockState(dir)
	if err != nil {
		t.Fatal(err)
	}
	third.Close()
}
