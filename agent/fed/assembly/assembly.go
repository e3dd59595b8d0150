// Package assembly makes an agent's part in federated rounds from its configuration: the
// clients of the aggregators, both sides' services of each session, and the parties of keys.
//
// It guarantees that an error names the setting that is wrong. It trusts the configuration. What
// parties hold outlives sessions, and so does the pace at which round keys are asked for: neither
// is a lease's.
//
// The agent has one [Family], which opens its [Sides] on the queue of each session.
package assembly

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/fed/decrypt"
	"github.com/anchorhold/anchorhold/agent/fed/normproof"
	"github.com/anchorhold/anchorhold/agent/fed/party"
	"github.com/anchorhold/anchorhold/agent/fed/roundkey"
	"github.com/anchorhold/anchorhold/agent/jobs/bounds"
	"github.com/anchorhold/anchorhold/agent/jobs/session"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
)

// Host is what federated rounds need of the agent.
type Host struct {
	// Sign is who signs under the lease that runs now, or why nobody may.
	Sign func() (attested.Signer, error)
	// Acquire asks the broker for a closed round's key, under a lease of its own.
	Acquire roundkey.Acquire
	// Session is why no session runs; nil while one does.
	Session func() error
	Logger  *slog.Logger
}

// Family is the agent's part in rounds. Open is called for one session at a time; the rest at
// any time.
type Family struct {
	host   Host
	keys   *roundkey.Keys
	shards []*uplink.Client // of all sessions; Open's alone

	mu     sync.Mutex       // guards the rest
	opener *decrypt.Service // of the session that began last; nil before the first
	party  *party.Service   // nil before the first session, then never changed
}

// New makes a family that takes part in nothing yet.
func New(host Host) *Family {
	return &Family{host: host, keys: roundkey.New(host.Acquire, host.Logger)}
}

// Parts are what rounds use of the rest of a session.
type Parts struct {
	Workers *bounds.Workers
	// Ring has keys for proofs of norms; nil without keys.
	Ring *keyset.Ring
	// Answers proves what contributions come with; nil without proofs.
	Answers fed.Answers
}

// Sides are an agent's sides in rounds: a participant's, a decrypting guest's, and a party's.
type Sides struct {
	Participant *fed.Service
	Opener      *decrypt.Service
	Party       *party.Service
}

// Open makes the services of a session and has the session run them, and makes the parties with
// the first.
func (f *Family) Open(cfg settings.Config, on *session.Opened, parts Parts) (sides Sides, err error) {
	if err := f.dial(cfg); err != nil {
		return sides, err
	}
	if sides.Participant, err = f.participant(cfg, on, parts); err != nil {
		return sides, err
	}
	sides.Opener, err = decrypt.New(decrypt.Config{Queue: on.Queue, Pool: parts.Workers.Pool, Shards: f.shards, Rounds: sides.Participant.Rounds(), Store: sides.Participant.Store(), Keys: f.keys,
		Sign: f.host.Sign, Limits: parts.Workers.Encrypting, Logger: f.host.Logger})
	if err != nil {
		return sides, err
	}
	if sides.Party, err = f.parties(cfg, on.Dir, parts.Workers); err != nil {
		return sides, err
	}
	f.mu.Lock()
	f.opener = sides.Opener
	f.mu.Unlock()
	on.Run(func(ctx context.Context) error { return sides.Participant.Run(ctx, sides.Opener.Do) })
	return sides, nil
}

// participant makes the service of contributions.
func (f *Family) participant(cfg settings.Config, on *session.Opened, parts Parts) (*fed.Service, error) {
	config := fed.Config{Queue: on.Queue, Pool: parts.Workers.Pool, Shards: f.shards, Sign: f.host.Sign, Limits: parts.Workers.Encrypting, Answers: parts.Answers, Logger: f.host.Logger}
	config.Files.Dir, config.Files.Key, config.Files.Own, config.Files.Limits = on.Dir, on.Key, on.Own, bounds.Spool(cfg)
	if parts.Ring != nil {
		config.Norm = &normproof.Prover{Ring: parts.Ring, Pool: parts.Workers.Pool, Limits: parts.Workers.Proving}
	}
	service, err := fed.New(config)
	if err != nil || cfg.Aggregation.Scheme == "" {
		return service, err
	}
	set, err := cfg.Aggregation.Set()
	if err != nil {
		return nil, err
	}
	service.Require(fed.Demand{Set: set.ID, NoiseBits: cfg.Aggregation.NoiseBudgetThreshold})
	return service, nil
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
		Sign: f.host.Sign})
	return f.party, err
}

// recounted has the running session's service add a round's contributions again.
func (f *Family) recounted(ctx context.Context, round digest.RoundID, to io.Writer) error {
	f.mu.Lock()
	opener := f.opener
	f.mu.Unlock()
	if err := f.host.Session(); err != nil || opener == nil {
		return errors.Join(err, refusal.New(fed.ReasonNotConfigured, "no session is running in which contributions could be added"))
	}
	return opener.Recounted(ctx, round, to)
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
