package groth16verify

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"math/big"
	"math/bits"
	"sync"

	curve "github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fp"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
)

var (
	errPoint    = errors.New("not a compressed point of its group")
	errInfinity = errors.New("a point at infinity")
)

// finite looks at the flags of a compressed point.
func finite(first byte) error {
	switch first >> 6 {
	case 0b10, 0b11:
		return nil
	case 0b01:
		return errInfinity
	}
	return errPoint
}

// readG1 reads a finite point in its compressed form, which is unique.
func readG1(v *curve.G1Affine, raw []byte) error {
	if err := finite(raw[0]); err != nil {
		return err
	}
	if _, err := v.SetBytes(raw); err != nil { // canonical, on the curve; the group is the whole curve
		return errPoint
	}
	return nil
}

// readG2 reads a finite point of the subgroup in its compressed form, which is unique.
func readG2(v *curve.G2Affine, raw []byte) error {
	if err := finite(raw[0]); err != nil {
		return err
	}
	if _, err := v.SetBytes(raw); err != nil { // canonical, on the curve, in the subgroup
		return errPoint
	}
	return nil
}

// multiples are 1 to 15 times a point.
type multiples [15]curve.G1Affine

// tabulate computes the multiples of points.
func tabulate(points []curve.G1Affine) []multiples {
	list := make([]multiples, len(points))
	row := make([]curve.G1Jac, len(multiples{}))
	for i := range points {
		row[0].FromAffine(&points[i])
		for m := 1; m < len(row); m++ {
			row[m].Set(&row[m-1]).AddMixed(&points[i])
		}
		copy(list[i][:], curve.BatchJacobianToAffineG1(row))
	}
	return list
}

// combine is the sum of scalars times points. A scalar above half the modulus counts as
// the negative number that it is, so that small amounts are quick. Its time depends on
// the scalars, which are public.
func combine(points []multiples, scalars []fr.Element) curve.G1Jac {
	type digits struct {
		words    [4]uint64
		negative bool
	}
	list := make([]digits, len(scalars))
	top := -1 // the highest digit that is not zero
	for i := range scalars {
		v := scalars[i]
		if v.LexicographicallyLargest() {
			v.Neg(&v)
			list[i].negative = true
		}
		list[i].words = v.Bits()
		for word := 3; word >= 0 && top < 16*(word+1); word-- {
			if w := list[i].words[word]; w != 0 {
				top = max(top, 16*word+(63-bits.LeadingZeros64(w))/4)
				break
			}
		}
	}
	var sum curve.G1Jac // infinity
	var negated curve.G1Affine
	for at := top; at >= 0; at-- {
		if at != top {
			for range 4 {
				sum.DoubleAssign()
			}
		}
		for i := range list {
			d := list[i].words[at/16] >> (4 * (at % 16)) & 15
			switch {
			case d == 0:
			case list[i].negative:
				sum.AddMixed(negated.Neg(&points[i][d-1]))
			default:
				sum.AddMixed(&points[i][d-1])
			}
		}
	}
	return sum
}

// weight is a random number that one equation is multiplied with, so that a sum of
// equations holds only if each does, but with a probability of 2^-128. It is
// low + high*lambda, where lambda is a cube root of one, and such numbers are all
// different: a point is multiplied with it in half the time.
type weight struct{ low, high uint64 }

func newWeight() weight {
	var raw [16]byte
	rand.Read(raw[:]) // never fails
	return weight{binary.LittleEndian.Uint64(raw[:8]), binary.LittleEndian.Uint64(raw[8:])}
}

// endomorphism is the map (x, y) -> (beta*x, y), which multiplies a point with lambda.
type endomorphism struct {
	beta   fp.Element
	lambda fr.Element
}

var cubeRoots = sync.OnceValue(func() (e endomorphism) {
	// 2^((p-1)/3) and its like in the scalar field are cube roots of one, neither of them
	// one; of the two in the scalar field the one that belongs to beta is taken.
	third := func(modulus *big.Int) *big.Int {
		n := new(big.Int).Sub(modulus, big.NewInt(1))
		return n.Div(n, big.NewInt(3))
	}
	for base := uint64(2); e.beta.IsZero() || e.beta.IsOne(); base++ {
		e.beta.Exp(fp.NewElement(base), third(fp.Modulus()))
	}
	for base := uint64(2); e.lambda.IsZero() || e.lambda.IsOne(); base++ {
		e.lambda.Exp(fr.NewElement(base), third(fr.Modulus()))
	}
	_, _, one, _ := curve.Generators()
	var image curve.G1Affine
	image.ScalarMultiplication(&one, e.lambda.BigInt(new(big.Int)))
	if mapped := e.apply(&one); !mapped.Equal(&image) {
		e.lambda.Square(&e.lambda)
	}
	return e
})

func (e *endomorphism) apply(p *curve.G1Affine) curve.G1Affine {
	q := *p
	q.X.Mul(&q.X, &e.beta)
	return q
}

// scalar is the number.
func (w weight) scalar() fr.Element {
	roots := cubeRoots()
	high, low := fr.NewElement(w.high), fr.NewElement(w.low)
	high.Mul(&high, &roots.lambda)
	return *high.Add(&high, &low)
}

// times is the number times a point.
func (w weight) times(p *curve.G1Affine) curve.G1Jac {
	roots := cubeRoots()
	mapped := roots.apply(p)
	var sum curve.G1Jac
	sum.JointScalarMultiplication(p, &mapped, new(big.Int).SetUint64(w.low), new(big.Int).SetUint64(w.high))
	return sum
}
