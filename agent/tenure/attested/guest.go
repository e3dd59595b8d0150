// Package attested is this guest as its broker knows it: the agent key of this boot, the
// evidence that the guest makes, and the epochs that it accepts.
//
// It guarantees that evidence of an image which the configuration does not list is sent to
// no broker, and that an epoch once seen of a root's broker is not undercut: after a restart
// either, as long as the host leaves the disk alone, and never below the measured minimum. It
// trusts the measured configuration and the collector.
//
// The agent has one [Guest]. Its leases, and what is signed under them, begin here.
package attested

import (
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/guest/clock"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/epochfile"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// fileEpochs keeps the highest epoch that this guest has seen of each root's broker, so
// that a retired epoch is refused after a restart too. A host that rolls the disk back also
// rolls this file back; then broker.minimum_epoch of the measured image is the floor.
const fileEpochs = "broker-epoch"

// Collector makes evidence for a challenge; guest/snp, guest/tdx and the software TEEs
// implement it. It is called for one report at a time or queues by itself.
type Collector interface {
	Collect(ctx context.Context, challenge [64]byte) (evidence.Envelope, error)
}

// kinds are the kinds of evidence that a collector makes, best first. One that does not say makes
// SEV-SNP's.
func kinds(c Collector) []evidence.Kind {
	if k, ok := c.(interface{ Kinds() []evidence.Kind }); ok {
		return k.Kinds()
	}
	return []evidence.Kind{evidence.KindSNP}
}

// Guest is this guest. It may be used by several goroutines.
type Guest struct {
	Collector
	version  string // of the agent
	key      *identity.Private
	epochs   *epochfile.File
	broker   atomic.Pointer[client.Client] // of the configuration in force
	roots    []identity.Public
	least    uint64   // the measured minimum of epochs
	restarts Restarts // nil where nothing is sealed for a restart; set before the first client

	mu     sync.Mutex
	lowest protocol.Lowest // epochs that are accepted of what others show; mu's
}

// New makes the agent key of this boot and reads the epochs that were seen before it. The
// caller ends with Close.
func New(cfg settings.Config, collector Collector, version string) (*Guest, error) {
	roots, err := cfg.RootIdentities()
	if err != nil {
		return nil, err
	}
	g := &Guest{Collector: collector, version: version, roots: roots, least: max(cfg.Broker.MinimumEpoch, 1), lowest: protocol.AtLeast(max(cfg.Broker.MinimumEpoch, 1))}
	if g.epochs, err = epochfile.Open(filepath.Join(cfg.Guest.StateDir, fileEpochs), roots, 0); err != nil {
		return nil, err
	}
	if g.key, err = identity.Generate(identity.LevelEpoch); err != nil {
		return nil, err
	}
	return g, nil
}

// Close wipes the agent key, and what the client in force kept for a renewal.
func (g *Guest) Close() {
	g.Use(nil)
	if g.restarts != nil {
		g.restarts.Close()
	}
	g.key.Wipe()
}

// Key is the agent key. It stays the guest's.
func (g *Guest) Key() *identity.Private { return g.key }

// AgentKeyID is the identity of the agent key.
func (g *Guest) AgentKeyID() [32]byte { return g.key.Public().ID() }

// Client makes the broker's client of a configuration.
func (g *Guest) Client(cfg settings.Config) (*client.Client, error) {
	server, err := cfg.BrokerServer(cfg.Broker.Address)
	if err != nil {
		return nil, err
	}
	roots, err := cfg.RootIdentities()
	if err != nil {
		return nil, err
	}
	var permit func(*client.Lease) *client.PermitAsk
	if g.restarts != nil {
		permit = g.restarts.Ask
	}
	return client.New(client.Config{
		Permit:  permit,
		Address: cfg.Broker.Address, ServerName: server.Name, TLSRoots: server.Roots, Profile: server.Profile,
		Roots: roots, MinEpoch: cfg.Broker.MinimumEpoch, Epochs: g.epochs,
		Collector: whitelisted{g.Collector, cfg.Compute.TEE.MeasurementWhitelist},
		Kinds:     kinds(g.Collector),
		AgentKey:  g.key,
		Clock:     func() evidence.ClockSource { return clock.Source("/") },
		Claims: evidence.GuestClaims{
			ImageID: cfg.Guest.ImageID, AgentBuild: g.version, Tenant: cfg.Guest.Tenant,
			MemoryLimit: uint64(cfg.MemoryLimit()),
		},
	})
}

// Use puts a client in force. The kept connection of the one before is nobody's any more.
func (g *Guest) Use(broker *client.Client) {
	if before := g.broker.Swap(broker); before != nil {
		_ = before.Close()
	}
}

// Acquire asks the broker in force for keys.
func (g *Guest) Acquire(ctx context.Context, resources []string) (*client.Lease, error) {
	return g.broker.Load().Acquire(ctx, resources)
}

// Signer is who signs under a lease, to those who verify it from the broker's root on.
type Signer struct {
	Key   *identity.Private
	Chain []byte        // the lease's
	Now   protocol.Time // broker time
	// Broker is the ID of the root whose broker granted the lease.
	Broker [32]byte
	// Lowest is the lowest epoch that this guest accepts of each root's broker: the measured
	// minimum, or the highest that the root has asked for since.
	Lowest protocol.Lowest
}

// Live is the floor for what a broker says now.
func (s Signer) Live() protocol.Floor { return protocol.Live(s.Lowest, s.Now) }

// Signer signs under a lease, now.
func (g *Guest) Signer(lease *client.Lease, now time.Time) Signer {
	return Signer{Key: g.key, Chain: lease.Certificate, Now: protocol.TimeOf(lease.BrokerNow(now)), Broker: lease.BrokerID, Lowest: g.lowestEpochs(lease)}
}

// lowestEpochs are the lowest epochs that this guest accepts of what others show it: the
// measured minimum, or the highest that the root in question asked for since this start.
func (g *Guest) lowestEpochs(lease *client.Lease) protocol.Lowest {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lowest = g.lowest.Raised(lease.BrokerID, lease.MinEpoch)
	return g.lowest
}
