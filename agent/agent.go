package agent

import (
	"context"
	"log/slog"
	"os"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/guest/clock"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/client"
)

// Options are what the main package hands in: what the build offers and what
// the configuration says.
type Options struct {
	// ConfigPath is the configuration file; reload reads it again.
	ConfigPath string
	// Config is its content, already checked.
	Config settings.Config
	// Collector makes this guest's evidence.
	Collector Collector
	// SoftwareTEE tells that the evidence proves nothing.
	SoftwareTEE bool
	// Version is the agent's build, part of the claims.
	Version string
	// Logger receives state changes.
	Logger *slog.Logger
	// Reload delivers a value for each SIGHUP.
	Reload <-chan os.Signal
}

// Collector makes evidence for a REPORT_DATA; guest/snp and the software TEE
// implement it. It is called for one report at a time or queues by itself.
type Collector interface {
	Collect(ctx context.Context, reportData [64]byte) (evidence.Envelope, error)
}

// newClient makes the broker client of a configuration.
func newClient(cfg settings.Config, col Collector, agentKey *identity.Private, epochs client.EpochStore, version string) (*client.Client, error) {
	server, err := cfg.BrokerServer(cfg.Broker.Address)
	if err != nil {
		return nil, err
	}
	roots, err := cfg.RootIdentities()
	if err != nil {
		return nil, err
	}
	return client.New(client.Config{
		Address: cfg.Broker.Address, ServerName: server.Name, TLSRoots: server.Roots, Profile: server.Profile,
		Roots: roots, MinEpoch: cfg.Broker.MinimumEpoch, Epochs: epochs,
		Collector: whitelisted{col, cfg.Compute.TEE.MeasurementWhitelist},
		AgentKey:  agentKey,
		Clock:     func() evidence.ClockSource { return clock.Source("/") },
		Claims: evidence.GuestClaims{
			ImageID: cfg.Guest.ImageID, AgentBuild: version, Tenant: cfg.Guest.Tenant,
			MemoryLimit: uint64(cfg.MemoryLimit()),
		},
	})
}
