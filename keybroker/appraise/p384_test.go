package appraise

import (
	"crypto/rand"
	"math/big"
	"testing"
)

// edges are limbs at which carries and borrows go wrong first.
var edges = []uint64{0, 1, 0xffffffff, 0x100000000, 0xffffffff00000000, 0xfffffffffffffffe, ^uint64(0)}

// elements are numbers below p: those whose limbs are all at the edges, and random ones.
func elements(t testing.TB) (all []element) {
	t.Helper()
	prime := p384Prime.limbs()
	for i := range 1 << 14 {
		var e element
		for limb := range e {
			e[limb] = edges[(i>>(2*limb)*5+i*limb)%len(edges)]
		}
		if e.limbs().Cmp(prime) < 0 {
			all = append(all, e)
		}
	}
	for range 2000 {
		v, err := rand.Int(rand.Reader, prime)
		if err != nil {
			t.Fatal(err)
		}
		var e element
		e.setInteger(v)
		if e.integer().Cmp(v) != 0 {
			t.Fatalf("%x does not come back", v)
		}
		all = append(all, e)
	}
	var below element
	below.setInteger(new(big.Int).Sub(prime, big.NewInt(1)))
	return append(all, below, one, element{p384Prime[0] - 1, p384Prime[1], p384Prime[2], p384Prime[3], p384Prime[4], p384Prime[5]})
}

// TestElementsComputeAsIntegersDo: sums, differences and products modulo p.
func TestElementsComputeAsIntegersDo(t *testing.T) {
	all := elements(t)
	prime := p384Prime.limbs()
	for i := range all {
		x, y := &all[i], &all[(i*7919+13)%len(all)]
		a, b := x.integer(), y.integer()
		for name, c := range map[string]struct {
			do   func(z, x, y *element)
			want *big.Int
		}{
			"sum":        {(*element).add, new(big.Int).Add(a, b)},
			"difference": {(*element).sub, new(big.Int).Sub(a, b)},
			"product":    {(*element).mul, new(big.Int).Mul(a, b)},
			"square":     {func(z, x, _ *element) { z.mul(x, x) }, new(big.Int).Mul(a, a)},
		} {
			var z element
			c.do(&z, x, y)
			if z.limbs().Cmp(prime) >= 0 || z.integer().Cmp(c.want.Mod(c.want, prime)) != 0 {
				t.Fatalf("%s of %x and %x: %x", name, *x, *y, z)
			}
			in := *x
			c.do(&in, &in, y)
			if in != z {
				t.Fatalf("%s of %x and %x in place: %x", name, *x, *y, in)
			}
		}
	}
	var zero, inverse element
	if inverse.invert(&zero); !inverse.isZero() {
		t.Error("zero has an inverse")
	}
}

// TestExceptionsOfTheFormulas: infinity, the same point and its opposite.
func TestExceptionsOfTheFormulas(t *testing.T) {
	g := generatorComb().tables[0][0]
	opposite := g
	opposite.y.sub(&element{}, &g.y)
	var p jacobian
	if p.double(); !p.z.isZero() {
		t.Error("twice infinity is a point")
	}
	if p.add(&g); p.affine() != g {
		t.Error("infinity and a point are another point")
	}
	double := p
	double.double()
	if p.add(&g); p.affine() != double.affine() {
		t.Error("a point and itself are not its double")
	}
	if p.add(&opposite); p.affine() != g {
		t.Error("2g - g is not g")
	}
	if p.add(&opposite); !p.z.isZero() {
		t.Error("a point and its opposite are a point")
	}
}

func BenchmarkElementMul(b *testing.B) {
	x, y := one, generatorComb().tables[0][0].x
	for b.Loop() {
		x.mul(&x, &y)
	}
}
