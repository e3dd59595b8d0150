package epochfile_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/epochfile"
)

func roots(t testing.TB, n int) (list []identity.Public) {
	t.Helper()
	for range n {
		k, err := identity.Generate(identity.LevelRoot)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, k.Public())
		k.Wipe()
	}
	return list
}

func open(t testing.TB, path string, of []identity.Public, least uint64) *epochfile.File {
	t.Helper()
	f, err := epochfile.Open(path, of, least)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func want(t testing.TB, f *epochfile.File, root identity.Public, epoch uint64) {
	t.Helper()
	if got := f.Highest(root.ID()); got != epoch {
		t.Errorf("root %x is at epoch %d, want %d", root.ID(), got, epoch)
	}
}

// TestOneRootsWordMovesNoOther, neither now nor after a restart.
func TestOneRootsWordMovesNoOther(t *testing.T) {
	r, path := roots(t, 2), filepath.Join(t.TempDir(), "state", "epochs")
	f := open(t, path, r, 1)
	if err := f.Raise(r[0].ID(), 7); err != nil {
		t.Fatal(err)
	}
	if err := f.Raise(r[1].ID(), 1<<40); err != nil {
		t.Fatal(err)
	}
	if err := f.Raise(r[0].ID(), 6); err != nil { // it never lowers
		t.Fatal(err)
	}
	for range 2 {
		want(t, f, r[0], 7)
		want(t, f, r[1], 1<<40)
		f = open(t, path, r, 1)
	}
}

// TestRemembersARootThatIsTakenOut: put back, it is where it was.
func TestRemembersARootThatIsTakenOut(t *testing.T) {
	r, path := roots(t, 2), filepath.Join(t.TempDir(), "epochs")
	if err := open(t, path, r, 1).Raise(r[0].ID(), 7); err != nil {
		t.Fatal(err)
	}
	if err := open(t, path, r[1:], 1).Raise(r[1].ID(), 3); err != nil {
		t.Fatal(err)
	}
	f := open(t, path, r, 1)
	want(t, f, r[0], 7)
	want(t, f, r[1], 3)
}

// TestReadsTheOneNumberOfVersion1: it counts for every root that is configured when it is
// read first, and for none that is added later.
func TestReadsTheOneNumberOfVersion1(t *testing.T) {
	r := roots(t, 3)
	for _, text := range []string{"7", "7\n"} { // the aggregator's and the agent's
		path := filepath.Join(t.TempDir(), "epochs")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f := open(t, path, r[:2], 1)
		for range 2 {
			want(t, f, r[0], 7)
			want(t, f, r[1], 7)
			want(t, f, r[2], 1)
			f = open(t, path, r, 1)
		}
	}
}

// TestTheCallersMinimumIsForEveryRoot, and lowers nothing.
func TestTheCallersMinimumIsForEveryRoot(t *testing.T) {
	r, path := roots(t, 2), filepath.Join(t.TempDir(), "epochs")
	if err := open(t, path, r, 0).Raise(r[0].ID(), 7); err != nil {
		t.Fatal(err)
	}
	f := open(t, path, r, 5)
	want(t, f, r[0], 7)
	want(t, f, r[1], 5)
}

// TestNothingIsRaisedThatIsNotDurable: the number stays where it was.
func TestNothingIsRaisedThatIsNotDurable(t *testing.T) {
	r, dir := roots(t, 1), t.TempDir()
	f := open(t, filepath.Join(dir, "sub", "epochs"), r, 1)
	if err := os.RemoveAll(filepath.Join(dir, "sub")); err != nil {
		t.Fatal(err)
	}
	if err := f.Raise(r[0].ID(), 7); err == nil {
		t.Fatal("raised without a directory")
	}
	want(t, f, r[0], 1)
}

// TestRefusesADamagedFile: nothing of it is believed.
func TestRefusesADamagedFile(t *testing.T) {
	id := strings.Repeat("ab", 32)
	many := new(strings.Builder)
	for i := range 257 {
		fmt.Fprintf(many, "%064x %d\n", i+1, 1)
	}
	for _, text := range []string{"", "seven", "-1", "7 8", "anchorhold/epochs/3\n", "anchorhold/epochs/2", "anchorhold/epochs/2\n" + id, "anchorhold/epochs/2\n" + id + " 7",
		"anchorhold/epochs/2\n" + id + " 07\n", "anchorhold/epochs/2\n" + id + " 7\n" + id + " 7\n", "anchorhold/epochs/2\n" + strings.ToUpper(id) + " 7\n",
		"anchorhold/epochs/2\nabcd 7\n", "anchorhold/epochs/2\n\n", "anchorhold/epochs/2\n" + many.String()} {
		path := filepath.Join(t.TempDir(), "epochs")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := epochfile.Open(path, nil, 1); err == nil {
			t.Errorf("%.40q was read", text)
		}
	}
}

// TestRemembersNoMoreRootsThanFit: what it writes it can read.
func TestRemembersNoMoreRootsThanFit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "epochs")
	text := bytes.NewBufferString("anchorhold/epochs/2\n")
	for i := range 256 {
		fmt.Fprintf(text, "%064x %d\n", i+1, uint64(1<<64-1))
	}
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	f := open(t, path, nil, 1)
	if err := f.Raise([32]byte{1}, 7); err == nil {
		t.Error("a root beyond the limit was taken")
	}
	if got := f.Highest([32]byte{1}); got != 1 {
		t.Errorf("the root that did not fit is at %d", got)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte("7\n"))
	f.Add([]byte("anchorhold/epochs/2\n" + strings.Repeat("ab", 32) + " 7\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(dir, "epochs")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := epochfile.Open(path, nil, 1)
		if err != nil {
			return
		}
		if err := file.Raise([32]byte{1}, 1<<63); err != nil {
			return
		}
		again, err := epochfile.Open(path, nil, 1)
		if err != nil || again.Highest([32]byte{1}) != file.Highest([32]byte{1}) {
			t.Errorf("%q: does not read what it wrote: %v", raw, err)
		}
	})
}
