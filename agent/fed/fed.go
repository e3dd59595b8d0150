// Package fed is the agent's part in federated rounds: it takes a vector from
// a local client, has a worker encrypt it, signs it under the agent's lease and
// uploads it; in a decrypting guest it has a worker open a closed round's sum, signs
// what is published and publishes it.
//
// It guarantees that a vector never lies on disk in the clear and leaves the guest
// only encrypted; that one agent has one contribution in a round, whose randomness
// is used once: what is signed is durable, and recorded as consumed, before its
// first byte leaves; that an interrupted upload goes on with the same bytes; and
// that only what the broker's ticket closes is decrypted.
//
// A vector for a round whose key parties hold lies on disk under a key that no broker
// knows; a restart of the agent loses it, and says so.
//
// It trusts the broker's root identities, its worker's arithmetic and the queue's
// key. It refuses vectors that are not the round's, rounds that are over, and sums
// that are not the ticket's, each with a reason.
//
// The local API calls it; the agent runs it.
package fed

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/fed/normproof"
	"github.com/anchorhold/anchorhold/agent/fed/store"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Reasons of this package.
const (
	// ReasonNorm: the vector is beyond the round's norm bound, and was submitted with
	// the wish that it be refused then.
	ReasonNorm refusal.Reason = "norm-exceeded"
	// ReasonOver: the round takes no more contributions.
	ReasonOver refusal.Reason = "round-over"
	// ReasonContributed: this agent has another contribution in the round.
	ReasonContributed refusal.Reason = "already-contributed"
	// ReasonSum: the aggregators' blocks are not the sum that the ticket closes.
	ReasonSum refusal.Reason = "sum-mismatch"
	// ReasonNotConfigured: the agent has no aggregator.
	ReasonNotConfigured refusal.Reason = "federation-not-configured"
)

// Signer signs under the lease that runs now.
type Signer struct {
	Key   *identity.Private
	Chain []byte        // the lease's
	Now   protocol.Time // broker time
	// Broker is the ID of the root whose broker granted the lease: this agent takes part in
	// that broker's rounds, and in no other's.
	Broker [32]byte
	// Lowest is the lowest epoch that this guest accepts of each root's broker: the measured
	// minimum, or the highest that the root has asked for since.
	Lowest protocol.Lowest
}

// live is the floor for what is said now.
func (s Signer) live() protocol.Floor { return protocol.Live(s.Lowest, s.Now) }

// Released is the key of a closed round, and the lease by which it was granted.
type Released struct {
	Key *keybuf.Buffer
	// Chain is that lease's. The result is signed under it: it is what says that this
	// guest was given the key.
	Chain []byte
	// Until is when the lease ends, in broker time, and Expires when it ends here, by the
	// monotonic clock: then the key is wiped.
	Until   protocol.Time
	Expires time.Time
}

// Config is what the service needs.
type Config struct {
	Queue *jobs.Queue
	Pool  *worker.Pool
	// Shards are the aggregators, in the order of their parts.
	Shards []*uplink.Client
	// Dir is where spooled vectors and encrypted uploads lie; Key seals the vectors.
	Dir string
	Key *keybuf.Buffer
	// Own is a key of 32 bytes that this run of the agent drew, and that no lease brought:
	// see [store.Config].
	Own *keybuf.Buffer
	// Sign returns the signer of now, or why nothing may be signed.
	Sign func() (Signer, error)
	// RoundKey obtains a closed round's key from the broker, under a lease of its own. If it
	// is not to be asked for yet, the error is a [Postponed].
	RoundKey func(ctx context.Context, resource string) (Released, error)
	// Limits bound each worker.
	Limits worker.Limits
	// Norm proves norms, for rounds that want it; nil without keys.
	Norm *normproof.Prover
	// Answers proves what contributions come with; nil without proofs.
	Answers Answers
	// Spool bounds what is stored for users; the zero value stores nothing.
	Spool  spool.Limits
	Logger *slog.Logger
}

// Demand is what an agent's own configuration asks of the parameters of rounds. The
// zero value takes every set that is inside the security table.
type Demand struct {
	// Set is the only set that is taken, if any is named.
	Set string
	// NoiseBits must be left after the round's largest sum.
	NoiseBits int
}

// Service takes part in rounds.
type Service struct {
	cfg   Config
	store *store.Store

	mu     sync.Mutex
	demand Demand
	rounds map[federation.ID]held
}

// Require sets what is asked of rounds from now on.
func (s *Service) Require(d Demand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.demand = d
}

// accepts holds a round against the configuration.
func (s *Service) accepts(h held) error {
	s.mu.Lock()
	d := s.demand
	s.mu.Unlock()
	_, b, err := h.Parameters()
	switch {
	case err != nil:
		return err
	case d.Set != "" && h.Set != d.Set:
		return refusal.New(federation.ReasonSet, "the round uses %s, this agent's configuration wants %s", h.Set, d.Set)
	case b.NoiseBits < float64(d.NoiseBits):
		return refusal.New(federation.ReasonSet, "the round leaves %.1f bits, this agent's configuration wants %d", b.NoiseBits, d.NoiseBits)
	}
	return nil
}

// held is a round that was verified.
type held struct {
	federation.Round
	digest federation.Digest
	live   bool // when it was verified, its epoch ran
}

// maxRounds bounds the rounds that are remembered.
const maxRounds = 64

// New makes the directories.
func New(cfg Config) (*Service, error) {
	if cfg.Queue == nil || cfg.Pool == nil || cfg.Sign == nil || cfg.RoundKey == nil || cfg.Logger == nil || len(cfg.Shards) == 0 {
		return nil, errors.New("fed: a part is missing")
	}
	files, err := store.New(store.Config{Queue: cfg.Queue, Dir: cfg.Dir, Key: cfg.Key, Own: cfg.Own, Limits: cfg.Spool})
	if err != nil {
		return nil, err
	}
	return &Service{cfg: cfg, store: files, rounds: map[federation.ID]held{}}, nil
}

// open is a round that takes contributions: its epoch runs by the broker's time.
func (s *Service) open(ctx context.Context, id federation.ID) (held, error) {
	return s.round(ctx, s.cfg.Shards[0], id, true)
}

// past is a round that may be over, and its epoch with it.
func (s *Service) past(ctx context.Context, id federation.ID) (held, error) {
	return s.round(ctx, s.cfg.Shards[0], id, false)
}

// round fetches and verifies a round, or remembers it. Whatever is remembered is held
// against the lease of now and the lowest epoch of its broker: one that was retired since
// says nothing more.
func (s *Service) round(ctx context.Context, shard *uplink.Client, id federation.ID, live bool) (held, error) {
	signer, err := s.cfg.Sign()
	if err != nil {
		return held{}, err
	}
	s.mu.Lock()
	h, ok := s.rounds[id]
	s.mu.Unlock()
	if ok && (h.live || !live) && h.Broker == signer.Broker && h.Epoch >= signer.Lowest.Of(h.Broker) {
		return h, nil
	}
	h, err = fetch(ctx, shard, signer, id, true)
	if reason, _ := refusal.ReasonOf(err); !live && reason == protocol.ReasonEpochNotValid {
		h, err = fetch(ctx, shard, signer, id, false)
	}
	if err != nil {
		return held{}, err
	}
	s.remember(h)
	return h, nil
}

// fetch has an aggregator tell a round, and verifies it.
func fetch(ctx context.Context, shard *uplink.Client, signer Signer, id federation.ID, live bool) (held, error) {
	floor := signer.live()
	if !live {
		floor = floor.Kept()
	}
	r, signed, err := shard.Round(ctx, protocol.Of(signer.Broker), floor, id)
	if err != nil {
		return held{}, err
	}
	return held{r, federation.DigestOf(signed), live}, nil
}

// floor is what is accepted now.
func (s *Service) floor() (protocol.Floor, error) {
	signer, err := s.cfg.Sign()
	return signer.live(), err
}

func (s *Service) remember(h held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.rounds) >= maxRounds {
		clear(s.rounds)
	}
	s.rounds[h.ID] = h
}

// Round is what a local client may know about a round.
type Round struct {
	ID        federation.ID    `json:"round"`
	Model     string           `json:"model"`
	Set       string           `json:"set"`
	Length    uint64           `json:"length"`
	ClipL2    float64          `json:"clip_l2"`
	ClipLinf  float64          `json:"clip_linf"`
	MaxWeight uint32           `json:"max_weight"`
	Minimum   uint32           `json:"minimum"`
	Maximum   uint32           `json:"maximum"`
	Rule      federation.Rule  `json:"rule"`
	Noise     federation.Noise `json:"noise"`
	Epsilon   float64          `json:"epsilon"`
	Delta     float64          `json:"delta"`
	// Adjacency is between what epsilon is; none without noise.
	Adjacency string `json:"adjacency,omitempty"`
	// Rotated says that ClipLinf bounds values of blocks that the agent rotates.
	Rotated bool `json:"rotated"`
	// ExpectedError is of the mean of the smallest cohort that the round may close over.
	ExpectedError federation.Accuracy `json:"expected_error"`
	// Step is that of the published integers.
	Step   float64   `json:"step"`
	Opened time.Time `json:"opened"`
	Closes time.Time `json:"closes"`
}

// Round describes a round.
func (s *Service) Round(ctx context.Context, id federation.ID) (Round, error) {
	h, err := s.past(ctx, id)
	if err != nil {
		return Round{}, err
	}
	step, _, err := h.Published()
	if err != nil {
		return Round{}, err
	}
	off, err := h.Accuracy(h.Minimum)
	return Round{ID: h.ID, Model: h.Model, Set: h.Set, Length: h.Length, ClipL2: h.ClipL2, ClipLinf: h.ClipLinf, MaxWeight: h.MaxWeight,
		Minimum: h.Minimum, Maximum: h.Maximum, Rule: h.Rule, Noise: h.Noise, Epsilon: h.Epsilon, Delta: h.Delta, Adjacency: adjacency(h.Round), Rotated: h.Rotation != nil, ExpectedError: off, Step: step,
		Opened: h.Opened.Time(), Closes: h.Closes.Time()}, err
}

// adjacency is between what a round's epsilon is.
func adjacency(r federation.Round) string {
	if r.Noise.Mechanism == federation.NoNoise {
		return ""
	}
	return federation.Adjacency
}

// Run works on jobs until ctx ends. A job under way is given back.
func (s *Service) Run(ctx context.Context) error {
	var tidying sync.WaitGroup
	defer tidying.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	tidying.Go(func() { s.keepTidy(ctx) })
	for {
		l, err := s.cfg.Queue.Lease(ctx, []string{fedtask.ClassContribute, fedtask.ClassDecrypt})
		if ctx.Err() != nil {
			if l != nil {
				return l.Release()
			}
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.work(ctx, l); err != nil {
			s.cfg.Logger.Warn("a job's end was not recorded", "job", l.Info.ID.String(), "err", err)
		}
	}
}

// keepTidy tidies until ctx ends.
func (s *Service) keepTidy(ctx context.Context) {
	t := time.NewTicker(store.TidyEvery)
	defer t.Stop()
	for {
		if n, err := s.store.Tidy(time.Now()); err != nil {
			s.cfg.Logger.Error("files of long work were not removed", "err", err)
		} else if n > 0 {
			s.cfg.Logger.Info("files of long work removed", "files", n)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// work does one job and records its end.
func (s *Service) work(ctx context.Context, l *jobs.Lease) error {
	do := s.contribute
	if l.Info.Class == fedtask.ClassDecrypt {
		do = s.decrypt
	}
	// One try has the job's time in all: an aggregator that stands still must not hold
	// up the queue.
	try, cancel := context.WithTimeout(l.Context, l.Info.TimeMax)
	defer cancel()
	result, err := worker.ContainResult(func() (json.RawMessage, error) { return do(try, l) })
	switch {
	case err == nil:
		return l.Complete(result)
	case ctx.Err() != nil:
		return l.Release()
	case errors.Is(context.Cause(l.Context), jobs.ErrCancelled):
		return nil // the queue knows
	}
	if later, ok := errors.AsType[*Postponed](err); ok {
		return l.Defer(later.Pause, reasonOf(later), later.Error())
	}
	exit, reason := classify(err)
	s.cfg.Logger.Warn("job failed", "job", l.Info.ID.String(), "class", l.Info.Class, "try", l.Info.Tries, "exit", string(exit), "err", err)
	return l.Fail(exit, reason, err.Error())
}

// Postponed is why a job does not go on yet: it is given back, and no try is spent.
type Postponed struct {
	Pause time.Duration
	Err   error // what it waits for, with a reason
}

// Error says what the job waits for.
func (e *Postponed) Error() string { return e.Err.Error() }

// Unwrap is what the job waits for.
func (e *Postponed) Unwrap() error { return e.Err }

// classify maps an error to how the try ended, with the step's reason in a whole update. A
// refusal is final but where time may change it.
func classify(err error) (jobs.Exit, refusal.Reason) {
	exit, reason := ending(err)
	var step *StepError
	if errors.As(err, &step) {
		reason = step.Step
	}
	return exit, reason
}

func ending(err error) (jobs.Exit, refusal.Reason) {
	reason, refused := refusal.ReasonOf(err)
	if errors.Is(err, context.DeadlineExceeded) {
		return jobs.TimeOut, reason
	}
	var failure *worker.Failure
	if errors.As(err, &failure) {
		return jobs.Exit(failure.Exit.String()), reason
	}
	switch reason {
	case spool.ReasonFull, spool.ReasonOwner, spool.ReasonDisk, spool.ReasonBusy, uplink.ReasonUnreachable, "aggregator-busy", "upload-incomplete", "request-too-slow", "upload-unknown", "attesting", "lease-expired", "client-identity-expired",
		protocol.ReasonBusy, protocol.ReasonAuditUnavailable, protocol.ReasonConnectionFailed, protocol.ReasonDeadline, protocol.ReasonNoActiveEpoch:
		return jobs.Crash, reason
	}
	if refused {
		return jobs.Refused, reason
	}
	return jobs.Crash, reason
}

// heartbeat keeps a lease, and ends the work if it is lost.
func heartbeat(l *jobs.Lease, phase string, done, total uint64) error {
	return l.Heartbeat(jobs.Progress{Phase: phase, Done: done, Total: total})
}
