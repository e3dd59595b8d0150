package proofs

import (
	"context"
	"time"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// ReasonFailed means that the job which makes a proof ended without one.
const ReasonFailed evidence.Reason = "proof-failed"

// deliverTick is how often Deliver looks at the job.
const deliverTick = 100 * time.Millisecond

// Deliver has an answer of this user proven, waits for the proof and hands it to the
// registry, if there is one. It calls progress each time it looks. What keeps a proof from
// being made is the error; calling it again tries again.
func (s *Service) Deliver(ctx context.Context, uid uint32, id receipt.ID, progress func(jobs.Info)) error {
	info, err := s.Prove(ctx, uid, id)
	if err != nil {
		return err
	}
	tick := time.NewTicker(deliverTick)
	defer tick.Stop()
	for !info.Final() {
		progress(info)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		if info, err = s.cfg.Queue.Show(info.ID); err != nil {
			return err
		}
	}
	if info.State != jobs.Done {
		return evidence.Refuse(ReasonFailed, "the proof of receipt %s: %s (%s)", id, info.Detail, info.Reason)
	}
	if s.cfg.Registry == nil {
		return nil
	}
	return s.submitOne(ctx, id)
}
