package circuits

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark/constraint"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/frontend/cs/r1cs"

	"github.com/anchorhold/anchorhold/crypto/zk/poseidon2"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

func compileGradient(t testing.TB, spec Gradient) constraint.ConstraintSystem {
	t.Helper()
	cs, err := frontend.Compile(ecc.BN254.ScalarField(), r1cs.NewBuilder, newGradientCircuit(spec))
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

func gradientAssignment(seed uint64, bound int, values ...int16) GradientAssignment {
	a := GradientAssignment{Values: values, LInf: uint32(bound), Statement: poseidon2.FromUint64(seed)}
	for _, v := range values {
		a.SquaredL2 += uint64(int64(v) * int64(v))
	}
	r := rand.New(rand.NewPCG(seed, 4))
	for i := range a.Salt {
		a.Salt[i] = byte(r.Uint32())
	}
	return a
}

// Every bound has a table, and coordinates at either bound fit it.
func TestGradientsInsideTheirBoundsAreProven(t *testing.T) {
	longtest.Arithmetic(t, "it solves the circuits of 108 gradients")
	for _, c := range []struct {
		bits   int
		bounds []int
	}{{8, []int{1, 2, 63, 64, 100, 127}}, {16, []int{1, 63, 64, 65, 127, 128, 129, 1000, 16384, 32700, 32766, 32767}}} {
		for _, n := range []int{1, 2, 3, 4, 17, 31} {
			spec := Gradient{n, c.bits}
			cs := compileGradient(t, spec)
			for _, bound := range c.bounds {
				r := rand.New(rand.NewPCG(uint64(bound), uint64(n)))
				values := make([]int16, n)
				for i := range values {
					values[i] = int16([]int{bound, -bound, 0, bound - 1, 1 - bound, r.IntN(2*bound+1) - bound}[(i+n)%6])
				}
				a := gradientAssignment(uint64(bound), bound, values...)
				w, err := spec.assign(a)
				if err != nil {
					t.Fatal(err)
				}
				if err := solve(t, cs, w); err != nil {
					t.Fatalf("%d coordinates of %d bits up to %d: %v", n, c.bits, bound, err)
				}
				a.SquaredL2 += 1 << 40
				if w, err = spec.assign(a); err != nil {
					t.Fatal(err)
				}
				if err := solve(t, cs, w); err != nil {
					t.Fatalf("a bound that is not reached: %v", err)
				}
			}
		}
	}
}

// The largest sums that a gradient can have stay in their digits.
func TestTheLargestGradient(t *testing.T) {
	const top = int64(1<<15 - 1)
	products := int64(MaxCoordinates/share + 1)
	for name, sum := range map[string]int64{"ends": products * top * top, "sides": products * 2 * top * top, "middle": MaxCoordinates * top * top} {
		if sum >= 1<<(digitBits-2) {
			t.Errorf("%s can be %d, which needs more than %d bits", name, sum, digitBits-2)
		}
	}
	if wide := (Gradient{MaxCoordinates, 16}); wide.Check() != nil || wide.MaxLInf() != statement.MaxLInf || statement.MaxSquaredL2 != MaxCoordinates*top*top {
		t.Error("statements have other limits than circuits")
	}
	if (share+2)*digitBits+1 >= fr.Bits-1 {
		t.Error("the digits of a sum of products reach the modulus")
	}
	for bound := 1; bound <= (Gradient{1, 16}).MaxLInf(); bound++ {
		high := max(0, (2*bound-highUnit+1)/highUnit)
		low := 2*bound - high*highUnit
		if high > highTop || low > lowTop || high > 0 && low < highUnit-1 {
			t.Fatalf("bound %d has tables to %d and %d", bound, low, high)
		}
	}
	if top := highTop*highUnit + lowTop; top/2 > (Gradient{1, 16}).MaxLInf() {
		t.Errorf("tables reach %d", top)
	}
}

func TestGradientsOutsideTheirBoundsAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spec   Gradient
		change func(*GradientAssignment)
	}{
		"too few coordinates": {Gradient{4, 16}, func(*GradientAssignment) {}},
		"above the bound":     {Gradient{3, 16}, func(a *GradientAssignment) { a.LInf = 299 }},
		"below the bound":     {Gradient{3, 16}, func(a *GradientAssignment) { a.Values[0], a.LInf = -301, 300 }},
		"no bound":            {Gradient{3, 16}, func(a *GradientAssignment) { a.LInf = 0 }},
		"a bound too large":   {Gradient{3, 16}, func(a *GradientAssignment) { a.LInf = 32768 }},
		"eight bits":          {Gradient{3, 8}, func(a *GradientAssignment) { a.LInf = 128 }},
		"squares":             {Gradient{3, 16}, func(a *GradientAssignment) { a.SquaredL2-- }},
		"no coordinates":      {Gradient{0, 16}, func(a *GradientAssignment) { a.Values = nil }},
		"too many":            {Gradient{MaxCoordinates + 1, 16}, func(a *GradientAssignment) {}},
		"nine bits":           {Gradient{3, 9}, func(*GradientAssignment) {}},
	} {
		a := gradientAssignment(1, 300, 300, -2, 100)
		c.change(&a)
		if _, err := c.spec.assign(a); err == nil {
			t.Errorf("%s: accepted", name)
		} else if c.spec.Check() == nil && !errors.Is(err, ErrWitness) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
