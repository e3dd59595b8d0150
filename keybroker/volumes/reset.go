package volumes

import (
	"context"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/generation"
)

// List returns all volumes that were ever opened, in the order of their names.
func (s *Service) List(ctx context.Context) ([]Entry, error) {
	list := []Entry{}
	err := s.cfg.Store.Each(ctx, func(e Entry) error {
		list = append(list, e)
		return nil
	})
	return list, err
}

// Reset lets the next opening of a volume begin with any state, whatever was confirmed: a backup was put back
// on purpose, or the volume is made anew. It is recorded before it is in force, and over with that opening.
// A volume that was never opened here is reset if it has a key: the broker itself may have been put back from
// a backup that is older than the volume's first opening.
func (s *Service) Reset(ctx context.Context, volume string) (Entry, error) {
	if !generation.ValidVolume(volume) {
		return Entry{}, refusal.New(ReasonName, "%q is no volume; their names begin with %s/", volume, generation.Class)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.entry(ctx, volume)
	if reason, _ := refusal.ReasonOf(err); reason == ReasonUnknownState {
		err = nil // that is what it is reset for
	}
	if err != nil {
		return Entry{}, err
	}
	if e.Version == 0 {
		if err := s.checkKey(ctx, volume); err != nil {
			return Entry{}, err
		}
	}
	// Nothing is let through that the log does not tell of; so it is recorded first.
	e.Reset = true
	if e, err = s.record(ctx, e, audit.Record{Action: actionReset, Detail: "the next opening may begin with any state"}); err != nil {
		return Entry{}, err
	}
	return e, nil
}

// checkKey refuses a volume that was never opened and has no key: most likely its name was mistyped.
func (s *Service) checkKey(ctx context.Context, volume string) error {
	there, err := s.cfg.HasKey(ctx, volume)
	if err == nil && !there {
		err = refusal.New(ReasonUnknown, "%s was never opened, and the key store has no key of that name; anchorhold volume list and anchorhold secret list show those that are known", volume)
	}
	return err
}
