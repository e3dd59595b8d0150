package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// bench are sessions of a queue that nothing works on.
type bench struct {
	*Sessions[*jobs.Queue]
	dir string
}

func newBench(t *testing.T) bench {
	t.Helper()
	return bench{New[*jobs.Queue](slog.New(slog.NewTextHandler(io.Discard, nil))), filepath.Join(t.TempDir(), "jobs")}
}

// begin begins with a lease's key; nil is this run's own.
func (b bench) begin(key *keybuf.Buffer) error {
	return b.Begin(Opening{Dir: b.dir, Key: key, Options: jobs.Options{Logger: b.log}}, func(o *Opened) (*jobs.Queue, error) { return o.Queue, nil })
}

func alone(context.Context) {}

// queueKey is one of a byte's repetitions.
func queueKey(t *testing.T, b byte) *keybuf.Buffer {
	t.Helper()
	k, err := keybuf.Take(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

func reason(t *testing.T, what string, err error, want refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); err == nil || got != want {
		t.Errorf("%s: %q, want %q: %v", what, got, want, err)
	}
}

// TestTheQueuePausesWithTheLeaseAndResumes: between leases there is no key and no queue;
// the next lease with the same key brings the jobs back, and one with another key does not.
func TestTheQueuePausesWithTheLeaseAndResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newBench(t)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx, alone) }()
		defer func() {
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		first := queueKey(t, 1)
		if err := w.begin(first); err != nil {
			t.Fatal(err)
		}
		queue, err := w.Work()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := queue.Submit(t.Context(), jobs.Job{Class: "x", Spec: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
		second := queueKey(t, 1)
		if err := w.begin(second); err != nil || second.Len() != 0 || first.Len() == 0 { // a renewal
			t.Errorf("%v; keys of %d and %d bytes", err, first.Len(), second.Len())
		}
		if again, err := w.Work(); err != nil || again != queue {
			t.Errorf("a renewal opened the queue anew: %v", err)
		}

		w.Pause()
		if first.Len() != 0 {
			t.Error("the queue's key outlives the lease")
		}
		_, err = w.Work()
		reason(t, "between leases", err, ReasonExpired)
		reason(t, "between leases", w.Err(), ReasonExpired)
		_, _, err = queue.Submit(t.Context(), jobs.Job{Class: "y", Spec: []byte("{}")})
		reason(t, "between leases", err, jobs.ReasonClosed)

		other := queueKey(t, 2)
		reason(t, "another key", w.begin(other), jobs.ReasonWrongKey)
		if other.Len() != 0 {
			t.Error("a key that opens nothing is kept")
		}
		if err := w.begin(queueKey(t, 1)); err != nil {
			t.Fatal(err)
		}
		if queue, err = w.Work(); err != nil || len(queue.List(nil)) != 1 {
			t.Errorf("after the next lease: %v", err)
		}
		changed := queueKey(t, 3)
		reason(t, "a key that changed", w.begin(changed), jobs.ReasonWrongKey)
		if _, err := w.Work(); err == nil || changed.Len() != 0 {
			t.Error("the queue stays open under a key that the last lease did not bring")
		}
	})
}

// TestPauseDoesNotWaitForAJobThatHangs: nothing runs the session's end here. The key is
// wiped and the queue closed when the grace is over. In a bubble a busy machine cannot use
// up the grace of what does its work.
func TestPauseDoesNotWaitForAJobThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newBench(t)
		key := queueKey(t, 1)
		if err := w.begin(key); err != nil {
			t.Fatal(err)
		}
		s := <-w.began // a Run that works on a job for as long as this test
		defer close(s.ended)
		w.Pause()
		if key.Len() != 0 {
			t.Error("a job that hangs keeps the queue's key")
		}
		_, _, err := s.queue.Queue.Submit(t.Context(), jobs.Job{Class: "x", Spec: []byte("{}")})
		reason(t, "after the pause", err, jobs.ReasonClosed)
	})
}

// TestPauseWipesTheKeyOfAQueueThatIsBeingOpened: the file is locked by somebody else, and
// Open waits. Its copy of the key is wiped where it waits, and nothing is opened later.
func TestPauseWipesTheKeyOfAQueueThatIsBeingOpened(t *testing.T) {
	w := newBench(t)
	if err := w.begin(queueKey(t, 1)); err != nil {
		t.Fatal(err)
	}
	w.Pause()
	key := queueKey(t, 1)
	holder, err := jobs.Open(filepath.Join(w.dir, "queue.db"), key, jobs.Options{Logger: w.log})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- w.begin(key) }()
	var waiting []*keybuf.Buffer
	for waiting == nil {
		runtime.Gosched()
		w.mu.Lock()
		waiting = w.opening
		w.mu.Unlock()
	}
	w.Pause()
	for i, key := range waiting {
		if key.Len() != 0 {
			t.Errorf("the queue's copy of the key, or what it derived from it (%d), is there while the disk hangs", i)
		}
	}
	if err := holder.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("the queue was opened after the lease's end")
	}
	if _, err := w.Work(); err == nil || key.Len() != 0 {
		t.Errorf("a session after the lease's end; a key of %d bytes", key.Len())
	}
}

// TestPauseFindsKeysThatWereCopiedBeforeIt: and became known after it.
func TestPauseFindsKeysThatWereCopiedBeforeIt(t *testing.T) {
	w := newBench(t)
	key := queueKey(t, 1)
	pauses := w.pauses
	copied, err := key.Clone()
	if err != nil {
		t.Fatal(err)
	}
	w.Pause()
	if w.holds(pauses, []*keybuf.Buffer{copied}); copied.Len() != 0 {
		t.Error("the queue's copy of the key outlives the lease")
	}
}

// TestAQueueOfThisRunAloneResumesToo: its key is the agent's own, and no lease's.
func TestAQueueOfThisRunAloneResumesToo(t *testing.T) {
	w := newBench(t)
	for i := range 2 {
		if err := w.begin(nil); err != nil {
			t.Fatal(err)
		}
		queue, err := w.Work()
		if err != nil {
			t.Fatal(err)
		}
		list := queue.List(nil)
		if i == 0 {
			if _, _, err := queue.Submit(t.Context(), jobs.Job{Class: "x", Spec: []byte("{}")}); err != nil {
				t.Fatal(err)
			}
		} else if !slices.ContainsFunc(list, func(i jobs.Info) bool { return i.Class == "x" }) {
			t.Errorf("%d jobs after the pause", len(list))
		}
		w.Pause()
	}
	if err := w.end(nil); err != nil || w.own.Len() != 0 {
		t.Errorf("%v; a key of %d bytes after the end", err, w.own.Len())
	}
	if err := w.begin(nil); err == nil {
		t.Error("it begins after the end")
	}
}

// TestWhatIsMountedRunsWithTheSession: from its begin to its end, and all of it ends with the
// first that does.
func TestWhatIsMountedRunsWithTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, broken := newBench(t), errors.New("broken")
		running, fail := 0, make(chan struct{})
		mount := func(o *Opened) (*jobs.Queue, error) {
			o.Run(func(ctx context.Context) error { running++; <-ctx.Done(); running--; return nil })
			o.Run(func(ctx context.Context) error {
				select {
				case <-ctx.Done():
					return nil
				case <-fail:
					return broken
				}
			})
			return o.Queue, nil
		}
		done, beside := make(chan error, 1), false
		go func() {
			done <- w.Run(t.Context(), func(ctx context.Context) { beside = true; <-ctx.Done(); beside = false })
		}()
		synctest.Wait()
		if beside {
			t.Error("something runs before the first session")
		}
		begin := func() error {
			return w.Begin(Opening{Dir: w.dir, Key: queueKey(t, 1), Options: jobs.Options{Logger: w.log}}, mount)
		}
		for range 2 {
			if err := begin(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if running != 1 || !beside || w.Err() != nil {
				t.Errorf("%d run in a session, beside it: %t; %v", running, beside, w.Err())
			}
			w.Pause()
			if running != 0 || !beside {
				t.Errorf("%d run between sessions, beside them: %t", running, beside)
			}
		}
		if err := w.Begin(Opening{Dir: w.dir, Key: queueKey(t, 1), Options: jobs.Options{Logger: w.log}}, func(*Opened) (*jobs.Queue, error) { return nil, broken }); !errors.Is(err, broken) || w.Err() == nil {
			t.Errorf("what cannot be mounted: %v, %v", err, w.Err())
		}
		if err := begin(); err != nil {
			t.Fatal(err)
		}
		close(fail)
		if err := <-done; !errors.Is(err, broken) || running != 0 || beside {
			t.Errorf("%v; %d run, beside them: %t", err, running, beside)
		}
		reason(t, "after the end", w.Err(), ReasonDraining)
	})
}
