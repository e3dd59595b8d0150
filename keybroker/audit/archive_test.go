package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// archivedLog archives all it can of a log of 40 groups of mixed records.
func archivedLog(t *testing.T) (dir string, k *identity.Private, o Options, a Archived) {
	t.Helper()
	dir, k = t.TempDir(), newSigner(t)
	o = Options{SegmentBytes: 4000, CheckpointRecords: 6}
	l := openLog(t, dir, k, o)
	mixed(t, l, 0, 40)
	closed := len(l.closed)
	a, err := l.Archive(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	records := 0
	for _, name := range a.Segments {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there", name)
		}
		if name[:len(recordPrefix)] == recordPrefix {
			records++
		}
	}
	if records != closed-2 || records < 4 || len(a.Segments) <= records || a.Records != l.closed[closed-2].First || a.Checkpoint.Size < a.Records || a.Bytes < 4000 {
		t.Fatalf("%+v of %d closed", a, closed)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, k, o, a
}

func TestArchivedSegmentsStillVerify(t *testing.T) {
	dir, k, o, a := archivedLog(t)
	// Still beside the log: everything is read.
	r, err := Verify(dir, k.Public())
	if err != nil || r.Records != 160 || r.Archived != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	all := r.Checkpoints
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Rename(a.Directory, elsewhere); err != nil {
		t.Fatal(err)
	}
	// Gone: hashes lead to the signed root; records are counted, not read.
	r, err = Verify(dir, k.Public())
	if err != nil || r.Records != 160 || r.Archived != a.Records || r.Checkpoints >= all {
		t.Fatalf("%+v, %v", r, err)
	}
	// Given: everything is read again.
	given := Check{Keys: []identity.Public{k.Public()}, Archives: []string{elsewhere}}
	if r, err = given.Verify(t.Context(), dir); err != nil || r.Records != 160 || r.Archived != 0 || r.Checkpoints != all {
		t.Fatalf("%+v, %v", r, err)
	}
	// In part: what is there is read.
	missing := filepath.Join(elsewhere, segmentOf(0).Name)
	if err := os.Rename(missing, missing+".away"); err != nil {
		t.Fatal(err)
	}
	if r, err = given.Verify(t.Context(), dir); err != nil || r.Archived == 0 || r.Archived >= a.Records {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := os.Rename(missing+".away", missing); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func([]byte) []byte{
		"a bit":     func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"a record":  func(b []byte) []byte { return exchange(t, b) },
		"its end":   func(b []byte) []byte { return b[:len(b)-9] },
		"all of it": func([]byte) []byte { return nil },
	} {
		whole, err := os.ReadFile(missing)
		if err != nil {
			t.Fatal(err)
		}
		edit(t, missing, change)
		if _, err := given.Verify(t.Context(), dir); !errors.Is(err, ErrTampered) {
			t.Errorf("%s of an archived segment changed: %v", what, err)
		}
		if err := os.WriteFile(missing, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The log goes on without them.
	l := openLog(t, dir, k, o)
	defer l.Close()
	checkFound(t, l, 40, func(index uint64) bool { return index < a.Records })
	mixed(t, l, 40, 50)
	c := checkpointOf(t, l)
	for _, i := range []uint64{0, a.Records - 1, a.Records, 199} {
		p, err := Prove(dir, i, c.Size)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := l.Leaf(i)
		if err != nil || p.Verify(leaf.Hash, c.Root) != nil {
			t.Errorf("record %d is not provable: %v", i, err)
		}
	}
	if err := l.Extends([]byte(a.Checkpoint.Note)); err != nil {
		t.Error(err)
	}
	first := ^uint64(0)
	if err := Iterate(dir, func(e Entry) bool { first = e.Index; return false }); err != nil || first != a.Records {
		t.Errorf("the first record to be read is %d, want %d (%v)", first, a.Records, err)
	}
	if entries, err := Show(dir, Filter{Last: 3}); err != nil || len(entries) != 3 || entries[2].Index != 199 {
		t.Errorf("%+v, %v", entries, err)
	}
}

func TestWhatIsLostIsNotArchived(t *testing.T) {
	dir, k, o, a := archivedLog(t)
	segments, err := journal.Segments(journal.Disk{}, dir, recordPrefix)
	if err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func(dir string) error{
		"a segment that was not archived is gone": func(dir string) error { return os.Remove(filepath.Join(dir, segments[0].Name)) },
		"the mark is gone":                        func(dir string) error { return os.Remove(filepath.Join(dir, archivedName)) },
		"the mark is nobody's": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, archivedName), fmt.Appendf(nil, "%d\n", a.Records), 0o600)
		},
		"the mark is another's": func(dir string) error {
			mark, err := signArchived(newSigner(t), a.Records)
			return errors.Join(err, os.WriteFile(filepath.Join(dir, archivedName), mark, 0o600))
		},
		"the mark is no number":               func(dir string) error { return os.WriteFile(filepath.Join(dir, archivedName), []byte("all\n"), 0o600) },
		"the hashes are gone":                 func(dir string) error { return os.Remove(filepath.Join(dir, treeName)) },
		"an archived segment's index is gone": func(dir string) error { return os.Remove(filepath.Join(dir, indexName(0))) },
		"an archived leaf was changed": func(dir string) error {
			edit(t, filepath.Join(dir, treeName), func(b []byte) []byte { b[3] ^= 1; return b })
			l := openLog(t, dir, k, o) // it reads no more of the archived part than it must
			defer l.Close()
			if found, err := l.Find(Query{Kind: KindService, Action: "round-open", Resource: "round/0"}); !errors.Is(err, ErrTampered) {
				t.Errorf("found %+v, %v", found, err)
			}
			return nil
		},
	} {
		work := copyLog(t, dir)
		if err := os.RemoveAll(filepath.Join(work, ArchiveName)); err != nil {
			t.Fatal(err)
		}
		if err := spoil(work); err != nil {
			t.Fatal(err)
		}
		if r, err := Verify(work, k.Public()); !errors.Is(err, ErrTampered) {
			t.Errorf("%s: Verify: %+v, %v", what, r, err)
		}
		if l, err := Open(work, k, o); what != "an archived leaf was changed" && !errors.Is(err, ErrTampered) {
			t.Errorf("%s: Open: %v", what, err)
		} else if err == nil {
			l.Close()
		}
	}
	_ = a
}

func TestArchivingStopsWhereItMust(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{SegmentBytes: 4000, CheckpointRecords: 1 << 20})
	defer l.Close()
	mixed(t, l, 0, 3)
	for _, keep := range []int{-1, 0, 1, 100} {
		if a, err := l.Archive(t.Context(), keep); !errors.Is(err, ErrArchive) {
			t.Errorf("keep %d: %+v, %v", keep, a, err)
		}
	}
	mixed(t, l, 3, 20)
	if err := l.command(t.Context(), func() error { _, err := l.archive(1); return err }); !errors.Is(err, ErrArchive) {
		t.Errorf("what nobody signed for was archived: %v", err)
	}
	if _, err := l.Archive(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if a, err := l.Archive(t.Context(), 1); !errors.Is(err, ErrArchive) {
		t.Errorf("archived twice: %+v, %v", a, err)
	}
	checkFound(t, l, 20, never) // they lie beside the log still
}

// TestArchivingIsFinishedAfterACrash leaves each state that a crash may leave.
func TestArchivingIsFinishedAfterACrash(t *testing.T) {
	longtest.Run(t, "it archives a log once for each of its segments")
	dir, k, o, a := archivedLog(t)
	for moved := range len(a.Segments) {
		work := copyLog(t, dir)
		for _, name := range a.Segments[moved:] {
			if err := os.Rename(filepath.Join(work, ArchiveName, name), filepath.Join(work, name)); err != nil {
				t.Fatal(err)
			}
		}
		l := openLog(t, work, k, o)
		checkFound(t, l, 40, never)
		again, err := l.Archive(t.Context(), 2)
		if err != nil || again.Records != a.Records || len(again.Segments) < len(a.Segments)-moved {
			t.Fatalf("after %d of %d: %+v, %v", moved, len(a.Segments), again, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if r, err := Verify(work, k.Public()); err != nil || r.Records != 160 || r.Archived != 0 {
			t.Fatalf("after %d: %+v, %v", moved, r, err)
		}
	}
}
