package volumes

import (
	"cmp"
	"context"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/generation"
)

// List returns all volumes that were ever opened, in the order of their names. Those of a fleet are all brokers';
// which of them may begin with any state is this one's to say.
func (s *Service) List(ctx context.Context) ([]Entry, error) {
	ctx, cancel := s.patience(ctx)
	defer cancel()
	own, err := entries(ctx, s.cfg.Store)
	if err != nil || s.cfg.Shared == nil {
		return own, err
	}
	shared, err := entries(ctx, s.cfg.Shared)
	if err != nil {
		return nil, s.away(ctx, err)
	}
	for _, e := range own {
		i, there := slices.BinarySearchFunc(shared, e.Volume, func(e Entry, name string) int { return cmp.Compare(e.Volume, name) })
		if there {
			shared[i] = volume{own: e, shared: shared[i]}.inForce()
		} else {
			shared = slices.Insert(shared, i, e)
		}
	}
	return shared, nil
}

func entries(ctx context.Context, store Store) ([]Entry, error) {
	list := []Entry{}
	err := store.Each(ctx, func(e Entry) error {
		list = append(list, e)
		return nil
	})
	return list, err
}

// Reset lets the next opening of a volume begin with any state, whatever was confirmed: a backup was put back
// on purpose, or the volume is made anew. It is recorded before it is in force, and over with that opening.
// A volume that was never opened here is reset if it has a key: the broker itself may have been put back from
// a backup that is older than the volume's first opening. In a fleet it holds at this broker, until the volume is
// opened at any: what a database says alone lets nobody in.
func (s *Service) Reset(ctx context.Context, name string) (Entry, error) {
	if !generation.ValidVolume(name) {
		return Entry{}, refusal.New(ReasonName, "%q is no volume; their names begin with %s/", name, generation.Class)
	}
	ctx, cancel := s.patience(ctx)
	defer cancel()
	end, err := s.enter(ctx)
	if err != nil {
		return Entry{}, err
	}
	defer end()
	v, err := s.known(ctx, name)
	if reason, _ := refusal.ReasonOf(err); reason == ReasonUnknownState {
		v, err = s.meet(ctx, v) // that is what it is reset for, and a fleet may know
	}
	if err != nil {
		return Entry{}, err
	}
	if v.own.Version == 0 {
		if err := s.checkKey(ctx, name); err != nil {
			return Entry{}, err
		}
	}
	// Nothing is let through that the log does not tell of; so it is recorded first.
	v.own.Reset = true
	if v.own, err = s.record(ctx, v.own, audit.Record{Action: actionReset, Detail: "the next opening may begin with any state"}); err != nil {
		return Entry{}, err
	}
	return v.inForce(), nil
}

// checkKey refuses a volume that was never opened and has no key: most likely its name was mistyped.
func (s *Service) checkKey(ctx context.Context, volume string) error {
	there, err := s.cfg.HasKey(ctx, volume)
	if err == nil && !there {
		err = refusal.New(ReasonUnknown, "%s was never opened, and the key store has no key of that name; anchorhold volume list and anchorhold secret list show those that are known", volume)
	}
	return err
}
