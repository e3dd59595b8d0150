package disk

import (
	"path/filepath"
	"testing"
)

func TestFreeIsOfADirectoryThatIsThere(t *testing.T) {
	if n, err := Free(t.TempDir()); n <= 0 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := Free(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a directory that is not there has room")
	}
}
