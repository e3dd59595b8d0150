package groth16verify

import (
	"math/big"
	"testing"

	curve "github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
)

func TestWeightsMultiply(t *testing.T) {
	_, _, one, _ := curve.Generators()
	list := []weight{{0, 0}, {1, 0}, {0, 1}, {1, 1}, {1<<64 - 1, 1<<64 - 1}, {1 << 63, 3}}
	for range 8 {
		list = append(list, newWeight())
	}
	for _, w := range list {
		scalar := w.scalar()
		var want curve.G1Affine
		want.ScalarMultiplication(&one, scalar.BigInt(new(big.Int)))
		product := w.times(&one)
		if got := new(curve.G1Affine).FromJacobian(&product); !got.Equal(&want) {
			t.Errorf("%v times the generator is not its scalar times it", w)
		}
	}
}

func TestCombine(t *testing.T) {
	_, _, one, _ := curve.Generators()
	var half, minusHalf, all fr.Element
	half.SetBigInt(new(big.Int).Rsh(fr.Modulus(), 1))
	minusHalf.Neg(&half)
	all.SetInt64(-1)
	scalars := []fr.Element{{}, fr.One(), all, half, minusHalf, fr.NewElement(16), fr.NewElement(1 << 63)}
	for range 9 {
		var e fr.Element
		e.MustSetRandom()
		scalars = append(scalars, e)
	}
	for n := range len(scalars) + 1 {
		points := make([]curve.G1Affine, n)
		var want curve.G1Jac
		for i := range points {
			points[i].ScalarMultiplication(&one, big.NewInt(int64(3*i+1)))
			var term curve.G1Jac
			term.FromAffine(&points[i])
			want.AddAssign(term.ScalarMultiplication(&term, scalars[i].BigInt(new(big.Int))))
		}
		if got := combine(tabulate(points), scalars[:n]); !got.Equal(&want) {
			t.Errorf("the first %d do not add up", n)
		}
	}
}
