package rounds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// place is where a store keeps its things: it can be opened again, after a crash
// too, and by several brokers at once where the store is a fleet's.
type place struct {
	open  func(testing.TB) Store
	fleet bool
}

func boltPlace(t testing.TB) place {
	path := t.TempDir() + "/rounds"
	return place{open: func(t testing.TB) Store {
		t.Helper()
		b, err := OpenBolt(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}}
}

func (s *server) place(t testing.TB) place {
	schema := s.Schema(t)
	return place{open: func(t testing.TB) Store { t.Helper(); return s.open(t, schema) }, fleet: true}
}

func TestBolt(t *testing.T) { conform(t, boltPlace) }

// conform is what both stores must do. The server's own tests are in TestPostgres.
func conform(t *testing.T, at func(testing.TB) place) {
	for name, test := range map[string]func(*testing.T, place){
		"KeepsRecords": storeKeepsRecords, "RefusesAnotherVersion": storeRefusesAnotherVersion, "ChargesOnce": storeChargesOnce,
		"ChangesAllOrNothing": storeChangesAllOrNothing, "LedgersGrowTogether": storeLedgersGrow, "ReopensAsItWas": storeReopens,
		"OneCohortWins": oneCohortWins, "BudgetHoldsForAll": budgetHoldsForAll, "AdmitsFromAll": admitsFromAll,
		"Admits": storeAdmits, "EndsWithItsList": storeEndsWithItsList, "TakesOverItsList": storeTakesOverItsList,
	} {
		t.Run(name, func(t *testing.T) { test(t, at(t)) })
	}
	t.Run("CrashAnywhere", func(t *testing.T) {
		if strings.HasPrefix(t.Name(), "TestPostgres/") {
			longtest.Run(t, "it kills a database after each of its writes; that of one file is killed in every run")
		}
		crashAnywhere(t, at)
	})
}

func used(t testing.TB, p place) Store {
	t.Helper()
	s := p.open(t)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func record(n byte) Record {
	return Record{ID: digest.RoundID{n}, Model: "test", State: Open, Signed: []byte{n, 1, 2}}
}

func closed(r Record) (Record, *Charge) {
	r.State, r.Cohort, r.Sum = Closed, digest.Digest{1}, digest.Digest{2}
	return r, &Charge{Round: r.ID, Mechanism: federation.DiscreteGaussian, Multiplier: 1.1, Rate: 0.3}
}

func create(t testing.TB, s Store, r Record) {
	t.Helper()
	if err := s.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func storeKeepsRecords(t *testing.T, p place) {
	ctx, s := t.Context(), used(t, p)
	_, err := s.Get(ctx, digest.RoundID{1})
	wantReason(t, "an unknown round", err, ReasonUnknown)
	wantReason(t, "a change of an unknown round", s.Update(ctx, record(1), nil), ReasonUnknown)
	if list, err := listOf(ctx, s); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := s.Charges(ctx, "test"); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	for _, n := range []byte{5, 3, 9} {
		create(t, s, record(n))
	}
	again := record(5)
	again.Signed = []byte("another")
	wantReason(t, "the same round twice", s.Create(ctx, again), ReasonConflict)
	wantReason(t, "a round without a statement", s.Create(ctx, Record{ID: digest.RoundID{7}, Model: "test", State: Open}), ReasonStore)
	list, err := listOf(ctx, s)
	if err != nil || len(list) != 3 || list[0].ID[0] != 9 || list[1].ID[0] != 3 || list[2].ID[0] != 5 {
		t.Errorf("%+v, %v", list, err)
	}
	r := record(3)
	r.Members = []Member{{Contribution: digest.Digest{1}, Weight: 3}}
	if err := s.Update(ctx, r, nil); err != nil {
		t.Fatal(err)
	}
	r.Version++
	if got, err := s.Get(ctx, r.ID); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := s.Get(ctx, digest.RoundID{5}); err != nil || !reflect.DeepEqual(got, record(5)) {
		t.Errorf("%+v, %v", got, err)
	}
}

func storeRefusesAnotherVersion(t *testing.T, p place) {
	ctx, s := t.Context(), used(t, p)
	create(t, s, record(1))
	for range 3 {
		r, err := s.Get(ctx, digest.RoundID{1})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Update(ctx, r, nil); err != nil {
			t.Fatal(err)
		}
		wantReason(t, "the version before", s.Update(ctx, r, nil), ReasonConflict)
		r.Version += 2
		wantReason(t, "a version to come", s.Update(ctx, r, nil), ReasonConflict)
	}
	if r, err := s.Get(ctx, digest.RoundID{1}); err != nil || r.Version != 3 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A round that was charged is never charged again, not even by a store's user that
// would put its record back.
func storeChargesOnce(t *testing.T, p place) {
	ctx, s := t.Context(), used(t, p)
	create(t, s, record(1))
	create(t, s, record(2))
	r, c := closed(record(1))
	wantReason(t, "closing without a charge", s.Update(ctx, r, nil), ReasonStore)
	wantReason(t, "a charge without closing", s.Update(ctx, record(1), c), ReasonStore)
	foreign := *c
	foreign.Round = digest.RoundID{2}
	wantReason(t, "a charge for another round", s.Update(ctx, r, &foreign), ReasonStore)
	wild := *c
	wild.Multiplier = -1
	wantReason(t, "a charge that means nothing", s.Update(ctx, r, &wild), ReasonStore)
	if err := s.Update(ctx, r, c); err != nil {
		t.Fatal(err)
	}
	r.Version++
	second := *c
	var err error
	if second.Previous, err = c.digest(); err != nil {
		t.Fatal(err)
	}
	wantReason(t, "charged twice", s.Update(ctx, r, &second), ReasonStore)
	back := record(1)
	back.Version = r.Version
	wantReason(t, "opened again", s.Update(ctx, back, nil), ReasonStore)
	if list, err := s.Charges(ctx, "test"); err != nil || !slices.Equal(list, []Charge{*c}) {
		t.Errorf("%+v, %v", list, err)
	}
}

// A charge that does not follow the last one changes neither ledger nor round.
func storeChangesAllOrNothing(t *testing.T, p place) {
	ctx, s := t.Context(), used(t, p)
	create(t, s, record(1))
	create(t, s, record(2))
	r, c := closed(record(1))
	stray := *c
	stray.Previous = digest.Digest{1}
	wantReason(t, "the first with a previous", s.Update(ctx, r, &stray), ReasonConflict)
	if err := s.Update(ctx, r, c); err != nil {
		t.Fatal(err)
	}
	r2, c2 := closed(record(2))
	wantReason(t, "the second without", s.Update(ctx, r2, c2), ReasonConflict)
	if got, err := s.Get(ctx, r2.ID); err != nil || got.State != Open || got.Version != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if list, err := s.Charges(ctx, "test"); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	var err error
	if c2.Previous, err = c.digest(); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(ctx, r2, c2); err != nil {
		t.Error(err)
	}
	if list, err := s.Charges(ctx, "other"); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// appendCharge closes a round as often as others are faster.
func appendCharge(ctx context.Context, s Store, id digest.RoundID) error {
	for {
		rec, err := s.Get(ctx, id)
		if err != nil {
			return err
		}
		charges, err := s.Charges(ctx, rec.Model)
		if err != nil {
			return err
		}
		r, c := closed(rec)
		if len(charges) > 0 {
			if c.Previous, err = charges[len(charges)-1].digest(); err != nil {
				return err
			}
		}
		err = s.Update(ctx, r, c)
		if reason, _ := refusal.ReasonOf(err); reason != ReasonConflict {
			return err
		}
	}
}

// together runs f so many times at once and returns what failed.
func together(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		wg.Go(func() { <-begin; errs[i] = f(i) })
	}
	close(begin)
	wg.Wait()
	return errors.Join(errs...)
}

// brokers opens the store for several brokers, or once for several users.
func brokers(t testing.TB, p place, n int) []Store {
	t.Helper()
	list := []Store{used(t, p)}
	for len(list) < n {
		next := list[0]
		if p.fleet {
			next = used(t, p)
		}
		list = append(list, next)
	}
	return list
}

func storeLedgersGrow(t *testing.T, p place) {
	const n = 12
	stores := brokers(t, p, 3)
	for i := range n {
		r := record(byte(i))
		r.Model = fmt.Sprint("model", i%2)
		create(t, stores[0], r)
	}
	if err := together(n, func(i int) error { return appendCharge(t.Context(), stores[i%3], digest.RoundID{byte(i)}) }); err != nil {
		t.Fatal(err)
	}
	ledgers, err := consistent(t.Context(), stores[1], nil)
	if err != nil || len(ledgers["model0"]) != n/2 || len(ledgers["model1"]) != n/2 {
		t.Errorf("%+v, %v", ledgers, err)
	}
}

func storeReopens(t *testing.T, p place) {
	ctx := t.Context()
	var want []Record
	var ledger []Charge
	for i := range byte(3) {
		s := p.open(t)
		if got, err := listOf(ctx, s); err != nil || len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, want %+v, %v", got, want, err)
		}
		if got, err := s.Charges(ctx, "test"); err != nil || !slices.Equal(got, ledger) {
			t.Fatalf("%+v, want %+v, %v", got, ledger, err)
		}
		create(t, s, record(i))
		if err := appendCharge(ctx, s, digest.RoundID{i}); err != nil {
			t.Fatal(err)
		}
		var err error
		if want, err = listOf(ctx, s); err != nil || len(want) != int(i)+1 {
			t.Fatal(err)
		}
		if ledger, err = s.Charges(ctx, "test"); err != nil || len(ledger) != int(i)+1 {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Two brokers close one round at once, over two cohorts and the same one twice:
// one cohort wins, everybody who named it has the same ticket, and it is charged
// once.
func oneCohortWins(t *testing.T, p place) {
	m, stores := newMachine(t), brokers(t, p, 2)
	services := []*Service{m.service(t, stores[0], nil), m.service(t, stores[1], nil)}
	for range 3 {
		r, signed := opened(t, services[0], nil)
		cohort := admitted(t, m, services[1], r, signed, 3)
		closings := []Closing{{Cohort: cohort}, {Cohort: cohort[:2]}}
		tickets := make([][]byte, 8)
		if err := together(8, func(i int) error {
			var err error
			tickets[i], err = services[i%2].Close(t.Context(), r.ID, closings[i/2%2])
			if reason, _ := refusal.ReasonOf(err); reason == ReasonClosed {
				err = nil
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		st, err := services[0].Status(t.Context(), r.ID)
		if err != nil || st.Ticket == nil {
			t.Fatal(err)
		}
		winners := 0
		for _, ticket := range tickets {
			if ticket != nil && !bytes.Equal(ticket, st.Ticket) {
				t.Error("there are two tickets")
			}
			if ticket != nil {
				winners++
			}
		}
		if winners != 4 {
			t.Errorf("%d of 8 have a ticket, 4 named the cohort", winners)
		}
		if _, err := consistent(t.Context(), stores[0], nil); err != nil {
			t.Error(err)
		}
	}
}

// Eight rounds of a model close at once on two brokers; the budget is for three.
func budgetHoldsForAll(t *testing.T, p place) {
	m, stores := newMachine(t), brokers(t, p, 2)
	three, _, _ := zcdp([]Charge{{Multiplier: 4}, {Multiplier: 4}, {Multiplier: 4}}, 1e-5)
	var services []*Service
	for _, s := range stores {
		services = append(services, m.service(t, s, func(c *Config) { c.Privacy.MaxEpsilon = three * 1.01 }))
	}
	var rounds []federation.Round
	var cohorts [][]digest.Digest
	for range 8 {
		r, signed := opened(t, services[0], nil)
		rounds, cohorts = append(rounds, r), append(cohorts, admitted(t, m, services[0], r, signed, 2))
	}
	tickets := make([][]byte, len(rounds))
	if err := together(len(rounds), func(i int) error {
		var err error
		tickets[i], err = services[i%2].Close(t.Context(), rounds[i].ID, Closing{Cohort: cohorts[i]})
		if reason, _ := refusal.ReasonOf(err); reason == ReasonBudget {
			err = nil
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, ticket := range tickets {
		if ticket != nil {
			n++
		}
	}
	l, err := services[1].Ledger(t.Context(), federation.BrokerAccount)
	if err != nil || n != 3 || len(l.Charges) != 3 || l.Epsilon != three {
		t.Errorf("%d tickets, %+v, %v", n, l, err)
	}
	if _, err := consistent(t.Context(), stores[0], nil); err != nil {
		t.Error(err)
	}
}

// Contributions that come through two brokers at once are all on the list, and the
// maximum holds for both together.
func admitsFromAll(t *testing.T, p place) {
	m, stores := newMachine(t), brokers(t, p, 2)
	services := []*Service{m.service(t, stores[0], nil), m.service(t, stores[1], nil)}
	r, signed := opened(t, services[0], func(s *Spec) { s.Maximum = 5 })
	var raw [][]byte
	for range 8 {
		raw = append(raw, contribute(t, m.guest(t, nil), r, signed, nil))
	}
	full := make([]bool, len(raw))
	if err := together(len(raw), func(i int) error {
		list, err := services[i%2].Admit(t.Context(), r.ID, raw[i:i+1])
		full[i] = err == nil && list[0].Reason == ReasonFull
		if err == nil && list[0].Reason != "" && !full[i] {
			err = errors.New(list[0].Detail)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	st, err := services[0].Status(t.Context(), r.ID)
	if err != nil || len(st.Members) != 5 || len(slices.DeleteFunc(full, func(f bool) bool { return !f })) != 3 {
		t.Errorf("%d members, %v full, %v", len(st.Members), full, err)
	}
}
