package prove

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/classify/classifytest"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/prove/provetest"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/agent/worker/workertest"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

func TestMain(m *testing.M) { os.Exit(workertest.Main(m)) }

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// world is an attested agent with a classifier and keys, whose service may start more
// than once.
type world struct {
	world   *federationtest.World
	agent   *federationtest.Agent
	model   *classifytest.Sealed
	classes *classify.Service
	ring    *keyset.Ring
	dir     string
	key     *keybuf.Buffer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOf(t, classifytest.Seal(t, "tiny", 1))
}

func newWorldOf(t *testing.T, model *classifytest.Sealed) *world {
	t.Helper()
	w := &world{world: federationtest.New(t), model: model, dir: t.TempDir(), key: federationtest.Seed(t)}
	w.agent = w.world.Agent(t, nil)
	w.agent.Grant(t, w.model.Model.ID())
	w.classes = classify.New(classify.Config{Memory: 1 << 20, AgentKey: w.agent.Key, Logger: quiet(), Lease: func(classify.Grant) (receipt.Lease, error) {
		return receipt.Lease{ID: w.agent.Lease.Lease, EvidenceDigest: w.agent.Lease.EvidenceDigest, Chain: w.agent.Chain, Now: federationtest.Begin.Add(time.Minute)}, nil
	}})
	w.open(t)
	t.Cleanup(w.classes.Wipe)
	w.ring = ringOf(t, provetest.Shared(t).Save(t, t.TempDir(), false))
	return w
}

func ringOf(t *testing.T, sets ...keyset.Set) *keyset.Ring {
	t.Helper()
	r, err := keyset.NewRing(sets, false, time.Minute, provetest.Verifiers())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// open opens the classifier, as a lease does.
func (w *world) open(t *testing.T) {
	t.Helper()
	w.classes.Adopt([]settings.Classifier{w.model.Classifier}, map[string]classify.Key{w.model.Resource: {Secret: w.model.Key(t)}})
	if _, err := w.classes.Model("tiny"); err != nil {
		t.Fatal(err)
	}
}

// guest is a service on the world's directory.
type guest struct {
	*Service
	world *world
	queue *jobs.Queue
	stop  func() // ends Run and closes the queue
}

// signerOf verifies whose key signed a receipt.
func signerOf(w *federationtest.World) func(receipt.Receipt) (digest.Digest, error) {
	return func(r receipt.Receipt) (digest.Digest, error) {
		a, err := protocol.VerifyAuthority(r.LeaseChain, w.Roots(), w.Broker(), protocol.Recorded(protocol.AtLeast(1)), protocol.RoleServe, protocol.About(r.Body.ModelID), protocol.Everyone())
		if err != nil {
			return digest.Digest{}, err
		}
		return a.Lease.AgentKey.ID(), nil
	}
}

// make makes a service that does not run.
func (w *world) make(t *testing.T, mode Mode, change func(*Config)) *guest {
	t.Helper()
	pool, err := worker.NewPool(workertest.Runner(t), 1, quiet())
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{world: w}
	if g.queue, err = jobs.Open(filepath.Join(w.dir, "jobs.db"), w.key, jobs.Options{Boot: "b", Logger: quiet()}); err != nil {
		t.Fatal(err)
	}
	g.stop = sync.OnceFunc(func() {
		if err := g.queue.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { g.stop() })
	c := Config{Queue: g.queue, Pool: pool, Dir: w.dir, Key: w.key, Ring: w.ring, Models: w.classes, Mode: mode, Agent: signerOf(w.world), Logger: quiet(),
		Limits: worker.Limits{Memory: 512 << 20, Time: time.Minute}}
	if change != nil {
		change(&c)
	}
	if b, ok := c.Registry.(*broker); ok {
		b.with(func() { b.agent = c.Agent })
	}
	if g.Service, err = New(c); err != nil {
		t.Fatal(err)
	}
	g.registry.tick = 10 * time.Millisecond
	return g
}

// start makes a service that runs.
func (w *world) start(t *testing.T, mode Mode, change func(*Config)) *guest {
	t.Helper()
	g := w.make(t, mode, change)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	g.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, g.queue.Close()); err != nil {
			t.Error(err)
		}
	})
	return g
}

var input = []int8{1, -2, 3, -4}

// classify answers for a user.
func (w *world) classify(t *testing.T) classify.Answer {
	t.Helper()
	a, err := w.classes.Classify(t.Context(), "tiny", input)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func idOf(a classify.Answer) digest.ReceiptID { return a.Receipt.Receipt.Body.ID }

// answer answers for a user, and waits until the witness is written down.
func (g *guest) answer(t *testing.T, owner uint32) digest.ReceiptID {
	t.Helper()
	a := g.world.classify(t)
	g.Take(owner, a)
	poll(t, func() bool {
		g.store.mu.Lock()
		defer g.store.mu.Unlock()
		return slices.Contains(g.store.kept, idOf(a))
	})
	return idOf(a)
}

// pass writes down the answer that waits longest, as Run does.
func (g *guest) pass() {
	g.intake.pass(<-g.intake.answers, func(w witness) error { return g.keep(context.Background(), w) })
}

// poll asks until it is true; what is asked has no other way to tell.
func poll(t *testing.T, done func() bool) {
	t.Helper()
	deadline, tick := time.NewTimer(time.Minute), time.NewTicker(2*time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("still not")
		}
	}
}

// job waits for the end of a receipt's job, or for its first failure.
func (g *guest) job(t *testing.T, id digest.ReceiptID) (info jobs.Info) {
	t.Helper()
	poll(t, func() bool {
		for _, info = range g.queue.List(nil) {
			if strings.Contains(string(info.Spec), id.String()) {
				return info.Final() || info.Exit != ""
			}
		}
		return false
	})
	return info
}

func (g *guest) done(t *testing.T, id digest.ReceiptID) jobs.Info {
	t.Helper()
	info := g.job(t, id)
	if info.State != jobs.Done {
		t.Fatalf("the job is %s: %s %s %s", info.State, info.Exit, info.Reason, info.Detail)
	}
	return info
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Stat(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// proven checks the bundle of an answer from the roots on.
func (g *guest) proven(t *testing.T, uid uint32, id digest.ReceiptID) receipt.Bundle {
	t.Helper()
	b, err := g.Bundle(uid, id)
	if err != nil {
		t.Fatal(err)
	}
	v, err := b.Verify(t.Context(), g.world.world.Roots(), g.world.ring, receipt.Expect{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := g.world.model.Network.Forward(input)
	if err != nil || !slices.Equal(v.Outputs, want) || v.Receipt != id.String() {
		t.Errorf("%+v, want %d: %v", v, want, err)
	}
	return b
}

func wantReason(t *testing.T, what string, err error, want refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); err == nil || got != want {
		t.Errorf("%s: %q, want %q: %v", what, got, want, err)
	}
}

// broker is a registry that behaves as the broker's: a proof needs an announced receipt
// and a registered key.
type broker struct {
	mu         sync.Mutex
	down       bool // it does not answer
	asked      int  // while it was down
	keys       map[digest.Digest]bool
	others     digest.Digest // the model that its keys are not registered for
	announced  map[digest.ReceiptID]int
	calls      int // announcements
	turnedAway map[digest.ReceiptID]refusal.Reason
	leftOut    map[digest.ReceiptID]bool // announced, and not drawn
	wanted     []digest.ReceiptID
	signed     map[digest.ReceiptID]digest.Digest // by which agent key
	agent      func(receipt.Receipt) (digest.Digest, error)
	refuses    map[digest.ReceiptID]bool
	proofs     map[digest.ReceiptID]receipt.Bundle
}

func newBroker(t *testing.T) *broker {
	t.Helper()
	return &broker{keys: map[digest.Digest]bool{provetest.Shared(t).VerifyingDigest(): true}, announced: map[digest.ReceiptID]int{}, signed: map[digest.ReceiptID]digest.Digest{}, refuses: map[digest.ReceiptID]bool{}, proofs: map[digest.ReceiptID]receipt.Bundle{}}
}

var errDown = errors.New("connection refused")

// enter begins a request; the caller leaves.
func (b *broker) enter() error {
	b.mu.Lock()
	if b.down {
		b.asked++
		return errDown
	}
	return nil
}

func (b *broker) Announce(_ context.Context, receipts []receipt.Receipt) error {
	defer b.mu.Unlock()
	if err := b.enter(); err != nil {
		return err
	}
	b.calls++
	for _, r := range receipts { // all or none
		if reason := b.turnedAway[r.Body.ID]; reason != "" {
			return refusal.New(reason, "receipt %s", r.Body.ID)
		}
	}
	for _, r := range receipts {
		b.announced[r.Body.ID]++
		agent, err := b.agent(r)
		if err != nil {
			return err
		}
		b.signed[r.Body.ID] = agent
	}
	return nil
}

// Challenged tells each key its own, as the broker does; nobody signed what is unknown.
func (b *broker) Challenged(_ context.Context, former []digest.Digest) ([]digest.ReceiptID, error) {
	defer b.mu.Unlock()
	if err := b.enter(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(b.wanted), func(id digest.ReceiptID) bool {
		agent, known := b.signed[id]
		_, proven := b.proofs[id]
		return proven || known && !slices.Contains(former, agent)
	}), nil
}

func (b *broker) Submit(_ context.Context, p receipt.Bundle) error {
	defer b.mu.Unlock()
	if err := b.enter(); err != nil {
		return err
	}
	id := p.Receipt.Body.ID
	switch {
	case b.announced[id] == 0 || b.leftOut[id]:
		return refusal.New("receipt-not-announced", "receipt %s", id)
	case !b.keys[p.Proof.Key]:
		return refusal.New("key-not-registered", "key %s", p.Proof.Key)
	case b.refuses[id]:
		return refusal.New("proof-conflict", "receipt %s", id)
	}
	b.proofs[id] = p
	return nil
}

func (b *broker) Registered(_ context.Context, key, model digest.Digest) (bool, error) {
	defer b.mu.Unlock()
	if err := b.enter(); err != nil {
		return false, err
	}
	return b.keys[key] && b.others != model, nil
}

// with runs f while nobody asks.
func (b *broker) with(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// is reports what f finds while nobody asks.
func (b *broker) is(f func() bool) (found bool) {
	b.with(func() { found = f() })
	return found
}

func (b *broker) has(id digest.ReceiptID) bool {
	return b.is(func() bool { _, ok := b.proofs[id]; return ok })
}
