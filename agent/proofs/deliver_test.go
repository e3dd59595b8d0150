package proofs

import (
	"context"
	"errors"
	"testing"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// Who asks right after the answer gets the proof, though the witness may not be on disk yet.
func TestProvingRightAfterTheAnswer(t *testing.T) {
	w := newWorld(t)
	g := w.make(t, OnDemand, nil)
	a := w.classify(t)
	g.Take(5, a)
	_, err := g.Bundle(5, idOf(a))
	wantReason(t, "on its way", err, ReasonPending)
	_, err = g.Bundle(6, idOf(a))
	wantReason(t, "on its way, another user's", err, ReasonUnknown)

	short, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Prove(short, 5, idOf(a)); err == nil {
		t.Error("it was proven before it was kept")
	}
	got := make(chan error, 1)
	go func() { _, err := g.Prove(t.Context(), 5, idOf(a)); got <- err }()
	g.keepOne(t.Context(), <-g.answers)
	if err := <-got; err != nil {
		t.Error(err)
	}
	if len(g.taken) != 0 {
		t.Errorf("%d answers are still on their way", len(g.taken))
	}
}

func TestDeliver(t *testing.T) {
	w, b := newWorld(t), newBroker(t)
	g := w.start(t, OnDemand, with(b))
	id := g.answer(t, 5)
	if err := g.Deliver(t.Context(), 5, id, func(jobs.Info) {}); err != nil {
		t.Fatal(err)
	}
	if !b.has(id) {
		t.Error("the registry does not have it")
	}
	g.proven(t, 5, id)
	if err := g.Deliver(t.Context(), 5, id, func(jobs.Info) {}); err != nil {
		t.Errorf("delivered again: %v", err)
	}
	wantReason(t, "another user's", g.Deliver(t.Context(), 6, id, func(jobs.Info) {}), ReasonUnknown)
	wantReason(t, "nobody's", g.Deliver(t.Context(), 5, receipt.ID{7}, func(jobs.Info) {}), ReasonUnknown)
}

// What keeps the proof from being made is the error, and the next call tries again.
func TestDeliverSaysWhyNot(t *testing.T) {
	w, b := newWorld(t), newBroker(t)
	key := b.keys
	b.keys = nil
	g := w.start(t, OnDemand, with(b))
	id := g.answer(t, 5)
	looked := 0
	wantReason(t, "a key that is not registered", g.Deliver(t.Context(), 5, id, func(jobs.Info) { looked++ }), ReasonFailed)
	if looked == 0 {
		t.Error("nobody was told that it is under way")
	}
	b.with(func() { b.keys, b.refuses[id] = key, true })
	wantReason(t, "a registry that refuses", g.Deliver(t.Context(), 5, id, func(jobs.Info) {}), "proof-conflict")
	b.with(func() { b.refuses[id] = false })
	if err := g.Deliver(t.Context(), 5, id, func(jobs.Info) {}); err != nil || !b.has(id) {
		t.Errorf("the way is free: %v", err)
	}

	other := g.answer(t, 5)
	b.with(func() { b.down = true })
	if err := g.Deliver(t.Context(), 5, other, func(jobs.Info) {}); !errors.Is(err, errDown) {
		t.Errorf("delivered to nobody: %v", err)
	}
}
