package registry

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

// Accepted says what the broker has.
type Accepted struct {
	Proof      digest.Digest `json:"proof"`     // of the envelope's binary form
	Statement  digest.Digest `json:"statement"` // what is proven
	VerifiedAt time.Time     `json:"verified_at"`
	// New is false if the very same bundle was there before.
	New bool `json:"new"`
}

// submission is a bundle on its way through the checks.
type submission struct {
	bundle  *wire.Bundle
	raw     []byte // bundle
	proof   digest.Digest
	subject digest.Digest // of the statement
}

// Submit verifies a proof and keeps it. The same bundle again is fine; another proof of
// a receipt that has one is refused.
func (s *Service) Submit(ctx context.Context, b *wire.Bundle) (Accepted, error) {
	sub := submission{bundle: b}
	var err error
	if sub.raw, err = b.Marshal(); err != nil {
		return Accepted{}, err
	}
	envelope, err := b.Envelope.MarshalBinary()
	if err != nil {
		return Accepted{}, err
	}
	sub.proof = digest.Of(envelope)
	if sub.subject, err = b.Envelope.Statement.Digest(); err != nil {
		return Accepted{}, err
	}
	record, key, err := s.key(b.Envelope.Key)
	if err != nil {
		return Accepted{}, err
	}
	if err := s.allowed(&record.Record); err != nil {
		return Accepted{}, err
	}
	if err := record.Record.Admits(&b.Envelope); err != nil {
		return Accepted{}, refusal.New(ReasonMismatch, "%w", err)
	}
	if model := b.Envelope.Statement.Inference.Model.ID(); !record.Takes(model) {
		return Accepted{}, refusal.New(ReasonModel, "key %s is not registered for model %s", b.Envelope.Key, model)
	}
	if err := s.matches(b); err != nil {
		return Accepted{}, err
	}
	if held, found, err := s.replay(&sub); found || err != nil {
		return held, err
	}
	if err := s.verify(ctx, key, &b.Envelope); err != nil {
		return Accepted{}, err
	}
	return s.keep(ctx, &sub)
}

// matches holds every item of the statement against the receipt that it names.
func (s *Service) matches(b *wire.Bundle) error {
	f := b.Envelope.Statement.Inference
	model := f.Model.ID()
	for i, item := range f.Items {
		held, err := s.receipt(item.Receipt)
		if err != nil {
			return err
		}
		input, output := Provable(item.Input), s.cfg.CommitOutput(b.OutputSalts[i], item.Outputs)
		switch r := &held.Receipt; {
		case r.Model != model:
			return refusal.New(ReasonMismatch, "receipt %s is for model %s, the statement for %s", r.ID, r.Model, model)
		case r.InputCommitment != input:
			return refusal.New(ReasonMismatch, "receipt %s is of another input", r.ID)
		case subtle.ConstantTimeCompare(r.OutputCommitment[:], output[:]) != 1:
			return refusal.New(ReasonMismatch, "receipt %s is for other outputs, or the salt is wrong", r.ID)
		}
	}
	return nil
}

// receipt finds an announced receipt.
func (s *Service) receipt(id digest.ReceiptID) (ReceiptEntry, error) {
	held, found, err := s.cfg.Store.Receipt(id)
	if err == nil && !found {
		err = refusal.New(ReasonNotAnnounced, "receipt %s was not announced, was displaced or has expired: announce it first", id)
	}
	return held, err
}

// replay finds the very same bundle, or refuses because a receipt has another proof.
func (s *Service) replay(sub *submission) (Accepted, bool, error) {
	for _, item := range sub.bundle.Envelope.Statement.Inference.Items {
		digest, found, err := s.cfg.Store.ProofOf(item.Receipt)
		if err != nil {
			return Accepted{}, false, err
		}
		if found && digest != sub.proof {
			return Accepted{}, false, refusal.New(ReasonConflict, "receipt %s has the proof %s", item.Receipt, digest)
		}
	}
	held, found, err := s.cfg.Store.Proof(sub.proof)
	if !found || err != nil {
		return Accepted{}, false, err
	}
	if !bytes.Equal(held.Bundle, sub.raw) {
		return Accepted{}, false, refusal.New(ReasonConflict, "proof %s is held with other salts", sub.proof)
	}
	return Accepted{Proof: sub.proof, Statement: sub.subject, VerifiedAt: held.Verified.Time()}, true, nil
}

// verify verifies the proof in a bounded time and number.
func (s *Service) verify(ctx context.Context, key Verifier, e *statement.Envelope) error {
	release, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	limited, cancel := context.WithTimeout(ctx, s.cfg.VerificationTimeout)
	defer cancel()
	err = key.VerifyEnvelope(limited, e)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case limited.Err() != nil && errors.Is(err, limited.Err()):
		return refusal.New(ReasonTimeout, "not verified within %s", s.cfg.VerificationTimeout)
	case errors.Is(err, groth16verify.ErrMismatch):
		return refusal.New(ReasonMismatch, "%w", err)
	}
	return refusal.New(ReasonInvalid, "%w", err)
}

// keep records and stores a verified proof, unless another came first.
func (s *Service) keep(ctx context.Context, sub *submission) (Accepted, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held, found, err := s.replay(sub); found || err != nil {
		return held, err
	}
	items := sub.bundle.Envelope.Statement.Inference.Items
	ids := make([]digest.ReceiptID, len(items))
	for i, item := range items {
		ids[i] = item.Receipt
	}
	now := s.now()
	// Nor may one have been displaced since the proof was held against it.
	for _, id := range ids {
		if _, err := s.receipt(id); err != nil {
			return Accepted{}, err
		}
	}
	// Whether there is room is asked before the audit log has a proof that is not kept.
	if err := s.cfg.Store.Room(ids, s.limits()); err != nil {
		return Accepted{}, err
	}
	detail := fmt.Sprintf("proof %s of statement %s key %s receipts %d first %s", sub.proof, sub.subject, sub.bundle.Envelope.Key, len(ids), ids[0])
	if err := s.cfg.Audit(ctx, "proof-verified", detail); err != nil {
		return Accepted{}, err
	}
	if err := s.cfg.Store.PutProof(sub.proof, ProofEntry{Bundle: sub.raw, Verified: now}, ids, s.limits()); err != nil {
		return Accepted{}, err
	}
	s.cfg.Logger.Info("proof verified", "proof", sub.proof.String(), "receipts", len(ids))
	return Accepted{Proof: sub.proof, Statement: sub.subject, VerifiedAt: now.Time(), New: true}, nil
}
