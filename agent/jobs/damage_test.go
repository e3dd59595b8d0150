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
	"github.com/anchorhold/anchorhold/crypto/refusal"
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

func wantOpen(t *testing.T, path string, key *keybuf.Buffer, want refusal.Reason) {
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

// wantDamaged says that a queue does not open for what happened to it.
func wantDamaged(t *testing.T, name, path string) {
	t.Helper()
	q, err := Open(path, testKey(t, 1), options(newClock()))
	if reason, _ := refusal.ReasonOf(err); reason != ReasonDamaged {
		t.Errorf("%s: %v", name, err)
	}
	if err == nil {
		ok(t, q.Close())
	}
}

// TestChangedRecordsAreRefused changes one record each, and the ledger with it: the
// record alone must give it away.
func TestChangedRecordsAreRefused(t *testing.T) {
	seal := func(label string, aad, plain []byte) []byte {
		b, err := chunkseal.SealBlob(testKey(t, 1), label, aad, plain)
		ok(t, err)
		return b
	}
	for name, change := range map[string]func(v, done, other []byte) (place, value []byte){
		"flipped":   func(v, done, _ []byte) ([]byte, []byte) { v[len(v)-1] ^= 1; return done, v },
		"cut":       func(v, done, _ []byte) ([]byte, []byte) { return done, v[:len(v)-1] },
		"exchanged": func(_, done, other []byte) ([]byte, []byte) { return done, other },
		"another's name": func(v, done, _ []byte) ([]byte, []byte) {
			plain, err := chunkseal.OpenBlob(testKey(t, 1), sealLabel, done, v)
			ok(t, err)
			return make([]byte, 32), seal(sealLabel, make([]byte, 32), plain)
		},
		"another kind": func(v, done, _ []byte) ([]byte, []byte) {
			plain, err := chunkseal.OpenBlob(testKey(t, 1), sealLabel, done, v)
			ok(t, err)
			return done, seal(onceLabel, done, plain)
		},
		"no record": func(_, done, _ []byte) ([]byte, []byte) { return done, seal(sealLabel, done, []byte(`{}`)) },
	} {
		path, done, queued := filled(t)
		q := openQueue(t, path, options(newClock()))
		ok(t, q.update(func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte(bucketJobs))
			place, value := change(bytes.Clone(b.Get(done[:])), done[:], bytes.Clone(b.Get(queued[:])))
			return q.set(tx, bucketJobs, place, value)
		}))
		ok(t, q.Close())
		wantDamaged(t, name, path)
	}
}

// TestChangedFileIsRefused removes, adds and puts back whole entries, each of which
// opens by itself: the ledger alone must give it away. The control changes nothing.
func TestChangedFileIsRefused(t *testing.T) {
	for name, change := range map[string]func(tx *bolt.Tx, older map[string][]byte, done []byte) error{
		"job removed": func(tx *bolt.Tx, _ map[string][]byte, done []byte) error {
			return tx.Bucket([]byte(bucketJobs)).Delete(done)
		},
		"journal removed": func(tx *bolt.Tx, _ map[string][]byte, _ []byte) error {
			return tx.Bucket([]byte(bucketOnce)).Delete([]byte("name"))
		},
		"job put back": func(tx *bolt.Tx, older map[string][]byte, done []byte) error {
			return tx.Bucket([]byte(bucketJobs)).Put(done, older["job"])
		},
		"ledger put back": func(tx *bolt.Tx, older map[string][]byte, _ []byte) error {
			return tx.Bucket([]byte(bucketMeta)).Put([]byte(metaLedger), older["ledger"])
		},
		"pruned job put back": func(tx *bolt.Tx, older map[string][]byte, _ []byte) error {
			return tx.Bucket([]byte(bucketJobs)).Put(older["pruned id"], older["pruned"])
		},
		"no ledger": func(tx *bolt.Tx, _ map[string][]byte, _ []byte) error {
			return tx.Bucket([]byte(bucketMeta)).Delete([]byte(metaLedger))
		},
		"no head":    func(tx *bolt.Tx, _ map[string][]byte, _ []byte) error { return tx.DeleteBucket([]byte(bucketMeta)) },
		"no jobs":    func(tx *bolt.Tx, _ map[string][]byte, _ []byte) error { return tx.DeleteBucket([]byte(bucketJobs)) },
		"no journal": func(tx *bolt.Tx, _ map[string][]byte, _ []byte) error { return tx.DeleteBucket([]byte(bucketOnce)) },
		"nothing": func(tx *bolt.Tx, _ map[string][]byte, _ []byte) error {
			return errors.Join(tx.DeleteBucket([]byte(bucketMeta)), tx.DeleteBucket([]byte(bucketJobs)), tx.DeleteBucket([]byte(bucketOnce)))
		},
		"control": func(*bolt.Tx, map[string][]byte, []byte) error { return nil },
	} {
		q, c := newQueue(t)
		path, older := q.db.Path(), map[string][]byte{}
		pruned := submit(t, q, job(9))
		ok(t, must(t, q, pruned).Fail(BadInput, "", "bad"))
		c.add(time.Second)
		info := submit(t, q, job(1))
		ok(t, q.db.View(func(tx *bolt.Tx) error {
			older["job"] = bytes.Clone(tx.Bucket([]byte(bucketJobs)).Get(info.ID[:]))
			older["pruned id"], older["pruned"] = pruned.ID[:], bytes.Clone(tx.Bucket([]byte(bucketJobs)).Get(pruned.ID[:]))
			older["ledger"] = bytes.Clone(tx.Bucket([]byte(bucketMeta)).Get([]byte(metaLedger)))
			return nil
		}))
		_, err := q.Prune(t.Context(), 0)
		ok(t, err)
		ok(t, must(t, q, info).Complete([]byte(`1`)))
		ok(t, q.Once("name", [32]byte{1}))
		ok(t, q.Close())
		db, err := bolt.Open(path, 0o600, nil)
		ok(t, err)
		ok(t, db.Update(func(tx *bolt.Tx) error { return change(tx, older, info.ID[:]) }))
		ok(t, db.Close())
		if name == "control" {
			wantState(t, openQueue(t, path, options(newClock())), info.ID, Done)
			continue
		}
		wantDamaged(t, name, path)
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
			if _, known := refusal.ReasonOf(err); !known {
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
