package store

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

func secret(t *testing.T, b byte) *keybuf.Buffer {
	t.Helper()
	k, err := keybuf.Take(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

// started is a run of the agent on a directory, whose queue key the broker knows.
func started(t *testing.T, dir string, own byte) *Store {
	t.Helper()
	q, err := jobs.Open(filepath.Join(dir, "queue.db"), secret(t, 1), jobs.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	limits := spool.Defaults()
	limits.Floor = 0
	s, err := New(Config{Queue: q, Dir: dir, Key: secret(t, 1), Own: secret(t, own), Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func reasonOf(err error) refusal.Reason {
	reason, _ := refusal.ReasonOf(err)
	return reason
}

// TestVectorsOfPartiesRoundsAreNotReadableWithTheQueueKey: the broker knows the queue's
// key and may have the guest's disk. It reads neither a vector for a round whose key
// parties hold, nor can it confirm a guess of one by its name.
func TestVectorsOfPartiesRoundsAreNotReadableWithTheQueueKey(t *testing.T) {
	s := started(t, t.TempDir(), 2)
	for held, readable := range map[*federation.Parties]bool{nil: true, {}: false} {
		h := roundWith(held)
		v, release, err := s.Take(h, Incoming{Format: fedtask.Float32, Body: bytes.NewReader(make([]byte, 16))})
		if err != nil {
			t.Fatal(err)
		}
		release()
		f, err := os.Open(s.path(vectors, v.Name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		broker := secret(t, 1)
		r, err := spool.NewReader(f, broker, vectorName)
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if readable != (err == nil) || !readable && !errors.Is(err, spool.ErrDamaged) {
			t.Errorf("parties %t: the queue's key alone: %v", held != nil, err)
		}
		name, err := vectorHash(broker, h.ID)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := name.Write(make([]byte, 16)); err != nil {
			t.Fatal(err)
		}
		if same := string(hexOf(name.Sum(nil))) == v.Name; same != readable {
			t.Errorf("parties %t: a guess is confirmed by the queue's key: %t", held != nil, same)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if r, err = spool.NewReader(f, s.key(h), vectorName); err == nil {
			_, err = io.ReadAll(r)
		}
		if err != nil {
			t.Errorf("parties %t: the agent itself: %v", held != nil, err)
		}
	}
}

func roundWith(p *federation.Parties) federation.Round {
	return federation.Round{ID: digest.RoundID{1}, Length: 4, Parties: p}
}

func hexOf(b []byte) []byte {
	text, _ := digest.Digest(b).MarshalText() // 32 bytes always have a form
	return text
}

// TestAVectorEndsWithTheLease: a client may send one for hours. While it comes there is no
// other copy of the queue's key than the one that the lease's end wipes, and from then on
// nothing is stored under it.
func TestAVectorEndsWithTheLease(t *testing.T) {
	for name, parties := range map[string]*federation.Parties{"the broker's round": nil, "a round of parties": {}} {
		s := started(t, t.TempDir(), 2)
		h := roundWith(parties)
		body, client := io.Pipe()
		done := make(chan error, 1)
		go func() {
			_, _, err := s.Take(h, Incoming{Format: fedtask.Float32, Body: body})
			done <- err
			if err := body.Close(); err != nil {
				t.Error(err)
			}
		}()
		if _, err := client.Write(make([]byte, 4)); err != nil { // it was begun
			t.Fatal(err)
		}
		s.cfg.Key.Wipe() // as the session's end does
		if err := s.key(h).Use(func([]byte) error { return nil }); reasonOf(err) != protocol.ReasonLeaseExpired {
			t.Errorf("%s: a key of vectors after the lease's end: %v", name, err)
		}
		if _, err := client.Write(make([]byte, 4)); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Fatal(err)
		}
		if err := client.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; reasonOf(err) != protocol.ReasonLeaseExpired {
			t.Errorf("%s: a vector that came after the lease's end: %v", name, err)
		}
		if left, err := os.ReadDir(s.path(vectors, "")); err != nil || len(left) != 0 {
			t.Errorf("%s: %d files are left: %v", name, len(left), err)
		}
	}
}

// TestOnlyTheRunThatStoredAVectorOpensIt: another removes it and says why, where parties hold the
// round's key; where the broker does, any run goes on.
func TestOnlyTheRunThatStoredAVectorOpensIt(t *testing.T) {
	dir := t.TempDir()
	s := started(t, dir, 2)
	stored := map[bool]Vector{}
	for _, parties := range []bool{false, true} {
		r := roundWith(nil)
		if parties {
			r.Parties = &federation.Parties{}
		}
		v, release, err := s.Take(r, Incoming{Format: fedtask.Float32, Body: bytes.NewReader(make([]byte, 16))})
		if err != nil {
			t.Fatal(err)
		}
		release()
		stored[parties] = v
	}
	run := s.RunOf(roundWith(&federation.Parties{}))
	if err := s.cfg.Queue.Close(); err != nil {
		t.Fatal(err)
	}
	s = started(t, dir, 3)
	f, err := s.Open(roundWith(nil), stored[false].Name, "")
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := io.ReadAll(f); err != nil || !bytes.Equal(raw, make([]byte, 16)) {
		t.Errorf("%x, %v", raw, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Open(roundWith(&federation.Parties{}), stored[true].Name, run); reasonOf(err) != ReasonVectorLost {
		t.Errorf("a vector of the earlier run: %v", err)
	}
	if left, err := os.ReadDir(s.path(vectors, "")); err != nil || len(left) != 1 || left[0].Name() != stored[false].Name {
		t.Errorf("%v, %v", left, err)
	}
}

// TestTidyLeavesWhatIsBeingWritten: a job may wait longer for its worker than files of a
// crash are left where they are.
func TestTidyLeavesWhatIsBeingWritten(t *testing.T) {
	dir := t.TempDir()
	s := started(t, dir, 2)
	upload, err := s.NewUpload()
	if err != nil {
		t.Fatal(err)
	}
	scratch, err := s.NewScratch(7, 1)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(filepath.Dir(upload.Name()), ".new-1")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Tidy(time.Now().Add(2 * TidyEvery)); n != 1 || err != nil {
		t.Errorf("%d files were removed, want the one of a crash: %v", n, err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a crash left is there: %v", err)
	}
	if err := upload.Keep(s.UploadPath(digest.RoundID{1}, Blocks)); err != nil {
		t.Errorf("an upload that was written meanwhile: %v", err)
	}
	if err := scratch.Close(); err != nil {
		t.Error(err)
	}
}
