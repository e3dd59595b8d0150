//go:build !release

package volumes_test

import (
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/volumes"
)

// What each broker had said tells whether a volume went on after a store was put back. The clocks of brokers, which may
// differ, do not: neither hides one a dispute, nor makes one where nobody spoke.
func TestDisputesAreNotAMatterOfClocks(t *testing.T) {
	t.Run("a slow clock hides none", func(t *testing.T) {
		s, a, b := fleet(t)
		d := &disk{}
		a.must(a.guest().open(d))
		b.must(b.service.Compare(t.Context()))
		other, backup := *d, s.copied()
		a.Clock.Move(time.Minute)
		a.must(a.guest().open(d))
		a.must(a.guest().open(d))
		s.putBack(backup)
		b.must(b.guest().open(&other)) // by its clock a minute before what a confirmed
		a.must(a.service.Compare(t.Context()))
		want(t, "what was confirmed", a.guest().open(d), volumes.ReasonDisputed)
		want(t, "what went on", b.guest().open(&other), volumes.ReasonDisputed)
	})
	t.Run("a fast clock makes none", func(t *testing.T) {
		s, a, b := fleet(t)
		d := &disk{}
		a.must(a.guest().open(d))
		b.Clock.Move(time.Minute)
		b.must(b.guest().open(d))
		backup := s.copied()
		a.must(a.guest().open(d)) // by its clock a minute before what b confirmed
		s.putBack(backup)
		a.must(a.service.Compare(t.Context()))
		a.must(a.guest().open(d))
		b.must(b.guest().open(d))
	})
}

// Two brokers that confirmed a volume each for itself do not know of each other, whoever is first to join a fleet.
func TestBrokersThatConfirmedAloneDispute(t *testing.T) {
	for name, openings := range map[string]int{"the first has the lower generation": 3, "the same": 2, "the higher": 1} {
		t.Run(name, func(t *testing.T) {
			a, b := newWorld(t), newWorld(t)
			mine, other := &disk{}, &disk{}
			for range 2 {
				a.must(a.guest().open(mine))
			}
			b.Clock.Move(time.Second)
			for range openings {
				b.must(b.guest().open(other))
			}
			s := &shared{t: t}
			s.putBack(nil)
			a.join(s)
			b.join(s)
			want(t, "the first's", a.guest().open(mine), volumes.ReasonDisputed)
			want(t, "the second's", b.guest().open(other), volumes.ReasonDisputed)
		})
	}
}

// Whoever may write the store cannot have a broker take another state of the generation that it saw for what it saw,
// whatever the store says of it.
func TestAForgedSightMakesNoOtherStateOfOneGeneration(t *testing.T) {
	s, a, b := fleet(t)
	d := &disk{}
	a.must(a.guest().open(d))
	b.must(b.service.Compare(t.Context()))
	other, backup := *d, s.copied()
	a.must(a.guest().open(d))
	s.putBack(backup)
	b.must(b.guest().open(&other)) // the same generation as a's, with another mark
	forged := s.copied()
	for i, sight := range forged[0].Seen {
		if sight.Broker == a.Root.Public().ID() {
			forged[0].Seen[i].State = d.confirmed
		}
	}
	s.putBack(forged)
	a.must(a.service.Compare(t.Context()))
	want(t, "what went on", a.guest().open(&other), volumes.ReasonDisputed)
	want(t, "what was confirmed", a.guest().open(d), volumes.ReasonDisputed)
	if d.confirmed.Generation != other.confirmed.Generation {
		t.Errorf("generations %d and %d: this tests nothing", d.confirmed.Generation, other.confirmed.Generation)
	}
}
