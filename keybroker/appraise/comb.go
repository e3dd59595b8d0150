package appraise

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"math/big"
	"sync"
)

// combPoint is a point of P-384 of which multiples are kept, so that a further multiple
// costs few additions: the comb method of Lim and Lee (CRYPTO '94). A scalar's bits are
// spread over the teeth of several tables; all combs have combSteps, so that the doublings
// of several are done together. It takes time that depends on the scalar, and is for
// public data alone.
type combPoint struct {
	teeth  int
	tables [][]affine // [table][teeth as bits, less one]
}

// scalarSize is the size of a scalar of P-384, in bytes; its group order has as many bits
// as SHA-384.
const scalarSize = 48

// combSteps is the number of doublings for a scalar.
const combSteps = 16

// Teeth of a comb: their number and that of the tables, times combSteps, is the size of a
// scalar in bits.
const (
	chipTeeth      = 6  // 252 points in 4 tables, 24 KiB
	generatorTeeth = 12 // 8190 points in 2 tables, 768 KiB
)

// newComb computes the tables of a point that is not the one at infinity. A table's points are
// none either: they are p times sums of distinct powers of two, of which the group's order is
// none that has gaps.
func newComb(p affine, teeth int) *combPoint {
	tables := scalarSize * 8 / (teeth * combSteps)
	points := make([][]jacobian, tables)
	for i := range points {
		points[i] = make([]jacobian, 1<<teeth-1)
	}
	tip := jacobian{p.x, p.y, one}
	for tooth := range teeth {
		for _, table := range points {
			p = tip.affine()
			table[1<<tooth-1] = jacobian{p.x, p.y, one}
			for low := 1; low < 1<<tooth; low++ {
				sum := &table[1<<tooth|low-1]
				*sum = table[low-1]
				sum.add(&p)
			}
			for range combSteps {
				tip.double()
			}
		}
	}
	c := &combPoint{teeth: teeth, tables: make([][]affine, tables)}
	for i := range points {
		c.tables[i] = make([]affine, len(points[i]))
		affines(c.tables[i], points[i])
	}
	return c
}

// addStep adds what the scalar, big-endian, has at one step.
func (c *combPoint) addStep(sum *jacobian, scalar *[scalarSize]byte, step int) {
	for i, table := range c.tables {
		at, bits := i*combSteps+step, 0
		for tooth := range c.teeth {
			bits |= int(scalar[scalarSize-1-at/8]>>(at%8)&1) << tooth
			at += len(c.tables) * combSteps
		}
		if bits != 0 {
			sum.add(&table[bits-1])
		}
	}
}

// combSum returns the sum of both points' multiples.
func combSum(p, q *combPoint, m, n *[scalarSize]byte) (sum jacobian) {
	for step := combSteps - 1; step >= 0; step-- {
		sum.double()
		p.addStep(&sum, m, step)
		q.addStep(&sum, n, step)
	}
	return sum
}

// generatorComb is computed at first use.
var generatorComb = sync.OnceValue(func() *combPoint {
	params := elliptic.P384().Params()
	return newComb(affineOf(params.Gx, params.Gy), generatorTeeth)
})

func affineOf(x, y *big.Int) (p affine) {
	p.x.setInteger(x)
	p.y.setInteger(y)
	return p
}

// p384Order is the order of the group.
var p384Order = elliptic.P384().Params().N

// combKey is a chip's key, ready to verify many signatures.
type combKey struct{ point *combPoint }

// newCombKey prepares a key. It costs more than a verification and is worth it from the
// second on.
func newCombKey(key *ecdsa.PublicKey) (*combKey, error) {
	if key.Curve != elliptic.P384() {
		return nil, errors.New("appraise: not a P-384 key")
	}
	encoded, err := key.Bytes() // refuses what is not on the curve
	if err != nil {
		return nil, err
	}
	x, y := new(big.Int).SetBytes(encoded[1:1+scalarSize]), new(big.Int).SetBytes(encoded[1+scalarSize:])
	return &combKey{newComb(affineOf(x, y), chipTeeth)}, nil
}

// verify is ECDSA's verification (FIPS 186-5, 6.4.2): it says what [ecdsa.Verify] says of
// the same key.
func (k *combKey) verify(digest *[scalarSize]byte, r, s *big.Int) bool {
	for _, v := range []*big.Int{r, s} {
		if v.Sign() <= 0 || v.Cmp(p384Order) >= 0 {
			return false
		}
	}
	w := new(big.Int).ModInverse(s, p384Order) // there is one: the order is prime
	u := new(big.Int).SetBytes(digest[:])      // as long as the order: nothing is cut off
	u.Mod(u.Mul(u, w), p384Order)
	v := new(big.Int).Mul(r, w)
	v.Mod(v, p384Order)
	var m, n [scalarSize]byte
	u.FillBytes(m[:])
	v.FillBytes(n[:])
	sum := combSum(generatorComb(), k.point, &m, &n)
	if sum.z.isZero() {
		return false // the point at infinity
	}
	// The point's x is the sum's x/z^2. It is r modulo the order: r, or r and the order.
	var zz, want element
	zz.mul(&sum.z, &sum.z)
	for x := new(big.Int).Set(r); x.Cmp(primeInt) < 0; x.Add(x, p384Order) {
		want.setInteger(x)
		if want.mul(&want, &zz); want == sum.x {
			return true
		}
	}
	return false
}
