package poseidon2

import (
	"math/big"
	"testing"
)

func (n limbs) big() *big.Int {
	v := new(big.Int)
	for i := len(n) - 1; i >= 0; i-- {
		v.Or(v.Lsh(v, 64), new(big.Int).SetUint64(n[i]))
	}
	return v
}

func (w wide) big() *big.Int {
	v := new(big.Int).SetUint64(w.w4)
	return v.Or(v.Lsh(v, 256), limbs{w.w0, w.w1, w.w2, w.w3}.big())
}

func fromBig(v *big.Int) (n limbs) {
	for i := range n {
		n[i] = new(big.Int).Rsh(v, uint(64*i)).Uint64()
	}
	return n
}

var (
	q       = modulus.big()
	radix   = new(big.Int).Lsh(big.NewInt(1), 256)
	inverse = new(big.Int).ModInverse(radix, q)
)

// multiple is n*q + k.
func multiple(n, k int64) limbs {
	v := new(big.Int).Mul(q, big.NewInt(n))
	return fromBig(v.Add(v, big.NewInt(k)))
}

func checkMul(t *testing.T, x, y limbs) {
	t.Helper()
	var z limbs
	mul(&z, &x, &y)
	product := new(big.Int).Mul(x.big(), y.big())
	bound := new(big.Int).Rsh(product, 256)
	if got := z.big(); got.Cmp(bound.Add(bound, q)) > 0 {
		t.Fatalf("%x times %x is %x, above the bound", x, y, z)
	}
	want := product.Mul(product, inverse)
	if got := z.big(); got.Mod(got, q).Cmp(want.Mod(want, q)) != 0 {
		t.Fatalf("%x times %x: got %x, want %x", x, y, got, want)
	}
	a, b := x, y
	mul(&a, &a, &y)
	mul(&b, &x, &b)
	if a != z || b != z {
		t.Fatal("the product is another if it replaces an operand")
	}
}

func TestProductsAtTheLimits(t *testing.T) {
	ones := limbs{1<<64 - 1, 1<<64 - 1, 1<<64 - 1, 1<<64 - 1}
	small := []limbs{{}, {1}, multiple(1, -1), multiple(1, 0), multiple(1, 1), multiple(2, -1), multiple(4, -1),
		{1<<64 - 1, 1<<64 - 1, 1<<64 - 1}, {0, 0, 0, 1 << 63}}
	for _, y := range small {
		for _, x := range append(small, ones, multiple(5, -1)) {
			checkMul(t, x, y)
		}
	}
}

// What the permutation multiplies stays below 2q.
func TestProductsOfThePermutationStayBelowTwice(t *testing.T) {
	twice := multiple(2, 0).big()
	for _, pair := range [][2]limbs{{multiple(1, -1), multiple(4, -1)}, {multiple(2, -1), multiple(2, -1)}} {
		var z limbs
		if mul(&z, &pair[0], &pair[1]); z.big().Cmp(twice) >= 0 {
			t.Errorf("%x times %x is not below 2q", pair[0], pair[1])
		}
	}
}

func checkReduce(t *testing.T, w wide) {
	t.Helper()
	var z limbs
	w.reduce(&z)
	if z.big().Cmp(multiple(2, 0).big()) >= 0 {
		t.Fatalf("%x is reduced to %x, not below 2q", w, z)
	}
	got, want := z.big(), w.big()
	if got.Mod(got, q).Cmp(want.Mod(want, q)) != 0 {
		t.Fatalf("%x: got %x, want %x", w, got, want)
	}
}

func TestSumsAtTheLimits(t *testing.T) {
	limit := new(big.Int).Lsh(big.NewInt(1), 264)
	for n := int64(0); n < 1353; n++ {
		for _, k := range []int64{-1, 0, 1} {
			v := new(big.Int).Add(new(big.Int).Mul(q, big.NewInt(n)), big.NewInt(k))
			if v.Sign() < 0 || v.Cmp(limit) >= 0 {
				continue
			}
			low := fromBig(v)
			checkReduce(t, wide{low[0], low[1], low[2], low[3], new(big.Int).Rsh(v, 256).Uint64()})
		}
	}
	// Where the digits that are divided change.
	for top := uint64(0); top < 1<<14; top++ {
		checkReduce(t, wide{0, 0, 0, top << 58, top >> 6})
		checkReduce(t, wide{1<<64 - 1, 1<<64 - 1, 1<<64 - 1, top<<58 | 1<<58 - 1, top >> 6})
	}
}

func TestCanonicalNumbers(t *testing.T) {
	for _, k := range []int64{-1, 0, 1} {
		for n := int64(0); n <= 2; n++ {
			if v := n*10 + k; v < 0 || n == 2 && k >= 0 {
				continue
			}
			in := multiple(n, k)
			if got := canonical(in).big(); got.Cmp(new(big.Int).Mod(in.big(), q)) != 0 {
				t.Errorf("%d q %+d: got %x", n, k, got)
			}
		}
	}
}

func FuzzArithmetic(f *testing.F) {
	f.Add(uint64(0), uint64(0), uint64(0), uint64(0), uint64(1<<64-1), uint64(1<<64-1), uint64(1<<64-1), uint64(1<<64-1), byte(0))
	f.Add(uint64(q0), uint64(q1), uint64(q2), uint64(q3), uint64(q0-1), uint64(q1), uint64(q2), uint64(q3), byte(255))
	f.Fuzz(func(t *testing.T, a, b, c, d, e, g, h, i uint64, top byte) {
		x, y := limbs{a, b, c, d}, limbs{e, g, h, i}
		y[3] %= 3 * q3 // below 4q
		checkMul(t, x, y)
		checkReduce(t, wide{a, b, c, d, uint64(top)})
	})
}
