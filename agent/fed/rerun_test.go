package fed

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/fed/rounds"
	"github.com/anchorhold/anchorhold/agent/fed/store"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
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
	q, err := jobs.Open(filepath.Join(dir, "queue.db"), secret(t, 1), jobs.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	files, err := store.New(store.Config{Queue: q, Dir: dir, Key: secret(t, 1), Own: secret(t, own)})
	if err != nil {
		t.Fatal(err)
	}
	return &Service{cfg: Config{Queue: q}, store: files}
}

func heldWith(p *federation.Parties) rounds.Round {
	return rounds.Round{Round: federation.Round{ID: digest.RoundID{1}, Length: 4, Parties: p}}
}

func reasonOf(err error) refusal.Reason {
	reason, _ := refusal.ReasonOf(err)
	return reason
}

// opens says why a vector that is not there does not open.
func opens(s *Service, h rounds.Round, spec contributeSpec) error {
	_, err := s.store.Open(h.Round, spec.Vector+"none", spec.Run)
	return err
}

// TestARestartLosesVectorsOfPartiesRoundsAndSaysSo: the job of the earlier run ends with a
// reason; the same round takes another, unless something was signed.
func TestARestartLosesVectorsOfPartiesRoundsAndSaysSo(t *testing.T) {
	dir := t.TempDir()
	s, h := started(t, dir, 2), heldWith(&federation.Parties{})
	spec := contributeSpec{Format: fedtask.Float32, Run: s.store.RunOf(h.Round)}
	if err := opens(s, h, spec); reasonOf(err) != fedtask.ReasonVector {
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
	if err := opens(s, h, spec); reasonOf(err) != store.ReasonVectorLost {
		t.Errorf("a vector of the earlier run: %v", err)
	}
	if raw, err := json.Marshal(spec); err != nil || !bytes.Contains(raw, []byte(spec.Run)) {
		t.Errorf("%s %v", raw, err)
	}
	again := contributeSpec{Format: fedtask.Float32, Run: s.store.RunOf(h.Round)}
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
	third := contributeSpec{Format: fedtask.Float32, Run: s.store.RunOf(h.Round)}
	if err := s.only("r", third, jobs.ID{4}); reasonOf(err) != ReasonContributed {
		t.Errorf("another vector after one was signed: %v", err)
	}
	if err := s.only("r", again, jobs.ID{3}); err != nil {
		t.Errorf("the job that was signed goes on in the next run: %v", err)
	}
	plain := heldWith(nil)
	if err := opens(s, plain, contributeSpec{}); reasonOf(err) != fedtask.ReasonVector || s.store.RunOf(plain.Round) != "" {
		t.Errorf("a round whose key the broker holds: %v", err)
	}
}
