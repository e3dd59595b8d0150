// Package longwork assembles what an agent does besides answering: the queue, federated
// rounds, parties of keys, and proofs.
//
// It guarantees that nothing of it begins before the first lease, which brings the
// queue's key and lets the agent sign; and that the queue is closed and its key wiped
// when the lease ends, or the agent. Jobs that were under way are given back then and go
// on when another lease brings the same key. Two secrets are no lease's, and stay until
// the agent ends: the key that this run of the agent drew for itself, and what it holds
// as a party of keys. It trusts the configuration and the lease. It refuses to give
// access before it has begun, with the reason.
//
// The agent runs it; the local API asks it.
package longwork

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/fed/normproof"
	"github.com/anchorhold/anchorhold/agent/fed/party"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/agent/prove"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/introduction"
)

// Reasons of this package, which are the agent's.
const (
	ReasonAttesting refusal.Reason = "attesting"
	ReasonDraining  refusal.Reason = "draining"
	ReasonExpired   refusal.Reason = "lease-expired"
)

// pauseGrace is how long jobs have to be given back at the end of a lease, and the
// queue to be closed.
const pauseGrace = 2 * time.Second

// Agent is what long work needs of the agent.
type Agent struct {
	// Sign signs under the lease that runs now.
	Sign func() (fed.Signer, error)
	// RoundKey obtains a closed round's key from the broker.
	RoundKey func(ctx context.Context, resource string) (fed.Released, error)
	// Classifiers lend what is proven; nil where there are none.
	Classifiers *classify.Service
	Logger      *slog.Logger
}

// Works is the agent's long work. Its sessions begin and end with leases; what parties
// of keys hold, and this run's own key, stay from the first lease to the agent's end.
type Works struct {
	agent Agent
	began chan *session // to Run
	first chan struct{} // closed when the first session begins

	mu      sync.Mutex // guards the rest
	own     *keybuf.Buffer
	session *session         // nil before the first lease and between leases
	opening []*keybuf.Buffer // the keys that a queue has which is being opened
	pauses  int              // how many there were
	fixed   *fixed
	party   *party.Service // nil without aggregators
	err     error          // why there is no session
	over    bool           // the agent stops
}

// New makes works that have not begun.
func New(agent Agent) *Works {
	return &Works{agent: agent, began: make(chan *session, 1), first: make(chan struct{}),
		err: refusal.New(ReasonAttesting, "the agent has not been granted a lease yet")}
}

// Running is the long work of a session. Federation and Party are nil without aggregators.
type Running struct {
	Queue      *jobs.Queue
	Federation *fed.Service
	Party      *party.Service
}

// Work is the work of the session that runs, or why there is none.
func (w *Works) Work() (Running, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session == nil {
		return Running{}, w.err
	}
	work := Running{Queue: w.session.queue}
	if w.session.federation != nil {
		work.Federation, work.Party = w.session.federation, w.party
	}
	return work, nil
}

// Proofs is what makes proofs, or why there is nothing that does.
func (w *Works) Proofs() (*prove.Service, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.session == nil:
		return nil, w.err
	case w.session.proofs == nil:
		return nil, refusal.New(prove.ReasonNotConfigured, "this agent's configuration has no proving keys")
	}
	return w.session.proofs, nil
}

// Begin opens the queue with the key that a lease brought, unless it is open under the
// same key already. Without such a key in the configuration the queue is of this run
// alone, under a key that the agent drew itself, and what an earlier run left cannot be
// read.
func (w *Works) Begin(cfg settings.Config, lease *client.Lease) error {
	key, err := w.queueKey(cfg, lease)
	if err != nil {
		return fmt.Errorf("job queue: %w", err)
	}
	w.mu.Lock()
	running := w.session
	w.mu.Unlock()
	if running != nil && running.key.Equal(key) {
		key.Wipe()
		return nil
	}
	if running != nil { // the broker has another version of the key now
		w.pause(running, refusal.New(ReasonAttesting, "the queue's key has changed"))
	}
	if err := w.open(cfg, key); err != nil {
		return fmt.Errorf("job queue: %w", err)
	}
	return nil
}

// queueKey is the queue's key of a lease, or a copy of this run's own. The caller owns it.
func (w *Works) queueKey(cfg settings.Config, lease *client.Lease) (*keybuf.Buffer, error) {
	name := cfg.Federation.QueueKey
	first, err := w.draw()
	if err != nil {
		return nil, err
	}
	if first && name == "" { // nobody can read what is there
		if err := os.RemoveAll(queueDir(cfg)); err != nil {
			return nil, err
		}
	}
	if name == "" {
		return w.own.Clone()
	}
	k, ok := lease.Keys[name]
	if !ok || k.Key.Len() != 32 {
		return nil, fmt.Errorf("federation.queue_key: %s is not a key of 32 bytes", name)
	}
	delete(lease.Keys, name)
	return k.Key, nil
}

// draw makes this run's own key when it is first needed.
func (w *Works) draw() (first bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return false, w.err
	}
	if w.own == nil {
		first = true
		w.own, err = keybuf.Random(32)
	}
	return first, err
}

func queueDir(cfg settings.Config) string { return filepath.Join(cfg.Guest.StateDir, "jobs") }

// open begins a session under a key, which it takes over.
func (w *Works) open(cfg settings.Config, key *keybuf.Buffer) error {
	s := &session{key: key, ended: make(chan struct{})}
	s.run, s.stop = context.WithCancel(context.Background())
	w.mu.Lock()
	pauses := w.pauses
	w.mu.Unlock()
	dir := queueDir(cfg)
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		s.queue, err = jobs.Open(filepath.Join(dir, "queue.db"), key, queueOptions(cfg, w.agent.Logger, func(keys ...*keybuf.Buffer) { w.holds(pauses, keys) }))
	}
	if err == nil {
		err = w.services(cfg, dir, s)
	}
	if err == nil {
		err = w.begin(s, pauses)
	}
	w.holds(pauses, nil)
	if err != nil {
		s.stop()
		return errors.Join(err, s.close())
	}
	return nil
}

// holds notes the keys that Pause wipes while a queue is being opened. A Pause that came
// after the copies were made, and before they were known, did not find them: they are wiped
// here.
func (w *Works) holds(pauses int, keys []*keybuf.Buffer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opening = keys
	if w.pauses != pauses {
		wipe(keys)
	}
}

func wipe(keys []*keybuf.Buffer) {
	for _, key := range keys {
		key.Wipe()
	}
}

// begin hands a session to Run and to the local API, unless its lease ended meanwhile.
func (w *Works) begin(s *session, pauses int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return w.err
	}
	if s.key.Len() == 0 || w.pauses != pauses {
		return refusal.New(ReasonExpired, "the lease ended while the queue was being opened")
	}
	w.began <- s // there is room: the one before was taken, or paused
	if w.session = s; !w.opened() {
		close(w.first)
	}
	return nil
}

func (w *Works) opened() bool {
	select {
	case <-w.first:
		return true
	default:
		return false
	}
}

// Pause ends the session at the end of a lease: jobs under way are given back, the
// queue's key is wiped and the queue closed. The key is gone within pauseGrace, whatever
// hangs, and Pause returns within two. The next lease with the same key resumes.
func (w *Works) Pause() {
	w.mu.Lock()
	s := w.session
	w.pauses++
	wipe(w.opening)
	w.mu.Unlock()
	if s != nil {
		w.pause(s, refusal.New(ReasonExpired, "the lease ended; jobs wait for the next one"))
	}
}

// pause ends a session for a reason.
func (w *Works) pause(s *session, why error) {
	w.mu.Lock()
	if w.session == s {
		w.session, w.err = nil, why
	}
	select {
	case unseen := <-w.began: // Run has not taken it yet, and will not
		close(unseen.ended)
	default:
	}
	w.mu.Unlock()
	s.stop()
	late := !within(pauseGrace, func() { <-s.ended })
	s.wipe()
	closed := make(chan error, 1)
	hangs := !within(pauseGrace, func() { closed <- s.close() })
	// A log may hang as well: it comes last.
	if late {
		w.agent.Logger.Error("jobs did not stop at the lease's end; the queue's key was wiped under them", "after", pauseGrace)
	}
	if hangs {
		w.agent.Logger.Error("the job queue does not close: its disk does not answer")
	} else if err := <-closed; err != nil {
		w.agent.Logger.Error("close the job queue", "err", err)
	}
}

// within calls f and says whether it came back in time.
func within(limit time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// bootID names this boot, so that a person can tell what a reboot interrupted.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(id))
}

// fixed is what sessions share: it holds no key of theirs.
type fixed struct {
	pool   *worker.Pool
	ring   *keyset.Ring
	shards []*uplink.Client
}

// prepare makes what sessions share, once.
func (w *Works) prepare(cfg settings.Config) (*fixed, error) {
	if w.fixed != nil {
		return w.fixed, nil
	}
	runner, err := newRunner(cfg)
	if err != nil {
		return nil, err
	}
	f := &fixed{}
	if f.pool, err = newPool(runner, cfg, w.agent.Logger); err != nil {
		return nil, err
	}
	if cfg.Proofs.Keys != "" && (cfg.Proves() || cfg.Participates()) {
		if f.ring, err = newRing(cfg, runner, w.agent.Logger); err != nil {
			return nil, err
		}
	}
	if cfg.Participates() {
		if f.shards, err = newShards(cfg, w.agent.Sign); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// services makes what the configuration asks for. Only Begin calls it, one at a time.
func (w *Works) services(cfg settings.Config, dir string, s *session) error {
	f, err := w.prepare(cfg)
	if err != nil {
		return err
	}
	if cfg.Proves() {
		if s.proofs, err = w.newProofs(cfg, dir, s, f); err != nil {
			return err
		}
	}
	if cfg.Participates() {
		if err := w.federation(cfg, dir, s, f); err != nil {
			return err
		}
	}
	w.fixed = f
	return nil
}

// federation makes what takes part in rounds; the ring is nil without keys.
func (w *Works) federation(cfg settings.Config, dir string, s *session, f *fixed) error {
	limits := worker.Limits{Memory: cfg.WorkerMemory(), Time: cfg.WorkerTime()}
	var norm *normproof.Prover
	if f.ring != nil {
		norm = &normproof.Prover{Ring: f.ring, Pool: f.pool, Limits: worker.Limits{Memory: cfg.ProofMemory(), Time: cfg.WorkerTime()}}
	}
	var answers fed.Answers
	if s.proofs != nil {
		answers = s.proofs
	}
	service, err := fed.New(fed.Config{Answers: answers, Queue: s.queue, Pool: f.pool, Shards: f.shards, Dir: dir, Spool: spoolLimits(cfg), Key: s.key, Own: w.own, Logger: w.agent.Logger,
		Limits: limits, Sign: w.agent.Sign, RoundKey: w.agent.RoundKey, Norm: norm})
	if err != nil {
		return err
	}
	if cfg.Aggregation.Scheme != "" {
		set, err := cfg.Aggregation.Set()
		if err != nil {
			return err
		}
		service.Require(fed.Demand{Set: set.ID, NoiseBits: cfg.Aggregation.NoiseBudgetThreshold})
	}
	s.federation = service
	if w.party != nil {
		return nil
	}
	p, err := party.New(party.Config{Board: f.shards[0], Pool: f.pool, Recounted: w.recounted, Limits: limits, Own: uint32(os.Geteuid()), Dir: dir, Logger: w.agent.Logger, Room: spool.NewRoom(dir, spoolLimits(cfg)).Above,
		Sign: func() (party.Signer, error) { s, err := w.agent.Sign(); return party.Signer(s), err }})
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.party = p
	return nil
}

// recounted has the session's federation add a round's contributions again.
func (w *Works) recounted(ctx context.Context, round federation.ID, to io.Writer) error {
	w.mu.Lock()
	s, err := w.session, w.err
	w.mu.Unlock()
	if s == nil || s.federation == nil {
		return errors.Join(err, refusal.New(fed.ReasonNotConfigured, "there is no session to add contributions in"))
	}
	return s.federation.Recounted(ctx, round, to)
}

func newRunner(cfg settings.Config) (worker.Runner, error) {
	if cfg.Workers.Socket != "" {
		return worker.Socket{Path: cfg.Workers.Socket}, nil
	}
	path := cfg.Workers.Path
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("workers.path is not set: %w", err)
		}
		path = filepath.Join(filepath.Dir(self), "anchorhold-worker")
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("workers.path: %w", err)
	}
	return worker.Exec{Path: path}, nil
}

func newPool(runner worker.Runner, cfg settings.Config, logger *slog.Logger) (*worker.Pool, error) {
	count := max(cfg.Workers.Count, 1)
	pool, err := worker.NewPool(runner, count, logger)
	if err != nil {
		return nil, err
	}
	memory := int64(count) * cfg.WorkerMemory()
	if cfg.Proofs.Keys != "" {
		memory = max(memory, cfg.ProofMemory())
	}
	pool.Bound(memory)
	return pool, nil
}

// speaker is who this agent is to aggregators and to the registry, now.
func speaker(sign func() (fed.Signer, error)) func() (introduction.Guest, error) {
	return func() (introduction.Guest, error) {
		s, err := sign()
		return introduction.Guest{Key: s.Key, Chain: s.Chain, Now: s.Now}, err
	}
}

// newShards makes a client of each aggregator.
func newShards(cfg settings.Config, sign func() (fed.Signer, error)) ([]*uplink.Client, error) {
	roots, err := cfg.RootIdentities()
	if err != nil {
		return nil, err
	}
	var list []*uplink.Client
	for _, address := range cfg.Federation.Aggregators {
		server, err := cfg.AggregatorServer(address)
		if err != nil {
			return nil, err
		}
		config, err := server.TLS()
		if err != nil {
			return nil, err
		}
		list = append(list, uplink.New(address, config, roots, speaker(sign)))
	}
	return list, nil
}

// Run works in one session after another until ctx ends, then closes the queue.
func (w *Works) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return w.end(nil)
	case <-w.first:
	}
	var parties sync.WaitGroup
	defer parties.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if w.party != nil {
		parties.Go(func() { w.party.Run(ctx) })
	}
	for {
		select {
		case <-ctx.Done():
			return w.end(nil)
		case s := <-w.began:
			if err := s.work(ctx); err != nil {
				return w.end(err)
			}
		}
	}
}

// end closes what is open for good.
func (w *Works) end(err error) error {
	w.mu.Lock()
	w.over = true
	draining := refusal.New(ReasonDraining, "the agent is stopping")
	s := w.session
	w.err = draining
	w.mu.Unlock()
	if s != nil {
		w.pause(s, draining)
	}
	w.own.Wipe()
	return err
}
