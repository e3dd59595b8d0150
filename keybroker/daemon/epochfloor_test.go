package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
)

// rotate has the root certify the next epoch, from a time on, and retire all below another.
func (s *state) rotate(t *testing.T, op *operator.Client, minimum uint64, from time.Duration) uint64 {
	t.Helper()
	req, err := op.PrepareEpoch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	signed, err := statedir.CertifyEpoch(s.root, statedir.Certificate{Epoch: req.Epoch, MinEpoch: minimum, Key: req.Key, AuditKey: req.AuditKey, NotBefore: now.Add(from - time.Second), NotAfter: now.Add(from + time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := op.ActivateEpoch(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	return req.Epoch
}

func wantStates(t *testing.T, op *operator.Client, want string) {
	t.Helper()
	list, err := op.Epochs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, e := range list {
		states = append(states, e.State)
	}
	if got := strings.Join(states, ","); got != want {
		t.Errorf("epochs are %s, want %s", got, want)
	}
}

// TestRetiredEpochStaysRetired: epoch 3 retired epoch 1, whose key was stolen. When epoch 3
// was removed, epoch 1 was active again. It must not be, nor after a restart, nor when an
// older directory of epochs is put back.
func TestRetiredEpochStaysRetired(t *testing.T) {
	s := newState(t, false)
	op, _, stop := s.run(t)
	s.rotate(t, op, 1, 0)
	s.rotate(t, op, 2, 10*time.Minute) // is only prepared, and retires epoch 1 at once
	wantStates(t, op, "retired,active,prepared")
	if err := op.RetireEpoch(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	wantStates(t, op, "retired,active")
	if err := op.RetireEpoch(t.Context(), 2); err == nil {
		t.Error("the last active epoch was removed: the one that is left is retired")
	}
	stop()

	op, _, stop = s.run(t)
	wantStates(t, op, "retired,active")
	stop()

	// The directory is as it was before the rotations.
	later, err := filepath.Glob(filepath.Join(s.result.Layout.Epochs(), "0000000[^1].*"))
	if err != nil || len(later) != 3 { // of the newest, which was retired, the statement stays
		t.Fatal(later, err)
	}
	for _, name := range later {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	op, _, stop = s.run(t)
	wantStates(t, op, "retired")
	if req, err := op.PrepareEpoch(t.Context()); err != nil || req.Epoch < 2 {
		t.Errorf("the next epoch is %d, below the lowest: %v", req.Epoch, err)
	}
	stop()

	// What keeps the floor cannot be replaced by what the root did not sign.
	if err := os.WriteFile(s.result.Layout.EpochFloor(), []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := open(s.options); err == nil {
		t.Error("a damaged floor was taken", d.close())
	} else if !strings.Contains(err.Error(), filepath.Base(s.result.Layout.EpochFloor())) {
		t.Error(err)
	}
}
