package attested

import (
	"log/slog"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/restart"
	"github.com/anchorhold/anchorhold/guest/clock"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Sealer seals keys to this guest, for a restart without the broker.
type Sealer = restart.Sealer

// SealForRestarts has this guest ask for permits, and seal the keys that they are for. withdraw ends what is served on
// a permit when a broker refuses the guest. It is for before the first client.
func (g *Guest) SealForRestarts(cfg settings.Config, sealer Sealer, withdraw func(error), log *slog.Logger) {
	g.restart = restart.New(restart.Config{
		Dir: cfg.Guest.StateDir, Sealer: sealer, Sealing: protocol.ParseSealing(cfg.LocalRestart.Seal), Roots: g.roots,
		Floor:    func(root [32]byte) uint64 { return max(g.least, g.epochs.Highest(root)) },
		AgentKey: g.key.Public(), Clock: func() evidence.ClockSource { return clock.Source("/") }, Now: time.Now, Withdraw: withdraw, Logger: log,
	})
}

// Restartable is a broker's client for the keeper of leases: with permits behind it, where the guest has them.
func (g *Guest) Restartable(broker *client.Client) restart.Broker {
	if g.restart == nil {
		return broker
	}
	return g.restart.Around(broker)
}
