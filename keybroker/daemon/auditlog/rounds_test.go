package auditlog

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// newLog is a log of its own.
func newLog(t *testing.T) *Log {
	t.Helper()
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Wipe)
	l, err := audit.Open(t.TempDir(), key, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Log{Log: l, cfg: Config{Now: time.Now, Logger: slog.New(slog.DiscardHandler)}}
}

// preempted is a context whose goroutine is held up when it waits for the checkpoint's file
// for the second time: there it has made a checkpoint and not written it.
type preempted struct {
	context.Context
	waits       int
	there, goOn chan struct{}
}

func (p *preempted) Deadline() (time.Time, bool) {
	if p.waits++; p.waits == 2 {
		close(p.there)
		<-p.goOn
	}
	return p.Context.Deadline()
}

// Of two who bring the checkpoint up to date at once, the slower one does not put an older
// one in the place of a newer one.
func TestCheckpointKeptElsewhereNeverGoesBack(t *testing.T) {
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		l, err := audit.Open(t.TempDir(), key, audit.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}()
		path := filepath.Join(t.TempDir(), "checkpoint")
		c := Config{Now: time.Now, Logger: slog.New(slog.DiscardHandler)}
		c.RoundsCheckpoint = path
		log := (&Log{Log: l, cfg: c}).Rounds().(roundLog)
		event := rounds.Event{Action: "round-ticket", About: "fed/1", Detail: "the ticket"}
		if err := log.Append(ctx, event); err != nil {
			t.Fatal(err)
		}
		kept, err := l.Checkpoint(ctx)
		if err == nil {
			err = os.WriteFile(path, []byte(kept.Note), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		slow, done := &preempted{Context: ctx, there: make(chan struct{}), goOn: make(chan struct{})}, make(chan error, 2)
		go func() { done <- log.Keep(slow) }()
		<-slow.there
		if err := log.Append(ctx, event); err != nil {
			t.Fatal(err)
		}
		go func() { done <- log.Keep(ctx) }()
		synctest.Wait()
		close(slow.goOn)
		for range 2 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if kept, err = audit.ParseCheckpoint(raw); err != nil || kept.Size != l.Size() {
			t.Errorf("the checkpoint counts %d records of %d: %v", kept.Size, l.Size(), err)
		}
		over, cancel := context.WithCancel(ctx)
		cancel()
		log.keeping <- struct{}{}
		if err := log.Keep(over); !errors.Is(err, context.Canceled) {
			t.Errorf("waiting past its time: %v", err)
		}
	})
}

// Log and rounds that were put back together are told by a checkpoint kept elsewhere, which
// the broker brings up to date before a ticket leaves.
func TestCheckpointKeptElsewhereDecides(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint")
	l, ctx := newLog(t), t.Context()
	l.cfg.RoundsCheckpoint = path
	log := l.Rounds()
	if reason, _ := refusal.ReasonOf(log.Kept(ctx)); reason != ReasonCheckpoint {
		t.Errorf("without the file: %q", reason)
	}
	if err := l.Event(ctx, "start", ""); err != nil {
		t.Fatal(err)
	}
	c, err := l.Checkpoint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(c.Note), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := log.Kept(ctx); err != nil {
		t.Error(err)
	}
	events := []rounds.Event{{Action: "round-ticket", About: "fed/1", Detail: "one"}, {Action: "round-ticket", About: "fed/1", Detail: "two"}}
	if err := log.Append(ctx, events...); err != nil {
		t.Fatal(err)
	}
	if found, err := log.Find(ctx, "round-ticket", "fed/1"); err != nil || !slices.Equal(found, events) {
		t.Errorf("%+v, %v", found, err)
	}
	// What a crash left, of this version and of an earlier one, goes; what is another's stays.
	left, others := []string{path + ".new", filepath.Join(filepath.Dir(path), ".new-checkpoint-1")}, filepath.Join(filepath.Dir(path), ".new-checkpoint-of-another-1")
	for _, name := range append(left, others) {
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Keep(ctx); err != nil {
		t.Fatal(err)
	}
	if disk.Exists(left[0]) || disk.Exists(left[1]) || !disk.Exists(others) {
		t.Error("leftovers of a crash are there still, or another's file is not")
	}
	kept, err := os.ReadFile(path)
	if err != nil || string(kept) == c.Note {
		t.Errorf("the checkpoint is the old one: %v", err)
	}
	// Another log, shorter: what a copy that was put back looks like.
	restored := newLog(t)
	restored.cfg.RoundsCheckpoint = path
	if err := restored.Rounds().Kept(ctx); err == nil {
		t.Error("a log that does not extend the checkpoint was believed")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if reason, _ := refusal.ReasonOf(log.Keep(ctx)); reason != ReasonCheckpoint {
		t.Errorf("the checkpoint was taken away: %q", reason)
	}
	if err := os.WriteFile(path, make([]byte, maxKeptBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if reason, _ := refusal.ReasonOf(log.Kept(ctx)); reason != ReasonCheckpoint {
		t.Errorf("a file that is too long: %q", reason)
	}
}
