package prove

import (
	"context"
	"runtime"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
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
	g.pass()
	if err := <-got; err != nil {
		t.Error(err)
	}
	if len(g.intake.taken) != 0 {
		t.Errorf("%d answers are still on their way", len(g.intake.taken))
	}
}

func TestDeliver(t *testing.T) {
	w, b := newWorld(t), newBroker(t)
	g := w.start(t, OnDemand, with(b))
	id := g.answer(t, 5)
	if done, err := g.Deliver(t.Context(), 5, id, true); err != nil || done {
		t.Errorf("in the moment in which it is asked for: %t, %v", done, err)
	}
	if err := g.delivered(t, 5, id, false); err != nil || !b.has(id) {
		t.Fatalf("the registry has it: %t; %v", b.has(id), err)
	}
	g.proven(t, 5, id)
	for _, again := range []bool{false, true} {
		if done, err := g.Deliver(t.Context(), 5, id, again); err != nil || !done {
			t.Errorf("delivered again: %t, %v", done, err)
		}
		for uid, id := range map[uint32]digest.ReceiptID{6: id, 5: {7}} { // another user's, and nobody's
			_, err := g.Deliver(t.Context(), uid, id, again)
			wantReason(t, "not this user's", err, ReasonUnknown)
		}
	}
}

// delivered asks until a proof is handed in, or cannot be.
func (g *guest) delivered(t *testing.T, uid uint32, id digest.ReceiptID, again bool) error {
	t.Helper()
	for {
		done, err := g.Deliver(t.Context(), uid, id, again)
		if done || err != nil {
			return err
		}
		again = false
		runtime.Gosched()
	}
}

// What keeps the proof from being made is the error, and the next call tries again.
func TestDeliverSaysWhyNot(t *testing.T) {
	w, b := newWorld(t), newBroker(t)
	key := b.keys
	b.keys = nil
	g := w.start(t, OnDemand, with(b))
	id := g.answer(t, 5)
	wantReason(t, "a key that is not registered", g.delivered(t, 5, id, true), ReasonFailed)
	wantReason(t, "looked at again", g.delivered(t, 5, id, false), ReasonFailed)
	b.with(func() { b.keys, b.refuses[id] = key, true })
	wantReason(t, "a registry that refuses", g.delivered(t, 5, id, true), "proof-conflict")
	b.with(func() { b.refuses[id] = false })
	if err := g.delivered(t, 5, id, true); err != nil || !b.has(id) {
		t.Errorf("the way is free: %v", err)
	}

	other := g.answer(t, 5)
	info, err := g.Prove(t.Context(), 5, other)
	if err == nil {
		_, err = g.cfg.Queue.Wait(t.Context(), info.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.with(func() { b.down = true })
	if done, err := g.Deliver(t.Context(), 5, other, false); !b.has(other) && (err != nil || done) {
		t.Errorf("a registry that is down is waited for: %t, %v", done, err)
	}
	b.with(func() { b.down = false })
	if err := g.delivered(t, 5, other, false); err != nil || !b.has(other) {
		t.Errorf("it came back: %v", err)
	}
}
