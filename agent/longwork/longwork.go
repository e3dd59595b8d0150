// Package longwork assembles what an agent does besides answering: the queue, federated
// rounds, parties of keys, and proofs.
//
// It guarantees that nothing of it begins before the first lease, which brings the
// queue's key and lets the agent sign; and that the queue is closed and its key wiped
// when the agent stops. It trusts the configuration and the lease. It refuses to give
// access before it has begun, with the reason.
//
// The agent runs it; the local API asks it.
package longwork

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/federate"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/workapi"
	"github.com/anchorhold/anchorhold/agent/normproof"
	"github.com/anchorhold/anchorhold/agent/party"
	"github.com/anchorhold/anchorhold/agent/proofs"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/proofkeys"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/uplink"
)

// Reasons of this package, which are the agent's.
const (
	ReasonAttesting evidence.Reason = "attesting"
	ReasonDraining  evidence.Reason = "draining"
)

// Agent is what long work needs of the agent.
type Agent struct {
	// Sign signs under the lease that runs now.
	Sign func() (federate.Signer, error)
	// RoundKey obtains a closed round's key from the broker.
	RoundKey func(ctx context.Context, resource string) (*keybuf.Buffer, error)
	// Classifiers lend what is proven; nil where there are none.
	Classifiers *classify.Service
	Logger      *slog.Logger
}

// Works is the agent's long work.
type Works struct {
	agent Agent

	mu      sync.Mutex
	key     *keybuf.Buffer
	queue   *jobs.Queue
	service *federate.Service // nil without aggregators
	party   *party.Service
	proofs  *proofs.Service // nil without proving keys
	err     error           // why there is none yet
	ready   chan struct{}
}

// New makes works that have not begun.
func New(agent Agent) *Works {
	return &Works{agent: agent, err: evidence.Refuse(ReasonAttesting, "the agent has not been granted a lease yet"), ready: make(chan struct{})}
}

// Work is what the local API serves jobs from.
func (w *Works) Work() (workapi.Work, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	work := workapi.Work{Queue: w.queue}
	if w.service != nil {
		work.Federation, work.Party = w.service, w.party
	}
	return work, w.err
}

// Proofs is what makes proofs, or why there is nothing that does.
func (w *Works) Proofs() (*proofs.Service, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && w.proofs == nil {
		return nil, evidence.Refuse(proofs.ReasonNotConfigured, "this agent's configuration has no proving keys")
	}
	return w.proofs, w.err
}

// Begin opens the queue with the key that a lease brought, once. Without such a key
// the queue is of this run alone, and what an earlier one left cannot be read.
func (w *Works) Begin(cfg settings.Config, lease *client.Lease) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queue != nil {
		return nil
	}
	dir := filepath.Join(cfg.Guest.StateDir, "jobs")
	var err error
	if name := cfg.Federation.QueueKey; name != "" {
		k, ok := lease.Keys[name]
		if !ok || k.Key.Len() != 32 {
			return fmt.Errorf("federation.queue_key: %s is not a key of 32 bytes", name)
		}
		w.key = k.Key
		delete(lease.Keys, name)
	} else if w.key, err = keybuf.Random(32); err == nil {
		err = os.RemoveAll(dir)
	}
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	var queue *jobs.Queue
	if err == nil {
		queue, err = jobs.Open(filepath.Join(dir, "queue.db"), w.key, jobs.Options{Boot: bootID(), Logger: w.agent.Logger, MemoryCeiling: 4 * max(cfg.WorkerMemory(), cfg.ProofMemory())})
	}
	if err == nil {
		w.queue = queue
		err = w.services(cfg, dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("job queue: %w", err), w.abandon())
	}
	w.err = nil
	close(w.ready)
	return nil
}

// abandon takes back a beginning that failed, so that the next lease begins anew.
func (w *Works) abandon() (err error) {
	if w.queue != nil {
		err = w.queue.Close()
	}
	w.key.Wipe()
	w.key, w.queue, w.service, w.party, w.proofs = nil, nil, nil, nil, nil
	return err
}

// bootID names this boot, so that a person can tell what a reboot interrupted.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(id))
}

// services makes what the configuration asks for.
func (w *Works) services(cfg settings.Config, dir string) error {
	runner, err := newRunner(cfg)
	if err != nil {
		return err
	}
	pool, err := newPool(runner, cfg, w.agent.Logger)
	if err != nil {
		return err
	}
	var ring *proofkeys.Ring
	if cfg.Proofs.Keys != "" && (cfg.Proves() || cfg.Participates()) {
		if ring, err = newRing(cfg, runner, w.agent.Logger); err != nil {
			return err
		}
	}
	if cfg.Proves() {
		if w.proofs, err = w.newProofs(cfg, dir, pool, ring); err != nil {
			return err
		}
	}
	if cfg.Participates() {
		return w.federation(cfg, dir, pool, ring)
	}
	return nil
}

// federation makes what takes part in rounds; ring is nil without keys.
func (w *Works) federation(cfg settings.Config, dir string, pool *worker.Pool, ring *proofkeys.Ring) error {
	shards, err := newShards(cfg)
	if err != nil {
		return err
	}
	limits := worker.Limits{Memory: cfg.WorkerMemory(), Time: cfg.WorkerTime()}
	var norm *normproof.Prover
	if ring != nil {
		norm = &normproof.Prover{Ring: ring, Pool: pool, Limits: worker.Limits{Memory: cfg.ProofMemory(), Time: cfg.WorkerTime()}}
	}
	var answers federate.Answers
	if w.proofs != nil {
		answers = w.proofs
	}
	service, err := federate.New(federate.Config{Answers: answers, Queue: w.queue, Pool: pool, Shards: shards, Dir: dir, Key: w.key, Logger: w.agent.Logger,
		Limits: limits, Sign: w.agent.Sign, RoundKey: w.agent.RoundKey, Norm: norm})
	if err != nil {
		return err
	}
	w.party, err = party.New(party.Config{Board: shards[0], Pool: pool, Recounted: service.Recounted, Limits: limits, Dir: dir, Logger: w.agent.Logger,
		Sign: func() (party.Signer, error) { s, err := w.agent.Sign(); return party.Signer(s), err }})
	if err != nil {
		return err
	}
	if cfg.Aggregation.Scheme != "" {
		set, err := cfg.Aggregation.Set()
		if err != nil {
			return err
		}
		service.Require(federate.Demand{Set: set.ID, NoiseBits: cfg.Aggregation.NoiseBudgetThreshold})
	}
	w.service = service
	return nil
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

// clientTLS is the TLS configuration for a server that a PEM file vouches for.
func clientTLS(cfg settings.Config, section, roots, name, address string) (*tls.Config, error) {
	pem, err := os.ReadFile(roots)
	if err != nil {
		return nil, fmt.Errorf("%s.tls_roots: %w", section, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s.tls_roots: %s holds no certificate", section, roots)
	}
	profile := hybridtls.ProfileDefault
	if cfg.Broker.Profile == "fips" {
		profile = hybridtls.ProfileFIPS
	}
	if name == "" {
		if name, _, err = net.SplitHostPort(address); err != nil {
			return nil, fmt.Errorf("%s: %w", section, err)
		}
	}
	return hybridtls.ClientConfig(name, pool, profile)
}

// newShards makes a client of each aggregator.
func newShards(cfg settings.Config) ([]*uplink.Client, error) {
	roots, err := cfg.RootIdentities()
	if err != nil {
		return nil, err
	}
	var list []*uplink.Client
	for _, address := range cfg.Federation.Aggregators {
		config, err := clientTLS(cfg, "federation", cfg.Federation.TLSRoots, cfg.Federation.ServerName, address)
		if err != nil {
			return nil, err
		}
		list = append(list, uplink.New(address, config, roots))
	}
	return list, nil
}

// Run works until ctx ends, then closes the queue.
func (w *Works) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-w.ready:
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	errs := make(chan error, 3)
	var running sync.WaitGroup
	begin := func(f func(context.Context) error) {
		running.Go(func() {
			defer stop()
			errs <- f(run)
		})
	}
	if w.service != nil {
		begin(w.service.Run)
		begin(func(ctx context.Context) error { w.party.Run(ctx); return nil })
	}
	if w.proofs != nil {
		begin(w.proofs.Run)
	}
	<-run.Done()
	running.Wait()
	close(errs)
	var err error
	for e := range errs {
		err = errors.Join(err, e)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = evidence.Refuse(ReasonDraining, "the agent is stopping")
	err = errors.Join(err, w.queue.Close())
	w.key.Wipe()
	return err
}

// Gauges are the queue's figures for /metrics.
func (w *Works) Gauges() []localapi.Gauge {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queue == nil || w.err != nil {
		return nil
	}
	counts := w.queue.Counts()
	return []localapi.Gauge{
		{Name: "anchorhold_jobs_queued", Help: "Jobs that wait.", Value: float64(counts[jobs.Queued])},
		{Name: "anchorhold_jobs_leased", Help: "Jobs under way.", Value: float64(counts[jobs.Leased])},
		{Name: "anchorhold_jobs_done", Help: "Jobs that are done and kept.", Value: float64(counts[jobs.Done])},
		{Name: "anchorhold_jobs_dead", Help: "Jobs that failed for good.", Value: float64(counts[jobs.Dead])},
	}
}
