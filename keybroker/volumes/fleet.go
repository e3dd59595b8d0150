package volumes

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

const (
	// tries is how often a change is made again when another broker came in between.
	tries = 4
	// fleetWait bounds what a guest or an operator waits for the fleet's store.
	fleetWait = 10 * time.Second
	// maxBrokers bounds how many brokers a volume's entry remembers; the one that is furthest behind gives way.
	maxBrokers = 64
	// compareEvery is how often a broker tells the fleet's store what it knows, and takes note of what others
	// confirmed; againEvery is how often it tries until it did so once.
	compareEvery = time.Minute
	againEvery   = 5 * time.Second
	// compareWait bounds one comparison: of ten thousand volumes, when a broker joins a fleet.
	compareWait = 10 * time.Minute
)

// volume is what this broker knows, and what its fleet does; shared is empty without a fleet.
type volume struct{ own, shared Entry }

// inForce is the entry that decides. A reset is this broker's own, and about the state that it was said of: whatever
// the shared store says of resets lets nobody in.
func (v volume) inForce() Entry {
	if v.shared.Version == 0 {
		return v.own
	}
	e := v.shared
	e.Reset = v.own.Reset && v.own.State == v.shared.State
	return e
}

// patience bounds a wait for the fleet's store.
func (s *Service) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.cfg.Shared == nil {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, fleetWait, refusal.New(protocol.ReasonBusy, "the fleet's store of volumes did not respond within %s", fleetWait))
}

// away is an error of the fleet's store for whoever asked: one that is no refusal is not this broker's fault, and passes.
func (s *Service) away(ctx context.Context, err error) error {
	switch _, refused := refusal.ReasonOf(err); {
	case err == nil || refused:
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return refusal.New(protocol.ReasonBusy, "the fleet's store of volumes: %w", err)
}

func isConflict(err error) bool {
	reason, _ := refusal.ReasonOf(err)
	return reason == ReasonConflict
}

// known reads what is known of a volume here and in the fleet, and brings each up to date with the other.
func (s *Service) known(ctx context.Context, name string) (v volume, err error) {
	if s.cfg.Shared != nil && !s.together.Load() {
		return v, refusal.New(protocol.ReasonBusy, "the fleet's store of volumes has not been told yet what this broker knows")
	}
	return s.compare(ctx, name)
}

func (s *Service) compare(ctx context.Context, name string) (v volume, err error) {
	if v.own, err = s.entry(ctx, name); err != nil {
		return v, err
	}
	return s.meet(ctx, v)
}

// meet brings what the fleet knows and what this broker knows up to date with each other.
func (s *Service) meet(ctx context.Context, v volume) (_ volume, err error) {
	if s.cfg.Shared == nil {
		return v, nil
	}
	if v.shared, err = s.cfg.Shared.Get(ctx, v.own.Volume); err != nil {
		return v, s.away(ctx, err)
	}
	if v.shared.learn(s.cfg.Self, v.own) {
		s.cfg.Logger.Warn("this broker knows a later state of a volume than the fleet's store, which was put back from an older copy", "volume", v.own.Volume,
			"generation", v.own.State.Generation, "disputed", v.shared.Disputed)
		if v.shared, err = s.putShared(ctx, v.shared); err != nil {
			return v, err
		}
	}
	if v.shared.Version == 0 || v.own.State == v.shared.State {
		return v, nil
	}
	// That this broker knows is in the fleet's store before it is in its own: there, it would be held against a
	// store that does not say so.
	v.shared.see(s.cfg.Self, v.shared.State)
	if v.shared, err = s.putShared(ctx, v.shared); err != nil {
		return v, err
	}
	v.own.take(v.shared)
	v.own.Seen = v.shared.Seen
	v.own, err = s.put(ctx, v.own)
	return v, err
}

func (s *Service) putShared(ctx context.Context, e Entry) (Entry, error) {
	if err := s.cfg.Shared.Put(ctx, e); err != nil {
		return e, s.away(ctx, err)
	}
	e.Version++
	return e, nil
}

// learn holds a shared entry against what one broker knows, and says whether it changed. What the broker knew was in
// the store once, with every later state; so a store that does not say that it did was put back.
func (e *Entry) learn(broker digest.Digest, own Entry) bool {
	seen := e.seen(broker)
	switch behind := e.State.Generation < own.State.Generation; {
	case own.State.Zero() || own.State == e.State:
		return false
	case e.State.Generation > own.State.Generation && (seen == own.State || seen.Generation > own.State.Generation):
		return false
	case !behind:
		e.Disputed = true // it went on from an older state
	default:
		// Nobody spoke of the volume after the store was put back, or somebody did and should not have.
		e.Disputed = e.Disputed || e.wentOn(broker, own)
		e.take(own)
		// What others knew when this state was current is not lost either: they need not come before this broker.
		for _, s := range own.Seen {
			if s.State.Generation > e.seen(s.Broker).Generation {
				e.see(s.Broker, s.State)
			}
		}
	}
	e.see(broker, own.State)
	return true
}

// wentOn says whether anybody spoke of the volume since an entry was put back that a broker knows a later state of. A broker
// that took note of the later entry knows what each had said then: in an older one nobody has said more. Clocks, which may
// differ, are asked only where its store was lost and its log alone knows.
func (e *Entry) wentOn(broker digest.Digest, own Entry) bool {
	switch {
	case own.seen(broker) == own.State:
		return slices.ContainsFunc(e.Seen, func(s Sight) bool {
			before := own.seen(s.Broker)
			return s.State.Generation > before.Generation || s.State.Generation == before.Generation && s.State != before
		})
	case len(own.Seen) == 0 && e.seen(broker).Zero():
		return !e.State.Zero() // each confirmed it for itself
	}
	return e.At.After(own.At)
}

// seen is what a broker knew; none if it never spoke of the volume.
func (e *Entry) seen(broker digest.Digest) State {
	for _, s := range e.Seen {
		if s.Broker == broker {
			return s.State
		}
	}
	return State{}
}

func (e *Entry) see(broker digest.Digest, state State) {
	e.Seen = slices.DeleteFunc(slices.Clone(e.Seen), func(s Sight) bool { return s.Broker == broker })
	if len(e.Seen) >= maxBrokers {
		last := slices.MinFunc(e.Seen, func(a, b Sight) int { return cmp.Compare(a.State.Generation, b.State.Generation) })
		e.Seen = slices.DeleteFunc(e.Seen, func(s Sight) bool { return s == last })
	}
	e.Seen = append(e.Seen, Sight{broker, state})
}

func (e *Entry) disputed() error {
	return refusal.New(ReasonDisputed, "the fleet's store was put back from an older copy, and %s went on from there before the broker that had confirmed a later state could say so; generation %d of %s counts. Find out which disk is right, and use anchorhold volume reset",
		e.Volume, e.State.Generation, e.At.Format(time.RFC3339))
}

// Compare tells the fleet's store everything that this broker knows, and notes what others confirmed. No volume is
// opened before it succeeded once; that time it asks the audit log about each volume, too. Without a fleet there is
// nothing to do.
func (s *Service) Compare(ctx context.Context) error {
	if s.cfg.Shared == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, compareWait)
	defer cancel()
	own, err := states(ctx, s.cfg.Store)
	if err != nil {
		return err
	}
	shared, err := states(ctx, s.cfg.Shared)
	if err != nil {
		return s.away(ctx, err)
	}
	first := !s.together.Load()
	var errs []error
	// What the fleet has to know comes before what this broker has to.
	for _, list := range []map[string]State{own, shared} {
		for name, state := range list {
			if !first && own[name] == state && shared[name] == state {
				continue
			}
			err := s.compareOne(ctx, name)
			if reason, _ := refusal.ReasonOf(err); reason == protocol.ReasonBusy {
				return err
			}
			errs = append(errs, err) // about one volume, which does not open; others do
		}
	}
	s.together.Store(true)
	return errors.Join(errs...)
}

func states(ctx context.Context, store Store) (map[string]State, error) {
	all := map[string]State{}
	err := store.Each(ctx, func(e Entry) error {
		all[e.Volume] = e.State
		return nil
	})
	return all, err
}

func (s *Service) compareOne(ctx context.Context, name string) error {
	ctx, cancel := s.patience(ctx)
	defer cancel()
	end, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer end()
	for range tries {
		if _, err = s.compare(ctx, name); !isConflict(err) {
			return err
		}
	}
	return err
}

// Keep compares now and then until ctx ends. What is wrong is logged once, until it is something else.
func (s *Service) Keep(ctx context.Context) error {
	if s.cfg.Shared == nil {
		return nil
	}
	said := ""
	for {
		text := ""
		if err := s.Compare(ctx); err != nil && ctx.Err() == nil {
			if text = err.Error(); text != said {
				s.cfg.Logger.Error("the fleet's store of volumes was not compared with what this broker knows", "err", err)
			}
		}
		said = text
		every := compareEvery
		if !s.together.Load() {
			every = againEvery
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}
