// Package registrar puts a broker's registry of proofs together: its store, its
// listener for guests, its operators' commands.
//
// It guarantees that receipts are verified by the broker's own root. It trusts the
// broker's epochs and audit log. It refuses what package registry refuses.
//
// The broker's daemon runs it.
package registrar

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/plonkverify"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/keybroker/registry"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

// Broker is what a registry needs of its broker.
type Broker struct {
	// Path is where registered keys, announced receipts, challenges and proofs are kept.
	Path string
	Root identity.Public
	// Lowest is the lowest epoch that the root accepts.
	Lowest func() uint64
	Signer func() (protocol.ActiveEpoch, error)
	Audit  func(ctx context.Context, action, detail string) error
	// Chip names the processor that a lease was granted to, by this broker's audit log; zero
	// where the log has no such lease.
	Chip   func(ctx context.Context, lease digest.LeaseID) ([32]byte, error)
	TLS    func() (*tls.Config, error)
	Logger *slog.Logger
	Now    func() time.Time
}

// Registry is a broker's registry.
type Registry struct {
	cfg    registry.Settings
	broker Broker
	store  *registry.Store
	proofs *registry.Service
}

// Open opens the registry; nil where the configuration has none.
func Open(c registry.Settings, b Broker) (r *Registry, err error) {
	if c.Listen == "" {
		return nil, nil
	}
	r = &Registry{cfg: c, broker: b}
	if r.store, err = registry.OpenStore(b.Path); err != nil {
		return nil, err
	}
	r.proofs, err = registry.New(registry.Config{Store: r.store, Signer: b.Signer, Roots: []identity.Public{b.Root}, Lowest: b.Lowest, Policy: registry.Policy{AllowDevelopment: c.AllowDevelopment},
		VerifyReceipt: r.verifyReceipt, ParseKey: parseKey, Waiting: c.Waiting, WaitingPerAgent: c.WaitingPerAgent, WaitingPerGuest: c.WaitingPerGuest, Guest: r.guest, WaitingAge: days(c.WaitingDays), Kept: c.Kept, KeptPerAgent: c.KeptPerAgent, KeptAge: days(c.KeptDays), Limits: c.Limits, Audit: b.Audit, Logger: b.Logger, Now: b.Now, VerificationTimeout: time.Duration(c.VerificationTimeoutMS) * time.Millisecond,
		CommitOutput: func(salt [32]byte, outputs []int32) [48]byte {
			return receipt.CommitOutput(salt, receipt.EncodeOutputs(outputs))
		}})
	if err != nil {
		return nil, errors.Join(err, r.store.Close())
	}
	return r, nil
}

// Metrics are the registry's counters by their full name. Called on nil too.
func (r *Registry) Metrics() map[string]int64 {
	if r == nil {
		return nil
	}
	c, err := r.store.Counts()
	if err != nil {
		r.broker.Logger.Error("the registry's counters cannot be read", "err", err)
		return nil
	}
	return map[string]int64{"anchorhold_broker_proofs_waiting": int64(c.Waiting), "anchorhold_broker_proofs_displaced_total": int64(c.Displaced), "anchorhold_broker_proofs_unchallenged_total": int64(c.Dropped)}
}

func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

// parseKey reads a verifying key of either system.
func parseKey(s statement.System, raw []byte) (registry.Verifier, error) {
	switch s {
	case statement.Groth16:
		return groth16verify.ParseKey(raw)
	case statement.PLONK:
		return plonkverify.ParseKey(raw)
	}
	return nil, fmt.Errorf("proof system %s", s)
}

// Close closes the store. Called on nil too.
func (r *Registry) Close() error {
	if r == nil {
		return nil
	}
	return r.store.Close()
}

// verifyReceipt verifies a receipt by this broker's own root: its lease has the role, and
// was granted the model's key, in an epoch that the root did not retire.
func (r *Registry) verifyReceipt(raw []byte) (registry.Receipt, error) {
	parsed, err := receipt.Parse(raw)
	if err != nil {
		return registry.Receipt{}, err
	}
	report, err := receipt.Verify(parsed, []identity.Public{r.broker.Root}, receipt.Options{Expect: receipt.Expect{MinEpoch: r.broker.Lowest()}})
	if err != nil {
		return registry.Receipt{}, err
	}
	b, lease := report.Body, report.Lease
	return registry.Receipt{ID: b.ID, Model: b.ModelID, Agent: lease.AgentKey.ID(), Lease: b.LeaseID, InputCommitment: registry.Commitment(b.InputCommitment),
		OutputCommitment: registry.Commitment(b.OutputCommitment), Time: b.Time, Evidence: string(lease.Kind), EvidenceDigest: lease.EvidenceDigest,
		Measurement: fmt.Sprintf("%x", lease.Measurement()), Image: lease.ImageID, SoftwareTEE: lease.SoftwareTEE}, nil
}

// guest is the processor of a receipt's guest, which has as many agent keys as it likes.
func (r *Registry) guest(ctx context.Context, of registry.Receipt) (digest.Digest, error) {
	if r.broker.Chip == nil {
		return digest.Digest{}, nil
	}
	chip, err := r.broker.Chip(ctx, of.Lease)
	return chip, err
}

// overdueEvery is how often overdue challenges go into the audit log.
const overdueEvery = time.Minute

// Serve answers guests, and looks after challenges.
func (r *Registry) Serve(ctx context.Context) error {
	cfg, err := r.broker.TLS()
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", r.cfg.Listen)
	if err != nil {
		return fmt.Errorf("proofs: listen for guests: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		defer stop() // neither goes on without the other
		ended <- r.proofs.Watch(ctx, overdueEvery)
	}()
	r.broker.Logger.Info("registry of proofs serves", "address", l.Addr().String())
	err = r.proofs.Serve(ctx, l, cfg)
	stop()
	return errors.Join(err, <-ended)
}

// ReasonNotConfigured means that the broker is no registry of proofs.
const ReasonNotConfigured refusal.Reason = "proofs-not-configured"

// Commands are the operators' commands of the registry. Those of nil, a broker that has
// none, say so.
func (r *Registry) Commands() []operator.Extra {
	list := r.commands()
	if r != nil {
		return list
	}
	for i := range list {
		list[i].Do = func(context.Context, *http.Request, func(any) error) (any, error) {
			return nil, refusal.New(ReasonNotConfigured, "this broker has no registry of proofs: set proofs.listen (the host:port to which guests bring receipts and proofs) in its configuration and restart it")
		}
	}
	return list
}

func (r *Registry) commands() []operator.Extra {
	type decoder = func(any) error
	return []operator.Extra{
		{Method: "POST", Path: "/v1/proof-keys", Action: "proof-key-register", Mutates: true, Do: func(ctx context.Context, _ *http.Request, decode decoder) (any, error) {
			var in wire.Registration
			if err := decode(&in); err != nil {
				return nil, err
			}
			signed, err := r.proofs.Register(ctx, in.Record, in.VerifyingKey, in.Models...)
			return operator.Signed{Signed: signed}, err
		}},
		{Method: "GET", Path: "/v1/proof-keys", Action: "proof-key-list", Do: func(ctx context.Context, _ *http.Request, _ decoder) (any, error) {
			list, err := r.proofs.Records(ctx)
			records := make([]wire.Record, 0, len(list))
			for _, raw := range list {
				record, failed := wire.ParseRecord(raw)
				if failed != nil {
					return nil, failed
				}
				records = append(records, record)
			}
			return records, err
		}},
		{Method: "POST", Path: "/v1/challenges", Action: "proof-challenge", Mutates: true, Do: func(ctx context.Context, _ *http.Request, decode decoder) (any, error) {
			var spec registry.Spec
			if err := decode(&spec); err != nil {
				return nil, err
			}
			list, err := r.proofs.Challenge(ctx, spec)
			return append([]registry.Issued{}, list...), err
		}},
		{Method: "GET", Path: "/v1/proof-status", Action: "proof-status", Do: func(ctx context.Context, _ *http.Request, _ decoder) (any, error) { return r.proofs.Status(ctx) }},
		{Method: "GET", Path: "/v1/proof-audit/{receipt}", Action: "proof-audit", Do: func(ctx context.Context, req *http.Request, _ decoder) (any, error) {
			id, err := digest.ParseID[digest.Receipt](req.PathValue("receipt"))
			if err != nil {
				return nil, refusal.New(registry.ReasonNotAnnounced, "a receipt id must have 32 hexadecimal digits")
			}
			return r.proofs.Show(ctx, id, req.Header.Get(wire.SaltHeader)) // an operator is no reader of answers
		}},
	}
}
