// Package registry is the broker's part in proofs of inference: a registry of the keys
// it accepts, the receipts announced to it, its challenges, and the proofs it has verified.
//
// It guarantees that a proof of a key which is not registered is refused; that a
// challenge names receipts which were announced before it was drawn, chosen by the
// broker's randomness and never by the prover; that a proof which is stored was
// verified and is of exactly the answer that its receipts were given for; that what is
// stored is never changed, and is durable, with its audit record, before anybody is
// told; that a receipt has one proof for ever; and that nothing with a challenge or a
// proof goes before its retention is over.
//
// It trusts its store, the audit log, and the functions in its configuration that know
// receipts. It refuses keys set up for development unless the policy allows them, and
// everything that does not fit, each with a reason.
//
// An attested guest that introduces itself on a connection has a place among its like, which
// no number of strangers takes; a receipt is no introduction, for its client has it too.
//
// A receipt that was never announced cannot be challenged: whoever holds one may
// announce it, its client too. One that was announced waits until its age is over, whatever
// is announced after it: what is over the part of an agent, or of the guests of a processor,
// is refused, and told to whoever announces it. A receipt that is older than the retention is refused, so that one whose proof went with its age gets no second.
//
// The broker's daemon runs it and serves its handler to guests (package wire).
package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// Reasons of this package.
const (
	ReasonNotRegistered  refusal.Reason = "key-not-registered"
	ReasonModel          refusal.Reason = "model-not-registered"
	ReasonDevelopment    refusal.Reason = "development-setup-refused"
	ReasonRecord         refusal.Reason = "proof-record-invalid"
	ReasonRecordConflict refusal.Reason = "proof-record-conflict"
	ReasonUnverified     refusal.Reason = "receipt-unverified"
	ReasonNotProvable    refusal.Reason = "receipt-not-provable"
	ReasonSpec           refusal.Reason = "challenge-invalid"
	ReasonInvalid        refusal.Reason = "proof-invalid"
	ReasonTimeout        refusal.Reason = "proof-timeout"
	ReasonMismatch       refusal.Reason = "statement-mismatch"
	ReasonOld            refusal.Reason = "receipt-too-old"
	ReasonBusy           refusal.Reason = "proofs-busy"
)

// Limits.
const (
	// MaxAnnounced bounds the receipts of one announcement, MaxReceiptBytes each.
	MaxAnnounced    = wire.MaxAnnounced
	MaxReceiptBytes = 48 << 10
	// maxDeadline is how long after it is made a challenge may be due.
	maxDeadline = 31 * 24 * time.Hour
	// maxShown bounds the challenges that one answer lists.
	maxShown = 64
	// maxExpired bounds what goes with its age at a time.
	maxExpired = 1024
	// maxConnections is how many there are at a time by default.
	maxConnections = 1024
	day            = 24 * time.Hour
)

// provableTag begins the input commitment of a receipt whose answer can be proven; the
// statement's commitment follows.
const provableTag = "anchorhold/p2/1\x00"

// Provable is the input commitment of a receipt whose statement has c.
func Provable(c statement.Commitment) (out Commitment) {
	copy(out[copy(out[:], provableTag):], c[:])
	return out
}

// Signer is the broker's epoch key of now.
type Signer = protocol.ActiveEpoch

// Policy is what an operator allows, in the broker's configuration.
type Policy struct {
	// AllowDevelopment believes keys that one party made, who can forge proofs.
	AllowDevelopment bool `yaml:"allow_development"`
}

// Verifier is a verifying key: *groth16verify.Key, or plonkverify's. Its methods may be
// called from any goroutine. A proof that does not hold is any error but a context's.
type Verifier interface {
	// Inputs is the number of public inputs.
	Inputs() int
	// VerifyEnvelope verifies an envelope's proof of its statement.
	VerifyEnvelope(ctx context.Context, e *statement.Envelope) error
}

// Config is what a registry needs. The functions are required but where their comment
// says otherwise; zero limits take the defaults named.
type Config struct {
	Store  *Store
	Signer func() (Signer, error)
	// Roots is the one root of this broker, under which what it signed is verified.
	Roots []identity.Public
	// Lowest is the lowest epoch that is accepted: the highest minimum of any statement
	// of the root's.
	Lowest func() uint64
	// Policy allows nothing by default.
	Policy Policy
	// VerifyReceipt parses a receipt's binary form and verifies it.
	VerifyReceipt func(raw []byte) (Receipt, error)
	// Guest names the processor that a receipt's lease was granted to; zero if nobody knows.
	// It is asked about verified receipts. Optional: nil is nobody knows.
	Guest func(ctx context.Context, r Receipt) (digest.Digest, error)
	// CommitOutput is a receipt's commitment to outputs.
	CommitOutput func(salt [32]byte, outputs []int32) [48]byte
	// ParseKey reads a verifying key; nil is Groth16 alone.
	ParseKey func(s statement.System, raw []byte) (Verifier, error)
	// Audit records a step durably before it is taken.
	Audit  func(ctx context.Context, action, detail string) error
	Logger *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// VerificationTimeout bounds one verification; a second.
	VerificationTimeout time.Duration
	// Verifications of receipts and proofs at the same time; 2.
	Verifications int
	// Requests that are worked on at the same time, after their bodies were read; 32.
	// More wait, and are told to come back at their end.
	Requests int
	// RequestTimeout bounds one request, its body and answer; 30 seconds.
	RequestTimeout time.Duration
	// Waiting bounds the receipts that have neither challenge nor proof; 16,384, about
	// 15 kB each. Beyond it a draw decides which wait. WaitingPerAgent bounds those of one agent; a
	// quarter. WaitingPerGuest bounds those of the guests of one processor, which may have
	// many keys; half, or an agent's part if that is more. WaitingAge is how long one waits; 30 days.
	Waiting, WaitingPerAgent, WaitingPerGuest int
	WaitingAge                                time.Duration
	// Kept bounds the receipts that have one; 65,536. Beyond it nothing is accepted; the
	// last quarter is for challenges alone. KeptPerAgent bounds those of one agent that
	// nobody challenged; a quarter. KeptAge is how long they are kept, from the challenge's
	// deadline or the proof; 365 days.
	Kept, KeptPerAgent int
	KeptAge            time.Duration
	// Records bounds the registered keys; 256.
	Records int
	// Limits bound guests: by default 1024 connections, half of them of guests that did not
	// say who they are, an eighth of one source or processor; 64 MiB for bodies.
	Limits listen.Limits
}

// Service is the broker's registry. Its methods may be called from any goroutine.
type Service struct {
	cfg       Config
	verifying chan struct{} // one token for each verification
	serving   chan struct{} // one token for each request that is worked on
	quiet     *slog.Logger  // for lines that strangers cause

	mu        sync.Mutex    // held from a look at the store to the write that depends on it
	displaced displaced     // guarded by mu
	told      protocol.Time // when the audit log was told of them; guarded by mu

	keysMu sync.Mutex
	keys   map[digest.Digest]Verifier // parsed from the store; guarded by keysMu
}

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Signer == nil || len(cfg.Roots) != 1 || cfg.Lowest == nil || cfg.VerifyReceipt == nil || cfg.CommitOutput == nil || cfg.Audit == nil || cfg.Logger == nil {
		return nil, errors.New("registry: a part is missing")
	}
	for v, d := range map[*int]int{&cfg.Verifications: 2, &cfg.Requests: 32, &cfg.Waiting: 16 << 10, &cfg.Kept: 64 << 10, &cfg.Records: 256} {
		if *v == 0 {
			*v = d
		}
		if *v < 0 {
			return nil, errors.New("registry: a limit is negative")
		}
	}
	own := cfg.WaitingPerGuest != 0
	for v, of := range map[*int][2]int{&cfg.WaitingPerAgent: {cfg.Waiting, 4}, &cfg.WaitingPerGuest: {cfg.Waiting, 2}, &cfg.KeptPerAgent: {cfg.Kept, 4}} {
		if *v == 0 {
			*v = max(of[0]/of[1], 1)
		}
		if *v < 0 || *v > of[0] {
			return nil, errors.New("registry: the share of an agent or a guest is negative or exceeds the total")
		}
	}
	if !own { // or an agent's part would not be its own
		cfg.WaitingPerGuest = max(cfg.WaitingPerGuest, cfg.WaitingPerAgent)
	}
	for v, d := range map[*time.Duration]time.Duration{&cfg.VerificationTimeout: time.Second, &cfg.RequestTimeout: 30 * time.Second, &cfg.WaitingAge: 30 * day, &cfg.KeptAge: 365 * day} {
		if *v == 0 {
			*v = d
		}
		if *v < 0 {
			return nil, errors.New("registry: a timeout is negative")
		}
	}
	if cfg.WaitingAge > cfg.KeptAge {
		return nil, errors.New("registry: receipts would wait longer than they are kept")
	}
	if cfg.ParseKey == nil {
		cfg.ParseKey = parseGroth16
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := cfg.Limits.Check(); err != nil {
		return nil, fmt.Errorf("registry: limits: %w", err)
	}
	places := cmp.Or(cfg.Limits.Connections, maxConnections)
	cfg.Limits = cfg.Limits.Or(listen.Limits{Connections: maxConnections, PerSource: max(places/8, 1), BodyMiB: 64})
	return &Service{cfg: cfg, quiet: listen.Sparse(cfg.Logger), verifying: make(chan struct{}, cfg.Verifications), serving: make(chan struct{}, cfg.Requests), keys: map[digest.Digest]Verifier{}}, nil
}

func parseGroth16(s statement.System, raw []byte) (Verifier, error) {
	if s != statement.Groth16 {
		return nil, fmt.Errorf("this broker verifies no proofs of %s", s)
	}
	return groth16verify.ParseKey(raw)
}

// limits are those of the store.
func (s *Service) limits() Limits {
	return Limits{Waiting: s.cfg.Waiting, WaitingPerAgent: s.cfg.WaitingPerAgent, WaitingPerGuest: s.cfg.WaitingPerGuest, Kept: s.cfg.Kept, Proven: s.cfg.Kept - s.cfg.Kept/4, ProvenPerAgent: s.cfg.KeptPerAgent}
}

// before is the time that was so long ago; of a clock that does not go back so far, zero,
// before which there is nothing.
func (s *Service) before(age time.Duration) protocol.Time {
	now := s.now()
	if now <= protocol.Time(age.Milliseconds()) {
		return 0
	}
	return now.Add(-age)
}

// lowest is the lowest epoch whose word counts.
func (s *Service) lowest() uint64 { return max(s.cfg.Lowest(), 1) }

// live is the floor for what this broker signs now: an epoch that is over signs nothing.
func (s *Service) live() protocol.Floor { return protocol.Live(protocol.AtLeast(s.lowest()), s.now()) }

// own is the broker of the one root.
func (s *Service) own() protocol.Broker { return protocol.Of(s.cfg.Roots[0].ID()) }

func (s *Service) now() protocol.Time { return protocol.TimeOf(s.cfg.Now()) }

// acquire waits for a place to verify in.
func (s *Service) acquire(ctx context.Context) (release func(), err error) {
	select {
	case s.verifying <- struct{}{}:
		return func() { <-s.verifying }, nil
	case <-ctx.Done():
		return nil, refusal.New(ReasonBusy, "no place for verification in time: %w", ctx.Err())
	}
}
