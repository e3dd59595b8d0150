package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
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
	pem, err := os.ReadFile(cfg.Broker.TLSRoots)
	if err != nil {
		return nil, fmt.Errorf("broker.tls_roots: %w", err)
	}
	pool, err := hybridtls.Roots(pem)
	if err != nil {
		return nil, fmt.Errorf("broker.tls_roots: %s: %w", cfg.Broker.TLSRoots, err)
	}
	roots, err := cfg.RootIdentities()
	if err != nil {
		return nil, err
	}
	name := cfg.Broker.ServerName
	if name == "" {
		if name, _, err = net.SplitHostPort(cfg.Broker.Address); err != nil {
			return nil, fmt.Errorf("broker.address: %w", err)
		}
	}
	profile := hybridtls.ProfileDefault
	if cfg.Broker.Profile == "fips" {
		profile = hybridtls.ProfileFIPS
	}
	return client.New(client.Config{
		Address: cfg.Broker.Address, ServerName: name, TLSRoots: pool, Profile: profile,
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
