package rounds

import (
	"errors"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// fleet is two brokers with one store: two key stores, two logs, one root. The guests are
// known to both.
func fleet(t *testing.T) (a, b *machine) {
	a, b = newMachine(t), newMachine(t)
	b.World, b.chips = a.World, a.chips
	return a, b
}

// Only the broker that opened a round releases its key, takes its result and, until it is
// over, abandons it.
func TestRoundIsEndedByTheBrokerThatOpenedIt(t *testing.T) {
	ctx := t.Context()
	m, n := fleet(t)
	store := bolted(t)
	s, elsewhere := m.service(t, store, nil), n.service(t, store, nil)
	r, signed := opened(t, s, nil)
	wantReason(t, "abandon", elsewhere.Abandon(ctx, r.ID), ReasonElsewhere)
	closing := Closing{Cohort: admitted(t, m, s, r, signed, 2), Sum: federation.Digest{1}}
	_, err := elsewhere.Close(ctx, r.ID, closing)
	wantReason(t, "close", err, ReasonElsewhere)
	m.fail["sign"] = errors.New("no epoch is active")
	if _, err := s.Close(ctx, r.ID, closing); err == nil {
		t.Fatal("a ticket without a signer")
	}
	_, err = elsewhere.Close(ctx, r.ID, closing)
	wantReason(t, "sign the ticket of what closed", err, ReasonElsewhere)
	delete(m.fail, "sign")
	ticket, err := s.Close(ctx, r.ID, closing)
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, "release", mayRelease(ctx, elsewhere, r.Resource()), ReasonElsewhere)
	result := published(t, m.decryptor(t, r, signed, nil), r, signed, ticket, nil)
	n.released = m.released
	_, err = elsewhere.Finish(ctx, r.ID, result)
	wantReason(t, "finish", err, ReasonElsewhere)
	wantReason(t, "release where it was opened", mayRelease(ctx, s, r.Resource()), "")
	if _, err := s.Finish(ctx, r.ID, result); err != nil {
		t.Error(err)
	}
	lost, _ := opened(t, s, nil)
	n.advance(time.Hour)
	if err := elsewhere.Abandon(ctx, lost.ID); err != nil {
		t.Errorf("a round that is over, of a broker that is lost: %v", err)
	}
}

// A broker that saw what others charged to an account does not believe a store that has less;
// once the others' rounds are closed again where they were, it does.
func TestChargesOfOtherBrokersAreNotForgotten(t *testing.T) {
	ctx := t.Context()
	budget := func(c *Config) { c.Privacy.MaxEpsilon = 1.5 }
	for name, sees := range map[string]func(s *Service) error{
		"when it opens a round": func(s *Service) error {
			_, _, err := s.Open(ctx, plain)
			wantReason(t, "a round over the budget", err, ReasonBudget)
			return nil
		},
		"every hour": func(s *Service) error { return s.Remember(ctx) },
	} {
		m, n := fleet(t)
		store := bolted(t)
		a, b := m.service(t, store, budget), n.service(t, store, budget)
		first, firstSigned := opened(t, a, nil)
		second, secondSigned := opened(t, b, nil)
		closing := Closing{Cohort: admitted(t, m, a, first, firstSigned, 2)}
		cohort := admitted(t, m, b, second, secondSigned, 2)
		old := copied(t, store)
		if _, err := a.Close(ctx, first.ID, closing); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := sees(b); err != nil {
				t.Fatal(err)
			}
		}
		seen := 0
		for _, e := range n.events {
			if e.Action == actionSeen {
				seen++
			}
		}
		if seen != 1 {
			t.Errorf("%s: it is recorded %d times", name, seen)
		}
		restoredA, restoredB := m.service(t, old, budget), n.service(t, old, budget)
		_, err := restoredB.Close(ctx, second.ID, Closing{Cohort: cohort})
		wantReason(t, name+": close", err, ReasonLedger)
		_, err = restoredB.Ledger(ctx, federation.BrokerAccount)
		wantReason(t, name+": ledger", err, ReasonLedger)
		if _, err := restoredA.Close(ctx, first.ID, closing); err != nil {
			t.Fatal(err)
		}
		_, err = restoredB.Close(ctx, second.ID, Closing{Cohort: cohort})
		wantReason(t, name+": after the other broker closed again", err, ReasonBudget)
	}
}

// A charge says how many its account had with it: that others charged before counts, too.
func TestChargeSaysHowManyThereWere(t *testing.T) {
	ctx := t.Context()
	m, n := fleet(t)
	store := bolted(t)
	a, b := m.service(t, store, nil), n.service(t, store, nil)
	first, firstSigned := opened(t, a, nil)
	second, secondSigned := opened(t, b, nil)
	third, thirdSigned := opened(t, b, nil)
	if _, err := a.Close(ctx, first.ID, Closing{Cohort: admitted(t, m, a, first, firstSigned, 2)}); err != nil {
		t.Fatal(err)
	}
	cohort := admitted(t, m, b, third, thirdSigned, 2)
	old := copied(t, store)
	if _, err := b.Close(ctx, second.ID, Closing{Cohort: admitted(t, m, b, second, secondSigned, 2)}); err != nil {
		t.Fatal(err)
	}
	_, err := n.service(t, old, nil).Close(ctx, third.ID, Closing{Cohort: cohort})
	wantReason(t, "its own charge is in its log, the other's is not", err, ReasonLedger)
	n.events = append(n.events, Event{Action: actionSeen, About: aboutAccount(federation.BrokerAccount), Detail: "many"})
	_, err = b.Ledger(ctx, federation.BrokerAccount)
	wantReason(t, "no count", err, ReasonStore)
}
