package longwork

import (
	"errors"
	"fmt"
	"time"

	"github.com/anchorhold/anchorhold/agent/normproof"
	"github.com/anchorhold/anchorhold/agent/proofs"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/proofkeys"
)

// verifyTime bounds one verification where the configuration names no time.
const verifyTime = 10 * time.Second

// newRing reads the directory of keys.
func newRing(cfg settings.Config) (*proofkeys.Ring, error) {
	sets, err := proofkeys.Load(cfg.Proofs.Keys)
	if err != nil {
		return nil, fmt.Errorf("proofs.keys: %w", err)
	}
	if len(sets) == 0 {
		return nil, fmt.Errorf("proofs.keys: %s holds no keys; `anchorhold proof setup` makes some", cfg.Proofs.Keys)
	}
	timeout := verifyTime
	if ms := cfg.Verification.ZKP.VerificationTimeoutMS; ms > 0 {
		timeout = time.Duration(ms) * time.Millisecond
	}
	ring, err := proofkeys.NewRing(sets, cfg.Proofs.AllowDevelopmentSetup, timeout)
	if errors.Is(err, proofkeys.ErrDevelopment) {
		return nil, fmt.Errorf("proofs.keys: %w; proofs.allow_development_setup allows it", err)
	}
	if err != nil {
		return nil, fmt.Errorf("proofs.keys: %w", err)
	}
	return ring, nil
}

// newNormProver proves norms in rounds that want it; nil without keys.
func newNormProver(cfg settings.Config, pool *worker.Pool) (*normproof.Prover, error) {
	if cfg.Proofs.Keys == "" {
		return nil, nil
	}
	ring, err := newRing(cfg)
	if err != nil {
		return nil, err
	}
	return &normproof.Prover{Ring: ring, Pool: pool, Limits: worker.Limits{Memory: cfg.ProofMemory(), Time: cfg.WorkerTime()}}, nil
}

func (w *Works) newProofs(cfg settings.Config, dir string, pool *worker.Pool) (*proofs.Service, error) {
	if w.agent.Classifiers == nil {
		return nil, errors.New("proofs: this agent has no classifiers to prove answers of")
	}
	ring, err := newRing(cfg)
	if err != nil {
		return nil, err
	}
	mode := proofs.Mode(cfg.Proofs.Mode)
	if mode == "" {
		mode = proofs.OnDemand
	}
	config := proofs.Config{Queue: w.queue, Pool: pool, Dir: dir, Key: w.key, Ring: ring, Models: w.agent.Classifiers, Mode: mode, Rate: cfg.Proofs.Rate,
		Limits: worker.Limits{Memory: cfg.ProofMemory(), Time: cfg.WorkerTime()}, Logger: w.agent.Logger}
	r, err := w.newRegistry(cfg)
	if err != nil {
		return nil, err
	}
	if r != nil {
		config.Registry = r
	}
	return proofs.New(config)
}
