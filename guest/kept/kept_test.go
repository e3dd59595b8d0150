//go:build !release

package kept_test

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/anchorhold/anchorhold/guest/kept"
)

// TestOneIsMadeForAll, however many start at once on a directory that is not there.
func TestOneIsMadeForAll(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "here")
	var made atomic.Int32
	var got [8]string
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			data, err := kept.File(dir, "keys", func() ([]byte, error) { made.Add(1); return []byte(rand.Text()), nil })
			if err != nil {
				t.Error(err)
			}
			got[i] = string(data)
		})
	}
	wg.Wait()
	for _, g := range got {
		if g != got[0] || g == "" || made.Load() != 1 {
			t.Errorf("%q and %q; %d were made", g, got[0], made.Load())
		}
	}
	info, err := os.Stat(filepath.Join(dir, "keys"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestWhatFailsLeavesNothing: the next one makes it.
func TestWhatFailsLeavesNothing(t *testing.T) {
	dir, broken := t.TempDir(), errors.New("broken")
	if _, err := kept.File(dir, "keys", func() ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	if data, err := kept.File(dir, "keys", func() ([]byte, error) { return []byte("x"), nil }); err != nil || string(data) != "x" {
		t.Errorf("%q, %v", data, err)
	}
	// A process that died while it wrote left a part behind.
	if err := errors.Join(os.Remove(filepath.Join(dir, "keys")), os.WriteFile(filepath.Join(dir, "keys.new"), []byte("longer than what is written now"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if data, err := kept.File(dir, "keys", func() ([]byte, error) { return []byte("y"), nil }); err != nil || string(data) != "y" {
			t.Errorf("%q, %v", data, err)
		}
	}
	for name, dir := range map[string]string{"none": "", "a file's": "/dev/null/x"} {
		if _, err := kept.File(dir, "keys", func() ([]byte, error) { return nil, nil }); err == nil {
			t.Errorf("directory %s: taken", name)
		}
	}
}
