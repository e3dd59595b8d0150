package appraise

import (
	"math/big"
	"math/bits"
)

// element is an integer modulo the prime of P-384, p = 2^384 - 2^128 - 2^96 + 2^32 - 1,
// times 2^384 (Montgomery's form): six limbs, the lowest first, below p. Its operations
// take time that does not depend on values but for the last subtraction, and are for
// public data alone.
type element [6]uint64

// p384Prime is p.
var p384Prime = element{0x00000000ffffffff, 0xffffffff00000000, 0xfffffffffffffffe, ^uint64(0), ^uint64(0), ^uint64(0)}

// one is 1: 2^384 modulo p.
var one = element{0xffffffff00000001, 0x00000000ffffffff, 1}

// mul sets z to x*y/2^384, by Montgomery's method, a limb of y at a time. The form of p
// spares the reduction its multiplications: -1/p is 2^32+1 modulo 2^64, and
// m*p = m*2^384 - m*(2^128+2^96-2^32+1).
func (z *element) mul(x, y *element) {
	x0, x1, x2, x3, x4, x5 := x[0], x[1], x[2], x[3], x[4], x[5]
	var t0, t1, t2, t3, t4, t5, t6, t7, c, b, d1, d2 uint64
	for i := range 6 {
		v := y[i]
		h0, l0 := bits.Mul64(x0, v)
		h1, l1 := bits.Mul64(x1, v)
		h2, l2 := bits.Mul64(x2, v)
		h3, l3 := bits.Mul64(x3, v)
		h4, l4 := bits.Mul64(x4, v)
		h5, l5 := bits.Mul64(x5, v)
		t0, c = bits.Add64(t0, l0, 0)
		t1, c = bits.Add64(t1, l1, c)
		t2, c = bits.Add64(t2, l2, c)
		t3, c = bits.Add64(t3, l3, c)
		t4, c = bits.Add64(t4, l4, c)
		t5, c = bits.Add64(t5, l5, c)
		t6, t7 = bits.Add64(t6, 0, c)
		t1, c = bits.Add64(t1, h0, 0)
		t2, c = bits.Add64(t2, h1, c)
		t3, c = bits.Add64(t3, h2, c)
		t4, c = bits.Add64(t4, h3, c)
		t5, c = bits.Add64(t5, h4, c)
		t6, c = bits.Add64(t6, h5, c)
		t7 += c

		// m makes the lowest limb zero.
		m := t0 + t0<<32
		low, high := m<<32, m>>32
		_, b = bits.Sub64(m, low, 0) // t0, which goes
		d1, b = bits.Sub64(low, high, b)
		d2, c = bits.Add64(m, high, 0)
		d2, b = bits.Sub64(d2, 0, b)
		d3 := c - b
		t0, b = bits.Sub64(t1, d1, 0)
		t1, b = bits.Sub64(t2, d2, b)
		t2, b = bits.Sub64(t3, d3, b)
		t3, b = bits.Sub64(t4, 0, b)
		t4, b = bits.Sub64(t5, 0, b)
		t6, c = bits.Add64(t6, m, 0)
		t5, b = bits.Sub64(t6, 0, b)
		t6 = t7 + c - b
	}
	z.reduce(t0, t1, t2, t3, t4, t5, t6)
}

// reduce sets z to a number below 2p, of which t6 is the seventh limb.
func (z *element) reduce(t0, t1, t2, t3, t4, t5, t6 uint64) {
	s0, b := bits.Sub64(t0, p384Prime[0], 0)
	s1, b := bits.Sub64(t1, p384Prime[1], b)
	s2, b := bits.Sub64(t2, p384Prime[2], b)
	s3, b := bits.Sub64(t3, p384Prime[3], b)
	s4, b := bits.Sub64(t4, p384Prime[4], b)
	s5, b := bits.Sub64(t5, p384Prime[5], b)
	if _, b = bits.Sub64(t6, 0, b); b != 0 {
		*z = element{t0, t1, t2, t3, t4, t5}
		return
	}
	*z = element{s0, s1, s2, s3, s4, s5}
}

func (z *element) add(x, y *element) {
	t0, c := bits.Add64(x[0], y[0], 0)
	t1, c := bits.Add64(x[1], y[1], c)
	t2, c := bits.Add64(x[2], y[2], c)
	t3, c := bits.Add64(x[3], y[3], c)
	t4, c := bits.Add64(x[4], y[4], c)
	t5, c := bits.Add64(x[5], y[5], c)
	z.reduce(t0, t1, t2, t3, t4, t5, c)
}

func (z *element) sub(x, y *element) {
	t0, b := bits.Sub64(x[0], y[0], 0)
	t1, b := bits.Sub64(x[1], y[1], b)
	t2, b := bits.Sub64(x[2], y[2], b)
	t3, b := bits.Sub64(x[3], y[3], b)
	t4, b := bits.Sub64(x[4], y[4], b)
	t5, b := bits.Sub64(x[5], y[5], b)
	mask := -b // p is added if it went below zero
	var c uint64
	t0, c = bits.Add64(t0, p384Prime[0]&mask, 0)
	t1, c = bits.Add64(t1, p384Prime[1]&mask, c)
	t2, c = bits.Add64(t2, p384Prime[2]&mask, c)
	t3, c = bits.Add64(t3, mask, c)
	t4, c = bits.Add64(t4, mask, c)
	t5, _ = bits.Add64(t5, mask, c)
	*z = element{t0, t1, t2, t3, t4, t5}
}

func (z *element) isZero() bool { return *z == element{} }

var (
	primeInt = p384Prime.limbs()
	// roundUp is 2^384, roundDown its inverse.
	roundUp   = new(big.Int).Lsh(big.NewInt(1), 384)
	roundDown = new(big.Int).ModInverse(roundUp, primeInt)
)

// limbs is the number that the limbs are, in Montgomery's form still.
func (z *element) limbs() *big.Int {
	var b [8 * len(z)]byte
	for i, limb := range z {
		for j := range 8 {
			b[len(b)-1-8*i-j] = byte(limb >> (8 * j))
		}
	}
	return new(big.Int).SetBytes(b[:])
}

// integer is the number that z stands for.
func (z *element) integer() *big.Int {
	v := z.limbs()
	return v.Mod(v.Mul(v, roundDown), primeInt)
}

// setInteger sets z to v modulo p.
func (z *element) setInteger(v *big.Int) {
	v = new(big.Int).Mul(v, roundUp)
	b := v.Mod(v, primeInt).FillBytes(make([]byte, 8*len(z)))
	for i := range z {
		z[i] = 0
		for j := range 8 {
			z[i] |= uint64(b[len(b)-1-8*i-j]) << (8 * j)
		}
	}
}

// invert sets z to 1/x, and to 0 for 0.
func (z *element) invert(x *element) {
	v := new(big.Int).ModInverse(x.integer(), primeInt)
	if v == nil {
		v = new(big.Int)
	}
	z.setInteger(v)
}

// affine is a point of the curve that is not the one at infinity.
type affine struct{ x, y element }

// jacobian is the point (x/z^2, y/z^3), or the one at infinity where z is 0.
type jacobian struct{ x, y, z element }

// add adds q in place: eight multiplications and three squares. Formulas of this kind have
// exceptions, which are told apart: p at infinity, p = q, p = -q.
func (p *jacobian) add(q *affine) {
	if p.z.isZero() {
		*p = jacobian{q.x, q.y, one}
		return
	}
	var zz, h, r, hh, hhh, v element
	zz.mul(&p.z, &p.z)
	h.mul(&q.x, &zz)
	h.sub(&h, &p.x) // the difference of x
	r.mul(&q.y, &p.z)
	r.mul(&r, &zz)
	r.sub(&r, &p.y) // the difference of y
	if h.isZero() {
		if r.isZero() {
			p.double()
		} else {
			*p = jacobian{}
		}
		return
	}
	hh.mul(&h, &h)
	hhh.mul(&h, &hh)
	v.mul(&p.x, &hh)
	p.z.mul(&p.z, &h)
	p.x.mul(&r, &r)
	p.x.sub(&p.x, &hhh)
	p.x.sub(&p.x, &v)
	p.x.sub(&p.x, &v)
	v.sub(&v, &p.x)
	v.mul(&v, &r)
	hhh.mul(&hhh, &p.y)
	p.y.sub(&v, &hhh)
}

// double doubles in place, for a = -3: three multiplications and five squares. The point
// at infinity stays; no point of the curve has order two.
func (p *jacobian) double() {
	var delta, gamma, beta, alpha, t element
	delta.mul(&p.z, &p.z)
	gamma.mul(&p.y, &p.y)
	beta.mul(&p.x, &gamma)
	t.sub(&p.x, &delta)
	alpha.add(&p.x, &delta)
	alpha.mul(&alpha, &t)
	t.add(&alpha, &alpha)
	alpha.add(&alpha, &t) // 3(x-delta)(x+delta)

	p.z.add(&p.y, &p.z)
	p.z.mul(&p.z, &p.z)
	p.z.sub(&p.z, &gamma)
	p.z.sub(&p.z, &delta)

	beta.add(&beta, &beta)
	beta.add(&beta, &beta) // 4 beta
	p.x.mul(&alpha, &alpha)
	p.x.sub(&p.x, &beta)
	p.x.sub(&p.x, &beta)

	gamma.mul(&gamma, &gamma)
	gamma.add(&gamma, &gamma)
	gamma.add(&gamma, &gamma)
	gamma.add(&gamma, &gamma) // 8 gamma^2
	beta.sub(&beta, &p.x)
	p.y.mul(&alpha, &beta)
	p.y.sub(&p.y, &gamma)
}

// affine is the same point; it must not be the one at infinity.
func (p *jacobian) affine() (q affine) {
	var inverse element
	inverse.invert(&p.z)
	p.scale(&q, &inverse)
	return q
}

// scale sets q to p, given 1/z.
func (p *jacobian) scale(q *affine, inverse *element) {
	var square element
	square.mul(inverse, inverse)
	q.x.mul(&p.x, &square)
	square.mul(&square, inverse)
	q.y.mul(&p.y, &square)
}

// affines sets each of to the same point as in points, with one inversion for all (Montgomery's
// trick); none may be the one at infinity.
func affines(to []affine, points []jacobian) {
	products := make([]element, len(points)) // of all z up to this
	product := one
	for i := range points {
		products[i] = product
		product.mul(&product, &points[i].z)
	}
	var inverse, each element
	inverse.invert(&product)
	for i := len(points) - 1; i >= 0; i-- {
		each.mul(&inverse, &products[i])
		inverse.mul(&inverse, &points[i].z)
		points[i].scale(&to[i], &each)
	}
}
