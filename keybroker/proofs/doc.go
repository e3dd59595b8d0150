// Package proofs is the broker's part in proofs of inference: a registry of the keys
// that it believes, the receipts that were announced to it, challenges, and the proofs
// that it has verified.
//
// It guarantees that a proof of a key which is not registered is refused; that a
// challenge names receipts which were announced before it was drawn, chosen by the
// broker's randomness and never by the prover; that a proof which is stored was
// verified and is of exactly the answer that its receipts were given for; that what is
// stored is never changed, and is durable, with its audit record, before anybody is
// told; and that a receipt has one proof for ever.
//
// It trusts its store, the audit log, and the functions in its configuration that know
// receipts. It refuses keys set up for development unless the policy allows them, and
// everything that does not fit, each with a reason.
//
// A receipt that was never announced cannot be challenged: whoever holds one may
// announce it, its client too. When too many wait, the oldest of the agent that has the
// most is dropped, so that an agent that floods the broker loses receipts of its own;
// the audit log names it.
//
// The broker's daemon runs it and serves its handler to guests (package proofclient).
package proofs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/statement"
	"github.com/anchorhold/anchorhold/crypto/zkverify"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/proofs/ledger"
	"github.com/anchorhold/anchorhold/keybroker/proofs/wire"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Reasons of this package.
const (
	ReasonNotRegistered  evidence.Reason = "key-not-registered"
	ReasonModel          evidence.Reason = "model-not-registered"
	ReasonDevelopment    evidence.Reason = "development-setup-refused"
	ReasonRecord         evidence.Reason = "proof-record-invalid"
	ReasonRecordConflict evidence.Reason = "proof-record-conflict"
	ReasonNotAnnounced                   = ledger.ReasonNotAnnounced
	ReasonUnverified     evidence.Reason = "receipt-unverified"
	ReasonNotProvable    evidence.Reason = "receipt-not-provable"
	ReasonReceipt                        = ledger.ReasonReceipt
	ReasonSpec           evidence.Reason = "challenge-invalid"
	ReasonNoChallenge                    = ledger.ReasonNoChallenge
	ReasonConflict                       = ledger.ReasonConflict
	ReasonInvalid        evidence.Reason = "proof-invalid"
	ReasonTimeout        evidence.Reason = "proof-timeout"
	ReasonMismatch       evidence.Reason = "statement-mismatch"
	ReasonFull                           = ledger.ReasonFull
	ReasonBusy           evidence.Reason = "proofs-busy"
	ReasonStore                          = ledger.ReasonStore
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
)

// Receipt is what a verified receipt says, with the lease that it was given under.
type Receipt = ledger.Receipt

// Commitment is what a receipt has of its input or outputs.
type Commitment = ledger.Commitment

// Announced says what became of an announcement.
type Announced = ledger.Announced

// Issued is a challenge as it was signed.
type Issued = ledger.Issued

// Store is the registry's file.
type Store = ledger.Store

// OpenStore opens or makes the file.
func OpenStore(path string) (*Store, error) { return ledger.OpenFile(path) }

// provableTag begins the input commitment of a receipt whose answer can be proven; the
// statement's commitment follows.
const provableTag = "anchorhold/p2/1\x00"

// Provable is the input commitment of a receipt whose statement has c.
func Provable(c statement.Commitment) (out Commitment) {
	copy(out[copy(out[:], provableTag):], c[:])
	return out
}

// Signer is the broker's epoch key of now.
type Signer struct {
	Key       *identity.Private
	Statement []byte // the root's, about the epoch
	Broker    [32]byte
	Epoch     uint64
}

// Policy is what an operator allows, in the broker's configuration.
type Policy struct {
	// AllowDevelopment believes keys that one party made, who can forge proofs.
	AllowDevelopment bool `yaml:"allow_development"`
}

// Verifier is a verifying key: *zkverify.Key, or plonkverify's. Its methods may be
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
	// Roots verify what this broker signed.
	Roots []identity.Public
	// Policy allows nothing by default.
	Policy Policy
	// VerifyReceipt parses a receipt's binary form and verifies it.
	VerifyReceipt func(raw []byte) (Receipt, error)
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
	// Requests that the handler answers at the same time; 32. More are told to come
	// back.
	Requests int
	// RequestTimeout bounds one request, its body and answer; 30 seconds.
	RequestTimeout time.Duration
	// Waiting bounds the receipts that have neither challenge nor proof; 16,384, about
	// 15 kB each. Beyond it the oldest are dropped.
	Waiting int
	// Kept bounds the receipts that have one; 65,536. Beyond it nothing is accepted.
	Kept int
	// Records bounds the registered keys; 256.
	Records int
}

// Service is the broker's registry. Its methods may be called from any goroutine.
type Service struct {
	cfg       Config
	verifying chan struct{} // one token for each verification
	serving   chan struct{} // one token for each request

	mu sync.Mutex // held from a look at the store to the write that depends on it

	keysMu sync.Mutex
	keys   map[statement.Digest]Verifier // parsed from the store; guarded by keysMu
}

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Signer == nil || len(cfg.Roots) == 0 || cfg.VerifyReceipt == nil || cfg.CommitOutput == nil || cfg.Audit == nil || cfg.Logger == nil {
		return nil, errors.New("proofs: a part is missing")
	}
	for v, d := range map[*int]int{&cfg.Verifications: 2, &cfg.Requests: 32, &cfg.Waiting: 16 << 10, &cfg.Kept: 64 << 10, &cfg.Records: 256} {
		if *v == 0 {
			*v = d
		}
		if *v < 0 {
			return nil, errors.New("proofs: a limit is negative")
		}
	}
	for v, d := range map[*time.Duration]time.Duration{&cfg.VerificationTimeout: time.Second, &cfg.RequestTimeout: 30 * time.Second} {
		if *v == 0 {
			*v = d
		}
		if *v < 0 {
			return nil, errors.New("proofs: a timeout is negative")
		}
	}
	if cfg.ParseKey == nil {
		cfg.ParseKey = parseGroth16
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Service{cfg: cfg, verifying: make(chan struct{}, cfg.Verifications), serving: make(chan struct{}, cfg.Requests), keys: map[statement.Digest]Verifier{}}, nil
}

func parseGroth16(s statement.System, raw []byte) (Verifier, error) {
	if s != statement.Groth16 {
		return nil, fmt.Errorf("this broker verifies no proofs of %s", s)
	}
	return zkverify.ParseKey(raw)
}

func (s *Service) now() protocol.Time { return protocol.TimeOf(s.cfg.Now()) }

// acquire waits for a place to verify in.
func (s *Service) acquire(ctx context.Context) (release func(), err error) {
	select {
	case s.verifying <- struct{}{}:
		return func() { <-s.verifying }, nil
	case <-ctx.Done():
		return nil, evidence.Refuse(ReasonBusy, "no place for verification in time: %w", ctx.Err())
	}
}
