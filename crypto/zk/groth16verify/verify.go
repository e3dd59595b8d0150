package groth16verify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	curve "github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"

	"github.com/anchorhold/anchorhold/crypto/zk/scalars"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// ErrProof means a proof that does not prove its statement.
var ErrProof = errors.New("groth16verify: proof refused")

// ErrMismatch means an envelope for a different key, or a wrong number of public inputs.
var ErrMismatch = errors.New("groth16verify: the key does not match the envelope")

func badProof(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrProof, fmt.Errorf(format, args...))
}

// challengeLabel is gnark's, for the number that a circuit draws from its commitment.
const challengeLabel = "bsb22-commitment"

// proof is a proof with all points in their groups.
type proof struct {
	a, c                  curve.G1Affine
	b                     curve.G2Affine
	commitment, knowledge curve.G1Affine // if the key has a commitment
}

// parse reads a proof: a, b, c, a list of commitments, and the proof of knowledge of
// what is committed to, which is infinity if the list is empty.
func (k *Key) parse(raw []byte) (*proof, error) {
	if len(raw) != k.ProofBytes() {
		return nil, badProof("got %d bytes, this key's proofs have %d", len(raw), k.ProofBytes())
	}
	var p proof
	commitments := raw[2*g1Bytes+g2Bytes:]
	err := errors.Join(readG1(&p.a, raw[:g1Bytes]), readG2(&p.b, raw[g1Bytes:g1Bytes+g2Bytes]),
		readG1(&p.c, raw[g1Bytes+g2Bytes:2*g1Bytes+g2Bytes]))
	if err != nil {
		return nil, badProof("%w", err)
	}
	count, rest := binary.BigEndian.Uint32(commitments), commitments[4:]
	if !k.hasCommitment() {
		infinity := (&curve.G1Affine{}).Bytes()
		if count != 0 || !slices.Equal(rest, infinity[:]) {
			return nil, badProof("this key's proofs have no commitment")
		}
		return &p, nil
	}
	if count != 1 {
		return nil, badProof("got %d commitments, this key's proofs have one", count)
	}
	if err := errors.Join(readG1(&p.commitment, rest[:g1Bytes]), readG1(&p.knowledge, rest[g1Bytes:])); err != nil {
		return nil, badProof("%w", err)
	}
	return &p, nil
}

// scalars are the public inputs and, if there is a commitment, the challenge, which is
// the hash of the commitment in its uncompressed form and of the public inputs that are
// committed to.
func (k *Key) scalars(p *proof, public []fr.Element) ([]fr.Element, error) {
	if len(public) != k.inputs {
		return nil, fmt.Errorf("%w: got %d public inputs, the key has %d", ErrMismatch, len(public), k.inputs)
	}
	list := slices.Clone(public)
	if !k.hasCommitment() {
		return list, nil
	}
	point := p.commitment.RawBytes()
	message := slices.Clone(point[:])
	for _, i := range k.committed {
		value := public[i].Bytes()
		message = append(message, value[:]...)
	}
	challenge, err := fr.Hash(message, []byte(challengeLabel), 1)
	if err != nil {
		return nil, badProof("%w", err)
	}
	return append(list, challenge[0]), nil
}

// Verify verifies one proof for public inputs. It returns ErrProof for a proof that does not
// hold, ErrMismatch for a wrong number of inputs, and the context's error once that has ended,
// which it checks between steps of less than a millisecond.
func (k *Key) Verify(ctx context.Context, raw []byte, public []fr.Element) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p, err := k.parse(raw)
	if err != nil {
		return err
	}
	scalars, err := k.scalars(p, public)
	if err != nil {
		return err
	}
	sum := combine(k.terms, scalars)
	sum.AddMixed(&k.constant)
	points := []curve.G1Affine{p.a, {}, p.c}
	tables := append([]lines{curve.PrecomputeLines(p.b)}, k.fixed...)
	if k.hasCommitment() {
		sum.AddMixed(&p.commitment)
		w := newWeight()
		commitment, knowledge := w.times(&p.commitment), w.times(&p.knowledge)
		points = append(points, *new(curve.G1Affine).FromJacobian(&commitment), *new(curve.G1Affine).FromJacobian(&knowledge))
	}
	points[1].FromJacobian(&sum)
	if err := ctx.Err(); err != nil {
		return err
	}
	product, err := curve.MillerLoopFixedQ(points, tables) // which writes into tables
	if err != nil {
		return badProof("%w", err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if got := curve.FinalExponentiation(&product); !got.Equal(&k.target) {
		return badProof("it does not hold for these public inputs")
	}
	return ctx.Err()
}

// VerifyEnvelope verifies an envelope's proof of its statement. The caller has made sure, by a
// statement.Record, that the key is for the statement's circuit.
func (k *Key) VerifyEnvelope(ctx context.Context, e *statement.Envelope) error {
	public, err := k.admit(e)
	if err != nil {
		return err
	}
	return k.Verify(ctx, e.Proof, public)
}

// admit returns the public inputs of an envelope that is of this key.
func (k *Key) admit(e *statement.Envelope) ([]fr.Element, error) {
	if err := e.Check(); err != nil {
		return nil, err
	}
	if e.Statement.System != statement.Groth16 || e.Key != k.digest {
		return nil, fmt.Errorf("%w: the envelope is for %s and the key %s", ErrMismatch, e.Statement.System, e.Key)
	}
	return scalars.Public(&e.Statement)
}
