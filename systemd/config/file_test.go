package config_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/anchorhold/anchorhold/systemd/config"
)

// What stands in the place of a configuration file must neither hold a daemon that reads it
// again nor fill its memory.
func TestReadFileTakesRegularFilesOfBoundedSize(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	huge, err := os.Create(path("huge"))
	if err == nil {
		err = errors.Join(huge.Truncate(1<<30), huge.Close())
	}
	err = errors.Join(err, os.WriteFile(path("most"), bytes.Repeat([]byte("x"), 100), 0o600), os.WriteFile(path("over"), bytes.Repeat([]byte("x"), 101), 0o600),
		os.WriteFile(path("empty"), nil, 0o600), os.Mkdir(path("directory"), 0o700), syscall.Mkfifo(path("pipe"), 0o600),
		os.Symlink("most", path("link")), os.Symlink("link to itself", path("link to itself")))
	if err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{path("most"): 100, path("link"): 100, path("empty"): 0} {
		if data, err := config.ReadFile(name, 100); err != nil || len(data) != size {
			t.Errorf("%s: %d bytes, %v", name, len(data), err)
		}
	}
	for name, want := range map[string]string{path("over"): "larger than 100 bytes", path("huge"): "larger than 100 bytes", path("directory"): "is a directory",
		path("pipe"): "not a regular file (a pipe)", "/dev/zero": "not a regular file (a device)", path("link to itself"): "too many levels"} {
		if data, err := config.ReadFile(name, 100); err == nil || data != nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %d bytes, %v, want %q", name, len(data), err, want)
		}
	}
	if _, err := config.ReadFile(path("missing"), 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}
