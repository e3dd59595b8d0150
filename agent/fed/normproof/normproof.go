// Package normproof proves that a contribution to a federated round is within the bounds that the
// round sets for its norm and for each value, without showing the values.
//
// [Prover] has a worker make the proof, and verifies it before anything is signed. The proof is of
// exactly the ciphertext that the contribution names, and made with the key that the round names.
// The worker is trusted for the relation between the ciphertext and the coordinates that are
// proven; the attested signature binds the proof to it. Rounds whose proving key the agent does
// not have are refused, and so are values beyond the bounds, each with a reason.
//
// Package fed calls it.
package normproof

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"math"

	"github.com/anchorhold/anchorhold/agent/prove/provetask"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// Reasons of this package.
const (
	// ReasonNoKey: this agent does not have the key that the round names.
	ReasonNoKey refusal.Reason = "norm-key-missing"
	// ReasonNotProven: the update could not be proven to be inside the bounds.
	ReasonNotProven refusal.Reason = "norm-not-proven"
)

// Prover proves in workers that contributions are inside their rounds' bounds. Rounds whose key is
// not in the ring are refused, as are those whose proof needs more memory than a worker may have.
// The nil Prover has no keys.
type Prover struct {
	Ring   *keyset.Ring
	Pool   *worker.Pool
	Limits worker.Limits
}

// Prove proves the coordinates that the worker gave beside a ciphertext: 16 bits each,
// little-endian. It fills in the contribution's Commitment and ProofDigest and returns
// the encoded envelope.
func (p *Prover) Prove(ctx context.Context, r federation.Round, c *federation.Contribution, coordinates []byte, progress func(worker.Progress)) ([]byte, error) {
	if p == nil {
		return nil, refusal.New(ReasonNoKey, "the round requires proofs of norms, but this agent is configured without proving keys")
	}
	set, err := p.Ring.Set(r.NormCircuit.VerifyingKey)
	if err == nil {
		err = r.NormFits(set.Record)
	}
	if err != nil {
		return nil, refusal.New(ReasonNoKey, "%v", err)
	}
	if _, err := provetask.Memory(set, p.Limits.Memory); errors.Is(err, keyset.ErrMissing) {
		return nil, refusal.New(ReasonNoKey, "%v", err)
	} else if err != nil {
		return nil, err
	}
	salt, err := statement.NewSalt()
	if err != nil {
		return nil, err
	}
	defer clear(salt[:])
	if uint64(len(coordinates)) != 2*r.Length {
		return nil, errors.New("normproof: the worker wrote another number of coordinates than the round has values")
	}
	values := provetask.Coordinates(coordinates)
	defer clear(values)
	c.Commitment = digest.Digest(commit(salt, int(r.NormCircuit.Bits), values))
	s := r.NormStatement(c)
	if err := holds(s.Gradient, values); err != nil {
		return nil, err
	}
	encoded, err := s.MarshalBinary()
	if err != nil {
		return nil, err
	}
	spec, err := json.Marshal(provetask.Gradient{Statement: encoded, Bits: int(r.NormCircuit.Bits)})
	if err != nil {
		return nil, err
	}
	_, proof, err := provetask.Run(ctx, p.Pool, worker.Task{Class: provetask.ClassGradient, Spec: spec, Limits: p.Limits}, set, progress, salt[:], coordinates)
	if errors.Is(err, provetask.ErrFiles) {
		return nil, refusal.New(ReasonNoKey, "%v", err)
	}
	if err != nil {
		return nil, err
	}
	e := &statement.Envelope{Statement: s, Key: set.Record.VerifyingKey, Proof: proof}
	if _, err := p.Ring.Verify(ctx, e); errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, provetask.ErrNoVerdict) {
		return nil, err // which says nothing about the proof
	} else if err != nil {
		return nil, refusal.New(ReasonNotProven, "%v", err)
	}
	raw, err := e.MarshalBinary()
	if err != nil {
		return nil, err
	}
	c.ProofDigest = sha256.Sum256(raw)
	return raw, nil
}

// holds says whether coordinates are inside a statement's bounds: no circuit proves others,
// but a worker's end does not say why.
func holds(g *statement.Gradient, coordinates []int16) error {
	var squares uint64
	for i, c := range coordinates {
		v := int64(c)
		if max(v, -v) > int64(g.LInf) {
			return refusal.New(ReasonNotProven, "coordinate %d exceeds the round's bound of %d steps", i, g.LInf)
		}
		squares += uint64(v * v)
	}
	if squares > g.SquaredL2 {
		return refusal.New(ReasonNotProven, "the norm exceeds the round's bound of %.1f steps", math.Sqrt(float64(g.SquaredL2)))
	}
	return nil
}

func commit(salt statement.Salt, bits int, coordinates []int16) statement.Commitment {
	if bits != 8 {
		return statement.GradientCommitment(salt, coordinates)
	}
	narrow := make([]int8, len(coordinates))
	defer clear(narrow)
	for i, c := range coordinates {
		narrow[i] = int8(c)
	}
	return statement.GradientCommitment8(salt, narrow)
}
