package longwork

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
)

const queueName = "keys/queue"

func quietWorks() *Works {
	return New(Agent{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
}

// config is one with a queue and nothing that uses it.
func config(t *testing.T) (cfg settings.Config) {
	t.Helper()
	cfg.Guest.StateDir, cfg.Workers.Path, cfg.Federation.QueueKey = t.TempDir(), "/bin/sh", queueName
	return cfg
}

// queueLease brings a queue key of one byte's repetitions.
func queueLease(t *testing.T, b byte) (*client.Lease, *keybuf.Buffer) {
	t.Helper()
	k, err := keybuf.Take(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return &client.Lease{Keys: map[string]client.Key{queueName: {Key: k}}}, k
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
		w, cfg := quietWorks(), config(t)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		defer func() {
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		l, first := queueLease(t, 1)
		if err := w.Begin(cfg, l); err != nil {
			t.Fatal(err)
		}
		work, err := w.Work()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := work.Queue.Submit(t.Context(), jobs.Job{Class: "x", Spec: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
		l, second := queueLease(t, 1)
		if err := w.Begin(cfg, l); err != nil || second.Len() != 0 || first.Len() == 0 { // a renewal
			t.Errorf("%v; keys of %d and %d bytes", err, first.Len(), second.Len())
		}
		if again, err := w.Work(); err != nil || again.Queue != work.Queue {
			t.Errorf("a renewal opened the queue anew: %v", err)
		}

		w.Pause()
		if first.Len() != 0 {
			t.Error("the queue's key outlives the lease")
		}
		_, err = w.Work()
		reason(t, "between leases", err, ReasonExpired)
		_, err = w.Proofs()
		reason(t, "between leases", err, ReasonExpired)
		_, _, err = work.Queue.Submit(t.Context(), jobs.Job{Class: "y", Spec: []byte("{}")})
		reason(t, "between leases", err, jobs.ReasonClosed)

		l, other := queueLease(t, 2)
		reason(t, "another key", w.Begin(cfg, l), jobs.ReasonWrongKey)
		if other.Len() != 0 {
			t.Error("a key that opens nothing is kept")
		}
		l, _ = queueLease(t, 1)
		if err := w.Begin(cfg, l); err != nil {
			t.Fatal(err)
		}
		if work, err = w.Work(); err != nil || len(work.Queue.List(nil)) != 1 {
			t.Errorf("after the next lease: %v", err)
		}
		l, changed := queueLease(t, 3)
		reason(t, "a key that changed", w.Begin(cfg, l), jobs.ReasonWrongKey)
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
		w, cfg := quietWorks(), config(t)
		l, key := queueLease(t, 1)
		if err := w.Begin(cfg, l); err != nil {
			t.Fatal(err)
		}
		s := <-w.began // a Run that works on a job for as long as this test
		defer close(s.ended)
		w.Pause()
		if key.Len() != 0 {
			t.Error("a job that hangs keeps the queue's key")
		}
		_, _, err := s.queue.Submit(t.Context(), jobs.Job{Class: "x", Spec: []byte("{}")})
		reason(t, "after the pause", err, jobs.ReasonClosed)
	})
}

// TestPauseWipesTheKeyOfAQueueThatIsBeingOpened: the file is locked by somebody else, and
// Open waits. Its copy of the key is wiped where it waits, and nothing is opened later.
func TestPauseWipesTheKeyOfAQueueThatIsBeingOpened(t *testing.T) {
	w, cfg := quietWorks(), config(t)
	l, _ := queueLease(t, 1)
	if err := w.Begin(cfg, l); err != nil {
		t.Fatal(err)
	}
	w.Pause()
	l, key := queueLease(t, 1)
	holder, err := jobs.Open(filepath.Join(queueDir(cfg), "queue.db"), key, jobs.Options{Logger: w.agent.Logger})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- w.Begin(cfg, l) }()
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
	w := quietWorks()
	_, key := queueLease(t, 1)
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
	w, cfg := quietWorks(), config(t)
	cfg.Federation.QueueKey = ""
	for i := range 2 {
		if err := w.Begin(cfg, &client.Lease{}); err != nil {
			t.Fatal(err)
		}
		work, err := w.Work()
		if err != nil {
			t.Fatal(err)
		}
		list := work.Queue.List(nil)
		if i == 0 {
			if _, _, err := work.Queue.Submit(t.Context(), jobs.Job{Class: "x", Spec: []byte("{}")}); err != nil {
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
	if err := w.Begin(cfg, &client.Lease{}); err == nil {
		t.Error("it begins after the end")
	}
}
