package statedir_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// TestUnfinishedFilesAreSwept: those of this version, and those that had one name for each file.
func TestUnfinishedFilesAreSwept(t *testing.T) {
	l := statedir.Layout(t.TempDir())
	if err := l.Sweep(); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
	history := filepath.Join(l.Policies(), "history")
	if err := errors.Join(os.MkdirAll(history, 0o700), os.Mkdir(l.Epochs(), 0o700)); err != nil {
		t.Fatal(err)
	}
	left := []string{l.Ended() + ".new", l.EpochFloor() + ".new", filepath.Join(string(l), ".new-ended.json-1"), filepath.Join(l.Epochs(), ".new-00000002.statement-1"),
		filepath.Join(l.Policies(), ".new-1"), filepath.Join(history, ".new-a.yaml-1")}
	whole := []string{l.Ended(), l.EpochFloor(), l.EpochStatement(2), filepath.Join(history, "a.yaml")}
	for _, path := range append(slices.Clone(left), whole...) {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Sweep(); err != nil {
		t.Fatal(err)
	}
	for _, path := range left {
		if disk.Exists(path) {
			t.Errorf("%s is there still", path)
		}
	}
	for _, path := range whole {
		if !disk.Exists(path) {
			t.Errorf("%s is gone", path)
		}
	}
}

func TestAStateDirectoryNeedsWhatOpensIt(t *testing.T) {
	l := statedir.Layout(filepath.Join(t.TempDir(), "absent"))
	if l.Check() == nil {
		t.Error("a directory that is not there is a broker's")
	}
	if _, err := l.KEK(idfile.Unlock{}); err == nil {
		t.Error("keys open without a passphrase or credential")
	}
	if _, err := statedir.Make(t.Context(), statedir.Options{}); err == nil {
		t.Error("a state directory was made without a root")
	}
}
