// Package fed is a participant's side of federated rounds: it takes a vector from a local client,
// has a worker encrypt it, signs it under the agent's lease and uploads it.
//
// A vector never lies on disk in the clear, and leaves the guest only encrypted. An agent makes
// one contribution to a round, whose randomness is used once: what is signed is durable, and
// recorded as used, before its first byte leaves, and an interrupted upload continues with the
// same bytes. A vector for a round whose key is held by parties is stored under a key that no
// broker knows; a restart of the agent loses it, and says so.
//
// It trusts the broker's root identities, its worker's arithmetic and the queue's key. It refuses
// vectors that do not fit the round, and rounds that are over, each with a reason.
//
// The local API submits contributions to [Service], whose Run works on them. The queue's
// decryptions it hands to package decrypt, the decrypting guest's side.
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
	"github.com/anchorhold/anchorhold/agent/fed/rounds"
	"github.com/anchorhold/anchorhold/agent/fed/store"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Reasons of this package.
const (
	// ReasonNorm: the vector exceeds the round's bounds, and its client asked for it to be
	// refused in that case.
	ReasonNorm refusal.Reason = "norm-exceeded"
	// ReasonOver: the round takes no more contributions.
	ReasonOver refusal.Reason = "round-over"
	// ReasonContributed: this agent already has another contribution in the round.
	ReasonContributed refusal.Reason = "already-contributed"
	// ReasonNotConfigured: the agent has no aggregator.
	ReasonNotConfigured refusal.Reason = "federation-not-configured"
)

// Config is what the service needs. All fields but Norm and Answers are required.
type Config struct {
	Queue *jobs.Queue
	Pool  *worker.Pool
	// Shards are the aggregators, in the order of their parts.
	Shards []*uplink.Client
	// Files says where vectors and uploads lie, and under which keys and limits. Its own Queue
	// is ignored.
	Files store.Config
	// Sign returns who signs now, or why nothing may be signed.
	Sign func() (attested.Signer, error)
	// Limits bound each worker.
	Limits worker.Limits
	// Norm proves norms for rounds that require it; nil without proving keys.
	Norm *normproof.Prover
	// Answers proves the answers that contributions name; nil without proofs.
	Answers Answers
	Logger  *slog.Logger
}

// Demand is what an agent's own configuration requires of the parameters of rounds. The
// zero value accepts every set in the security table.
type Demand struct {
	// Set is the only parameter set that is accepted; any is if it is empty.
	Set string
	// NoiseBits is the noise budget that must be left after the round's largest sum.
	NoiseBits int
}

// Service takes part in rounds. It may be used by any goroutine.
type Service struct {
	cfg    Config
	store  *store.Store
	rounds *rounds.Verifier

	mu     sync.Mutex
	demand Demand // mu's
}

// Require sets what is required of rounds from now on.
func (s *Service) Require(d Demand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.demand = d
}

// accepts checks a round against the configuration.
func (s *Service) accepts(h rounds.Round) error {
	s.mu.Lock()
	d := s.demand
	s.mu.Unlock()
	_, b, err := h.Parameters()
	switch {
	case err != nil:
		return err
	case d.Set != "" && h.Set != d.Set:
		return refusal.New(federation.ReasonSet, "the round uses parameter set %s; this agent's configuration requires %s", h.Set, d.Set)
	case b.NoiseBits < float64(d.NoiseBits):
		return refusal.New(federation.ReasonSet, "the round leaves a noise budget of %.1f bits; this agent's configuration requires %d", b.NoiseBits, d.NoiseBits)
	}
	return nil
}

// New makes the directories.
func New(cfg Config) (*Service, error) {
	if cfg.Queue == nil || cfg.Pool == nil || cfg.Sign == nil || cfg.Logger == nil || len(cfg.Shards) == 0 {
		return nil, errors.New("fed: Queue, Pool, Shards, Sign and Logger are required")
	}
	cfg.Files.Queue = cfg.Queue
	files, err := store.New(cfg.Files)
	if err != nil {
		return nil, err
	}
	verifier := rounds.New(cfg.Shards[0], func() (rounds.Standing, error) {
		s, err := cfg.Sign()
		return rounds.Standing{Broker: s.Broker, Lowest: s.Lowest, Now: s.Now}, err
	})
	return &Service{cfg: cfg, store: files, rounds: verifier}, nil
}

// Store is where the service keeps its files. Other services keep files of rounds there too.
func (s *Service) Store() *store.Store { return s.store }

// Rounds verifies rounds for the service, and for others.
func (s *Service) Rounds() *rounds.Verifier { return s.rounds }

// Round is what a local client is told about a round.
type Round struct {
	ID        digest.RoundID   `json:"round"`
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
	// Adjacency says which inputs Epsilon makes hard to tell apart; empty without noise.
	Adjacency string `json:"adjacency,omitempty"`
	// Rotated means that ClipLinf bounds the values of blocks after the agent has rotated them.
	Rotated bool `json:"rotated"`
	// ExpectedError is that of the mean of the smallest cohort that the round may close over.
	ExpectedError federation.Accuracy `json:"expected_error"`
	// Step is the value of one step of the published integers.
	Step   float64   `json:"step"`
	Opened time.Time `json:"opened"`
	Closes time.Time `json:"closes"`
}

// Round describes a round.
func (s *Service) Round(ctx context.Context, id digest.RoundID) (Round, error) {
	h, err := s.rounds.Past(ctx, id)
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

// adjacency says which inputs a round's epsilon makes hard to tell apart.
func adjacency(r federation.Round) string {
	if r.Noise.Mechanism == federation.NoNoise {
		return ""
	}
	return federation.Adjacency
}

// Job does one job of the queue and returns its result.
type Job func(ctx context.Context, l *jobs.Lease) (json.RawMessage, error)

// Run works on jobs until ctx ends: on contributions, and on decryptions with decrypt. A job under
// way is given back then.
func (s *Service) Run(ctx context.Context, decrypt Job) error {
	var tidying sync.WaitGroup
	defer tidying.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	tidying.Go(func() { s.keepTidy(ctx) })
	do := map[string]Job{fedtask.ClassContribute: s.contribute, fedtask.ClassDecrypt: decrypt}
	return s.cfg.Queue.Work(ctx, []string{fedtask.ClassContribute, fedtask.ClassDecrypt}, func(l *jobs.Lease) {
		if err := s.work(ctx, l, do[l.Info.Class]); err != nil {
			s.cfg.Logger.Warn("a job's end was not recorded", "job", l.Info.ID.String(), "err", err)
		}
	})
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
func (s *Service) work(ctx context.Context, l *jobs.Lease, do Job) error {
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
	if later, ok := errors.AsType[*jobs.Postponed](err); ok {
		reason, _ := refusal.ReasonOf(later)
		return l.Defer(later.Pause, reason, later.Error())
	}
	exit, reason := classify(err)
	s.cfg.Logger.Warn("job failed", "job", l.Info.ID.String(), "class", l.Info.Class, "try", l.Info.Tries, "exit", string(exit), "err", err)
	return l.Fail(exit, reason, err.Error())
}

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
	case spool.ReasonFull, spool.ReasonOwner, spool.ReasonDisk, spool.ReasonBusy, uplink.ReasonUnreachable, "aggregator-busy", "upload-incomplete", "request-too-slow", "upload-unknown", "attesting", "client-identity-expired",
		protocol.ReasonBusy, protocol.ReasonLeaseExpired, protocol.ReasonAuditUnavailable, protocol.ReasonConnectionFailed, protocol.ReasonDeadline, protocol.ReasonNoActiveEpoch:
		return jobs.Crash, reason
	}
	if refused {
		return jobs.Refused, reason
	}
	return jobs.Crash, reason
}
