package layout

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// program says whether a file begins as what a compiler links does.
func program(head []byte) bool {
	return slices.ContainsFunc([]string{"\x7fELF", "MZ", "\xcf\xfa\xed\xfe", "!<arch>\n"}, func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) })
}

// A program that somebody built beside the sources must not go into a commit: nobody can read
// what it does, and every clone carries it for ever.
func TestNoProgramIsCommitted(t *testing.T) {
	root := filepath.Join("..", "..")
	list, err := exec.Command("git", "-C", root, "ls-files", "-z").Output()
	if err != nil {
		t.Skipf("NOT TESTED: this tree has no git: %v", err)
	}
	names := strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00")
	if len(names) < 100 {
		t.Fatalf("%d files", len(names))
	}
	for _, name := range names {
		f, err := os.Open(filepath.Join(root, name))
		if err != nil {
			continue // removed and not yet committed
		}
		head := make([]byte, 8)
		n, err := io.ReadFull(f, head)
		f.Close() // read only
		if err != nil && n == 0 {
			continue // empty, or a link to a directory
		}
		if program(head[:n]) {
			t.Errorf("%s is a program: remove it from the commit", name)
		}
	}
	if self, err := os.ReadFile(os.Args[0]); err != nil || !program(self) {
		t.Errorf("this test's own program is not found to be one, %v", err)
	}
}
