package longwork

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/prove"
	"github.com/anchorhold/anchorhold/agent/prove/provetask"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

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

// signer finds the agent key of a receipt, verified from the roots on, in an epoch that is
// not below the lowest of now of its root's broker. Receipts of one lease have the same chain, which is verified
// once.
func signer(roots []identity.Public, sign func() (fed.Signer, error)) func(receipt.Receipt) (statement.Digest, error) {
	var mu sync.Mutex
	var chain []byte
	var model, agent statement.Digest
	var epoch protocol.EpochStatement
	return func(r receipt.Receipt) (statement.Digest, error) {
		now, err := sign()
		if err != nil {
			return statement.Digest{}, err
		}
		mu.Lock()
		defer mu.Unlock()
		if chain != nil && bytes.Equal(r.LeaseChain, chain) && model == r.Body.ModelID && epoch.Epoch >= now.Lowest.Of(epoch.Broker) {
			return agent, nil
		}
		a, err := protocol.VerifyAuthority(r.LeaseChain, roots, protocol.AnyBroker(), protocol.Recorded(now.Lowest), protocol.RoleServe, protocol.About(r.Body.ModelID), protocol.Everyone())
		if err != nil {
			return statement.Digest{}, err
		}
		chain, model, agent, epoch = bytes.Clone(r.LeaseChain), r.Body.ModelID, a.Lease.AgentKey.ID(), a.Epoch
		return agent, nil
	}
}

func (w *Works) newProofs(cfg settings.Config, dir string, s *session, f *fixed) (*prove.Service, error) {
	if w.agent.Classifiers == nil {
		return nil, errors.New("proofs: this agent has no classifiers to prove answers of")
	}
	mode := prove.Mode(cfg.Proofs.Mode)
	if mode == "" {
		mode = prove.OnDemand
	}
	roots, err := cfg.RootIdentities()
	if err != nil {
		return nil, err
	}
	config := prove.Config{Agent: signer(roots, w.agent.Sign), Queue: s.queue, Pool: f.pool, Dir: dir, Key: s.key, Ring: f.ring, Models: w.agent.Classifiers, Mode: mode, Rate: cfg.Proofs.Rate,
		Limits: worker.Limits{Memory: cfg.ProofMemory(), Time: cfg.WorkerTime()}, Logger: w.agent.Logger,
		Kept: cfg.Proofs.Kept, KeptAge: time.Duration(cfg.Proofs.KeptDays) * 24 * time.Hour, Floor: spoolLimits(cfg).Floor}
	r, err := w.newRegistry(cfg)
	if err != nil {
		return nil, err
	}
	if r != nil {
		config.Registry = r
	}
	return prove.New(config)
}
