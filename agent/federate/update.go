package federate

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// The steps of a whole update, by the reason that its failure has: a contribution that is
// sent together with the proofs of answers. The local API does the first ones, the job the
// rest.
const (
	// ReasonSession: an aggregator does not answer, or the round cannot be joined.
	ReasonSession evidence.Reason = "update-session-failed"
	// ReasonAttestation: the agent holds no lease to sign under.
	ReasonAttestation evidence.Reason = "update-attestation-failed"
	// ReasonInference: the classifier did not answer.
	ReasonInference evidence.Reason = "update-inference-failed"
	// ReasonProof: an answer was not proven, or the registry does not take its proof.
	ReasonProof evidence.Reason = "update-proof-failed"
	// ReasonGradient: the vector is not taken, encrypted or proven to be inside its bounds.
	ReasonGradient evidence.Reason = "update-gradient-failed"
	// ReasonSend: an aggregator does not take the contribution.
	ReasonSend evidence.Reason = "update-send-failed"
)

// StepError is the failure of one step.
type StepError struct {
	Step evidence.Reason
	Err  error // the cause, with its own reason
}

// Error names the step and the cause.
func (e *StepError) Error() string { return string(e.Step) + ": " + e.Err.Error() }

// Unwrap is the cause.
func (e *StepError) Unwrap() error { return e.Err }

// Answers are proven before the contribution that comes with them is sent;
// *proofs.Service does it.
type Answers interface {
	Deliver(ctx context.Context, uid uint32, id receipt.ID, progress func(jobs.Info)) error
}

// step wraps a failure where the contribution is part of a whole update.
func (spec *contributeSpec) step(step evidence.Reason, err error) error {
	if err == nil || len(spec.With) == 0 {
		return err
	}
	return &StepError{step, err}
}

// Attested says under which key the agent signs now.
type Attested struct {
	Agent federation.Digest `json:"agent"`
}

// Attested returns who signs now, or why nobody does.
func (s *Service) Attested() (Attested, error) {
	signer, err := s.cfg.Sign()
	if err != nil {
		return Attested{}, err
	}
	return Attested{signer.Key.Public().ID()}, nil
}

// Begin opens a session with every aggregator, and refuses a round that cannot be joined
// any more.
func (s *Service) Begin(ctx context.Context, id federation.ID) (Round, error) {
	signer, err := s.cfg.Sign()
	if err != nil {
		return Round{}, err
	}
	for i, shard := range s.cfg.Shards {
		h, err := fetch(ctx, shard, signer, id, true)
		if err != nil {
			return Round{}, fmt.Errorf("aggregator %d: %w", i, err)
		}
		if err := s.accepts(h); err != nil {
			return Round{}, err
		}
		if i == 0 {
			s.remember(h) // what follows need not ask again
		}
	}
	job, err := s.cfg.Queue.Consumed("fed/" + id.String() + "/job")
	if err != nil {
		return Round{}, err
	}
	if job != [32]byte{} {
		return Round{}, evidence.Refuse(ReasonContributed, "this agent's contribution to the round is job %s", hex.EncodeToString(job[:]))
	}
	return s.Round(ctx, id)
}

// accompany waits for the proofs of the answers that the contribution comes with.
func (s *Service) accompany(ctx context.Context, l *jobs.Lease, answers []federation.ID) error {
	for i, id := range answers {
		if s.cfg.Answers == nil {
			return evidence.Refuse(ReasonNotConfigured, "this agent makes no proofs")
		}
		err := s.cfg.Answers.Deliver(ctx, l.Info.Owner, receipt.ID(id), func(jobs.Info) {
			if err := heartbeat(l, "proofs", uint64(i), uint64(len(answers))); err != nil {
				s.cfg.Logger.Debug("heartbeat", "job", l.Info.ID.String(), "err", err)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}
