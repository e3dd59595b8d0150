package groth16verify

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/consensys/gnark-crypto/ecc"
	curve "github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"

	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// MaxBatch is the largest number of proofs in one batch.
const MaxBatch = 4096

// pairsAtOnce is how many pairings are computed between two looks at the context: some
// ten milliseconds.
const pairsAtOnce = 64

// Claim is one proof of a batch, for its public inputs.
type Claim struct {
	Proof  []byte
	Public []fr.Element
}

// BatchError names the proofs of a batch that do not hold, in ascending order.
type BatchError struct {
	Failed []Failure
}

// Failure is one proof that does not hold.
type Failure struct {
	Index int
	Err   error
}

// Error names the first failures.
func (e *BatchError) Error() string {
	const shown = 8
	var b strings.Builder
	fmt.Fprintf(&b, "groth16verify: %d proofs of the batch do not hold:", len(e.Failed))
	for _, f := range e.Failed[:min(shown, len(e.Failed))] {
		fmt.Fprintf(&b, " %d", f.Index)
	}
	if len(e.Failed) > shown {
		b.WriteString(" ...")
	}
	return b.String()
}

// Unwrap gives the failures' errors.
func (e *BatchError) Unwrap() []error {
	list := make([]error, len(e.Failed))
	for i, f := range e.Failed {
		list[i] = f.Err
	}
	return list
}

// claim is a claim that was parsed.
type claim struct {
	index   int
	proof   *proof
	scalars []fr.Element
	weight  weight
}

// VerifyBatch verifies many proofs of one key, in about a third of the time that they take one
// by one. It returns nil only if every proof holds. Otherwise it returns a *BatchError that
// names all proofs that do not hold, found by halving. An empty batch holds.
func (k *Key) VerifyBatch(ctx context.Context, claims []Claim) error {
	return k.batch(ctx, len(claims), func(i int) ([]byte, []fr.Element, error) { return claims[i].Proof, claims[i].Public, nil })
}

// VerifyEnvelopes is VerifyBatch of envelopes.
func (k *Key) VerifyEnvelopes(ctx context.Context, envelopes []*statement.Envelope) error {
	return k.batch(ctx, len(envelopes), func(i int) ([]byte, []fr.Element, error) {
		public, err := k.admit(envelopes[i])
		return envelopes[i].Proof, public, err
	})
}

func (k *Key) batch(ctx context.Context, n int, get func(int) ([]byte, []fr.Element, error)) error {
	if n > MaxBatch {
		return fmt.Errorf("groth16verify: a batch of %d proofs, the limit is %d", n, MaxBatch)
	}
	var bad BatchError
	parsed := make([]claim, 0, n)
	for i := range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		c, err := k.prepare(get(i))
		if err != nil {
			bad.Failed = append(bad.Failed, Failure{i, err})
			continue
		}
		c.index = i
		parsed = append(parsed, c)
	}
	return k.settle(ctx, parsed, &bad)
}

func (k *Key) prepare(raw []byte, public []fr.Element, err error) (claim, error) {
	if err != nil {
		return claim{}, err
	}
	p, err := k.parse(raw)
	if err != nil {
		return claim{}, err
	}
	scalars, err := k.scalars(p, public)
	return claim{proof: p, scalars: scalars}, err
}

// settle checks what was parsed and adds what fails to what has failed before.
func (k *Key) settle(ctx context.Context, parsed []claim, bad *BatchError) error {
	if err := k.halve(ctx, parsed, bad); err != nil {
		return err
	}
	if len(bad.Failed) == 0 {
		return ctx.Err()
	}
	slices.SortFunc(bad.Failed, func(a, b Failure) int { return a.Index - b.Index })
	return bad
}

// halve finds the claims that do not hold. Weights are drawn anew for every part, so that
// nobody can prepare claims whose errors cancel.
func (k *Key) halve(ctx context.Context, part []claim, bad *BatchError) error {
	if len(part) == 0 {
		return nil
	}
	holds, err := k.together(ctx, part)
	switch {
	case err != nil:
		return err
	case holds:
		return nil
	case len(part) == 1:
		bad.Failed = append(bad.Failed, Failure{part[0].index, badProof("it does not hold for these public inputs")})
		return nil
	}
	middle := len(part) / 2
	if err := k.halve(ctx, part[:middle], bad); err != nil {
		return err
	}
	return k.halve(ctx, part[middle:], bad)
}

// together checks the sum of all claims' equations, each with a random weight w:
//
//	product of e(w*a, b) * e(sum of w*inputs, -gamma) * e(sum of w*c, -delta) = e(alpha, beta)^(sum of w)
//
// and, with weights of their own, the commitments' equations.
func (k *Key) together(ctx context.Context, part []claim) (bool, error) {
	firsts, seconds := make([]curve.G1Jac, len(part)), make([]curve.G2Affine, len(part))
	weights, knowledge := make([]fr.Element, len(part)), make([]fr.Element, len(part))
	inputs := make([]fr.Element, len(k.terms))
	var total fr.Element
	for i := range part {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		c := &part[i]
		c.weight = newWeight()
		weights[i] = c.weight.scalar()
		knowledge[i] = newWeight().scalar()
		total.Add(&total, &weights[i])
		firsts[i], seconds[i] = c.weight.times(&c.proof.a), c.proof.b
		var v fr.Element
		for j := range c.scalars {
			inputs[j].Add(&inputs[j], v.Mul(&c.scalars[j], &weights[i]))
		}
	}
	fixed, err := k.sides(part, inputs, total, weights, knowledge)
	if err != nil {
		return false, err
	}
	product, err := curve.MillerLoopFixedQ(fixed, slices.Clone(k.fixed)) // which writes into its tables
	if err != nil {
		return false, err
	}
	affine := curve.BatchJacobianToAffineG1(firsts)
	for at := 0; at < len(affine); at += pairsAtOnce {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		end := min(at+pairsAtOnce, len(affine))
		f, err := curve.MillerLoop(affine[at:end], seconds[at:end])
		if err != nil {
			return false, err
		}
		product.Mul(&product, &f)
	}
	var target curve.GT
	target.Exp(k.target, total.BigInt(new(big.Int)))
	got := curve.FinalExponentiation(&product)
	return got.Equal(&target), nil
}

// sides are the points that stand beside the key's fixed ones.
func (k *Key) sides(part []claim, inputs []fr.Element, total fr.Element, weights, knowledge []fr.Element) ([]curve.G1Affine, error) {
	column := func(of func(*proof) curve.G1Affine, scalars []fr.Element) (sum curve.G1Jac, err error) {
		points := make([]curve.G1Affine, len(part))
		for i := range part {
			points[i] = of(part[i].proof)
		}
		_, err = sum.MultiExp(points, scalars, ecc.MultiExpConfig{NbTasks: 1})
		return sum, err
	}
	left := combine(k.terms, inputs)
	var constant curve.G1Jac
	constant.FromAffine(&k.constant)
	constant.ScalarMultiplication(&constant, total.BigInt(new(big.Int)))
	left.AddAssign(&constant)
	sums := make([]curve.G1Jac, len(k.fixed))
	var err error
	if sums[1], err = column(func(p *proof) curve.G1Affine { return p.c }, weights); err != nil {
		return nil, err
	}
	if k.hasCommitment() {
		commitment := func(p *proof) curve.G1Affine { return p.commitment }
		committed, err := column(commitment, weights)
		if err != nil {
			return nil, err
		}
		left.AddAssign(&committed)
		if sums[2], err = column(commitment, knowledge); err != nil {
			return nil, err
		}
		if sums[3], err = column(func(p *proof) curve.G1Affine { return p.knowledge }, knowledge); err != nil {
			return nil, err
		}
	}
	sums[0] = left
	return curve.BatchJacobianToAffineG1(sums), nil
}
