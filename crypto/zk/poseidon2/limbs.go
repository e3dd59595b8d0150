package poseidon2

import "math/bits"

// limbs is a number of 256 bits, its lowest word first. Inside a permutation it is in
// Montgomery form (the element times 2^256) and need not be reduced: 5q is below 2^256,
// where q is the modulus, so that sums of a few elements fit. Each function states which
// multiple of q it takes and which it returns.
type limbs [4]uint64

// The modulus q, the parts of it that reductions need, and 2^512 modulo q.
const (
	q0, q1, q2, q3 = 0x43e1f593f0000001, 0x2833e84879b97091, 0xb85045b68181585d, 0x30644e72e131a029
	negInverse     = 0xc2e1f593efffffff // of q, modulo 2^64: -1/q
	perModulus     = 355015960          // 2^282 / q, rounded down
)

var (
	modulus      = limbs{q0, q1, q2, q3}
	squaredRadix = limbs{0x1bb8e645ae216da7, 0x53fe3ab1e35c59e3, 0x8c49833d53bb8085, 0x0216d0b17f4e44a5}
)

// sub is a - b modulo 2^256, and whether it is below 0.
func sub(a, b limbs) (d limbs, borrow uint64) {
	d[0], borrow = bits.Sub64(a[0], b[0], 0)
	d[1], borrow = bits.Sub64(a[1], b[1], borrow)
	d[2], borrow = bits.Sub64(a[2], b[2], borrow)
	d[3], borrow = bits.Sub64(a[3], b[3], borrow)
	return d, borrow
}

// choose is a if mask is all ones, and b if it is 0.
func choose(mask uint64, a, b limbs) (c limbs) {
	for i := range c {
		c[i] = b[i] ^ mask&(a[i]^b[i])
	}
	return c
}

// canonical takes a number below 2q to one below q.
func canonical(n limbs) limbs {
	less, borrow := sub(n, modulus)
	return choose(-borrow, n, less)
}

// mul sets z to x*y / 2^256 modulo q, by Montgomery's method, one word of x after the
// other. x is any number, y is below 4q; z is below x*y/2^256 + q, which is 2q at most
// if x*y is below 2^256 * q: the operands may be below q and 4q, or both below 2q. z may
// be x or y.
//
// Nothing overflows: a round adds a word of x times y and a word times q to what is below
// y + q, and (2^64-1)(y+q) + y + q is 2^64 (y+q), which is below 2^320.
func mul(z, x, y *limbs) {
	y0, y1, y2, y3 := y[0], y[1], y[2], y[3]
	var t0, t1, t2, t3 uint64
	for _, v := range x {
		var t4, c uint64
		h0, l0 := bits.Mul64(v, y0)
		h1, l1 := bits.Mul64(v, y1)
		h2, l2 := bits.Mul64(v, y2)
		h3, l3 := bits.Mul64(v, y3)
		t0, c = bits.Add64(t0, l0, 0)
		t1, c = bits.Add64(t1, l1, c)
		t2, c = bits.Add64(t2, l2, c)
		t3, c = bits.Add64(t3, l3, c)
		t4 = c
		t1, c = bits.Add64(t1, h0, 0)
		t2, c = bits.Add64(t2, h1, c)
		t3, c = bits.Add64(t3, h2, c)
		t4, _ = bits.Add64(t4, h3, c)

		m := t0 * negInverse
		h0, l0 = bits.Mul64(m, q0)
		h1, l1 = bits.Mul64(m, q1)
		h2, l2 = bits.Mul64(m, q2)
		h3, l3 = bits.Mul64(m, q3)
		_, c = bits.Add64(t0, l0, 0)
		t0, c = bits.Add64(t1, l1, c)
		t1, c = bits.Add64(t2, l2, c)
		t2, c = bits.Add64(t3, l3, c)
		t3, _ = bits.Add64(t4, 0, c)
		t0, c = bits.Add64(t0, h0, 0)
		t1, c = bits.Add64(t1, h1, c)
		t2, c = bits.Add64(t2, h2, c)
		t3, _ = bits.Add64(t3, h3, c)
	}
	z[0], z[1], z[2], z[3] = t0, t1, t2, t3
}

// fifth sets z, below 2q, to its fifth power, below 2q.
func fifth(z *limbs) {
	var power limbs
	mul(&power, z, z)
	mul(&power, &power, &power)
	mul(z, &power, z)
}

// wide is a sum of many numbers before it is reduced.
type wide struct{ w0, w1, w2, w3, w4 uint64 }

func (w *wide) add(n *limbs) {
	var c uint64
	w.w0, c = bits.Add64(w.w0, n[0], 0)
	w.w1, c = bits.Add64(w.w1, n[1], c)
	w.w2, c = bits.Add64(w.w2, n[2], c)
	w.w3, c = bits.Add64(w.w3, n[3], c)
	w.w4 += c
}

func (w *wide) plus(o *wide) {
	var c uint64
	w.w0, c = bits.Add64(w.w0, o.w0, 0)
	w.w1, c = bits.Add64(w.w1, o.w1, c)
	w.w2, c = bits.Add64(w.w2, o.w2, c)
	w.w3, c = bits.Add64(w.w3, o.w3, c)
	w.w4 += o.w4 + c
}

// reduce takes a sum below 2^264, some 1,350 q, to below 2q. It divides the bits from
// 2^250 on by q: rounding down twice leaves at most 2^250 and q in excess, and 2^250 is
// a twelfth of q.
func (w *wide) reduce(z *limbs) {
	k := (w.w4<<6 | w.w3>>58) * perModulus >> 32
	h0, l0 := bits.Mul64(k, q0)
	h1, l1 := bits.Mul64(k, q1)
	h2, l2 := bits.Mul64(k, q2)
	l3 := k * q3
	var c uint64
	l1, c = bits.Add64(l1, h0, 0)
	l2, c = bits.Add64(l2, h1, c)
	l3, _ = bits.Add64(l3, h2, c)
	z[0], c = bits.Sub64(w.w0, l0, 0)
	z[1], c = bits.Sub64(w.w1, l1, c)
	z[2], c = bits.Sub64(w.w2, l2, c)
	z[3], _ = bits.Sub64(w.w3, l3, c)
}

// add adds n to z; the sum is below 2^256.
func add(z, n *limbs) {
	var c uint64
	z[0], c = bits.Add64(z[0], n[0], 0)
	z[1], c = bits.Add64(z[1], n[1], c)
	z[2], c = bits.Add64(z[2], n[2], c)
	z[3], _ = bits.Add64(z[3], n[3], c)
}

// plusReduced adds n to z, both below 2^256, and reduces the sum to below 2q.
func plusReduced(z, n *limbs) {
	var w wide
	w.add(z)
	w.add(n)
	w.reduce(z)
}
