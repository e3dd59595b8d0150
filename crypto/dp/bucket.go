package dp

import (
	"math"
	"math/big"
)

// A sampler draws a magnitude in two steps. A bucket h is drawn from a table with
// probability proportional to the density at the bucket's lower edge, where it is
// largest; a place l inside the bucket is uniform; and the place is accepted with
// the quotient of the two densities, exp(-gamma). Then a sign; minus zero is drawn
// again. This is exact rejection: the proposal covers the target by construction.
//
// The table holds 128-bit cumulative probabilities, off by less than 2^-120 each.
// The quotient is compared with 32 random bits by bounds that hold for certain, and
// in the one case of 2^30 where these do not decide, with more bits and arbitrary
// precision.

// precision of everything that is computed once, in bits.
const precision = 320

// guideBits make a look-up end at once but where a boundary of buckets is near.
const guideBits = 12

// table draws a bucket.
type table struct {
	high, low []uint64               // cumulative probabilities, 128 bits, of h or less
	guide     [1 << guideBits]uint16 // the first bucket that the leading bits can mean
}

// newTable normalises weights, which fall from 1.
func newTable(weights []*big.Float) *table {
	total := newFloat(0)
	for _, w := range weights {
		total.Add(total, w)
	}
	one := new(big.Int).Lsh(big.NewInt(1), 128)
	t := &table{high: make([]uint64, len(weights)), low: make([]uint64, len(weights))}
	sum, mask := newFloat(0), new(big.Int).SetUint64(math.MaxUint64)
	for i, w := range weights {
		sum.Add(sum, w)
		q, _ := newFloat(0).Mul(newFloat(0).Quo(sum, total), newFloat(0).SetInt(one)).Int(nil)
		if i == len(weights)-1 || q.Cmp(one) >= 0 {
			q.Sub(one, big.NewInt(1))
		}
		t.high[i] = new(big.Int).Rsh(q, 64).Uint64()
		t.low[i] = new(big.Int).And(q, mask).Uint64()
	}
	h := 0
	for b := range t.guide {
		for t.high[h]>>(64-guideBits) < uint64(b) {
			h++
		}
		t.guide[b] = uint16(h)
	}
	return t
}

// draw returns the first bucket whose cumulative probability is above a random
// number of 128 bits, of which the lower 64 are drawn only where they matter.
func (t *table) draw(s *Source) int {
	u := s.Uint64()
	h := int(t.guide[u>>(64-guideBits)])
	for t.high[h] < u {
		h++
	}
	if t.high[h] == u {
		v := s.Uint64()
		for t.high[h] == u && t.low[h] <= v && h < len(t.high)-1 {
			h++
		}
	}
	return h
}

func newFloat(x float64) *big.Float { return new(big.Float).SetPrec(precision).SetFloat64(x) }

// expNeg computes exp(-r) for r >= 0: a Taylor series after halving, then squaring.
func expNeg(r *big.Float) *big.Float {
	halvings := max(r.MantExp(nil)+16, 0)
	x := newFloat(0).SetMantExp(r, -halvings)
	x.Neg(x)
	sum, term := newFloat(1), newFloat(1)
	for i := int64(1); i < 40; i++ {
		term.Mul(term, x)
		term.Quo(term, newFloat(float64(i)))
		sum.Add(sum, term)
	}
	for range halvings {
		sum.Mul(sum, sum)
	}
	return sum
}

// accept is true with probability exp(-gamma), of which u is the first 32 random
// bits. approx is gamma to a relative error below 2^-45, and exact computes it;
// gamma is at most 1.
func accept(s *Source, u uint32, approx float64, exact func() *big.Float) bool {
	low := float64(u) * 0x1p-32 // the random number is in [low, low+2^-32)
	const slack = 0x1p-44
	// 1-g <= exp(-g) <= 1-g+g*g/2 decide nearly always.
	if low+0x1p-32 < 1-approx-slack {
		return true
	}
	if low > 1-approx+approx*approx/2+slack {
		return false
	}
	switch p := math.Exp(-approx); {
	case low+0x1p-32 < p-slack:
		return true
	case low > p+slack:
		return false
	}
	return acceptExact(s, u, expNeg(exact()))
}

// acceptExact compares 288 random bits, of which the first 32 are u, with p.
func acceptExact(s *Source, u uint32, p *big.Float) bool {
	r := new(big.Int).SetUint64(uint64(u))
	for range 4 {
		r.Lsh(r, 64).Or(r, new(big.Int).SetUint64(s.Uint64()))
	}
	return newFloat(0).SetMantExp(newFloat(0).SetInt(r), -288).Cmp(p) < 0
}

// signed gives a magnitude its sign; minus zero is no result.
func signed(x, negative int64) (int64, bool) {
	return (x ^ -negative) + negative, x|(1-negative) != 0
}

// place draws a sign, a place inside a bucket of 2^shift, and the bits that accept
// it.
func place(s *Source, shift uint) (negative, inside int64, u uint32) {
	r := s.Uint64()
	u = uint32(r >> 32)
	if shift > 31 {
		u = uint32(s.Uint64())
	}
	return int64(r & 1), int64(r >> 1 & (1<<shift - 1)), u
}
