package epochs

import (
	"errors"
	"fmt"
	"os"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// The root retires epochs by the minimum in a later statement, often because a key was
// stolen. That must not end with the later statement: whoever removes it, or puts an older
// directory of epochs in its place, would have the stolen key's epoch back. So the statement
// with the highest minimum is kept beside the directory, for ever.

// Lowest is the lowest epoch that the root accepts, by every statement that was ever held.
func (e *Set) Lowest() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.floor
}

// raise has the floor follow the statements that are about to be held, durably and before
// anybody acts by them. mu is held.
func (e *Set) raise(next []heldEpoch) error {
	kept, err := e.readFloor()
	if err != nil {
		return err
	}
	e.floor = max(e.floor, kept)
	var best heldEpoch
	for _, h := range next {
		if h.statement.MinEpoch > best.statement.MinEpoch {
			best = h
		}
	}
	if best.statement.MinEpoch <= kept {
		return nil
	}
	if err := disk.Write(e.cfg.Layout.EpochFloor(), best.signed); err != nil {
		return fmt.Errorf("keep the lowest epoch: %w", err)
	}
	e.floor = max(e.floor, best.statement.MinEpoch)
	return nil
}

// readFloor is the minimum of the statement that is kept; 0 if there is none yet. One that
// the root did not sign is an error: somebody removed the true one.
func (e *Set) readFloor() (uint64, error) {
	signed, err := os.ReadFile(e.cfg.Layout.EpochFloor())
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	st, err := protocol.VerifyEpoch(signed, []identity.Public{e.cfg.Root})
	if err != nil {
		return 0, fmt.Errorf("%s, which keeps the lowest epoch: %w; restore it from a backup", e.cfg.Layout.EpochFloor(), err)
	}
	return st.MinEpoch, nil
}
