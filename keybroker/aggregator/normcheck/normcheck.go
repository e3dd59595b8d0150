// Package normcheck verifies that a contribution was proven to be inside its round's
// bounds.
//
// It guarantees that what passes is a proof which the contribution names by its digest,
// of the statement that round and contribution make together: this round, this agent,
// this upload, this commitment, the round's length and bounds, by the key that the round
// names. It trusts the records of its key ring: that a key is of the circuit in its
// record. It refuses rounds whose key the ring does not have, and every other proof.
//
// Package aggregator calls it before it takes an upload's first block.
package normcheck

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"

	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	zk "github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// Reasons of proofs of norms.
const (
	ReasonMissing evidence.Reason = "norm-proof-missing"
	ReasonInvalid evidence.Reason = "norm-proof-invalid"
	ReasonKey     evidence.Reason = "norm-key-missing"
)

// Checker verifies proofs with the keys of a ring. Without one, it has no keys.
type Checker struct{ Ring *keyset.Ring }

// Round refuses a round whose proofs could not be verified here.
func (c Checker) Round(def federation.Round) error {
	if !def.NormProof {
		return nil
	}
	if c.Ring == nil {
		return evidence.Refuse(ReasonKey, "this aggregator's configuration has no keys of proofs of norms")
	}
	set, err := c.Ring.Set(zk.Digest(def.NormCircuit.VerifyingKey))
	if err == nil {
		err = def.NormFits(set.Record)
	}
	if err != nil {
		return evidence.Refuse(ReasonKey, "%v", err)
	}
	return nil
}

// Signed refuses bytes that are not the proof which the contribution names.
func Signed(def federation.Round, signed federation.Contribution, raw []byte) error {
	if !def.NormProof {
		return evidence.Refuse(ReasonInvalid, "the round wants no proofs of norms")
	}
	if federation.Digest(sha256.Sum256(raw)) != signed.ProofDigest {
		return evidence.Refuse(ReasonInvalid, "the proof is not the one that was signed")
	}
	return nil
}

// Verify verifies a proof for a contribution that was verified and follows the round. An
// error of the context, or the ring's time running out, says nothing about the proof and
// is returned as it is.
func (c Checker) Verify(ctx context.Context, def federation.Round, signed federation.Contribution, raw []byte) error {
	if err := Signed(def, signed, raw); err != nil {
		return err
	}
	if err := c.Round(def); err != nil {
		return err
	}
	e, err := zk.ParseEnvelope(raw)
	if err != nil {
		return evidence.Refuse(ReasonInvalid, "%v", err)
	}
	want := def.NormStatement(&signed)
	encoded, err := want.MarshalBinary()
	if err != nil { // the contribution's commitment is no field element
		return evidence.Refuse(ReasonInvalid, "%v", err)
	}
	if got, err := e.Statement.MarshalBinary(); err != nil || !bytes.Equal(got, encoded) || e.Key != zk.Digest(def.NormCircuit.VerifyingKey) {
		return evidence.Refuse(ReasonInvalid, "the proof is of another update, of other bounds, or by another key")
	}
	_, err = c.Ring.Verify(ctx, e)
	if err == nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	return evidence.Refuse(ReasonInvalid, "%v", err)
}
