package ptau

import (
	"context"
	"fmt"
	"math/bits"

	curve "github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr/fft"
	"github.com/consensys/gnark-crypto/ecc/bn254/kzg"
	"github.com/consensys/gnark-crypto/utils"
)

// Blinding is the number of powers above its domain that a PLONK prover needs, to hide the
// values that it opens.
const Blinding = 3

// KZG returns the reference string of PLONK for a domain, a power of two: domain+Blinding powers
// of tau, and the same string in Lagrange form for the domain. A file that was prepared for
// phase 2 contains the second, and is refused if a random combination shows that to be wrong;
// for any other file it is computed, which takes far longer. The error is ErrPower, ErrRefused,
// the context's, or a failure to read.
func (f *File) KZG(ctx context.Context, domain uint64, tell Progress) (monomial, lagrange *kzg.SRS, err error) {
	tell = orSilent(tell)
	if bits.OnesCount64(domain) != 1 || domain < 2 || domain > 1<<f.Power || domain+Blinding > uint64(points(secTauG1, f.Power)) {
		return nil, nil, fmt.Errorf("%w: got 2^%d, want a domain of 2^%d", ErrPower, f.Power, bits.Len64(domain-1))
	}
	n := int(domain)
	var g1s []curve.G1Affine
	var g2s []curve.G2Affine
	monomial, lagrange = new(kzg.SRS), new(kzg.SRS)
	err = steps(ctx, tell,
		step{"powers of tau in G1", func() (err error) { g1s, err = readPoints(ctx, f, secTauG1, n+Blinding, decodeG1); return }},
		step{"tau in G2", func() (err error) { g2s, err = readPoints(ctx, f, secTauG2, 2, decodeG2); return }},
		step{"pairings", func() error {
			if err := checkTau(g1s, g2s[0], g2s[1], n); err != nil {
				return err
			}
			return checkG1(ctx, g1s, g2s[1], "powers of tau in G1")
		}},
		step{"Lagrange form", func() (err error) { lagrange.Pk.G1, err = f.lagrange(ctx, g1s[:n]); return }})
	if err != nil {
		return nil, nil, err
	}
	monomial.Pk.G1 = g1s
	monomial.Vk.G1 = g1s[0]
	for i, p := range g2s {
		monomial.Vk.G2[i], monomial.Vk.Lines[i] = p, curve.PrecomputeLines(p)
	}
	lagrange.Vk = monomial.Vk
	return monomial, lagrange, nil
}

// lagrange is Lagrange's form of powers of tau.
func (f *File) lagrange(ctx context.Context, powers []curve.G1Affine) ([]curve.G1Affine, error) {
	list, err := f.preparedLagrange(ctx, powers)
	if list != nil || err != nil {
		return list, err
	}
	return kzg.ToLagrangeG1(powers)
}

// preparedLagrange reads Lagrange's form from section 12, which has a list for each power
// of two, the shortest first. It returns nil for a file that does not have it.
func (f *File) preparedLagrange(ctx context.Context, powers []curve.G1Affine) ([]curve.G1Affine, error) {
	n := len(powers)
	s := f.sections[secLagrangeTauG1]
	skip := int64(n-1) * g1Bytes // 1 + 2 + ... + n/2 points
	if s.size < skip+int64(n)*g1Bytes {
		return nil, nil
	}
	part := *f
	part.sections[secLagrangeTauG1] = section{s.at + skip, s.size - skip}
	list, err := readPoints(ctx, &part, secLagrangeTauG1, n, decodeG1)
	if err != nil {
		return nil, err
	}
	return list, checkLagrange(powers, list)
}

// checkLagrange checks that both are forms of one string: a random polynomial has the same
// commitment by its values and by its coefficients.
func checkLagrange(powers, list []curve.G1Affine) error {
	values := make([]fr.Element, len(list))
	for i := range values {
		values[i].MustSetRandom()
	}
	var byValues, byCoefficients curve.G1Affine
	if _, err := byValues.MultiExp(list, values, msm()); err != nil {
		return err
	}
	fft.NewDomain(uint64(len(values))).FFTInverse(values, fft.DIF)
	utils.BitReverse(values)
	if _, err := byCoefficients.MultiExp(powers, values, msm()); err != nil {
		return err
	}
	if !byValues.Equal(&byCoefficients) {
		return refused("section %d is not the Lagrange form of section %d", secLagrangeTauG1, secTauG1)
	}
	return nil
}
