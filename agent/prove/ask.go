package prove

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/prove/provetask"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
)

// Prove has an answer of this user proven; uid 0 may have every one. Of an answer that
// is proven it returns the job that did it.
func (s *Service) Prove(ctx context.Context, uid uint32, id digest.ReceiptID) (jobs.Info, error) {
	if err := s.intake.settle(ctx, id); err != nil {
		return jobs.Info{}, err
	}
	info, err := s.ask(ctx, uid, id)
	if err == nil && info.State == jobs.Dead {
		return s.cfg.Queue.Retry(info.ID) // what failed then may not fail now
	}
	return info, err
}

// ask queues the proof of an answer. One that waited in vain for its model, for its key to
// be registered, or for memory, waits again. What uid 0 asks for, as what answers the
// broker's challenges does, is not bound by the part of the queue that the answer's user has.
func (s *Service) ask(ctx context.Context, uid uint32, id digest.ReceiptID) (jobs.Info, error) {
	submit, retry := s.cfg.Queue.Submit, s.cfg.Queue.Retry
	if uid == 0 {
		submit, retry = s.cfg.Queue.SubmitForAgent, s.cfg.Queue.RetryForAgent
	}
	if p, err := s.store.proof(uid, id); err == nil {
		return s.queue(ctx, submit, p.Owner, id, 1, 0) // no worker starts
	}
	w, err := s.store.witness(id)
	if err != nil {
		return jobs.Info{}, err
	}
	if uid != 0 && uid != w.Owner {
		return jobs.Info{}, unknown(id)
	}
	need, err := s.memory(w)
	if err != nil {
		return jobs.Info{}, err
	}
	if err := s.store.choose(w); err != nil {
		return jobs.Info{}, err
	}
	info, err := s.queue(ctx, submit, w.Owner, id, 1, need)
	if err == nil && info.State == jobs.Dead && (info.Reason == classify.ReasonUnavailable || info.Reason == classify.ReasonNotGranted || info.Reason == ReasonNotRegistered || info.Reason == provetask.ReasonMemory) {
		return retry(info.ID)
	}
	return info, err
}

// memory is what the proof of an answer needs, or why no worker can make it.
func (s *Service) memory(w witness) (int64, error) {
	set, err := s.cfg.Ring.ForArchitecture(w.Model.Architecture)
	if err != nil {
		return 0, refusal.New(ReasonNoKey, "%v", err)
	}
	need, err := provetask.Memory(set, s.cfg.Limits.Memory)
	if errors.Is(err, keyset.ErrMissing) || errors.Is(err, keyset.ErrChanged) {
		err = refusal.New(ReasonNoKey, "%v", err)
	}
	return need, err
}

// jobSpec is the specification of a job: the witness has the rest.
type jobSpec struct {
	Receipt string `json:"receipt"`
}

// submitter is one of the queue's: for a user, or for the agent.
type submitter func(context.Context, jobs.Job) (jobs.Info, bool, error)

func (s *Service) queue(ctx context.Context, submit submitter, owner uint32, id digest.ReceiptID, priority int8, memory int64) (jobs.Info, error) {
	spec, err := json.Marshal(jobSpec{id.String()})
	if err != nil {
		return jobs.Info{}, err
	}
	info, _, err := submit(ctx, jobs.Job{Class: provetask.ClassInference, Owner: owner, Spec: spec, Priority: priority, Memory: memory, TimeMax: s.cfg.Limits.Time})
	if err == nil {
		s.store.setJob(id, info.ID)
	}
	return info, err
}
