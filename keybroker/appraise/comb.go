package appraise

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"math/big"
	"sync"

	"filippo.io/nistec"
)

// combPoint is a point of P-384 of which multiples are kept, so that a further multiple
// costs few additions: the comb method of Lim and Lee (CRYPTO '94). A scalar's bits are
// spread over the teeth of several tables; all combs have combSteps, so that the doublings
// of several are done together. Additions are those of nistec, whose formulas are
// complete: no point and no scalar is a special case. It takes time that depends on the
// scalar, and is for public data alone.
type combPoint struct {
	teeth  int
	tables [][]*nistec.P384Point // [table][teeth as bits]; without the point at infinity
}

// scalarSize is the size of a scalar of P-384, in bytes; its group order has as many bits
// as SHA-384.
const scalarSize = 48

// combSteps is the number of doublings for a scalar.
const combSteps = 16

// Teeth of a comb: their number and that of the tables, times combSteps, is the size of a
// scalar in bits.
const (
	chipTeeth      = 6 // 252 points in 4 tables
	generatorTeeth = 8 // 765 points in 3 tables
)

// newComb computes the tables of a point.
func newComb(p *nistec.P384Point, teeth int) *combPoint {
	tables := scalarSize * 8 / (teeth * combSteps)
	c := &combPoint{teeth: teeth, tables: make([][]*nistec.P384Point, tables)}
	for i := range c.tables {
		c.tables[i] = make([]*nistec.P384Point, 1<<teeth)
	}
	p = nistec.NewP384Point().Set(p)
	for tooth := range teeth {
		for _, table := range c.tables {
			table[1<<tooth] = nistec.NewP384Point().Set(p)
			for low := 1; low < 1<<tooth; low++ {
				table[1<<tooth|low] = nistec.NewP384Point().Add(p, table[low])
			}
			for range combSteps {
				p.Double(p)
			}
		}
	}
	return c
}

// addStep adds what the scalar, big-endian, has at one step.
func (c *combPoint) addStep(sum *nistec.P384Point, scalar *[scalarSize]byte, step int) {
	for i, table := range c.tables {
		at, bits := i*combSteps+step, 0
		for tooth := range c.teeth {
			bits |= int(scalar[scalarSize-1-at/8]>>(at%8)&1) << tooth
			at += len(c.tables) * combSteps
		}
		if bits != 0 {
			sum.Add(sum, table[bits])
		}
	}
}

// combSum returns the sum of both points' multiples.
func combSum(p, q *combPoint, m, n *[scalarSize]byte) *nistec.P384Point {
	sum := nistec.NewP384Point()
	for step := combSteps - 1; step >= 0; step-- {
		sum.Double(sum)
		p.addStep(sum, m, step)
		q.addStep(sum, n, step)
	}
	return sum
}

// generatorComb is computed at first use.
var generatorComb = sync.OnceValue(func() *combPoint {
	return newComb(nistec.NewP384Point().SetGenerator(), generatorTeeth)
})

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
	encoded, err := key.Bytes()
	if err != nil {
		return nil, err
	}
	p, err := nistec.NewP384Point().SetBytes(encoded) // refuses what is not on the curve
	if err != nil {
		return nil, err
	}
	return &combKey{newComb(p, chipTeeth)}, nil
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
	x, err := combSum(generatorComb(), k.point, &m, &n).BytesX()
	if err != nil {
		return false // the point at infinity
	}
	got := new(big.Int).SetBytes(x)
	return got.Mod(got, p384Order).Cmp(r) == 0
}
