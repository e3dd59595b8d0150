package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/federate"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/party"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/uplink"
)

// works is the agent's long work: the queue and what runs from it. It begins with
// the first lease, which brings the queue's key and lets the agent sign.
type works struct {
	d *daemon

	mu      sync.Mutex
	key     *keybuf.Buffer
	queue   *jobs.Queue
	service *federate.Service
	party   *party.Service
	err     error // why there is none yet
	ready   chan struct{}
}

func newWorks(d *daemon) *works {
	return &works{d: d, err: evidence.Refuse(ReasonAttesting, "the agent has not been granted a lease yet"), ready: make(chan struct{})}
}

// Work is what the local API serves jobs from.
func (w *works) Work() (localapi.Work, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return localapi.Work{Queue: w.queue, Federation: w.service, Party: w.party}, w.err
}

// begin opens the queue with the key that a lease brought, once. Without such a key
// the queue is of this run alone, and what an earlier one left cannot be read.
func (w *works) begin(cfg settings.Config, lease *client.Lease) error {
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
	if err == nil {
		w.queue, err = jobs.Open(filepath.Join(dir, "queue.db"), w.key, jobs.Options{Boot: bootID(), Logger: w.d.Logger, MemoryCeiling: 4 * cfg.WorkerMemory()})
	}
	if err == nil {
		w.service, err = w.newService(cfg, dir)
	}
	if err != nil {
		return fmt.Errorf("job queue: %w", err)
	}
	w.err = nil
	close(w.ready)
	return nil
}

// bootID names this boot, so that a person can tell what a reboot interrupted.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(id))
}

func (w *works) newService(cfg settings.Config, dir string) (*federate.Service, error) {
	pool, err := newPool(cfg, w.d)
	if err != nil {
		return nil, err
	}
	shards, err := newShards(cfg)
	if err != nil {
		return nil, err
	}
	limits := worker.Limits{Memory: cfg.WorkerMemory(), Time: cfg.WorkerTime()}
	service, err := federate.New(federate.Config{Queue: w.queue, Pool: pool, Shards: shards, Dir: dir, Key: w.key, Logger: w.d.Logger,
		Limits: limits, Sign: w.d.sign, RoundKey: w.d.roundKey})
	if err != nil {
		return nil, err
	}
	w.party, err = party.New(party.Config{Board: shards[0], Pool: pool, Recounted: service.Recounted, Limits: limits, Dir: dir, Logger: w.d.Logger,
		Sign: func() (party.Signer, error) { s, err := w.d.sign(); return party.Signer(s), err }})
	if err == nil && cfg.Aggregation.Scheme != "" {
		set, err := cfg.Aggregation.Set()
		if err != nil {
			return nil, err
		}
		service.Require(federate.Demand{Set: set.ID, NoiseBits: cfg.Aggregation.NoiseBudgetThreshold})
	}
	return service, err
}

func newPool(cfg settings.Config, d *daemon) (*worker.Pool, error) {
	var runner worker.Runner = worker.Socket{Path: cfg.Workers.Socket}
	if cfg.Workers.Socket == "" {
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
		runner = worker.Exec{Path: path}
	}
	return worker.NewPool(runner, max(cfg.Workers.Count, 1), d.Logger)
}

// newShards makes a client of each aggregator.
func newShards(cfg settings.Config) ([]*uplink.Client, error) {
	pem, err := os.ReadFile(cfg.Federation.TLSRoots)
	if err != nil {
		return nil, fmt.Errorf("federation.tls_roots: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("federation.tls_roots: %s holds no certificate", cfg.Federation.TLSRoots)
	}
	roots, err := cfg.RootIdentities()
	if err != nil {
		return nil, err
	}
	profile := hybridtls.ProfileDefault
	if cfg.Broker.Profile == "fips" {
		profile = hybridtls.ProfileFIPS
	}
	var list []*uplink.Client
	for _, address := range cfg.Federation.Aggregators {
		name := cfg.Federation.ServerName
		if name == "" {
			if name, _, err = net.SplitHostPort(address); err != nil {
				return nil, fmt.Errorf("federation.aggregators: %w", err)
			}
		}
		tlsConfig, err := hybridtls.ClientConfig(name, pool, profile)
		if err != nil {
			return nil, err
		}
		list = append(list, uplink.New(address, tlsConfig, roots))
	}
	return list, nil
}

// run works until ctx ends, then closes the queue.
func (w *works) run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-w.ready:
	}
	var parties sync.WaitGroup
	parties.Go(func() { w.party.Run(ctx) })
	err := w.service.Run(ctx)
	parties.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = evidence.Refuse(ReasonDraining, "the agent is stopping")
	err = errors.Join(err, w.queue.Close())
	w.key.Wipe()
	return err
}

// gauges are the queue's figures for /metrics.
func (w *works) gauges() []localapi.Gauge {
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

// sign lets long work sign under the lease that runs now.
func (d *daemon) sign() (federate.Signer, error) {
	lease, err := d.tenure.held()
	if err != nil {
		return federate.Signer{}, err
	}
	return federate.Signer{Key: d.agentKey, Chain: lease.Certificate, Now: protocol.TimeOf(brokerTime(lease, time.Now()))}, nil
}

// roundKey obtains a closed round's key by an exchange of its own: the broker
// decides again, for this resource, by this evidence.
func (d *daemon) roundKey(ctx context.Context, resource string) (*keybuf.Buffer, error) {
	attempt, cancel := context.WithTimeout(ctx, exchangeLimit)
	defer cancel()
	lease, err := d.client.Load().Acquire(attempt, []string{resource})
	if failure, ok := errors.AsType[*client.Error](err); ok {
		return nil, evidence.Refuse(failure.Reason, "the key of %s: %v", resource, failure)
	}
	if err != nil {
		return nil, err
	}
	defer lease.Wipe()
	k, ok := lease.Keys[resource]
	if !ok {
		return nil, errors.New("the broker granted a lease without the round's key")
	}
	delete(lease.Keys, resource)
	return k.Key, nil
}
