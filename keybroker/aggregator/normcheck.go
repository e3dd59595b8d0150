package aggregator

import (
	"bytes"
	"context"
	"errors"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	zk "github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// Reasons of proofs of norms.
const (
	ReasonNormMissing refusal.Reason = "norm-proof-missing"
	ReasonNormInvalid refusal.Reason = "norm-proof-invalid"
	ReasonNormKey     refusal.Reason = "norm-key-missing"
)

// NormChecker verifies, before an upload's first block is taken, that a contribution was
// proven to be inside its round's bounds. A proof that passes is the one that the contribution
// names by its digest, of the statement that round and contribution make together: this round,
// agent, upload and commitment, the round's length and bounds, by the key that the round names.
// It trusts the records of its key ring to say which circuit a key is of. Without a ring it has
// no keys, and refuses every such round.
type NormChecker struct{ Ring *keyset.Ring }

// Round refuses a round whose proofs could not be verified here.
func (c NormChecker) Round(def federation.Round) error {
	if !def.NormProof {
		return nil
	}
	if c.Ring == nil {
		return refusal.New(ReasonNormKey, "this aggregator's configuration has no keys for norm proofs")
	}
	set, err := c.Ring.Set(digest.Digest(def.NormCircuit.VerifyingKey))
	if err == nil {
		err = def.NormFits(set.Record)
	}
	if err != nil {
		return refusal.New(ReasonNormKey, "%v", err)
	}
	return nil
}

// SignedNorm refuses bytes that are not the proof which the contribution names.
func SignedNorm(def federation.Round, signed federation.Contribution, raw []byte) error {
	if !def.NormProof {
		return refusal.New(ReasonNormInvalid, "the round takes no norm proofs")
	}
	if digest.Of(raw) != signed.ProofDigest {
		return refusal.New(ReasonNormInvalid, "the proof differs from the signed one")
	}
	return nil
}

// Verify verifies a proof for a contribution that was verified and follows the round. An
// error of the context, or the ring's time running out, says nothing about the proof and
// is returned as it is.
func (c NormChecker) Verify(ctx context.Context, def federation.Round, signed federation.Contribution, raw []byte) error {
	if err := SignedNorm(def, signed, raw); err != nil {
		return err
	}
	if err := c.Round(def); err != nil {
		return err
	}
	e, err := zk.ParseEnvelope(raw)
	if err != nil {
		return refusal.New(ReasonNormInvalid, "%v", err)
	}
	want := def.NormStatement(&signed)
	encoded, err := want.MarshalBinary()
	if err != nil { // the contribution's commitment is no field element
		return refusal.New(ReasonNormInvalid, "%v", err)
	}
	if got, err := e.Statement.MarshalBinary(); err != nil || !bytes.Equal(got, encoded) || e.Key != digest.Digest(def.NormCircuit.VerifyingKey) {
		return refusal.New(ReasonNormInvalid, "the proof is for another update, for other bounds or by another key")
	}
	_, err = c.Ring.Verify(ctx, e)
	if err == nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	return refusal.New(ReasonNormInvalid, "%v", err)
}
