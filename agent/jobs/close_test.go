package jobs

import (
	"path/filepath"
	"runtime"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// TestCloseWipesTheKeyThoughAWriteHangs: at a lease's end the disk does not answer, and a
// commit holds the queue. The keys go first.
func TestCloseWipesTheKeyThoughAWriteHangs(t *testing.T) {
	q := openQueue(t, filepath.Join(t.TempDir(), "q.db"), options(newClock()))
	hangs, disk := make(chan struct{}), make(chan struct{})
	q.commit = func(tx *bolt.Tx) error {
		close(hangs)
		<-disk
		return tx.Commit()
	}
	submitted, closed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, _, err := q.Submit(t.Context(), Job{Class: "x", Spec: []byte("{}")})
		submitted <- err
	}()
	<-hangs
	go func() { closed <- q.Close() }()
	for q.key.Len() != 0 || q.tags.Len() != 0 { // the test's time-out is the limit
		runtime.Gosched()
	}
	select {
	case err := <-closed:
		t.Errorf("closed during a write: %v", err)
	default:
	}
	close(disk)
	if err := <-submitted; err != nil {
		t.Errorf("a write that was under way: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestNothingIsWrittenWithoutTheKey: a change that begins after the keys are gone, and
// before the queue is closed, leaves the file as it was.
func TestNothingIsWrittenWithoutTheKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q.db")
	q := openQueue(t, path, options(newClock()))
	if _, _, err := q.Submit(t.Context(), Job{Class: "x", Spec: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	q.key.Wipe()
	q.tags.Wipe()
	if _, _, err := q.Submit(t.Context(), Job{Class: "y", Spec: []byte("{}")}); err == nil {
		t.Error("a job was stored without a key")
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if list := openQueue(t, path, options(newClock())).List(nil); len(list) != 1 || list[0].Class != "x" {
		t.Errorf("%+v", list)
	}
}
