//go:build !release

package volumes_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/database/databasetest"
	"github.com/anchorhold/anchorhold/keybroker/generation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/volumes"
)

// shared is a store that a fleet uses, which a test can have go back or away. Its brokers do not close it.
type shared struct {
	volumes.Store
	t    *testing.T
	away error
}

func (s *shared) Close() error { return nil }

func (s *shared) Get(ctx context.Context, volume string) (volumes.Entry, error) {
	if s.away != nil {
		return volumes.Entry{}, s.away
	}
	return s.Store.Get(ctx, volume)
}

func (s *shared) Each(ctx context.Context, visit func(volumes.Entry) error) error {
	if s.away != nil {
		return s.away
	}
	return s.Store.Each(ctx, visit)
}

// copied is what a backup has; putBack makes a store of that, and of nothing else.
func (s *shared) copied() (list []volumes.Entry) {
	s.t.Helper()
	if err := s.Store.Each(s.t.Context(), func(e volumes.Entry) error { list = append(list, e); return nil }); err != nil {
		s.t.Fatal(err)
	}
	return list
}

func (s *shared) putBack(list []volumes.Entry) {
	s.t.Helper()
	b, err := volumes.OpenBolt(filepath.Join(s.t.TempDir(), "shared.db"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { b.Close() })
	for _, e := range list {
		e.Version = 0
		if err := b.Put(s.t.Context(), e); err != nil {
			s.t.Fatal(err)
		}
	}
	s.Store = b
}

// fleet are two brokers that share a store. Each has a root, a clock, a log and a store of its own.
func fleet(t *testing.T) (*shared, *world, *world) {
	t.Helper()
	s := &shared{t: t}
	s.putBack(nil)
	return s, joined(t, s), joined(t, s)
}

func joined(t *testing.T, s volumes.Store) *world {
	t.Helper()
	w := newWorld(t)
	w.join(s)
	return w
}

// join makes the world's broker one of a fleet, after a restart.
func (w *world) join(s volumes.Store) {
	w.t.Helper()
	w.cfg.Shared, w.cfg.Self = s, w.Root.Public().ID()
	w.restart()
	w.must(w.service.Compare(w.t.Context()))
}

func TestAFleetConfirmsOneLine(t *testing.T) {
	_, a, b := fleet(t)
	d := &disk{}
	a.must(a.guest().open(d))
	old := *d
	b.must(b.guest().open(d))
	want(t, "an old copy, at the broker that confirmed it", a.guest().open(&old), generation.ReasonRolledBack)
	b.restart()
	b.must(b.service.Compare(t.Context()))
	want(t, "an old copy, elsewhere", b.guest().open(&old), generation.ReasonRolledBack)
	a.must(a.guest().open(d))
	if d.confirmed.Generation != 3 {
		t.Errorf("got generation %d, want 3", d.confirmed.Generation)
	}
	for _, w := range []*world{a, b} {
		if list, err := w.service.List(t.Context()); err != nil || len(list) != 1 || list[0].State.Generation != 3 {
			t.Errorf("%+v, %v", list, err)
		}
	}
}

// A crash at one broker heals at another.
func TestACrashHealsElsewhere(t *testing.T) {
	_, a, b := fleet(t)
	d := &disk{}
	g := a.guest()
	a.must(g.write(d))
	a.must(g.confirm(d)) // ends before the volume says that it was confirmed
	g = b.guest()
	b.must(g.write(d)) // ends before the broker hears of it
	a.must(a.guest().open(d))
	b.must(b.guest().open(d))
}

// Two brokers, one database, one opening: one of two guests on copies goes on, and the other is refused for good.
func TestTwoBrokersDoNotBothConfirm(t *testing.T) {
	server := databasetest.New(t)
	schema := server.Schema(t)
	var brokers []*world
	for range 2 {
		p, err := volumes.OpenPostgres(t.Context(), server.DSN(schema)+"&pool_max_conns=2")
		if err != nil {
			t.Fatal(err)
		}
		brokers = append(brokers, joined(t, p))
	}
	d := &disk{}
	brokers[0].must(brokers[0].guest().open(d))
	for range 5 {
		copies := []disk{*d, *d}
		guests := []*guest{brokers[0].guest(), brokers[1].guest()}
		errs := make([]error, 2)
		for i, g := range guests {
			brokers[i].must(g.write(&copies[i]))
		}
		var all sync.WaitGroup
		for i, g := range guests {
			all.Go(func() { errs[i] = g.confirm(&copies[i]) })
		}
		all.Wait()
		winner := 0
		if errs[0] != nil {
			winner = 1
		}
		want(t, "the first", errs[winner], "")
		want(t, "the second", errs[1-winner], generation.ReasonRolledBack)
		want(t, "the second, at the first's broker", brokers[winner].guest().open(&copies[1-winner]), generation.ReasonRolledBack)
		*d = copies[winner]
		d.confirmed, d.unconfirmed = d.unconfirmed, generation.State{}
	}
}

// A database that lost its last commits locks nobody out, and takes no older disk at a broker that knows better:
// what the broker confirmed itself, what it saw, and what only its log has.
func TestAStoreThatWasPutBackIsToldByTheBrokers(t *testing.T) {
	s, a, b := fleet(t)
	d := &disk{}
	a.must(a.guest().open(d))
	old, backup := *d, s.copied()
	a.must(a.guest().open(d))
	a.must(a.guest().open(d))
	s.putBack(backup)
	want(t, "an old copy", a.guest().open(&old), generation.ReasonRolledBack)
	b.must(b.guest().open(d))

	s.putBack(backup)
	a.must(b.service.Compare(t.Context()))
	want(t, "an old copy at the other", a.guest().open(&old), generation.ReasonRolledBack)
	a.must(a.service.Compare(t.Context()))
	s.putBack(nil)
	a.must(a.service.Compare(t.Context())) // it saw this, and confirmed none of it
	want(t, "an empty disk", b.guest().open(&disk{}), generation.ReasonRolledBack)
	b.must(b.guest().open(d))

	s.putBack(backup)
	b.path = filepath.Join(t.TempDir(), "volumes.db")
	b.restart()
	a.must(a.service.Compare(t.Context())) // before b, which has lost what it knew of a
	b.must(b.service.Compare(t.Context()))
	want(t, "an old copy where the log alone knows", b.guest().open(&old), generation.ReasonRolledBack)
	a.must(a.guest().open(d))
}

// Whoever tells a store that was put back speaks for the others, too: it knows what they had said. So it does not matter
// which broker is the first, and none takes another's word for a dispute.
func TestTheFirstBrokerSpeaksForTheOthers(t *testing.T) {
	s, a, b := fleet(t)
	c := joined(t, s)
	d := &disk{}
	a.must(a.guest().open(d))
	backup := s.copied()
	b.must(b.guest().open(d))
	a.must(a.service.Compare(t.Context())) // which says that a knows 2
	b.must(b.guest().open(d))
	s.putBack(backup)
	b.must(b.service.Compare(t.Context()))
	a.must(a.guest().open(d))

	backup = s.copied()
	b.must(b.guest().open(d))
	a.must(a.guest().open(d))
	c.must(c.service.Compare(t.Context())) // which confirmed nothing
	s.putBack(backup)
	c.must(c.service.Compare(t.Context()))
	b.must(b.guest().open(d))
	a.must(a.guest().open(d))
}

// Where a volume went on from the older state before the broker that knew better came, nobody guesses which one is
// right: all brokers refuse both until an operator looked, and then one opening decides.
func TestAVolumeThatWentOnFromAnOldStateIsDisputed(t *testing.T) {
	for name, openings := range map[string]int{"to a lower generation": 1, "to the same": 2, "to a higher": 3} {
		t.Run(name, func(t *testing.T) {
			s, a, b := fleet(t)
			d := &disk{}
			a.must(a.guest().open(d))
			b.must(b.service.Compare(t.Context()))
			other, backup := *d, s.copied()
			a.must(a.guest().open(d))
			a.must(a.guest().open(d))
			s.putBack(backup)
			a.Clock.Move(time.Minute)
			b.Clock.Move(2 * time.Minute)
			for range openings {
				b.must(b.guest().open(&other)) // b did not see what a confirmed
			}
			a.must(a.service.Compare(t.Context()))
			for _, w := range []*world{a, b, a} {
				right, wrong := *d, other
				want(t, "what was confirmed", w.guest().open(&right), volumes.ReasonDisputed)
				want(t, "what went on", w.guest().open(&wrong), volumes.ReasonDisputed)
			}
			list, err := b.service.List(t.Context())
			if err != nil || len(list) != 1 || !list[0].Disputed {
				t.Errorf("%+v, %v", list, err)
			}
			_, err = b.service.Reset(t.Context(), volume)
			b.must(err)
			want(t, "where nobody reset it", a.guest().open(d), volumes.ReasonDisputed)
			b.must(b.guest().open(d))
			for _, w := range []*world{a, b} {
				want(t, "what went on, afterwards", w.guest().open(&other), generation.ReasonRolledBack)
				w.must(w.guest().open(d))
			}
			if list, err := a.service.List(t.Context()); err != nil || list[0].Disputed || list[0].State.Generation != d.confirmed.Generation {
				t.Errorf("%+v, %v", list, err)
			}
		})
	}
}

// A broker that was put back knows less, and the fleet's store more: it locks nothing out and takes nothing old.
func TestABrokerThatWasPutBackLearns(t *testing.T) {
	_, a, b := fleet(t)
	d := &disk{}
	a.must(a.guest().open(d))
	old := *d
	a.must(a.service.Close()) // the broker's directory, as a backup has it
	former := a.copyOfStore()
	a.open()
	a.must(a.service.Compare(t.Context()))
	b.must(b.guest().open(d))
	b.must(b.guest().open(d))
	a.must(a.service.Compare(t.Context()))
	a.path = former
	a.restart()
	a.must(a.service.Compare(t.Context()))
	want(t, "an old copy", a.guest().open(&old), generation.ReasonRolledBack)
	a.must(a.guest().open(d))
	b.must(b.guest().open(d))
	if list, err := b.service.List(t.Context()); err != nil || list[0].Disputed {
		t.Errorf("%+v, %v", list, err)
	}
}

// A broker that joins a fleet brings its volumes along, before anybody opens one.
func TestABrokerThatJoinsBringsItsVolumes(t *testing.T) {
	a := newWorld(t)
	d := &disk{}
	a.must(a.guest().open(d))
	a.must(a.guest().open(d))
	s := &shared{t: t}
	s.putBack(nil)
	b := joined(t, s)
	a.join(s)
	want(t, "an empty disk", b.guest().open(&disk{}), generation.ReasonRolledBack)
	b.must(b.guest().open(d))
	a.must(a.guest().open(d))
}

// A reset is of the broker that was told, and of the state that it was told of: the store lets nobody in.
func TestAResetHoldsAtOneBroker(t *testing.T) {
	s, a, b := fleet(t)
	d := &disk{}
	a.must(a.guest().open(d))
	old := *d
	a.must(a.guest().open(d))
	_, err := b.service.Reset(t.Context(), volume)
	b.must(err)
	if list, err := a.service.List(t.Context()); err != nil || list[0].Reset {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := b.service.List(t.Context()); err != nil || !list[0].Reset {
		t.Errorf("%+v, %v", list, err)
	}
	third := old
	want(t, "elsewhere", a.guest().open(&third), generation.ReasonRolledBack)
	a.must(a.guest().open(d)) // which uses the reset up
	if list, err := b.service.List(t.Context()); err != nil || list[0].Reset || list[0].State != d.confirmed {
		t.Errorf("%+v, %v", list, err)
	}
	third = old
	want(t, "after an opening elsewhere", b.guest().open(&third), generation.ReasonRolledBack)

	backup := s.copied()
	backup[0].Reset = true
	s.putBack(backup)
	for _, w := range []*world{a, b} {
		third = old
		want(t, "a reset that only the store has", w.guest().open(&third), generation.ReasonRolledBack)
	}
	_, err = b.service.Reset(t.Context(), volume)
	b.must(err)
	b.must(b.guest().open(&old))
	want(t, "what was current before", b.guest().open(d), generation.ReasonRolledBack)

	_, err = a.service.Reset(t.Context(), "volumes/other") // nobody opened it, and there is a key
	a.must(err)
	if list, err := a.service.List(t.Context()); err != nil || len(list) != 2 || list[0].Volume != "volumes/other" || !list[0].Reset {
		t.Errorf("%+v, %v", list, err)
	}
}

// Nothing is opened before the store was told what the broker knows, nor while it does not answer.
func TestNothingOpensWithoutTheFleetsStore(t *testing.T) {
	s := &shared{t: t, away: errors.New("no route to host")}
	s.putBack(nil)
	w := newWorld(t)
	w.cfg.Shared, w.cfg.Self = s, w.Root.Public().ID()
	w.restart()
	g, d := w.guest(), &disk{}
	refusaltest.Want(t, "compared", w.service.Compare(t.Context()), protocol.ReasonBusy)
	want(t, "before", g.open(d), protocol.ReasonBusy)
	s.away = nil
	want(t, "before it is compared", g.open(d), protocol.ReasonBusy)
	w.must(w.service.Compare(t.Context()))
	w.must(g.open(d))
	s.away = errors.New("no route to host")
	want(t, "away", g.open(d), protocol.ReasonBusy)
	_, err := w.service.Reset(t.Context(), volume)
	refusaltest.Want(t, "a reset", err, protocol.ReasonBusy)
	_, err = w.service.List(t.Context())
	refusaltest.Want(t, "a list", err, protocol.ReasonBusy)
	s.away = nil
	w.must(g.open(d))
}

// One volume whose state is unknown keeps the others from nothing.
func TestAVolumeOfWhichNothingIsKnownStopsNoOther(t *testing.T) {
	_, a, _ := fleet(t)
	d := &disk{}
	a.must(a.guest().open(d))
	log := a.cfg.Log
	a.cfg.Log = archived{log}
	a.restart()
	refusaltest.Want(t, "compared", a.service.Compare(t.Context()), volumes.ReasonUnknownState)
	want(t, "archived", a.guest().open(d), volumes.ReasonUnknownState)
	other := a.guest("volumes/other")
	_, err := other.c.Opened(t.Context(), generation.Guest{Key: other.key, Chain: other.lease.Certificate, Now: protocol.TimeOf(other.lease.BrokerNow(time.Now())),
		Broker: other.lease.BrokerID, Lowest: protocol.AtLeast(1)}, generation.Holding{Volume: "volumes/other"})
	a.must(err)
}

func TestFleetsAreConfiguredWhole(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*volumes.Config){
		"a fleet's store without a name": func(c *volumes.Config) { c.Shared = c.Store },
		"a name without a fleet's store": func(c *volumes.Config) { c.Self = digest.Digest{1} },
	} {
		cfg := w.cfg
		change(&cfg)
		if _, err := volumes.New(cfg); err == nil || !strings.Contains(err.Error(), "a part is missing") {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.must(w.service.Compare(t.Context())) // a single broker has nothing to compare
	w.must(w.service.Keep(t.Context()))
}

// archived is a log that knows of a later record about one volume, whose text was archived.
type archived struct{ volumes.Log }

func (l archived) FindLast(q audit.Query) (audit.Found, bool, error) {
	if q.Resource == volume {
		return audit.Found{Leaf: audit.Leaf{Index: 1 << 40}}, true, nil
	}
	return l.Log.FindLast(q)
}

// copyOfStore is a copy of the broker's own store, which is closed.
func (w *world) copyOfStore() string {
	w.t.Helper()
	raw, err := os.ReadFile(w.path)
	w.must(err)
	file := filepath.Join(w.t.TempDir(), "volumes.db")
	w.must(os.WriteFile(file, raw, 0o600))
	return file
}

// shortened is a log whose records below a number were archived.
type shortened struct {
	volumes.Log
	below uint64
}

func (l shortened) FindLast(q audit.Query) (audit.Found, bool, error) {
	found, there, err := l.Log.FindLast(q)
	if found.Index < l.below {
		found.Record = nil
	}
	return found, there, err
}

// A broker that lost its store, and whose log was archived, knows nothing of a volume. The fleet does: a reset there is of the
// fleet's state, and holds.
func TestAResetOfAnUnknownStateIsOfTheFleets(t *testing.T) {
	_, a, b := fleet(t)
	d := &disk{}
	for range 3 {
		a.must(a.guest().open(d))
	}
	a.cfg.Log = shortened{a.cfg.Log, uint64(len(a.Records()))}
	a.path = filepath.Join(t.TempDir(), "volumes.db")
	a.restart()
	refusaltest.Want(t, "compared", a.service.Compare(t.Context()), volumes.ReasonUnknownState)
	e, err := a.service.Reset(t.Context(), volume)
	a.must(err)
	if !e.Reset || e.State != d.confirmed {
		t.Errorf("got %+v, want a reset of generation 3", e)
	}
	anew := &disk{}
	a.must(a.guest().open(anew))
	if anew.confirmed.Generation != 4 {
		t.Errorf("got generation %d, want 4", anew.confirmed.Generation)
	}
	b.must(b.guest().open(anew))
	a.must(a.guest().open(anew)) // nobody disputes it
}
