// Package assembly makes an agent's service of proofs from its configuration: the keys that
// it proves with, the workers that verify, the client of the broker's registry, and the
// bounds.
//
// It guarantees that keys of a development setup are taken only where the configuration says
// so, and that an error names the setting that is wrong. It trusts the configuration. Without
// classifiers, or without keys where answers are to be proven, it refuses.
//
// The agent has one [Family], which opens a [prove.Service] on the queue of each session.
package assembly

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/jobs/bounds"
	"github.com/anchorhold/anchorhold/agent/jobs/session"
	"github.com/anchorhold/anchorhold/agent/prove"
	"github.com/anchorhold/anchorhold/agent/prove/provetask"
	"github.com/anchorhold/anchorhold/agent/prove/reporting"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
)

// Host is what proofs need of the agent.
type Host struct {
	// Sign is who signs under the lease that runs now, or why nobody may.
	Sign func() (attested.Signer, error)
	// Classifiers lend what is proven; nil where there are none.
	Classifiers *classify.Service
	Logger      *slog.Logger
}

// Family makes the agent's proofs. Its methods are called one at a time, when a session opens.
type Family struct {
	host Host
	ring *keyset.Ring // of all sessions: it holds no key of theirs; nil before the first that needs it
}

// New makes a family whose keys have not been read.
func New(host Host) *Family { return &Family{host: host} }

// NotConfigured is why an agent makes no proofs.
func NotConfigured() error {
	return refusal.New(prove.ReasonNotConfigured, "this agent's configuration has no proving keys")
}

// Ring is the configured keys, which are read once; nil where there are none.
func (f *Family) Ring(cfg settings.Config, workers *bounds.Workers) (*keyset.Ring, error) {
	if f.ring != nil || cfg.Proofs.Keys == "" {
		return f.ring, nil
	}
	ring, err := newRing(cfg, workers.Runner, f.host.Logger)
	if err != nil {
		return nil, err
	}
	f.ring = ring
	return ring, nil
}

// verifyTime bounds one verification where the configuration names no time.
const verifyTime = 10 * time.Second

// verifyMemory bounds a worker that verifies a proof.
const verifyMemory = 128 << 20

// newRing reads the directory of keys. It says which of them need more memory than a
// proving worker may have: what is to be proven with those will be refused.
func newRing(cfg settings.Config, runner worker.Runner, logger *slog.Logger) (*keyset.Ring, error) {
	sets, err := keyset.Load(cfg.Proofs.Keys)
	if err != nil {
		return nil, fmt.Errorf("proofs.keys: %w", err)
	}
	if len(sets) == 0 {
		return nil, fmt.Errorf("proofs.keys: %s holds no keys; `anchorhold proof setup` makes some", cfg.Proofs.Keys)
	}
	for _, set := range sets {
		_, err := provetask.Memory(set, cfg.ProofMemory())
		if reason, refused := refusal.ReasonOf(err); refused {
			logger.Warn("nothing can be proven with a key", "circuit", set.Record.Circuit.String(), "reason", string(reason), "err", err)
		}
	}
	timeout := verifyTime
	if ms := cfg.Verification.ZKP.VerificationTimeoutMS; ms > 0 {
		timeout = time.Duration(ms) * time.Millisecond
	}
	// Verifying has a worker of its own: it waits for no proof that is being made.
	verifiers, err := worker.NewPool(runner, 1, logger)
	if err != nil {
		return nil, err
	}
	// The worker holds itself to the time, of which the ring does not count what it takes to start one.
	ring, err := keyset.NewRing(sets, cfg.Proofs.AllowDevelopmentSetup, 0, provetask.Verification{Pool: verifiers, Memory: verifyMemory, Time: timeout}.Parsers())
	if errors.Is(err, keyset.ErrDevelopment) {
		return nil, fmt.Errorf("proofs.keys: %w; proofs.allow_development_setup allows it", err)
	}
	if err != nil {
		return nil, fmt.Errorf("proofs.keys: %w", err)
	}
	return ring, nil
}

// Open makes the service of a session and has the session run it.
func (f *Family) Open(cfg settings.Config, on *session.Opened, workers *bounds.Workers) (*prove.Service, error) {
	if f.host.Classifiers == nil {
		return nil, errors.New("proofs: this agent has no classifiers whose answers it could prove")
	}
	ring, err := f.Ring(cfg, workers)
	if err != nil {
		return nil, err
	}
	mode := prove.Mode(cfg.Proofs.Mode)
	if mode == "" {
		mode = prove.OnDemand
	}
	roots, err := cfg.RootIdentities()
	if err != nil {
		return nil, err
	}
	config := prove.Config{Agent: reporting.KeyOf(roots, f.host.Sign), Queue: on.Queue, Pool: workers.Pool, Dir: on.Dir, Key: on.Key, Ring: ring, Models: f.host.Classifiers, Mode: mode, Rate: cfg.Proofs.Rate,
		Limits: workers.Proving, Logger: f.host.Logger,
		Kept: cfg.Proofs.Kept, KeptAge: time.Duration(cfg.Proofs.KeptDays) * 24 * time.Hour, Floor: bounds.Spool(cfg).Floor}
	if cfg.Proofs.Registry != "" {
		server, err := cfg.BrokerServer(cfg.Proofs.Registry)
		if err != nil {
			return nil, err
		}
		tlsConfig, err := server.TLS()
		if err != nil {
			return nil, err
		}
		config.Registry = reporting.New(cfg.Proofs.Registry, tlsConfig, roots, f.host.Sign)
	}
	service, err := prove.New(config)
	if err != nil {
		return nil, err
	}
	on.Run(service.Run)
	return service, nil
}
