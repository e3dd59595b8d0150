package fed

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed/rounds"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// The steps of a whole update, which is a contribution that is sent together with the proofs
// of answers. Each step has a reason of its own for its failure. The local API does the first
// steps, the job does the rest.
const (
	// ReasonSession: an aggregator does not answer, or the round can no longer be joined.
	ReasonSession refusal.Reason = "update-session-failed"
	// ReasonAttestation: the agent holds no lease to sign under.
	ReasonAttestation refusal.Reason = "update-attestation-failed"
	// ReasonInference: the classifier did not answer.
	ReasonInference refusal.Reason = "update-inference-failed"
	// ReasonProof: an answer was not proven, or the registry does not accept its proof.
	ReasonProof refusal.Reason = "update-proof-failed"
	// ReasonGradient: the vector could not be stored, encrypted, or proven to be within its bounds.
	ReasonGradient refusal.Reason = "update-gradient-failed"
	// ReasonSend: an aggregator does not accept the contribution.
	ReasonSend refusal.Reason = "update-send-failed"
)

// StepError is the failure of one step.
type StepError struct {
	Step refusal.Reason
	Err  error // the cause, with its own reason
}

// Error names the step and the cause.
func (e *StepError) Error() string { return string(e.Step) + ": " + e.Err.Error() }

// Unwrap is the cause.
func (e *StepError) Unwrap() error { return e.Err }

// FailedStep returns the step and the cause, for the local API.
func (e *StepError) FailedStep() (refusal.Reason, error) { return e.Step, e.Err }

// Answers has answers proven before the contribution that names them is sent. *prove.Service
// does it.
type Answers interface {
	// Deliver has a user's answer proven and its proof handed in to the registry, and reports
	// whether that is done. It does not wait. With again, a proof that failed is tried again.
	Deliver(ctx context.Context, uid uint32, id digest.ReceiptID, again bool) (bool, error)
}

// reasonPending is of package prove: a proof is not made yet.
const reasonPending refusal.Reason = "proof-pending"

// step wraps a failure where the contribution is part of a whole update.
func (spec *contributeSpec) step(step refusal.Reason, err error) error {
	if err == nil || len(spec.With) == 0 {
		return err
	}
	return &StepError{step, err}
}

// Attested says under which key the agent signs now.
type Attested struct {
	Agent digest.Digest `json:"agent"`
}

// Attested returns who signs now, or why nobody does.
func (s *Service) Attested() (Attested, error) {
	signer, err := s.cfg.Sign()
	if err != nil {
		return Attested{}, err
	}
	return Attested{signer.Key.Public().ID()}, nil
}

// Begin opens a session with every aggregator, and refuses a round that can no longer be
// joined.
func (s *Service) Begin(ctx context.Context, id digest.RoundID) (Round, error) {
	if _, err := s.cfg.Sign(); err != nil {
		return Round{}, err
	}
	for i, shard := range s.cfg.Shards {
		h, err := s.rounds.Ask(ctx, id, shard)
		if err != nil {
			return Round{}, fmt.Errorf("aggregator %d: %w", i, err)
		}
		if err := s.accepts(h); err != nil {
			return Round{}, err
		}
	}
	job, err := s.cfg.Queue.Consumed("fed/" + id.String() + "/job")
	if err != nil {
		return Round{}, err
	}
	if job != [32]byte{} {
		return Round{}, refusal.New(ReasonContributed, "this agent's contribution to the round is job %s", hex.EncodeToString(job[:]))
	}
	return s.Round(ctx, id)
}

const (
	// deliverTime bounds one look at the proofs of a contribution's answers, a registry that
	// does not answer included: other jobs wait for it.
	deliverTime = 10 * time.Second
	// A contribution that waits for proofs is looked at again after an eighth of the time
	// that it waited already, within these.
	lookFirst   = 250 * time.Millisecond
	lookLongest = 30 * time.Second
)

// accompany has the answers proven that the contribution comes with. While a proof is
// missing the job is postponed, for as long as the round is open: it holds up nobody's.
func (s *Service) accompany(ctx context.Context, l *jobs.Lease, h rounds.Round, answers []digest.ReceiptID) error {
	if len(answers) == 0 {
		return nil
	}
	if s.cfg.Answers == nil {
		return refusal.New(ReasonNotConfigured, "this agent is not configured to make proofs")
	}
	delivered, err := s.deliver(ctx, l, answers)
	if err != nil || delivered == len(answers) {
		return err
	}
	signer, err := s.cfg.Sign()
	if err != nil {
		return err
	}
	if signer.Now >= h.Closes {
		return refusal.New(ReasonOver, "the round closed at %s, when only %d of %d answers had been proven", h.Closes.Time(), delivered, len(answers))
	}
	s.progress(l)(worker.Progress{Phase: "proofs", Done: uint64(delivered), Total: uint64(len(answers))})
	pause := max(lookFirst, min(time.Since(l.Info.Created)/8, lookLongest))
	return &jobs.Postponed{Pause: pause, Err: refusal.New(reasonPending, "%d of %d answers are proven and handed in; the contribution is sent once all of them are", delivered, len(answers))}
}

// deliver counts the answers that are proven and handed in. All are asked for when the job
// begins, or is tried again; one that waited looks at what became of them.
func (s *Service) deliver(ctx context.Context, l *jobs.Lease, answers []digest.ReceiptID) (delivered int, err error) {
	again := l.Info.Reason != reasonPending
	look, cancel := context.WithTimeout(ctx, deliverTime)
	defer cancel()
	for _, id := range answers {
		done, err := s.cfg.Answers.Deliver(look, l.Info.Owner, id, again)
		if look.Err() != nil && ctx.Err() == nil { // nobody answered in time
			return delivered, nil
		}
		if err != nil {
			return delivered, err
		}
		if done {
			delivered++
		}
	}
	return delivered, nil
}
