package attested

import (
	"context"
	"log/slog"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/guest/clock"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Broker is a client of the broker; *client.Client implements it, and so does what stands between it and the keeper of leases.
type Broker interface {
	Acquire(ctx context.Context, resources []string, sealed ...protocol.Sealed) (*client.Lease, error)
	Close() error
}

// Restarts keeps keys for a restart without the broker; package restart implements it.
type Restarts interface {
	// Ask says what to ask and to report under a new lease.
	Ask(*client.Lease) *client.PermitAsk
	// Around stands between a broker's client and the keeper of leases.
	Around(Broker) Broker
	// Close wipes what is lent, and waits for what is being sealed.
	Close()
}

// Boot is this life of a guest, for whoever seals keys for the next.
type Boot struct {
	// Dir is the state directory.
	Dir string
	// Roots are those of the measured configuration, Floor the lowest epoch that is accepted of each.
	Roots []identity.Public
	Floor func(root [32]byte) uint64
	// AgentKey is AK of this boot.
	AgentKey identity.Public
	// Clock says what the kernel counts time with; Now is the guest's own time.
	Clock func() evidence.ClockSource
	Now   func() time.Time
	// Withdraw ends at once what is served on a permit, because a broker refused this guest; optional.
	Withdraw func(why error)
	Logger   *slog.Logger
}

// SealForRestarts has this guest ask for permits, and keep the keys that they are for. withdraw ends what is served on
// a permit when a broker refuses the guest. It is for before the first client.
func (g *Guest) SealForRestarts(cfg settings.Config, restarts func(Boot) Restarts, withdraw func(error), log *slog.Logger) {
	g.restarts = restarts(Boot{
		Dir: cfg.Guest.StateDir, Roots: g.roots, Floor: func(root [32]byte) uint64 { return max(g.least, g.epochs.Highest(root)) },
		AgentKey: g.key.Public(), Clock: func() evidence.ClockSource { return clock.Source("/") }, Now: time.Now, Withdraw: withdraw, Logger: log,
	})
}

// Restartable is a broker's client for the keeper of leases: with permits behind it, where the guest has them.
func (g *Guest) Restartable(broker *client.Client) Broker {
	if g.restarts == nil {
		return broker
	}
	return g.restarts.Around(broker)
}
