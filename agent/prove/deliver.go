package prove

import (
	"context"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// ReasonFailed means that the job which makes a proof ended without one.
const ReasonFailed refusal.Reason = "proof-failed"

// reasonUnreachable is the registry's client's: nobody answers.
const reasonUnreachable refusal.Reason = "proofs-unreachable"

// Deliver has an answer of this user proven and hands the proof to the registry, if there is
// one. It does not wait: false without an error means that the proof is not made yet, or that
// the registry does not answer, and that whoever asks comes again. What keeps the proof from
// being made is the error; with again, a proof that failed is tried once more.
func (s *Service) Deliver(ctx context.Context, uid uint32, id digest.ReceiptID, again bool) (bool, error) {
	info, known := s.proving(uid, id)
	if again || !known {
		var err error
		if info, err = s.Prove(ctx, uid, id); err != nil {
			return false, err
		}
	}
	switch {
	case !info.Final():
		return false, nil
	case info.State != jobs.Done:
		return false, refusal.New(ReasonFailed, "the proof of receipt %s failed: %s (%s)", id, info.Detail, info.Reason)
	case s.cfg.Registry == nil:
		return true, nil
	}
	err := s.registry.submitOne(ctx, id)
	if reason, refused := refusal.ReasonOf(err); err != nil && (!refused || reason == reasonUnreachable) {
		s.cfg.Logger.Warn("proof not submitted yet", "receipt", id.String(), "err", err)
		return false, nil
	}
	return err == nil, err
}

// proving is the job that proves an answer of this user, if there is one.
func (s *Service) proving(uid uint32, id digest.ReceiptID) (jobs.Info, bool) {
	job, ok := s.store.job(id)
	if !ok {
		return jobs.Info{}, false
	}
	info, err := s.cfg.Queue.Show(job)
	return info, err == nil && (uid == 0 || uid == info.Owner)
}
