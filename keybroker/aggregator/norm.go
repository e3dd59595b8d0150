package aggregator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net/http"

	zk "github.com/anchorhold/anchorhold/crypto/statement"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/durable"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// Reasons of proofs of norms.
const (
	ReasonNormMissing evidence.Reason = "norm-proof-missing"
	ReasonNormInvalid evidence.Reason = "norm-proof-invalid"
	ReasonNormKey     evidence.Reason = "norm-key-missing"
)

const fileProof = "proof"

// takeProof takes the proof of an upload's norm. Without it no block is taken.
func (a *Aggregator) takeProof(w http.ResponseWriter, r *http.Request, id federation.ID) error {
	held, u, err := a.find(r, id)
	if err != nil {
		return err
	}
	return a.takeSmall(w, r, func(raw []byte) error { return a.addProof(r.Context(), held, u, raw) })
}

func (a *Aggregator) addProof(ctx context.Context, r *round, u *upload, raw []byte) error {
	if !r.def.NormProof {
		return evidence.Refuse(ReasonNormInvalid, "the round wants no proofs of norms")
	}
	if a.cfg.NormKeys == nil {
		return evidence.Refuse(ReasonNormKey, "this aggregator's configuration has no keys of such proofs")
	}
	if federation.Digest(sha256.Sum256(raw)) != u.contribution.ProofDigest {
		return evidence.Refuse(ReasonNormInvalid, "the proof is not the one that was signed")
	}
	e, err := zk.ParseEnvelope(raw)
	if err != nil {
		return evidence.Refuse(ReasonNormInvalid, "%v", err)
	}
	want := r.def.NormStatement(&u.contribution)
	encoded, err := want.MarshalBinary()
	if err != nil {
		return err
	}
	if got, err := e.Statement.MarshalBinary(); err != nil || !bytes.Equal(got, encoded) || e.Key != zk.Digest(r.def.NormCircuit.VerifyingKey) {
		return evidence.Refuse(ReasonNormInvalid, "the proof is of another update, of other bounds, or by another key")
	}
	if _, err := a.cfg.NormKeys.Verify(ctx, e); err != nil {
		return evidence.Refuse(ReasonNormInvalid, "%v", err)
	}
	return durable.Write(r.path("uploads", u.digest.String(), fileProof), raw)
}

// proven says whether a round's upload may send blocks.
func (r *round) proven(u *upload) error {
	if r.def.NormProof && !durable.Exists(r.path("uploads", u.digest.String(), fileProof)) {
		return evidence.Refuse(ReasonNormMissing, "the round wants a proof of the norm before the blocks")
	}
	return nil
}
