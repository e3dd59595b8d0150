package jobs

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// filled is a closed queue's file with one job done, one queued and one entry.
func filled(t *testing.T) (path string, done, queued ID) {
	t.Helper()
	q, _ := newQueue(t)
	d, w := submit(t, q, job(1)), submit(t, q, job(2))
	ok(t, must(t, q, d).Complete([]byte(`"canary-result"`)))
	ok(t, q.Once("name", [32]byte{1}))
	path = q.db.Path()
	ok(t, q.Close())
	return path, d.ID, w.ID
}

func wantOpen(t *testing.T, path string, key *keybuf.Buffer, want evidence.Reason) {
	t.Helper()
	q, err := Open(path, key, options(newClock()))
	if err == nil {
		err = q.Close()
	}
	wantReason(t, err, want)
}

func TestWrongKeyIsNamed(t *testing.T) {
	path, done, _ := filled(t)
	wantOpen(t, path, testKey(t, 2), ReasonWrongKey)
	short, err := keybuf.Take([]byte("short"))
	ok(t, err)
	defer short.Wipe()
	for _, key := range []*keybuf.Buffer{short, nil} {
		wantOpen(t, path, key, ReasonWrongKey)
		wantOpen(t, path+".new", key, ReasonWrongKey)
	}
	wantState(t, openQueue(t, path, options(newClock())), done, Done)
	// An empty queue has a key too.
	q, _ := newQueue(t)
	path = q.db.Path()
	ok(t, q.Close())
	wantOpen(t, path, testKey(t, 2), ReasonWrongKey)
}

func TestCallersKeyIsItsOwn(t *testing.T) {
	key := testKey(t, 1)
	q, err := Open(filepath.Join(t.TempDir(), "jobs.db"), key, options(newClock()))
	ok(t, err)
	key.Wipe()
	submit(t, q, job(1))
	ok(t, q.Close())
}

func TestNothingReadableInTheFile(t *testing.T) {
	q, _ := newQueue(t)
	j := job(1)
	j.Class, j.Spec = "canary-class", []byte(`"canary-spec"`)
	submit(t, q, j)
	l := try(t, q, "canary-class")
	ok(t, l.Fail(Crash, "canary-reason", "canary-detail"))
	one := q.db.Path()
	ok(t, q.Close())
	two, _, _ := filled(t)
	for _, p := range []string{one, two} {
		b, err := os.ReadFile(p)
		ok(t, err)
		if bytes.Contains(b, []byte("canary")) || bytes.Contains(b, bytes.Repeat([]byte{1}, chunkseal.KeySize)) {
			t.Errorf("%s can be read", p)
		}
	}
}

// TestChangedRecordsAreRefused changes the file in one place each.
func TestChangedRecordsAreRefused(t *testing.T) {
	seal := func(label string, aad, plain []byte) []byte {
		b, err := chunkseal.SealBlob(testKey(t, 1), label, aad, plain)
		ok(t, err)
		return b
	}
	for name, change := range map[string]func(tx *bolt.Tx, done, queued []byte) error{
		"flipped": func(tx *bolt.Tx, done, _ []byte) error {
			b := tx.Bucket([]byte(bucketJobs))
			v := bytes.Clone(b.Get(done))
			v[len(v)-1] ^= 1
			return b.Put(done, v)
		},
		"cut": func(tx *bolt.Tx, done, _ []byte) error {
			b := tx.Bucket([]byte(bucketJobs))
			v := bytes.Clone(b.Get(done))
			return b.Put(done, v[:len(v)-1])
		},
		"exchanged": func(tx *bolt.Tx, done, queued []byte) error {
			b := tx.Bucket([]byte(bucketJobs))
			return b.Put(done, bytes.Clone(b.Get(queued)))
		},
		"another's name": func(tx *bolt.Tx, done, _ []byte) error {
			b := tx.Bucket([]byte(bucketJobs))
			plain, err := chunkseal.OpenBlob(testKey(t, 1), sealLabel, done, b.Get(done))
			return errors.Join(err, b.Put(make([]byte, 32), seal(sealLabel, make([]byte, 32), plain)))
		},
		"another kind": func(tx *bolt.Tx, done, _ []byte) error {
			b := tx.Bucket([]byte(bucketJobs))
			plain, err := chunkseal.OpenBlob(testKey(t, 1), sealLabel, done, b.Get(done))
			return errors.Join(err, b.Put(done, seal(onceLabel, done, plain)))
		},
		"no record": func(tx *bolt.Tx, done, _ []byte) error {
			return tx.Bucket([]byte(bucketJobs)).Put(done, seal(sealLabel, done, []byte(`{}`)))
		},
		"no head": func(tx *bolt.Tx, _, _ []byte) error { return tx.DeleteBucket([]byte(bucketMeta)) },
		"nothing": func(tx *bolt.Tx, _, _ []byte) error {
			return errors.Join(tx.DeleteBucket([]byte(bucketMeta)), tx.DeleteBucket([]byte(bucketJobs)), tx.DeleteBucket([]byte(bucketOnce)))
		},
		"no jobs":    func(tx *bolt.Tx, _, _ []byte) error { return tx.DeleteBucket([]byte(bucketJobs)) },
		"no journal": func(tx *bolt.Tx, _, _ []byte) error { return tx.DeleteBucket([]byte(bucketOnce)) },
	} {
		path, done, queued := filled(t)
		db, err := bolt.Open(path, 0o600, nil)
		ok(t, err)
		ok(t, db.Update(func(tx *bolt.Tx) error { return change(tx, done[:], queued[:]) }))
		ok(t, db.Close())
		q, err := Open(path, testKey(t, 1), options(newClock()))
		if reason, _ := evidence.ReasonOf(err); reason != ReasonDamaged {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			ok(t, q.Close())
		}
	}
}

func TestChangedJournalIsRefused(t *testing.T) {
	path, _, _ := filled(t)
	q := openQueue(t, path, options(newClock()))
	ok(t, q.Once("other", [32]byte{2}))
	ok(t, q.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucketOnce))
		return b.Put([]byte("name"), bytes.Clone(b.Get([]byte("other"))))
	}))
	_, err := q.Consumed("name")
	wantReason(t, err, ReasonDamaged)
	wantReason(t, q.Once("name", [32]byte{2}), ReasonDamaged)
}

func TestFileForOthersIsRefused(t *testing.T) {
	path, _, _ := filled(t)
	ok(t, os.Chmod(path, 0o640))
	wantOpen(t, path, testKey(t, 1), ReasonFile)
	ok(t, os.Chmod(path, 0o600))
	ok(t, os.WriteFile(path+"2", bytes.Repeat([]byte("no database "), 2000), 0o600))
	wantOpen(t, path+"2", testKey(t, 1), ReasonFile)
	wantOpen(t, filepath.Join(path, "x"), testKey(t, 1), ReasonFile)
	q := openQueue(t, path, options(newClock()))
	if st, err := os.Stat(q.db.Path()); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatal(st, err)
	}
}

// TestFailedWriteStopsTheQueue fails each kind of write, before it and, worse, after
// it: then nobody knows, until the queue is opened again, which is told what happened.
func TestFailedWriteStopsTheQueue(t *testing.T) {
	broken := errors.New("input/output error")
	for _, written := range []bool{false, true} {
		for name, op := range map[string]struct {
			do    func(q *Queue, waits Info, l *Lease) error
			state State // of the job that op is about, if it was written
		}{
			"submit":   {func(q *Queue, _ Info, _ *Lease) error { _, _, err := q.Submit(t.Context(), job(3)); return err }, ""},
			"cancel":   {func(q *Queue, waits Info, _ *Lease) error { _, err := q.Cancel(waits.ID); return err }, Cancelled},
			"complete": {func(_ *Queue, _ Info, l *Lease) error { return l.Complete([]byte(`1`)) }, Done},
			"fail":     {func(_ *Queue, _ Info, l *Lease) error { return l.Fail(BadInput, "", "bad") }, Dead},
			"once":     {func(q *Queue, _ Info, _ *Lease) error { return q.Once("name", [32]byte{1}) }, ""},
			"lease":    {func(q *Queue, _ Info, _ *Lease) error { _, err := q.Lease(t.Context(), []string{"add"}); return err }, ""},
		} {
			t.Run(fmt.Sprint(name, written), func(t *testing.T) {
				q, _ := newQueue(t)
				first, waits := submit(t, q, job(1)), submit(t, q, job(2))
				l := must(t, q, first)
				q.commit = func(tx *bolt.Tx) error {
					if written {
						return errors.Join(tx.Commit(), broken)
					}
					return broken
				}
				err := op.do(q, waits, l)
				wantReason(t, err, ReasonStorage)
				if !errors.Is(err, broken) || l.Context.Err() == nil {
					t.Fatalf("%v; the lease goes on: %t", err, l.Context.Err() == nil)
				}
				q.commit = (*bolt.Tx).Commit
				for _, again := range []error{op.do(q, waits, l), l.Complete([]byte(`2`)), l.Heartbeat(Progress{}), q.Once("other", [32]byte{1})} {
					wantReason(t, again, ReasonStorage)
				}
				q = reopen(t, q)
				if name == "submit" || name == "lease" || name == "once" {
					if d, err := q.Consumed("name"); err != nil || (d == [32]byte{1}) != (written && name == "once") {
						t.Fatal(d, err)
					}
					return
				}
				about := map[bool]ID{true: waits.ID, false: first.ID}[name == "cancel"]
				want := Queued
				if written {
					want = op.state
				}
				wantState(t, q, about, want)
			})
		}
	}
}

// TestPowerLossBetweenPages plays each write's pages in the order that the database
// promises: all data is synced before the page that makes it count. Whatever part of
// the data had arrived, the file opens and holds what was acknowledged. The control
// leaves the order out, and must lose something.
func TestPowerLossBetweenPages(t *testing.T) {
	q, _ := newQueue(t)
	path, r := q.db.Path(), rand.New(rand.NewPCG(1, 2))
	lost := 0
	var ids []ID
	for i := range 16 {
		before := read(t, path)
		info := submit(t, q, job(i))
		after := read(t, path)
		page := q.db.Info().PageSize
		torn, reordered := bytes.Clone(before), bytes.Clone(before)
		torn, reordered = append(torn, make([]byte, len(after)-len(torn))...), append(reordered, make([]byte, len(after)-len(reordered))...)
		for at := 0; at < len(after); at += page {
			if at >= 2*page && r.IntN(2) == 0 {
				copy(torn[at:at+page], after[at:])
			}
			if at < 2*page {
				copy(reordered[at:at+page], after[at:])
			}
		}
		if n := missing(t, torn, ids); n != 0 {
			t.Fatalf("write %d: %d jobs lost", i, n)
		}
		ids = append(ids, info.ID)
		if n := missing(t, after, ids); n != 0 {
			t.Fatalf("after write %d: %d jobs lost", i, n)
		}
		lost += missing(t, reordered, ids)
	}
	if lost == 0 {
		t.Fatal("the control lost nothing")
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	ok(t, err)
	return b
}

// missing counts the jobs that a file lacks; all of them if it does not open.
func missing(t *testing.T, file []byte, ids []ID) (n int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "torn.db")
	ok(t, os.WriteFile(path, file, 0o600))
	c := newClock()
	c.add(time.Hour)
	q, err := Open(path, testKey(t, 1), options(c))
	if err != nil {
		return len(ids)
	}
	defer q.Close()
	for _, id := range ids {
		if info, err := q.Show(id); err != nil || info.State != Queued {
			n++
		}
	}
	return n
}

// TestDamagedPagesAreAnError flips bytes all over the file: whatever comes of it is an
// error or a queue that still says the truth, never a panic.
func TestDamagedPagesAreAnError(t *testing.T) {
	if checked {
		t.Skip("the build checks pointers")
	}
	path, done, _ := filled(t)
	whole := read(t, path)
	r := rand.New(rand.NewPCG(5, 6))
	refused := 0
	for range 300 {
		b := bytes.Clone(whole)
		for range 1 + r.IntN(8) {
			b[r.IntN(len(b))] ^= byte(1 + r.IntN(255))
		}
		if r.IntN(4) == 0 {
			b = b[:r.IntN(len(b))]
		}
		damagedPath := filepath.Join(t.TempDir(), "jobs.db")
		ok(t, os.WriteFile(damagedPath, b, 0o600))
		q, err := Open(damagedPath, testKey(t, 1), options(newClock()))
		if err != nil {
			if _, known := evidence.ReasonOf(err); !known {
				t.Fatalf("no reason: %v", err)
			}
			refused++
			continue
		}
		if info, err := q.Show(done); err == nil && (info.State != Done || string(info.Result) != `"canary-result"`) {
			t.Fatalf("%+v", info)
		}
		q.Close()
	}
	if refused == 0 {
		t.Fatal("no damage was noticed")
	}
}
