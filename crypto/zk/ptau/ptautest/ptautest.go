// Package ptautest makes small powers-of-tau files, for tests of the packages that read them.
//
// The files come from a real ceremony of three parties, each of whom forgets its secret, in the
// format of snarkjs. Only tests import it: nobody should trust a file that one process made alone.
package ptautest

import (
	"encoding/binary"

	curve "github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fp"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr/fft"
	"github.com/consensys/gnark-crypto/ecc/bn254/kzg"
	"github.com/consensys/gnark/backend/groth16/bn254/mpcsetup"
)

// parties of the ceremony.
const parties = 3

// contributionBytes is the length of a contribution without parameters.
const contributionBytes = 1504

// Commons holds a ceremony for a domain of 2^power.
func Commons(power int) *mpcsetup.SrsCommons {
	now := mpcsetup.NewPhase1(1 << power)
	for range parties {
		now.Contribute()
	}
	c := now.Seal([]byte("a beacon of tests"))
	return &c
}

// Section is a section of a file.
type Section struct {
	Kind uint32
	Data []byte
}

// Sections are those of a file with these powers; prepared adds Lagrange's form of the
// powers of tau in G1.
func Sections(c *mpcsetup.SrsCommons, prepared bool) ([]Section, error) {
	list := plain(c)
	if !prepared {
		return list, nil
	}
	var lagrange []byte
	for size := 1; size <= len(c.G2.Tau); size *= 2 {
		if size == 1 {
			lagrange = append(lagrange, G1(c.G1.Tau[:1])...)
			continue
		}
		points, err := kzg.ToLagrangeG1(c.G1.Tau[:size])
		if err != nil {
			return nil, err
		}
		lagrange = append(lagrange, G1(points)...)
	}
	return append(list, Section{12, lagrange}), nil
}

// plain are the sections that every file has.
func plain(c *mpcsetup.SrsCommons) []Section {
	n := len(c.G2.Tau)
	power := uint32(0)
	for 1<<power < n {
		power++
	}
	le := binary.LittleEndian
	header := le.AppendUint32(nil, fp.Bytes)
	prime := fp.Modulus().FillBytes(make([]byte, fp.Bytes))
	for i := range prime {
		header = append(header, prime[len(prime)-1-i])
	}
	header = le.AppendUint32(le.AppendUint32(header, power), power)
	return []Section{{1, header}, {2, G1(c.G1.Tau)}, {3, G2(c.G2.Tau)}, {4, G1(c.G1.AlphaTau)}, {5, G1(c.G1.BetaTau)},
		{6, G2([]curve.G2Affine{c.G2.Beta})}, {7, append(le.AppendUint32(nil, parties), make([]byte, parties*contributionBytes)...)}}
}

// Quick are the sections of a file for 2^power whose secrets this process knew, with the
// Lagrange form: for tests that cannot wait for a ceremony.
func Quick(power int) []Section {
	n := 1 << power
	var tau, alpha, beta fr.Element
	for _, e := range []*fr.Element{&tau, &alpha, &beta} {
		e.MustSetRandom()
	}
	times := func(first fr.Element, count int) []fr.Element {
		list := make([]fr.Element, count)
		for i := range list {
			list[i] = first
			first.Mul(&first, &tau)
		}
		return list
	}
	_, _, g1, g2 := curve.Generators()
	var c mpcsetup.SrsCommons
	c.G1.Tau = curve.BatchScalarMultiplicationG1(&g1, times(fr.One(), 2*n-1))
	c.G1.AlphaTau = curve.BatchScalarMultiplicationG1(&g1, times(alpha, n))
	c.G1.BetaTau = curve.BatchScalarMultiplicationG1(&g1, times(beta, n))
	c.G2.Tau = curve.BatchScalarMultiplicationG2(&g2, times(fr.One(), n))
	c.G2.Beta = curve.BatchScalarMultiplicationG2(&g2, []fr.Element{beta})[0]
	lagrange := G1(c.G1.Tau[:1])
	for size := 2; size <= n; size *= 2 {
		lagrange = append(lagrange, G1(curve.BatchScalarMultiplicationG1(&g1, lagrangeAt(tau, uint64(size))))...)
	}
	return append(plain(&c), Section{12, lagrange})
}

// lagrangeAt are the values at x of the polynomials that are 1 at one root of unity and 0 at
// the others: (x^n - 1) / n * w^i / (x - w^i).
func lagrangeAt(x fr.Element, n uint64) []fr.Element {
	domain := fft.NewDomain(n)
	factor := x
	for m := n; m > 1; m /= 2 {
		factor.Square(&factor)
	}
	one := fr.One()
	factor.Sub(&factor, &one).Mul(&factor, &domain.CardinalityInv)
	roots, gaps := make([]fr.Element, n), make([]fr.Element, n)
	root := one
	for i := range roots {
		roots[i] = root
		gaps[i].Sub(&x, &root)
		root.Mul(&root, &domain.Generator)
	}
	for i, inverse := range fr.BatchInvert(gaps) {
		roots[i].Mul(&roots[i], &inverse).Mul(&roots[i], &factor)
	}
	return roots
}

// File puts sections into a file.
func File(sections []Section) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(le.AppendUint32([]byte("ptau"), 1), uint32(len(sections)))
	for _, s := range sections {
		b = append(le.AppendUint64(le.AppendUint32(b, s.Kind), uint64(len(s.Data))), s.Data...)
	}
	return b
}

// New makes a file of a power.
func New(power int, prepared bool) ([]byte, error) {
	s, err := Sections(Commons(power), prepared)
	return File(s), err
}

func element(b []byte, list ...*fp.Element) []byte {
	for _, e := range list {
		for _, limb := range e { // in Montgomery form, as in the file
			b = binary.LittleEndian.AppendUint64(b, limb)
		}
	}
	return b
}

// G1 encodes points.
func G1(points []curve.G1Affine) (b []byte) {
	for i := range points {
		b = element(b, &points[i].X, &points[i].Y)
	}
	return b
}

// G2 encodes points.
func G2(points []curve.G2Affine) (b []byte) {
	for i := range points {
		b = element(b, &points[i].X.A0, &points[i].X.A1, &points[i].Y.A0, &points[i].Y.A1)
	}
	return b
}
