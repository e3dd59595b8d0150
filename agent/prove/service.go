// Package prove makes zero-knowledge proofs of a classifier's answers. An answer goes out at
// once with its receipt; the proof follows later and names that receipt.
//
// The local API hands each answer to [Service.Take], which never waits. Depending on the
// [Mode], every answer is proven, a random sample, or only those that are asked for
// ([Service.Prove]) or that the broker challenges. What is chosen survives a crash and is
// proven at most once. A proof is made by one worker process and verified by another; it is
// published only if it verifies and matches its receipt. Witnesses are encrypted on disk and
// deleted as soon as they are not needed.
//
// The package trusts the queue's key and the broker's registry of verifying keys. It refuses
// to prove answers of an architecture that has no registered key, and to tell a user anything
// about another user's answers.
package prove

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/prove/provetask"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// Reasons of this package.
const (
	// ReasonNotConfigured: the agent has no proving keys.
	ReasonNotConfigured refusal.Reason = "proofs-not-configured"
	// ReasonNoKey: no registered key proves answers of this architecture.
	ReasonNoKey refusal.Reason = "proof-key-missing"
	// ReasonUnknown: there is no such answer, or it is another user's, or what is
	// needed to prove it is gone.
	ReasonUnknown refusal.Reason = "answer-unknown"
	// ReasonPending: the proof is not made yet.
	ReasonPending refusal.Reason = "proof-pending"
	// ReasonNotRegistered: the broker's registry does not have the key.
	ReasonNotRegistered refusal.Reason = "key-not-registered"
	// ReasonUnsound: the proof that was made does not verify, and was not published.
	ReasonUnsound refusal.Reason = "proof-unsound"
)

// Mode says which answers are proven.
type Mode string

// The modes.
const (
	All      Mode = "all"
	Sampled  Mode = "sampled"
	OnDemand Mode = "on-demand"
)

// Models lends the constants of what is proven; *classify.Service does.
type Models interface {
	WithParameters(name string, model digest.Digest, use func(intnet.Architecture, intnet.Parameters) error) error
}

// RegistryClient speaks with the broker's registry.
type RegistryClient interface {
	// Announce fixes receipts, so that a challenge can name them.
	Announce(ctx context.Context, receipts []receipt.Receipt) error
	// Challenged lists the receipts whose proof the broker wants now: of those signed
	// with the agent's key of now, and with its keys before it was restarted, by their
	// digests.
	Challenged(ctx context.Context, former []digest.Digest) ([]digest.ReceiptID, error)
	// Submit hands in a proof.
	Submit(ctx context.Context, b receipt.Bundle) error
	// Registered says whether a verifying key is in the registry, for answers of a model.
	Registered(ctx context.Context, key, model digest.Digest) (bool, error)
}

// Config is what the service needs. All fields but Rate and Registry are required; without a
// Registry nothing is announced or handed in.
type Config struct {
	Queue *jobs.Queue
	Pool  *worker.Pool
	// Dir is where witnesses and proofs lie, encrypted under Key.
	Dir    string
	Key    *keybuf.Buffer
	Ring   *keyset.Ring
	Models Models
	Mode   Mode
	Rate   float64
	// Limits bound each proving worker. A worker gets the memory that its circuit and key
	// need; what needs more than Limits is refused with provetask.ReasonMemory.
	Limits   worker.Limits
	Registry RegistryClient
	// Agent is the digest of the agent key that signed a receipt.
	Agent  func(receipt.Receipt) (digest.Digest, error)
	Logger *slog.Logger
	// Kept is how many proofs are kept, 16,384, and KeptAge how long, 90 days. One that the
	// registry has not taken is not counted out, and goes with its age alone.
	Kept    int
	KeptAge time.Duration
	// Floor is how many bytes of the disk stay free: below it no answer is kept for proving.
	Floor int64
}

// Service makes proofs. It has three parts, each of which owns its state and the lock on it:
//
//   - [intake]: answers that are not on disk yet
//   - [store]: witnesses and proofs on disk, and the job of each
//   - [registry]: what the broker's registry has and what it has still to get
//
// No part waits for the lock of another while it holds its own. The one lock that is taken
// under another is the queue's, under the store's.
type Service struct {
	cfg      Config
	intake   *intake
	store    *store
	registry *registry
}

// New makes the directories.
func New(cfg Config) (*Service, error) {
	if cfg.Queue == nil || cfg.Pool == nil || cfg.Ring == nil || cfg.Models == nil || cfg.Agent == nil || cfg.Logger == nil || cfg.Key.Len() != 32 {
		return nil, errors.New("prove: a required field of Config is missing, or the key is not 32 bytes long")
	}
	switch cfg.Mode {
	case All, OnDemand:
	case Sampled:
		if !(cfg.Rate > 0 && cfg.Rate <= 1) {
			return nil, fmt.Errorf("prove: the rate must be above 0 and at most 1, got %g", cfg.Rate)
		}
	default:
		return nil, fmt.Errorf("prove: unknown mode %q; use %s, %s or %s", cfg.Mode, All, Sampled, OnDemand)
	}
	if cfg.Kept <= 0 {
		cfg.Kept = 16 << 10
	}
	if cfg.KeptAge <= 0 {
		cfg.KeptAge = 90 * 24 * time.Hour
	}
	store, err := openStore(cfg)
	if err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, intake: newIntake(cfg), store: store}
	s.registry = newRegistry(cfg, store, func(ctx context.Context, id digest.ReceiptID) error {
		_, err := s.ask(ctx, 0, id)
		return err
	})
	return s, nil
}

// Take takes an answer on. It never waits: what does not fit is not proven, and said so
// in the log.
func (s *Service) Take(owner uint32, a classify.Answer) {
	w := witness{Owner: owner, Name: a.Name, Issued: a.Receipt, Model: a.Model, Salt: a.Salt[:], Outputs: a.Outputs}
	for _, v := range a.Input {
		w.Input = append(w.Input, byte(v))
	}
	s.intake.take(w)
}

// Run keeps answers, proves and speaks with the registry until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { s.keepAnswers(ctx) })
	running.Go(func() { s.expireProofs(ctx) })
	if s.cfg.Registry != nil {
		running.Go(func() { s.registry.run(ctx) })
	}
	return s.cfg.Queue.Work(ctx, []string{provetask.ClassInference}, func(l *jobs.Lease) {
		if err := s.work(ctx, l); err != nil {
			s.cfg.Logger.Warn("the end of a proof job was not recorded", "job", l.Info.ID.String(), "err", err)
		}
	})
}

// keepAnswers goes on where an earlier run stopped, and writes witnesses down and queues
// what is chosen. What was taken before ctx ended is kept too.
func (s *Service) keepAnswers(ctx context.Context) {
	after := context.WithoutCancel(ctx)
	s.resume(after)
	s.intake.run(ctx, func(w witness) error { return s.keep(after, w) })
}

// resume goes on where an earlier run stopped, with what it may or may not have done:
// announcing and queueing twice is the same as once.
func (s *Service) resume(ctx context.Context) {
	for _, id := range s.store.ids() {
		w, err := s.store.witness(id)
		if reason, _ := refusal.ReasonOf(err); reason == ReasonUnknown {
			continue // it was proven meanwhile
		}
		if err == nil {
			s.store.note(w)
			err = s.follow(ctx, w)
		}
		if err != nil {
			s.cfg.Logger.Error("answer of an earlier run was not taken up again", "receipt", id.String(), "err", err)
		}
	}
}

// keep writes down the witness of an answer, and does what follows from it.
func (s *Service) keep(ctx context.Context, w witness) error {
	w.Chosen = s.intake.chosen()
	if err := s.store.keep(w); err != nil {
		return err
	}
	return errors.Join(s.store.trim(), s.follow(ctx, w))
}

// follow announces an answer whose witness is kept, and queues it if it is chosen.
func (s *Service) follow(ctx context.Context, w witness) error {
	s.registry.add(w.Owner, w.Issued.Receipt)
	if !w.Chosen {
		return nil
	}
	need, err := s.memory(w)
	if err != nil {
		need = s.cfg.Limits.Memory // the job ends with the reason, for who looks at jobs
	}
	_, err = s.queue(ctx, s.cfg.Queue.Submit, w.Owner, w.id(), 0, need)
	return err
}

// Bundle returns the receipt and the proof of an answer of this user.
func (s *Service) Bundle(uid uint32, id digest.ReceiptID) (receipt.Bundle, error) {
	p, err := s.store.proof(uid, id)
	if reason, _ := refusal.ReasonOf(err); reason == ReasonUnknown {
		owner, waits := s.intake.owner(id) // asked first: what is taken is on disk before it is forgotten
		w, failed := s.store.witness(id)
		if waits && (uid == 0 || uid == owner) || failed == nil && (uid == 0 || uid == w.Owner) {
			return receipt.Bundle{}, refusal.New(ReasonPending, "the proof of receipt %s has not been made yet; request it, or wait", id)
		}
	}
	return p.Bundle, err
}
