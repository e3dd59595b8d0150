package ptau

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/bits"
	"runtime"

	"github.com/consensys/gnark-crypto/ecc"
	curve "github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark/backend/groth16/bn254/mpcsetup"
)

// Powers returns the first phase of Groth16 for circuits of a domain, a power of two and the
// largest number of constraints. The error is ErrPower, ErrRefused, the context's, or a failure
// to read.
func (f *File) Powers(ctx context.Context, domain uint64, tell Progress) (*mpcsetup.SrsCommons, error) {
	tell = orSilent(tell)
	if bits.OnesCount64(domain) != 1 || domain < 2 || domain > 1<<f.Power {
		return nil, fmt.Errorf("%w: got 2^%d, want a domain of 2^%d", ErrPower, f.Power, bits.Len64(domain-1))
	}
	n := int(domain)
	var c mpcsetup.SrsCommons
	err := steps(ctx, tell,
		step{"powers of tau in G1", func() (err error) { c.G1.Tau, err = readPoints(ctx, f, secTauG1, 2*n-1, decodeG1); return }},
		step{"powers of tau in G2", func() (err error) { c.G2.Tau, err = readPoints(ctx, f, secTauG2, n, decodeG2); return }},
		step{"powers times alpha", func() (err error) { c.G1.AlphaTau, err = readPoints(ctx, f, secAlphaG1, n, decodeG1); return }},
		step{"powers times beta", func() (err error) { c.G1.BetaTau, err = readPoints(ctx, f, secBetaG1, n, decodeG1); return }},
		step{"beta in G2", func() error {
			beta, err := readPoints(ctx, f, secBetaG2, 1, decodeG2)
			if err == nil {
				c.G2.Beta = beta[0]
			}
			return err
		}},
		step{"pairings", func() error { return checkPowers(ctx, &c, n) }})
	if err != nil {
		return nil, err
	}
	return &c, nil
}

// step is a part of what takes long.
type step struct {
	what string
	do   func() error
}

func steps(ctx context.Context, tell Progress, list ...step) error {
	for _, s := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		tell(s.what)
		if err := s.do(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func orSilent(tell Progress) Progress {
	if tell == nil {
		return func(string) {}
	}
	return tell
}

// checkPowers checks that the points of c belong together. Every point is known to be in
// its group and not zero.
func checkPowers(ctx context.Context, c *mpcsetup.SrsCommons, n int) error {
	if err := checkTau(c.G1.Tau, c.G2.Tau[0], c.G2.Tau[1], n); err != nil {
		return err
	}
	_, _, g1, g2 := curve.Generators()
	if c.G1.AlphaTau[0].Equal(&g1) || c.G1.BetaTau[0].Equal(&g1) {
		return refused("alpha or beta is 1: nobody contributed")
	}
	if err := samePairing(c.G1.BetaTau[0], g2, g1, c.G2.Beta, "beta in G2 differs from beta in G1"); err != nil {
		return err
	}
	for _, list := range []struct {
		name   string
		points []curve.G1Affine
	}{{"powers of tau in G1", c.G1.Tau}, {"powers times alpha", c.G1.AlphaTau}, {"powers times beta", c.G1.BetaTau}} {
		if err := checkG1(ctx, list.points, c.G2.Tau[1], list.name); err != nil {
			return err
		}
	}
	return checkG2(ctx, c.G2.Tau, c.G1.Tau[1])
}

// checkTau checks where the powers begin, and that tau is good for a domain of n: it is
// neither 1 nor another root of unity of the domain, where Lagrange's polynomials vanish.
func checkTau(g1s []curve.G1Affine, one, tau curve.G2Affine, n int) error {
	_, _, g1, g2 := curve.Generators()
	if !g1s[0].Equal(&g1) || !one.Equal(&g2) {
		return refused("the powers do not begin with the generators")
	}
	if g1s[1].Equal(&g1) {
		return refused("tau is 1: nobody contributed")
	}
	if g1s[n].Equal(&g1) {
		return refused("tau is a root of unity of the domain")
	}
	return samePairing(g1s[1], g2, g1, tau, "tau in G2 differs from tau in G1")
}

// samePairing refuses unless e(a, b) = e(c, d).
func samePairing(a curve.G1Affine, b curve.G2Affine, c curve.G1Affine, d curve.G2Affine, otherwise string) error {
	c.Neg(&c)
	same, err := curve.PairingCheck([]curve.G1Affine{a, c}, []curve.G2Affine{b, d})
	if err != nil {
		return fmt.Errorf("ptau: pairing: %w", err)
	}
	if !same {
		return refused("%s", otherwise)
	}
	return nil
}

// checkPiece is how many points are combined between two looks at the context.
const checkPiece = 1 << 16

// eachPiece calls do for pieces of n numbers, each with random coefficients of 128 bits.
func eachPiece(ctx context.Context, n int, do func(from int, r []fr.Element) error) error {
	for from := 0; from < n; from += checkPiece {
		if err := ctx.Err(); err != nil {
			return err
		}
		r := make([]fr.Element, min(n-from, checkPiece))
		seed := make([]byte, 16*len(r))
		rand.Read(seed) // never fails
		for i := range r {
			r[i].SetBytes(seed[16*i : 16*(i+1)])
		}
		if err := do(from, r); err != nil {
			return err
		}
	}
	return nil
}

func msm() ecc.MultiExpConfig { return ecc.MultiExpConfig{NbTasks: runtime.GOMAXPROCS(0)} }

// checkG1 checks that each point but the first is tau times the one before.
func checkG1(ctx context.Context, points []curve.G1Affine, tau curve.G2Affine, name string) error {
	var before, after curve.G1Affine
	err := eachPiece(ctx, len(points)-1, func(from int, r []fr.Element) error {
		var b, a curve.G1Affine
		if _, err := b.MultiExp(points[from:from+len(r)], r, msm()); err != nil {
			return err
		}
		if _, err := a.MultiExp(points[from+1:from+1+len(r)], r, msm()); err != nil {
			return err
		}
		before.Add(&before, &b)
		after.Add(&after, &a)
		return nil
	})
	if err != nil {
		return err
	}
	_, _, _, g2 := curve.Generators()
	return samePairing(before, tau, after, g2, name+" are not a sequence of powers")
}

// checkG2 does the same in G2.
func checkG2(ctx context.Context, points []curve.G2Affine, tau curve.G1Affine) error {
	var before, after curve.G2Affine
	err := eachPiece(ctx, len(points)-1, func(from int, r []fr.Element) error {
		var b, a curve.G2Affine
		if _, err := b.MultiExp(points[from:from+len(r)], r, msm()); err != nil {
			return err
		}
		if _, err := a.MultiExp(points[from+1:from+1+len(r)], r, msm()); err != nil {
			return err
		}
		before.Add(&before, &b)
		after.Add(&after, &a)
		return nil
	})
	if err != nil {
		return err
	}
	_, _, g1, _ := curve.Generators()
	return samePairing(tau, before, g1, after, "powers of tau in G2 are not a sequence of powers")
}
