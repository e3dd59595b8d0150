package statedir_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
)

func TestFilesThatCannotBeWrittenAreErrors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := statedir.WriteFile(path, []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := statedir.WriteFile(path, []byte("b"), 0o600); err == nil {
		t.Error("a file that is there was written")
	}
	if err := statedir.ReplaceFile(path, []byte("b"), 0o600); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "b" {
		t.Errorf("%q, %v", got, err)
	}
	absent := filepath.Join(dir, "absent", "file")
	if statedir.WriteFile(absent, nil, 0o600) == nil || statedir.ReplaceFile(absent, nil, 0o600) == nil || statedir.SyncDir(filepath.Dir(absent)) == nil {
		t.Error("a directory that is not there was written to")
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
