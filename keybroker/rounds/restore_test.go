package rounds

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// former is a store as it was when a copy of it was made: what was written since is gone.
type former struct {
	Store
	records []Record
	since   map[digest.RoundID]Record
	charges map[string][]Charge
}

// copied takes a copy of all rounds, with no charges.
func copied(t *testing.T, s Store) *former {
	t.Helper()
	list, err := listOf(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return &former{Store: s, records: list, since: map[digest.RoundID]Record{}, charges: map[string][]Charge{}}
}

func (f *former) Get(_ context.Context, id digest.RoundID) (Record, error) {
	if r, ok := f.since[id]; ok {
		return r, nil
	}
	for _, r := range f.records {
		if r.ID == id {
			return r, nil
		}
	}
	return Record{}, refusal.New(ReasonUnknown, "not in the copy")
}

func (f *former) Head(ctx context.Context, id digest.RoundID) (Record, error) { return f.Get(ctx, id) }

func (f *former) Members(ctx context.Context, id digest.RoundID, contributions []digest.Digest) (map[digest.Digest]Member, error) {
	r, err := f.Get(ctx, id)
	return ofRecord(r, contributions), err
}

func (f *former) Admit(ctx context.Context, id digest.RoundID, some []Member, p Places) ([]error, error) {
	r, err := f.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	refused, err := enlistIn(&r, some, p)
	f.since[id] = r
	return refused, err
}

func (f *former) Update(ctx context.Context, r Record, c *Charge) error {
	held, err := f.Get(ctx, r.ID)
	if err == nil {
		err = r.follows(held, c)
	}
	if err != nil {
		return err
	}
	if c != nil {
		f.charges[r.ledger()] = append(f.charges[r.ledger()], *c)
	}
	r.Version++
	f.since[r.ID] = r
	return nil
}

func (f *former) Charges(_ context.Context, name string) ([]Charge, error) {
	return f.charges[name], nil
}
func (f *former) Ledgers(context.Context) ([]Head, error) { return nil, nil }

// A store that was put back closes a round as it closed, by the same ticket, or not at all;
// and what the round spent counts though the store forgot it.
func TestRestoredStoreClosesNothingAnew(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	store := bolted(t)
	s := m.service(t, store, func(c *Config) { c.Privacy.MaxEpsilon = 1.5 })
	r, signed := opened(t, s, nil)
	second, secondSigned := opened(t, s, nil)
	cohort := admitted(t, m, s, r, signed, 4)
	secondCohort := admitted(t, m, s, second, secondSigned, 2)
	old := copied(t, store)
	closing := Closing{Cohort: cohort[:3], Sum: digest.Digest{5}}
	ticket, err := s.Close(ctx, r.ID, closing)
	if err != nil {
		t.Fatal(err)
	}
	restored := m.service(t, old, func(c *Config) { c.Privacy.MaxEpsilon = 1.5 })
	_, err = restored.Close(ctx, r.ID, Closing{Cohort: cohort[1:], Sum: closing.Sum})
	wantReason(t, "another cohort", err, ReasonClosed)
	_, err = restored.Close(ctx, r.ID, Closing{Cohort: closing.Cohort, Sum: digest.Digest{6}})
	wantReason(t, "another sum", err, ReasonClosed)
	_, err = restored.Close(ctx, second.ID, Closing{Cohort: secondCohort})
	wantReason(t, "a budget that was spent", err, ReasonBudget)
	if l, err := restored.Ledger(ctx, federation.BrokerAccount); err != nil || len(l.Charges) != 1 || l.Charges[0].Round != r.ID {
		t.Errorf("%+v, %v", l, err)
	}
	m.fail["find"] = errors.New("the index is not the one that was signed")
	if _, err := restored.Close(ctx, r.ID, closing); !errors.Is(err, m.fail["find"]) {
		t.Errorf("closed without asking the log: %v", err)
	}
	delete(m.fail, "find")
	m.advance(time.Hour) // it takes no contributions any more
	for range 2 {
		again, err := restored.Close(ctx, r.ID, closing)
		if err != nil || !bytes.Equal(again, ticket) {
			t.Fatalf("the ticket is another: %v", err)
		}
	}
	if l, err := restored.Ledger(ctx, federation.BrokerAccount); err != nil || len(l.Charges) != 1 {
		t.Errorf("charged %d times, %v", len(l.Charges), err)
	}
}

// A log that was put back with the store is told by a checkpoint kept elsewhere: then no
// round closes or ends, and no key leaves.
func TestRestoredLogIsNotBelieved(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	s := m.service(t, bolted(t), nil)
	r, signed := opened(t, s, nil)
	given, _ := opened(t, s, nil)
	closing := Closing{Cohort: admitted(t, m, s, r, signed, 2)}
	m.believed = refusal.New("audit-log-rolled-back", "fewer records than the checkpoint counts")
	_, err := s.Close(ctx, r.ID, closing)
	wantReason(t, "close", err, "audit-log-rolled-back")
	m.believed = nil
	m.fail["keep"] = errors.New("the other machine is away")
	if ticket, err := s.Close(ctx, r.ID, closing); !errors.Is(err, m.fail["keep"]) || ticket != nil {
		t.Fatalf("a ticket left before the checkpoint was kept: %v", err)
	}
	delete(m.fail, "keep")
	ticket, err := s.Close(ctx, r.ID, closing)
	if err != nil {
		t.Fatal(err)
	}
	result := published(t, m.decryptor(t, r, signed, nil), r, signed, ticket, nil)
	m.believed = refusal.New("audit-log-forked", "other records than the checkpoint's")
	before := len(m.events)
	_, _, err = s.Open(ctx, plain)
	wantReason(t, "open", err, "audit-log-forked")
	_, err = s.Admit(ctx, given.ID, nil)
	wantReason(t, "admit", err, "audit-log-forked")
	wantReason(t, "abandon", s.Abandon(ctx, given.ID), "audit-log-forked")
	wantReason(t, "remember", s.Remember(ctx), "audit-log-forked")
	wantReason(t, "release", mayRelease(ctx, s, r.Resource()), "audit-log-forked")
	_, err = s.Finish(ctx, r.ID, result)
	wantReason(t, "finish", err, "audit-log-forked")
	if !m.readable(r.ID) || !m.readable(given.ID) || len(m.events) != before {
		t.Errorf("a key is gone, or what was refused is in the log: %+v", m.events[before:])
	}
}

// told is a store that looks whether the checkpoint kept elsewhere covers what a round
// becomes: who reads the store is told. Of a round that closes, its ticket tells.
type told struct {
	Store
	m *machine
	t *testing.T
}

func (s told) Create(ctx context.Context, r Record) error {
	if !s.m.covered(federation.ResourceOf(r.ID)) {
		s.t.Error("a round opens before the checkpoint says so")
	}
	return s.Store.Create(ctx, r)
}

func (s told) Update(ctx context.Context, r Record, c *Charge) error {
	if (r.State == Published || r.State == Abandoned) && !s.m.covered(federation.ResourceOf(r.ID)) {
		s.t.Errorf("a round is %s before the checkpoint says so", r.State)
	}
	return s.Store.Update(ctx, r, c)
}

// What became of a round is covered by the checkpoint kept elsewhere before the store says it
// and before its key is gone (which the machine looks at); and so are the charges that were
// seen.
func TestCheckpointCoversWhatIsTold(t *testing.T) {
	ctx := t.Context()
	m, n := fleet(t)
	store := bolted(t)
	s, other := m.service(t, told{store, m, t}, nil), n.service(t, store, nil)
	given, _ := opened(t, s, nil)
	for range 2 {
		if err := s.Abandon(ctx, given.ID); err != nil {
			t.Fatal(err)
		}
	}
	r, signed := opened(t, s, nil)
	ticket, err := s.Close(ctx, r.ID, Closing{Cohort: admitted(t, m, s, r, signed, 2), Sum: digest.Digest{5}})
	if err != nil {
		t.Fatal(err)
	}
	old := copied(t, store)
	old.records = slices.DeleteFunc(old.records, func(r Record) bool { return r.ID == given.ID })
	result := published(t, m.decryptor(t, r, signed, nil), r, signed, ticket, nil)
	if _, err := s.Finish(ctx, r.ID, result); err != nil {
		t.Fatal(err)
	}
	m.kept-- // whoever recorded the publication ended before it was kept
	if _, err := m.service(t, told{old, m, t}, nil).Finish(ctx, r.ID, result); err != nil {
		t.Error(err)
	}
	seen := func(what string, want bool) {
		t.Helper()
		if got := n.covered(aboutAccount(federation.BrokerAccount)); got != want {
			t.Errorf("%s: what was seen is covered: %t", what, got)
		}
	}
	n.fail["keep"] = errors.New("the other machine is away")
	if err := other.Remember(ctx); !errors.Is(err, n.fail["keep"]) {
		t.Error(err)
	}
	seen("it could not be kept", false)
	delete(n.fail, "keep")
	if err := other.Remember(ctx); err != nil {
		t.Error(err)
	}
	seen("the next minute", true)
	spent := n.service(t, store, func(c *Config) { c.Privacy.MaxEpsilon = 1.5 })
	if err := spent.Remember(ctx); err != nil { // it keeps what a process before it may have seen
		t.Error(err)
	}
	n.events, n.kept = nil, 0
	_, _, err = spent.Open(ctx, plain)
	wantReason(t, "a round over the budget", err, ReasonBudget)
	seen("it was seen when a round was opened", false)
	if err := spent.Remember(ctx); err != nil {
		t.Error(err)
	}
	seen("and kept within the minute", true)
}

// A part of a ticket in the log is of a process that ended: nobody has that ticket. One
// that is whole counts, and one that was taken away is missed.
func TestTicketsInTheLog(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	s := m.service(t, bolted(t), nil)
	r, signed := opened(t, s, nil)
	closing := Closing{Cohort: admitted(t, m, s, r, signed, 2)}
	first, err := s.Close(ctx, r.ID, closing)
	if err != nil {
		t.Fatal(err)
	}
	whole := slices.Clone(m.events)
	parts := func() (n int) {
		for _, e := range m.events {
			if e.Action == actionTicket {
				n++
			}
		}
		return n
	}()
	if parts < 2 {
		t.Fatalf("a ticket in %d records", parts)
	}
	sum := digest.Of(signed)
	for cut := 1; cut <= parts; cut++ {
		m.events = whole[:len(whole)-cut]
		if got, err := s.recorded(ctx, r, sum); err != nil || got != nil {
			t.Errorf("%d records are missing: %d bytes, %v", cut, len(got), err)
		}
		m.events = append(slices.Clone(m.events), whole[len(whole)-parts:]...)
		if got, err := s.recorded(ctx, r, sum); err != nil || !bytes.Equal(got, first) {
			t.Errorf("a whole one after %d records: %d bytes, %v", parts-cut, len(got), err)
		}
	}
	m.events = slices.Clone(whole)
	m.events[len(whole)-1].Detail = "changed"
	_, err = s.recorded(ctx, r, sum)
	wantReason(t, "changed", err, ReasonStore)
	for i := range m.events {
		m.events[i].Detail, m.events[i].Away = "", true
	}
	_, err = s.recorded(ctx, r, sum)
	wantReason(t, "taken away", err, ReasonRecord)
}

// Rounds of an earlier version are shown and can be given up; nothing else is done to them.
func TestRoundsOfTheFirstVersionAreShownAndGivenUp(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	store := bolted(t)
	s := m.service(t, store, nil)
	label := "anchorhold/fed/round/1"
	old := Record{ID: digest.RoundID{0xee}, Model: "digits", State: Open, Signed: append(append([]byte{byte(len(label))}, label...), make([]byte, 64)...)}
	if err := store.Create(ctx, old); err != nil {
		t.Fatal(err)
	}
	if list, err := s.List(ctx); err != nil || len(list) != 1 || list[0].Round.ID != old.ID || list[0].Round.Model != "digits" {
		t.Errorf("%+v, %v", list, err)
	}
	_, err := s.Admit(ctx, old.ID, nil)
	wantReason(t, "admit", err, federation.ReasonVersion)
	_, err = s.Close(ctx, old.ID, Closing{})
	wantReason(t, "close", err, federation.ReasonVersion)
	if err := s.Abandon(ctx, old.ID); err != nil {
		t.Error(err)
	}
}

// A store from before the publication takes the values that were published and no others,
// and the round's key, which a key store from then has again, does not leave.
func TestRestoredStorePublishesWhatWasPublished(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	store := bolted(t)
	s := m.service(t, store, nil)
	r, signed := opened(t, s, nil)
	ticket, err := s.Close(ctx, r.ID, Closing{Cohort: admitted(t, m, s, r, signed, 2), Sum: digest.Digest{5}})
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, "release before the publication", mayRelease(ctx, s, r.Resource()), "")
	old := copied(t, store)
	a, b := m.decryptor(t, r, signed, nil), m.decryptor(t, r, signed, nil)
	if _, err := s.Finish(ctx, r.ID, published(t, a, r, signed, ticket, nil)); err != nil {
		t.Fatal(err)
	}
	restored := m.service(t, old, nil)
	wantReason(t, "release", mayRelease(ctx, restored, r.Resource()), ReasonClosed)
	for name, change := range map[string]func(*federation.Result){
		"other values":    func(res *federation.Result) { res.Values = digest.Digest{9} },
		"another divisor": func(res *federation.Result) { res.Divisor = 3 },
	} {
		_, err = restored.Finish(ctx, r.ID, published(t, b, r, signed, ticket, change))
		wantReason(t, name, err, ReasonClosed)
	}
	whole := slices.Clone(m.events)
	m.events[len(whole)-1] = Event{Action: actionPublish, About: r.Resource(), Away: true}
	_, err = restored.Finish(ctx, r.ID, published(t, b, r, signed, ticket, nil))
	wantReason(t, "taken away", err, ReasonRecord)
	m.events = slices.Clone(whole)
	m.events[len(whole)-1].Detail = r.ID.String() + " values " + digest.Digest{7}.String() // as earlier versions wrote it
	if _, err := restored.Finish(ctx, r.ID, published(t, b, r, signed, ticket, nil)); err != nil {
		t.Errorf("the same values, by another guest: %v", err)
	}
	if len(m.events) != len(whole) {
		t.Errorf("published %d times", len(m.events)-len(whole)+1)
	}
}

// A round that was abandoned stays so, whatever an old store says; and one that closed is
// not abandoned by one.
func TestRestoredStoreRevivesNoAbandonedRound(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	store := bolted(t)
	s := m.service(t, store, nil)
	r, signed := opened(t, s, nil)
	closing := Closing{Cohort: admitted(t, m, s, r, signed, 2), Sum: digest.Digest{5}}
	closes, closesSigned := opened(t, s, nil)
	cohort := admitted(t, m, s, closes, closesSigned, 2)
	old := copied(t, store)
	if err := s.Abandon(ctx, r.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Close(ctx, closes.ID, Closing{Cohort: cohort}); err != nil {
		t.Fatal(err)
	}
	restored := m.service(t, old, nil)
	_, err := restored.Admit(ctx, r.ID, [][]byte{contribute(t, m.guest(t, nil), r, signed, nil)})
	wantReason(t, "admit", err, ReasonAbandoned)
	_, err = restored.Close(ctx, r.ID, closing)
	wantReason(t, "close", err, ReasonAbandoned)
	wantReason(t, "abandon what closed", restored.Abandon(ctx, closes.ID), ReasonClosed)
	m.fail["find"] = errors.New("the index is not the one that was signed")
	if err := restored.Abandon(ctx, closes.ID); !errors.Is(err, m.fail["find"]) {
		t.Errorf("abandoned without asking the log: %v", err)
	}
}
