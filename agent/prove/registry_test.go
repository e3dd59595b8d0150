package prove

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/prove/provetest"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// lines is a log that tests read while it grows.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.buf.String(), s)
}

func (l *lines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), s)
}

func with(b *broker) func(*Config) { return func(c *Config) { c.Registry = b } }

// A challenge is answered whatever the mode, and the registry gets a proof that verifies.
func TestAChallengeIsAnswered(t *testing.T) {
	w, b := newWorld(t), newBroker(t)
	g := w.start(t, OnDemand, with(b))
	first, second := g.answer(t, 5), g.answer(t, 6)
	poll(t, func() bool { return b.is(func() bool { return b.announced[first] > 0 && b.announced[second] > 0 }) })
	if len(g.queue.List(nil)) != 0 {
		t.Error("a proof without a challenge")
	}
	b.with(func() { b.wanted = []digest.ReceiptID{{9}, second} }) // the one that is unknown does not stop the other
	poll(t, func() bool { return b.has(second) })
	proof := b.proofs[second]
	if _, err := proof.Verify(t.Context(), w.world.Roots(), w.ring, receipt.Expect{}); err != nil {
		t.Error(err)
	}
	if info := g.done(t, second); info.Owner != 6 {
		t.Errorf("the proof belongs to %d", info.Owner)
	}
	g.proven(t, 6, second)
	_, err := g.Bundle(5, second)
	wantReason(t, "another user's", err, ReasonUnknown)
	if b.has(first) || len(g.queue.List(nil)) != 1 {
		t.Error("another answer was proven")
	}
}

// While the registry does not answer nothing is lost, and no try is spent.
func TestARegistryThatFailsIsTriedAgain(t *testing.T) {
	w, b := newWorld(t), newBroker(t)
	b.down = true
	g := w.start(t, All, with(b))
	ids := []digest.ReceiptID{g.answer(t, 5), g.answer(t, 5)}
	poll(t, func() bool { return b.is(func() bool { return b.asked >= 20 }) })
	for _, info := range g.queue.List(nil) {
		if info.Exit != "" || info.Tries > 1 {
			t.Errorf("a try was spent: %+v", info)
		}
	}
	b.with(func() { b.down = false })
	poll(t, func() bool { return b.has(ids[0]) && b.has(ids[1]) })
	for _, id := range ids {
		g.done(t, id)
		g.proven(t, 5, id)
	}
}

// The registry never heard of the answers of an earlier run; it does now.
func TestARestartAnnouncesAndHandsIn(t *testing.T) {
	w, b := newWorld(t), newBroker(t)
	b.down = true
	g := w.make(t, OnDemand, with(b))
	g.registry.known[use{provetest.Shared(t).VerifyingDigest(), w.classify(t).Model.ID()}] = true // it was up once
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	waiting, proven := g.answer(t, 5), g.answer(t, 5)
	if _, err := g.Prove(t.Context(), 5, proven); err != nil {
		t.Fatal(err)
	}
	g.done(t, proven)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	g.stop()
	b.with(func() { b.down = false })
	w.start(t, OnDemand, with(b))
	poll(t, func() bool { return b.has(proven) && b.is(func() bool { return b.announced[waiting] > 0 }) })
	if b.has(waiting) {
		t.Error("proven without being asked for")
	}
}

// A proof that the registry refuses does not keep it from the others, and is tried again.
func TestARefusedProofDoesNotStopTheOthers(t *testing.T) {
	w, b := newWorld(t), newBroker(t)
	g := w.start(t, All, nil)
	ids := []digest.ReceiptID{g.answer(t, 5), g.answer(t, 5), g.answer(t, 5)}
	for _, id := range ids {
		g.done(t, id)
	}
	g.stop()
	g = w.make(t, OnDemand, with(b))
	for _, id := range ids[:2] {
		b.refuses[id] = true
	}
	if err := g.registry.submit(t.Context()); err == nil || !strings.Contains(err.Error(), ids[0].String()) || !strings.Contains(err.Error(), ids[1].String()) {
		t.Errorf("the error does not name what was refused: %v", err)
	}
	if !b.has(ids[2]) || b.has(ids[0]) {
		t.Error("the third one did not arrive")
	}
	clear(b.refuses)
	if err := g.registry.submit(t.Context()); err != nil || !b.has(ids[0]) || !b.has(ids[1]) {
		t.Error("not tried again", err)
	}
	// What was handed in stays so, and is not sent again.
	b.proofs = map[digest.ReceiptID]receipt.Bundle{}
	if err := g.registry.submit(t.Context()); err != nil || len(b.proofs) != 0 {
		t.Errorf("%d again: %v", len(b.proofs), err)
	}
	g.stop()
	g = w.make(t, OnDemand, with(b))
	if err := g.registry.submit(t.Context()); err != nil || len(b.proofs) != 0 {
		t.Errorf("%d again after a restart: %v", len(b.proofs), err)
	}
	b.down = true
	g.registry.handed = map[digest.ReceiptID]bool{}
	if err := g.registry.submit(t.Context()); err != nil {
		t.Errorf("nothing is to be sent: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.registry.handed = map[digest.ReceiptID]bool{}
	if err := g.registry.submit(ctx); err == nil {
		t.Error("went on after the end")
	}
}

func TestAKeyThatIsNotRegistered(t *testing.T) {
	w, b := newWorld(t), newBroker(t)
	clear(b.keys)
	var log lines
	g := w.start(t, All, func(c *Config) { c.Registry, c.Logger = b, slog.New(slog.NewTextHandler(&log, nil)) })
	id := g.answer(t, 5)
	if info := g.job(t, id); info.Exit != jobs.Refused || info.Reason != ReasonNotRegistered || exists(t, g.store.files.path(proofFolder, id)) {
		t.Errorf("%+v", info)
	}
	b.with(func() { b.keys[provetest.Shared(t).VerifyingDigest()], b.wanted = true, []digest.ReceiptID{id} })
	poll(t, func() bool { return b.has(id) })
	g.proven(t, 5, id)
	// It is asked once for each key and model.
	b.with(func() { clear(b.keys) })
	key, model := provetest.Shared(t).VerifyingDigest(), w.classify(t).Model.ID()
	if err := g.registry.registered(t.Context(), key, model); err != nil {
		t.Error(err)
	}
	b.with(func() { b.keys[key], b.others = true, digest.Digest{3} })
	wantReason(t, "registered for other models", g.registry.registered(t.Context(), key, b.others), ReasonNotRegistered)
	if err := g.registry.registered(t.Context(), key, digest.Digest{4}); err != nil {
		t.Error(err)
	}
}

// TestAReceiptThatTheRegistryRefusesStopsNoOther: the registry takes all or none of a batch,
// and one receipt that it never takes kept an agent from announcing any other.
func TestAReceiptThatTheRegistryRefusesStopsNoOther(t *testing.T) {
	w, b := newWorld(t), newBroker(t)
	var log lines
	g := w.make(t, OnDemand, func(c *Config) { c.Registry, c.Logger = b, slog.New(slog.NewTextHandler(&log, nil)) })
	a := w.classify(t)
	queue := func(n byte) digest.ReceiptID {
		r := a.Receipt.Receipt
		r.Body.ID = digest.ReceiptID{2, n}
		g.registry.unspoken = append(g.registry.unspoken, unspoken{receipt: r})
		return r.Body.ID
	}
	bad, later := queue(1), queue(2)
	for i := range 2 * announceBatch {
		queue(byte(3 + i))
	}
	b.turnedAway = map[digest.ReceiptID]refusal.Reason{bad: "receipt-unverified", later: "proofs-busy"}
	if reason, _ := refusal.ReasonOf(g.registry.announce(t.Context())); reason != "proofs-busy" || len(g.registry.unspoken) != 2*announceBatch+1 {
		t.Errorf("%d wait for a registry that is busy: %s", len(g.registry.unspoken), reason)
	}
	if !log.has(bad.String()) || log.has(later.String()) {
		t.Error("the log does not name the receipt that was given up, and no other")
	}
	delete(b.turnedAway, later)
	if err := g.registry.announce(t.Context()); err != nil || b.announced[later] != 1 || len(b.announced) != 2*announceBatch+1 || len(g.registry.unspoken) != 0 {
		t.Errorf("it is not tried again: %d announced, %d wait, %v", len(b.announced), len(g.registry.unspoken), err)
	}
}

// Receipts go out in parts, and each once.
func TestReceiptsGoOutInParts(t *testing.T) {
	w, b := newWorld(t), newBroker(t)
	g := w.make(t, OnDemand, with(b))
	a := w.classify(t)
	for i := range 2*announceBatch + 1 {
		r := a.Receipt.Receipt
		r.Body.ID = digest.ReceiptID{1, byte(i)}
		g.registry.unspoken = append(g.registry.unspoken, unspoken{receipt: r})
	}
	b.down = true
	if err := g.registry.announce(t.Context()); err == nil || len(g.registry.unspoken) != 2*announceBatch+1 {
		t.Errorf("%d wait: %v", len(g.registry.unspoken), err)
	}
	b.down = false
	if err := g.registry.announce(t.Context()); err != nil || len(g.registry.unspoken) != 0 || len(b.announced) != 2*announceBatch+1 {
		t.Errorf("%d wait, %d went out: %v", len(g.registry.unspoken), len(b.announced), err)
	}
	for id, n := range b.announced {
		if n != 1 {
			t.Errorf("%s went out %d times", id, n)
		}
	}
	// More than may wait are announced with their proofs.
	g.registry.unspoken = make([]unspoken, maxWaiting)
	if err := g.follow(t.Context(), witness{Issued: a.Receipt}); err != nil || len(g.registry.unspoken) != maxWaiting {
		t.Errorf("%d wait: %v", len(g.registry.unspoken), err)
	}
	g.registry.unspoken = g.registry.unspoken[:ownerWaiting] // a user's part is less
	for uid, want := range []int{ownerWaiting, ownerWaiting + 1} {
		if err := g.follow(t.Context(), witness{Owner: uint32(uid), Issued: a.Receipt}); err != nil || len(g.registry.unspoken) != want {
			t.Errorf("%d wait, want %d: %v", len(g.registry.unspoken), want, err)
		}
	}
}

// What the registry's draw left out is done with, unless somebody announced it again and it
// was challenged.
func TestADisplacedReceiptIsDoneWith(t *testing.T) {
	w, b := newWorld(t), newBroker(t)
	g := w.start(t, All, nil)
	id := g.answer(t, 5)
	g.done(t, id)
	g.stop()
	var log lines
	g = w.make(t, OnDemand, func(c *Config) { c.Registry, c.Logger = b, slog.New(slog.NewTextHandler(&log, nil)) })
	b.leftOut = map[digest.ReceiptID]bool{id: true}
	for range 3 {
		if err := g.registry.submit(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if b.calls != 1 || b.has(id) || log.has(id.String()) {
		t.Errorf("%d announcements of it; told: %t", b.calls, log.has(id.String()))
	}
	clear(b.leftOut)
	delete(b.signed, id) // or it is a former key's, which this run does not know
	b.wanted = []digest.ReceiptID{id}
	if err := errors.Join(g.registry.answer(t.Context()), g.registry.submit(t.Context())); err != nil || !b.has(id) {
		t.Errorf("challenged, and its proof does not arrive: %v", err)
	}
}

// An agent that has too much to announce says so once, not for each answer.
func TestTooMuchToAnnounceIsOneLine(t *testing.T) {
	w, b := newWorld(t), newBroker(t)
	var log lines
	g := w.make(t, OnDemand, func(c *Config) { c.Registry, c.Logger = b, slog.New(slog.NewTextHandler(&log, nil)) })
	a := w.classify(t)
	follow := func() {
		t.Helper()
		g.registry.unspoken = append(g.registry.unspoken, make([]unspoken, maxWaiting-len(g.registry.unspoken))...)
		for range 10 {
			if err := g.follow(t.Context(), witness{Issued: a.Receipt}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for want, left := range []int{maxWaiting - 64, maxWaiting / 2, 0} {
		follow()
		if n := log.count("too many are waiting"); n != max(want, 1) {
			t.Errorf("%d lines, want %d", n, max(want, 1))
		}
		g.registry.unspoken = g.registry.unspoken[:left]
		g.registry.spoken(nil)
	}
}
