package rounds

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
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
	closing := Closing{Cohort: admitted(t, m, s, r, signed, 2), Sum: digest.Digest{1}}
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

// A key of parties has one round, at the broker that set it up: another one opens none with
// it, whatever the store knows, and an opening that it noted without doing it counts for nothing.
func TestKeyOfPartiesIsUsedWhereItWasSetUp(t *testing.T) {
	ctx := t.Context()
	m, n := fleet(t)
	store := bolted(t)
	s, elsewhere := m.service(t, store, nil), n.service(t, store, nil)
	agents := []*federationtest.Agent{m.Agent(t, nil), m.Agent(t, nil), m.Agent(t, nil)}
	spec := plain
	spec.Parties, spec.Minimum, spec.Decryptors = m.PartyKey(t, []byte("public key"), 2, agents...), 4, protocol.Audience{}
	opens := func(what string, s *Service, want refusal.Reason) {
		t.Helper()
		_, _, err := s.Open(ctx, spec)
		wantReason(t, what, err, want)
	}
	opens("elsewhere", elsewhere, ReasonElsewhere)
	r, signed := opened(t, s, func(c *Spec) { *c = spec })
	opens("elsewhere, once it is open", elsewhere, ReasonElsewhere)
	opens("again", s, ReasonSpec)
	if len(n.events) != 0 {
		t.Errorf("what was refused is in the log: %+v", n.events)
	}
	cohort := admitted(t, m, s, r, signed, 6)
	before, old := bolted(t), copied(t, store)
	if _, err := s.Close(ctx, r.ID, Closing{Cohort: cohort[:4], Sum: digest.Digest{5}}); err != nil {
		t.Fatal(err)
	}
	opens("of a store from before it was open", m.service(t, before, nil), ReasonSpec)
	opens("of such a store, elsewhere", n.service(t, before, nil), ReasonElsewhere)
	if err := n.Append(ctx, Event{Action: actionOpen, About: r.Resource()}); err != nil { // as earlier versions did
		t.Fatal(err)
	}
	_, err := n.service(t, old, nil).Close(ctx, r.ID, Closing{Cohort: cohort[1:], Sum: digest.Digest{6}})
	wantReason(t, "another cohort, elsewhere", err, ReasonElsewhere)
	for action, want := range map[string]refusal.Reason{actionPublish: ReasonClosed, actionAbandon: ReasonAbandoned} {
		whole := slices.Clone(m.events)
		if err := m.Append(ctx, Event{Action: action, About: r.Resource()}); err != nil {
			t.Fatal(err)
		}
		opens("after "+action, m.service(t, before, nil), want)
		m.events = whole
	}
}

// An opening that came no further than the log holds up no other one with the key.
func TestOpeningThatCameNoFurtherIsTriedAgain(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	s := m.service(t, bolted(t), nil)
	spec := plain
	spec.Parties, spec.Minimum, spec.Decryptors = m.PartyKey(t, []byte("public key"), 2, m.Agent(t, nil), m.Agent(t, nil)), 4, protocol.Audience{}
	m.fail["keep"] = errors.New("the other machine is away")
	if _, _, err := s.Open(ctx, spec); !errors.Is(err, m.fail["keep"]) {
		t.Fatal(err)
	}
	if list, err := s.List(ctx); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	delete(m.fail, "keep")
	if _, _, err := s.Open(ctx, spec); err != nil {
		t.Error(err)
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
		"every minute": func(s *Service) error { return s.Remember(ctx) },
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

// With a charge the broker's log has what others had charged before.
func TestChargeNamesThoseBefore(t *testing.T) {
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
	whole := slices.Clone(n.events)
	for detail, want := range map[string]refusal.Reason{
		"2": "", "3": ReasonLedger, // as earlier versions counted
		"many": ReasonStore, "[": ReasonStore, `[{"mechanism":"none"}]`: ReasonStore,
	} {
		n.events = append(slices.Clone(whole), Event{Action: actionSeen, About: aboutAccount(federation.BrokerAccount), Detail: detail})
		_, err = b.Ledger(ctx, federation.BrokerAccount)
		wantReason(t, detail, err, want)
	}
}

// Charges are named: one that is gone is missed though a third broker, which had not seen it,
// has charged another in its place, and so is one that became less.
func TestChargesAreNamed(t *testing.T) {
	ctx := t.Context()
	m, n := fleet(t)
	store := bolted(t)
	a, b := m.service(t, store, nil), n.service(t, store, nil)
	first, firstSigned := opened(t, a, nil)
	second, secondSigned := opened(t, b, nil)
	if _, err := a.Close(ctx, first.ID, Closing{Cohort: admitted(t, m, a, first, firstSigned, 2)}); err != nil {
		t.Fatal(err)
	}
	cohort := admitted(t, n, b, second, secondSigned, 2)
	if err := b.Remember(ctx); err != nil {
		t.Fatal(err)
	}
	const ledger = accountPrefix + string(federation.BrokerAccount)
	old := copied(t, store)
	third := Charge{Round: digest.RoundID{0xcc}, Mechanism: federation.DiscreteGaussian, Multiplier: 4, Rate: 1}
	old.charges[ledger] = []Charge{third}
	_, err := n.service(t, old, nil).Close(ctx, second.ID, Closing{Cohort: cohort})
	wantReason(t, "another charge in its place", err, ReasonLedger)
	if !strings.Contains(err.Error(), first.ID.String()) {
		t.Errorf("it does not say which: %v", err)
	}
	less := chargeOf(first)
	less.Multiplier *= 2
	for broker, machine := range map[string]*machine{"its own": m, "another's": n} {
		old.charges[ledger] = []Charge{less}
		_, err := machine.service(t, old, nil).Ledger(ctx, federation.BrokerAccount)
		wantReason(t, broker+" charge became less", err, ReasonStore)
		old.charges[ledger] = []Charge{third, chargeOf(first)} // it closed again, behind the other
		_, err = machine.service(t, old, nil).Ledger(ctx, federation.BrokerAccount)
		wantReason(t, broker+" charge in another place", err, "")
	}
	old.charges[ledger] = nil
	budget := func(c *Config) { c.Privacy.MaxEpsilon, c.Privacy.RestoredStore = 1.5, "the database was lost" }
	_, err = n.service(t, old, budget).Close(ctx, second.ID, Closing{Cohort: cohort})
	wantReason(t, "with a reason to go on, what was seen counts", err, ReasonBudget)
}

// reads counts how often ledgers are read.
type reads struct {
	Store
	n int
}

func (r *reads) Charges(ctx context.Context, ledger string) ([]Charge, error) {
	r.n++
	return r.Store.Charges(ctx, ledger)
}

// Remember reads what was charged since, everything every hour, and says what a ledger lacks.
func TestRememberReadsWhatWasCharged(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	store := &reads{Store: bolted(t)}
	s := m.service(t, store, nil)
	looks := func(what string, want int, reason refusal.Reason) {
		t.Helper()
		store.n = 0
		wantReason(t, what, s.Remember(ctx), reason)
		if store.n != want {
			t.Errorf("%s: %d ledgers were read, want %d", what, store.n, want)
		}
	}
	looks("no ledger", 0, "")
	for range 2 {
		r, signed := opened(t, s, nil)
		if _, err := s.Close(ctx, r.ID, Closing{Cohort: admitted(t, m, s, r, signed, 2)}); err != nil {
			t.Fatal(err)
		}
		looks("charged", 1, "")
		looks("not charged since", 0, "")
	}
	m.advance(lookAgain)
	looks("an hour later", 1, "")
	whole := store.Store
	store.Store = bolted(t)
	for range 2 {
		looks("a store from before", 1, ReasonLedger)
	}
	store.Store = whole
	looks("the right one again", 1, "")
}
