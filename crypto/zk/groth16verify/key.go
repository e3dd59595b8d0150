package groth16verify

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	curve "github.com/consensys/gnark-crypto/ecc/bn254"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// ErrKey means bytes that are not a usable verifying key.
var ErrKey = errors.New("groth16verify: verifying key refused")

func badKey(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrKey, fmt.Errorf(format, args...))
}

// Sizes of the canonical encoding, in bytes.
const (
	g1Bytes = curve.SizeOfG1AffineCompressed
	g2Bytes = curve.SizeOfG2AffineCompressed
	// Before the points of the public inputs: three points in G1, three in G2, a count.
	keyHeadBytes = 3*g1Bytes + 3*g2Bytes + 4
	// MaxKeyBytes bounds a key: points for all public inputs, the constant and the commitment,
	// and the list of inputs that are committed to.
	MaxKeyBytes = keyHeadBytes + (statement.MaxPublicInputs+2)*g1Bytes + 3*4 + 8*statement.MaxPublicInputs + 2*g2Bytes
)

// lines are a fixed point's part of a pairing.
type lines = [2][len(curve.LoopCounter)]curve.LineEvaluationAff

// Key is a verifying key, ready for use by any number of goroutines.
type Key struct {
	digest digest.Digest
	inputs int // public inputs, without the constant and the commitment's challenge

	constant curve.G1Affine
	// terms are of each public input and, if there is a commitment, of its challenge.
	terms []multiples
	// target is e(alpha, beta).
	target curve.GT
	// fixed are -gamma, -delta and, if there is a commitment, -sigma*G and G.
	fixed []lines
	// committed are the public inputs, counted from 0, that the challenge depends on.
	committed []int
}

// ParseKey reads the canonical bytes of a verifying key, as gnark's WriteTo writes them. The
// error is ErrKey.
func ParseKey(raw []byte) (*Key, error) {
	if len(raw) < keyHeadBytes || len(raw) > MaxKeyBytes {
		return nil, badKey("got %d bytes, want %d to %d", len(raw), keyHeadBytes, MaxKeyBytes)
	}
	p := &keyParser{in: raw}
	alpha, betaOne := p.g1(), p.g1()
	beta, gamma := p.g2(), p.g2()
	deltaOne, delta := p.g1(), p.g2()
	points := p.points()
	committed, hasCommitment := p.committed(len(points))
	var sigma, base curve.G2Affine
	if hasCommitment {
		base, sigma = p.g2(), p.g2()
	}
	switch {
	case p.err != nil:
		return nil, p.err
	case len(p.in) != 0:
		return nil, badKey("%d bytes after the end", len(p.in))
	}
	if err := untouched(alpha, betaOne, deltaOne, beta, gamma, delta); err != nil {
		return nil, err
	}
	if hasCommitment {
		var negated curve.G2Affine
		if negated.Neg(&base); base.Equal(&sigma) || negated.Equal(&sigma) {
			return nil, badKey("the commitment's secret is one")
		}
	}
	k := &Key{digest: sha256.Sum256(raw), inputs: len(points) - 1, constant: points[0], committed: committed}
	if hasCommitment {
		k.inputs--
	}
	var err error
	if k.target, err = curve.Pair([]curve.G1Affine{alpha}, []curve.G2Affine{beta}); err != nil {
		return nil, badKey("%w", err)
	}
	gamma.Neg(&gamma)
	delta.Neg(&delta)
	k.fixed = []lines{curve.PrecomputeLines(gamma), curve.PrecomputeLines(delta)}
	if hasCommitment {
		k.fixed = append(k.fixed, curve.PrecomputeLines(sigma), curve.PrecomputeLines(base))
	}
	k.terms = tabulate(points[1:])
	return k, nil
}

// untouched refuses keys of a set-up that nobody contributed to: with a known delta,
// or one that is gamma, proofs of anything can be computed. gamma alone may be the
// generator, as multi-party set-ups have it.
func untouched(alpha, betaOne, deltaOne curve.G1Affine, beta, gamma, delta curve.G2Affine) error {
	_, _, one, two := curve.Generators()
	if alpha.Equal(&one) || betaOne.Equal(&one) || deltaOne.Equal(&one) {
		return badKey("a secret of its trusted setup is one") // beta's and delta's other halves follow below
	}
	if delta.Equal(&gamma) {
		return badKey("gamma and delta are equal")
	}
	// Both halves of beta and of delta are of one secret.
	var negated curve.G1Affine
	negated.Neg(&one)
	for _, pair := range []struct {
		g1 curve.G1Affine
		g2 curve.G2Affine
	}{{betaOne, beta}, {deltaOne, delta}} {
		if same, err := curve.PairingCheck([]curve.G1Affine{pair.g1, negated}, []curve.G2Affine{two, pair.g2}); err != nil || !same {
			return badKey("its two halves do not match")
		}
	}
	return nil
}

// Digest is the SHA-256 of the canonical bytes; it names the key.
func (k *Key) Digest() digest.Digest { return k.digest }

// Inputs is the number of public inputs.
func (k *Key) Inputs() int { return k.inputs }

// hasCommitment says whether proofs carry a commitment to witnesses.
func (k *Key) hasCommitment() bool { return len(k.fixed) == 4 }

// ProofBytes is the length of every proof.
func (k *Key) ProofBytes() int {
	n := 3*g1Bytes + g2Bytes + 4
	if k.hasCommitment() {
		n += g1Bytes
	}
	return n
}

// keyParser reads a key's parts in their order; after an error it does nothing.
type keyParser struct {
	in  []byte
	err error
}

func (p *keyParser) take(n int) []byte {
	if p.err == nil && len(p.in) < n {
		p.err = badKey("cut short")
	}
	if p.err != nil {
		return nil
	}
	out := p.in[:n]
	p.in = p.in[n:]
	return out
}

func (p *keyParser) g1() (v curve.G1Affine) {
	if raw := p.take(g1Bytes); raw != nil {
		if err := readG1(&v, raw); err != nil {
			p.err = badKey("%w", err)
		}
	}
	return v
}

func (p *keyParser) g2() (v curve.G2Affine) {
	if raw := p.take(g2Bytes); raw != nil {
		if err := readG2(&v, raw); err != nil {
			p.err = badKey("%w", err)
		}
	}
	return v
}

func (p *keyParser) count(limit int) int {
	raw := p.take(4)
	if raw == nil {
		return 0
	}
	n := binary.BigEndian.Uint32(raw)
	if n > uint32(limit) {
		p.err = badKey("a list of %d entries, the limit is %d", n, limit)
		return 0
	}
	return int(n)
}

// points are those of the constant, the public inputs and the challenge.
func (p *keyParser) points() []curve.G1Affine {
	n := p.count(statement.MaxPublicInputs + 2)
	if p.err == nil && (n < 1 || len(p.in) < n*g1Bytes) {
		p.err = badKey("the number of points for public inputs is %d, with %d bytes left", n, len(p.in))
	}
	if p.err != nil {
		return nil
	}
	list := make([]curve.G1Affine, n)
	for i := range list {
		// A point at infinity, which g1 refuses, would be of an input that is free.
		list[i] = p.g1()
	}
	return list
}

// committed reads which public inputs the commitment's challenge depends on, and
// whether there is a commitment. More than one is refused.
func (p *keyParser) committed(points int) (list []int, has bool) {
	if p.count(1) == 1 {
		has = true
		limit := points - 2 // without the constant and the challenge
		if limit < 0 {
			p.err = badKey("a commitment has no point for its challenge")
			return nil, false
		}
		last := 0
		for range p.count(limit) {
			raw := p.take(8)
			if raw == nil {
				return nil, false
			}
			v := binary.BigEndian.Uint64(raw)
			if v <= uint64(last) || v > uint64(limit) {
				p.err = badKey("committed inputs are not in order, or there is no input %d", v)
				return nil, false
			}
			last = int(v)
			list = append(list, last-1)
		}
	}
	if keys := p.count(1); p.err == nil && (keys == 1) != has {
		p.err = badKey("commitments and their keys differ in number")
	}
	return list, has
}
