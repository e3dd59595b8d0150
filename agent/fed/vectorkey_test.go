package fed

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"log/slog"
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
func started(t *testing.T, dir string, own byte) *Service {
	t.Helper()
	for _, sub := range []string{"spool", "uploads"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	q, err := jobs.Open(filepath.Join(dir, "queue.db"), secret(t, 1), jobs.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &Service{cfg: Config{Dir: dir, Key: secret(t, 1), Own: secret(t, own), Queue: q}}
	if s.run, err = nameOf(s.cfg.Own); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestVectorsOfPartiesRoundsAreNotReadableWithTheQueueKey: the broker knows the queue's
// key and may have the guest's disk. It reads neither a vector for a round whose key
// parties hold, nor can it confirm a guess of one by its name.
func TestVectorsOfPartiesRoundsAreNotReadableWithTheQueueKey(t *testing.T) {
	s := started(t, t.TempDir(), 2)
	for held, readable := range map[*federation.Parties]bool{nil: true, {}: false} {
		h := heldWith(held)
		spec := contributeSpec{Format: fedtask.Float32}
		if _, err := s.store(bytes.NewReader(make([]byte, 16)), h, &spec, false); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(s.path("spool", spec.Vector))
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
		if same := string(hexOf(name.Sum(nil))) == spec.Vector; same != readable {
			t.Errorf("parties %t: a guess is confirmed by the queue's key: %t", held != nil, same)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if r, err = spool.NewReader(f, s.vectorKey(h), vectorName); err == nil {
			_, err = io.ReadAll(r)
		}
		if err != nil {
			t.Errorf("parties %t: the agent itself: %v", held != nil, err)
		}
	}
}

func heldWith(p *federation.Parties) held {
	return held{Round: federation.Round{ID: federation.ID{1}, Length: 4, Parties: p}}
}

func hexOf(b []byte) []byte {
	text, _ := federation.Digest(b).MarshalText() // 32 bytes always have a form
	return text
}

// TestARestartLosesVectorsOfPartiesRoundsAndSaysSo: the job of the earlier run ends with a
// reason; the same round takes another, unless something was signed.
func TestARestartLosesVectorsOfPartiesRoundsAndSaysSo(t *testing.T) {
	dir := t.TempDir()
	s, h := started(t, dir, 2), heldWith(&federation.Parties{})
	spec := contributeSpec{Format: fedtask.Float32, Run: s.runOf(h)}
	if err := s.readable(h, spec); err != nil {
		t.Error(err)
	}
	if err := s.only("r", spec, jobs.ID{1}); err != nil {
		t.Fatal(err)
	}
	if err := s.only("r", spec, jobs.ID{2}); reasonOf(err) != ReasonContributed {
		t.Errorf("two jobs of one run: %v", err)
	}
	if err := s.cfg.Queue.Close(); err != nil {
		t.Fatal(err)
	}

	s = started(t, dir, 3)
	if err := s.readable(h, spec); reasonOf(err) != ReasonVectorLost {
		t.Errorf("a vector of the earlier run: %v", err)
	}
	if raw, err := json.Marshal(spec); err != nil || !bytes.Contains(raw, []byte(spec.Run)) {
		t.Errorf("%s %v", raw, err)
	}
	again := contributeSpec{Format: fedtask.Float32, Run: s.runOf(h)}
	if err := s.only("r", again, jobs.ID{3}); err != nil {
		t.Errorf("the vector submitted again: %v", err)
	}
	if err := s.cfg.Queue.Once("fed/r/upload", [32]byte{9}); err != nil {
		t.Fatal(err)
	}
	if err := s.only("r", again, jobs.ID{3}); err != nil {
		t.Errorf("the same job goes on: %v", err)
	}
	if err := s.cfg.Queue.Close(); err != nil {
		t.Fatal(err)
	}

	s = started(t, dir, 4)
	third := contributeSpec{Format: fedtask.Float32, Run: s.runOf(h)}
	if err := s.only("r", third, jobs.ID{4}); reasonOf(err) != ReasonContributed {
		t.Errorf("another vector after one was signed: %v", err)
	}
	if err := s.only("r", again, jobs.ID{3}); err != nil {
		t.Errorf("the job that was signed goes on in the next run: %v", err)
	}
	plain := heldWith(nil)
	if err := s.readable(plain, contributeSpec{}); err != nil || s.runOf(plain) != "" {
		t.Errorf("a round whose key the broker holds: %v", err)
	}
}

// TestAVectorEndsWithTheLease: a client may send one for hours. While it comes there is no
// other copy of the queue's key than the one that the lease's end wipes, and from then on
// nothing is stored under it.
func TestAVectorEndsWithTheLease(t *testing.T) {
	for name, parties := range map[string]*federation.Parties{"the broker's round": nil, "a round of parties": {}} {
		s := started(t, t.TempDir(), 2)
		h := heldWith(parties)
		body, client := io.Pipe()
		done := make(chan error, 1)
		go func() {
			_, err := s.store(body, h, &contributeSpec{Format: fedtask.Float32}, false)
			done <- err
			if err := body.Close(); err != nil {
				t.Error(err)
			}
		}()
		if _, err := client.Write(make([]byte, 4)); err != nil { // it was begun
			t.Fatal(err)
		}
		s.cfg.Key.Wipe() // as the session's end does
		if err := s.vectorKey(h).Use(func([]byte) error { return nil }); reasonOf(err) != reasonExpired {
			t.Errorf("%s: a key of vectors after the lease's end: %v", name, err)
		}
		if _, err := client.Write(make([]byte, 4)); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Fatal(err)
		}
		if err := client.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; reasonOf(err) != reasonExpired {
			t.Errorf("%s: a vector that came after the lease's end: %v", name, err)
		}
		if left, err := os.ReadDir(s.path("spool")); err != nil || len(left) != 0 {
			t.Errorf("%s: %d files are left: %v", name, len(left), err)
		}
	}
}
