// Package assembly makes an agent's part in federated rounds from its configuration: the
// clients of the aggregators, the service of each session, the parties of keys, and the pace
// at which round keys are asked for.
//
// It guarantees that the broker is not asked for round keys as often as local users like, and
// that an error names the setting that is wrong. It trusts the configuration. What parties
// hold outlives sessions: it is no lease's.
//
// The agent has one [Family], which opens a [fed.Service] on the queue of each session.
package assembly

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/fed/normproof"
	"github.com/anchorhold/anchorhold/agent/fed/party"
	"github.com/anchorhold/anchorhold/agent/jobs/bounds"
	"github.com/anchorhold/anchorhold/agent/jobs/session"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Host is what federated rounds need of the agent.
type Host struct {
	// Sign is who signs under the lease that runs now, or why nobody may.
	Sign func() (attested.Signer, error)
	// Acquire asks the broker for a closed round's key, under a lease of its own.
	Acquire func(ctx context.Context, resources []string) (*client.Lease, error)
	// Session is why no session runs; nil while one does.
	Session func() error
	Logger  *slog.Logger
}

// Family is the agent's part in rounds. Open is called for one session at a time; the rest at
// any time.
type Family struct {
	host   Host
	pace   roundPace
	shards []*uplink.Client // of all sessions; Open's alone

	mu      sync.Mutex     // guards the rest
	service *fed.Service   // of the session that began last; nil before the first
	party   *party.Service // nil before the first session, then never changed
}

// New makes a family that takes part in nothing yet.
func New(host Host) *Family { return &Family{host: host} }

// Parts are what rounds use of the rest of a session.
type Parts struct {
	Workers *bounds.Workers
	// Ring has keys for proofs of norms; nil without keys.
	Ring *keyset.Ring
	// Answers proves what contributions come with; nil without proofs.
	Answers fed.Answers
}

// Open makes the service of a session and has the session run it, and makes the parties with
// the first.
func (f *Family) Open(cfg settings.Config, on *session.Opened, parts Parts) (*fed.Service, *party.Service, error) {
	if err := f.dial(cfg); err != nil {
		return nil, nil, err
	}
	var norm *normproof.Prover
	if parts.Ring != nil {
		norm = &normproof.Prover{Ring: parts.Ring, Pool: parts.Workers.Pool, Limits: parts.Workers.Proving}
	}
	service, err := fed.New(fed.Config{Answers: parts.Answers, Queue: on.Queue, Pool: parts.Workers.Pool, Shards: f.shards, Dir: on.Dir, Spool: bounds.Spool(cfg), Key: on.Key, Own: on.Own, Logger: f.host.Logger,
		Limits: parts.Workers.Encrypting, RoundKey: f.roundKey, Norm: norm,
		Sign: func() (fed.Signer, error) { s, err := f.host.Sign(); return fed.Signer(s), err }})
	if err != nil {
		return nil, nil, err
	}
	if cfg.Aggregation.Scheme != "" {
		set, err := cfg.Aggregation.Set()
		if err != nil {
			return nil, nil, err
		}
		service.Require(fed.Demand{Set: set.ID, NoiseBits: cfg.Aggregation.NoiseBudgetThreshold})
	}
	parties, err := f.parties(cfg, on.Dir, parts.Workers)
	if err != nil {
		return nil, nil, err
	}
	f.mu.Lock()
	f.service = service
	f.mu.Unlock()
	on.Run(service.Run)
	return service, parties, nil
}

// dial makes a client of each aggregator, once.
func (f *Family) dial(cfg settings.Config) error {
	if f.shards != nil {
		return nil
	}
	roots, err := cfg.RootIdentities()
	if err != nil {
		return err
	}
	var list []*uplink.Client
	for _, address := range cfg.Federation.Aggregators {
		server, err := cfg.AggregatorServer(address)
		if err != nil {
			return err
		}
		config, err := server.TLS()
		if err != nil {
			return err
		}
		list = append(list, uplink.New(address, config, roots, f.speaker))
	}
	f.shards = list
	return nil
}

// speaker is who this agent is to aggregators, now.
func (f *Family) speaker() (uplink.Guest, error) {
	s, err := f.host.Sign()
	return uplink.Guest{Key: s.Key, Chain: s.Chain, Now: s.Now}, err
}

// parties makes the service of parties, once.
func (f *Family) parties(cfg settings.Config, dir string, workers *bounds.Workers) (*party.Service, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.party != nil {
		return f.party, nil
	}
	var err error
	f.party, err = party.New(party.Config{Board: f.shards[0], Pool: workers.Pool, Recounted: f.recounted, Limits: workers.Encrypting, Own: uint32(os.Geteuid()), Dir: dir, Logger: f.host.Logger, Room: bounds.Room(cfg, dir),
		Sign: func() (party.Signer, error) { s, err := f.host.Sign(); return party.Signer(s), err }})
	return f.party, err
}

// recounted has the running session's service add a round's contributions again.
func (f *Family) recounted(ctx context.Context, round federation.ID, to io.Writer) error {
	f.mu.Lock()
	service := f.service
	f.mu.Unlock()
	if err := f.host.Session(); err != nil || service == nil {
		return errors.Join(err, refusal.New(fed.ReasonNotConfigured, "there is no session to add contributions in"))
	}
	return service.Recounted(ctx, round, to)
}

// Run works on what parties hold until ctx ends. It is called after a session has begun.
func (f *Family) Run(ctx context.Context) {
	f.mu.Lock()
	parties := f.party
	f.mu.Unlock()
	if parties != nil {
		parties.Run(ctx)
	}
}

// exchangeLimit bounds an exchange for a round's key, from dialling to the last message.
const exchangeLimit = time.Minute

// roundKey obtains a closed round's key by an exchange of its own: the broker
// decides again, for this resource, by this evidence. The agent paces these exchanges.
func (f *Family) roundKey(ctx context.Context, resource string) (fed.Released, error) {
	if err := f.pace.ask(resource, time.Now()); err != nil {
		return fed.Released{}, err
	}
	attempt, cancel := context.WithTimeout(ctx, exchangeLimit)
	defer cancel()
	lease, err := f.host.Acquire(attempt, []string{resource})
	f.pace.told(resource, err, time.Now())
	if failure, ok := errors.AsType[*client.Error](err); ok {
		return fed.Released{}, refusal.New(failure.Reason, "the key of %s: %v", resource, failure)
	}
	if err != nil {
		return fed.Released{}, err
	}
	defer lease.Wipe()
	k, ok := lease.Keys[resource]
	if !ok {
		return fed.Released{}, errors.New("the broker granted a lease without the round's key")
	}
	delete(lease.Keys, resource)
	return fed.Released{Key: k.Key, Chain: lease.Certificate, Until: protocol.TimeOf(lease.BrokerTime.Add(lease.TTL)), Expires: lease.Expires}, nil
}
