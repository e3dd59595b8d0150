package prove

import (
	"context"
	"encoding/json"
	"errors"
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
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// work does one job and records its end.
func (s *Service) work(ctx context.Context, l *jobs.Lease) error {
	try, cancel := context.WithTimeout(l.Context, l.Info.TimeMax)
	defer cancel()
	result, err := worker.ContainResult(func() (json.RawMessage, error) { return s.prove(try, l) })
	switch {
	case err == nil:
		return l.Complete(result)
	case ctx.Err() != nil:
		return l.Release()
	case errors.Is(context.Cause(l.Context), jobs.ErrCancelled):
		return nil // the queue knows
	case errors.Is(err, errUnreachable):
		s.cfg.Logger.Warn("proof is waiting for the registry", "job", l.Info.ID.String(), "err", err, "next_try", s.registry.tick)
		s.registry.pause(ctx)
		return l.Release()
	}
	exit, reason := classifyEnd(err)
	s.cfg.Logger.Warn("proof failed", "job", l.Info.ID.String(), "try", l.Info.Tries, "exit", string(exit), "err", err)
	return l.Fail(exit, reason, err.Error())
}

func classifyEnd(err error) (jobs.Exit, refusal.Reason) {
	reason, refused := refusal.ReasonOf(err)
	var failure *worker.Failure
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return jobs.TimeOut, reason
	case reason == provetask.ReasonMemory: // more tries would end as this one did
		return jobs.Refused, reason
	case errors.As(err, &failure):
		return jobs.Exit(failure.Exit.String()), reason
	case reason == classify.ReasonUnavailable || reason == classify.ReasonNotGranted: // the lease, or the right one, may come back
		return jobs.Crash, reason
	case refused:
		return jobs.Refused, reason
	}
	return jobs.Crash, reason
}

// Proven is the result of a job. A proof that an earlier try stored has no Constraints
// and Millis.
type Proven struct {
	Receipt     string        `json:"receipt"`
	Key         digest.Digest `json:"verifying_key"`
	Constraints int           `json:"constraints"`
	ProofBytes  int           `json:"proof_bytes"`
	Millis      int64         `json:"millis"`
}

// prove makes one proof, verifies it, and only then stores it.
func (s *Service) prove(ctx context.Context, l *jobs.Lease) (json.RawMessage, error) {
	var spec jobSpec
	if err := json.Unmarshal(l.Info.Spec, &spec); err != nil {
		return nil, refusal.New(ReasonUnknown, "%v", err)
	}
	id, err := digest.ParseID[digest.Receipt](spec.Receipt)
	if err != nil {
		return nil, refusal.New(ReasonUnknown, "%v", err)
	}
	if p, err := s.store.proof(0, id); err == nil { // a crash came before the job's end
		return json.Marshal(Proven{Receipt: id.String(), Key: p.Bundle.Proof.Key, ProofBytes: len(p.Bundle.Proof.Proof)})
	}
	w, err := s.store.witness(id)
	if err != nil {
		return nil, err
	}
	set, err := s.cfg.Ring.ForArchitecture(w.Model.Architecture)
	if err != nil {
		return nil, refusal.New(ReasonNoKey, "%v", err)
	}
	if err := s.registry.registered(ctx, set.Record.VerifyingKey, w.Model.ID()); err != nil {
		return nil, err
	}
	st := statementOf(w, set)
	proof, done, err := s.run(ctx, l, w, set, st)
	if err != nil {
		return nil, err
	}
	b := receipt.Bundle{Receipt: w.Issued.Receipt, OutputSalt: w.Issued.Salts.Output, Proof: statement.Envelope{Statement: st, Key: set.Record.VerifyingKey, Proof: proof}}
	s.heartbeat(l, worker.Progress{Phase: "verify", Done: 3, Total: 3})
	if _, err := s.cfg.Ring.Verify(ctx, &b.Proof); errors.Is(err, provetask.ErrNoVerdict) || errors.Is(err, context.DeadlineExceeded) {
		return nil, err // which says nothing about the proof
	} else if err != nil {
		return nil, refusal.New(ReasonUnsound, "%v", err)
	}
	if _, err := b.Matches(); err != nil {
		return nil, refusal.New(ReasonUnsound, "%v", err)
	}
	if err := s.store.writeProof(stored{Owner: w.Owner, Bundle: b}); err != nil {
		return nil, err
	}
	// One stored proof for each receipt: the witness is not needed any more.
	if err := s.store.removeWitness(id); err != nil {
		return nil, err
	}
	return json.Marshal(Proven{Receipt: id.String(), Key: set.Record.VerifyingKey, Constraints: done.Constraints, ProofBytes: len(proof), Millis: done.Millis})
}

func statementOf(w witness, set keyset.Set) statement.Statement {
	var salt statement.Salt
	copy(salt[:], w.Salt)
	return statement.Statement{System: set.Record.System, Circuit: set.Record.Circuit, Inference: &statement.Inference{Model: w.Model,
		Items: []statement.Item{{Receipt: w.id(), Input: statement.InputCommitment(salt, signed(w.Input)), Outputs: w.Outputs}}}}
}

func signed(raw []byte) []int8 {
	out := make([]int8, len(raw))
	for i, b := range raw {
		out[i] = int8(b)
	}
	return out
}

func (s *Service) heartbeat(l *jobs.Lease, p worker.Progress) {
	if err := l.Heartbeat(jobs.Progress{Phase: p.Phase, Done: p.Done, Total: p.Total}); err != nil {
		s.cfg.Logger.Debug("heartbeat", "job", l.Info.ID.String(), "err", err)
	}
}

// run has a worker prove.
func (s *Service) run(ctx context.Context, l *jobs.Lease, w witness, set keyset.Set, st statement.Statement) (proof []byte, done provetask.Proved, err error) {
	encoded, err := st.MarshalBinary()
	if err != nil {
		return nil, done, err
	}
	need, err := s.memory(w) // the limit may be another than when it was queued
	if err != nil {
		return nil, done, err
	}
	task := provetask.Inference{Statement: encoded}
	var secret []byte
	defer func() { keybuf.Wipe(secret) }()
	err = s.cfg.Models.WithParameters(w.Name, w.Model.ID(), func(a intnet.Architecture, p intnet.Parameters) (err error) {
		if task.Architecture, err = a.MarshalBinary(); err != nil {
			return err
		}
		secret, err = (&intnet.Network{Architecture: a, Parameters: p}).MarshalParameters()
		return err
	})
	if err != nil {
		return nil, done, err
	}
	task.Parameters = len(secret)
	spec, err := json.Marshal(task)
	if err != nil {
		return nil, done, err
	}
	memory := min(max(need, l.Info.Memory), s.cfg.Limits.Memory)
	raw, proof, err := provetask.Run(ctx, s.cfg.Pool, worker.Task{Class: provetask.ClassInference, Spec: spec, Limits: s.bounds(memory)},
		set, func(p worker.Progress) { s.heartbeat(l, p) }, secret, w.Salt, w.Input)
	if errors.Is(err, provetask.ErrFiles) {
		return nil, done, refusal.New(ReasonNoKey, "%v", err)
	}
	if err != nil {
		return nil, done, s.exhausted(err, memory)
	}
	return proof, done, json.Unmarshal(raw, &done)
}

// longestProof is as long as a lease may last (docs/protocol.md 7.3): a worker that has weights is
// given no more time, whatever others get. The largest circuits take a minute.
const longestProof = 15 * time.Minute

// bounds are those of a worker that has the weights of a model.
func (s *Service) bounds(memory int64) worker.Limits {
	return worker.Limits{Memory: memory, Time: min(s.cfg.Limits.Time, longestProof)}
}

// exhausted says so of a worker that had all the memory which it may have, and died of it:
// the queue would try again with more.
func (s *Service) exhausted(err error, memory int64) error {
	if f, ok := errors.AsType[*worker.Failure](err); ok && f.Exit == worker.OutOfMemory && memory >= s.cfg.Limits.Memory {
		return refusal.New(provetask.ReasonMemory, "the proof ran out of memory with %d MiB, the most that a proving worker gets; raise proofs.memory_mb", memory>>20)
	}
	return err
}
