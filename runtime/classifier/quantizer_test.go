package classifier

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// exact computes the rule in rational numbers.
func exact(f Feature, x float64) int64 {
	v := new(big.Rat).SetFloat64(x)
	two := big.NewRat(2, 1)
	if f.Exponent < 0 {
		two = big.NewRat(1, 2)
	}
	for range max(f.Exponent, -f.Exponent) {
		v.Mul(v, two)
	}
	fixed := halfEven(v)
	limit := big.NewInt(maxFixed)
	if fixed.Cmp(limit) > 0 {
		fixed = limit
	} else if fixed.Cmp(new(big.Int).Neg(limit)) < 0 {
		fixed = new(big.Int).Neg(limit)
	}
	sum := new(big.Int).Mul(fixed, big.NewInt(int64(f.Multiplier)))
	sum.Add(sum, big.NewInt(f.Offset)).Add(sum, new(big.Int).Lsh(big.NewInt(1), uint(f.Shift-1))).Rsh(sum, uint(f.Shift))
	if !sum.IsInt64() {
		return int64(sum.Sign()) * 128
	}
	return max(-128, min(127, sum.Int64()))
}

func halfEven(v *big.Rat) *big.Int {
	double := new(big.Int).Add(new(big.Int).Lsh(v.Num(), 1), v.Denom()) // 2n + d
	floor, rest := new(big.Int).DivMod(double, new(big.Int).Lsh(v.Denom(), 1), new(big.Int))
	if rest.Sign() == 0 && floor.Bit(0) == 1 { // a tie that went up to an odd number
		floor.Sub(floor, big.NewInt(1))
	}
	return floor
}

func TestQuantizerIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	edges := []float64{0, math.Copysign(0, -1), 0.5, -0.5, 1.5, 2.5, math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, 1e-310, 1 << 31, -1 << 31}
	for range 300 {
		f := Feature{Exponent: r.Int32N(2*maxExponent+1) - maxExponent, Multiplier: r.Int32N(2*maxMultiplier-1) - maxMultiplier + 1,
			Shift: uint8(1 + r.IntN(maxShift)), Offset: r.Int64N(2*maxOffset+1) - maxOffset}
		if r.IntN(2) == 0 {
			f.Exponent, f.Offset = r.Int32N(40)-20, 0
		}
		if err := f.check(); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			x := math.Ldexp(r.Float64()-0.5, r.IntN(80)-40)
			if i < len(edges) {
				x = edges[i]
			}
			got, _, ok := f.quantize(x)
			want := max(-128, min(127, exact(f, x)))
			if !ok || int64(got) != want {
				t.Fatalf("%+v of %g: %d, want %d", f, x, got, want)
			}
		}
	}
}

func TestAffineIsTheRuleWithinARoundingError(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		scale := math.Ldexp(1+r.Float64(), r.IntN(60)-30)
		if r.IntN(2) == 0 {
			scale = -scale
		}
		offset := (r.Float64() - 0.5) * math.Ldexp(1, r.IntN(21))
		f, err := Affine(scale, offset)
		if err != nil {
			t.Fatalf("%g, %g: %v", scale, offset, err)
		}
		for range 50 {
			want := (r.Float64() - 0.5) * 300
			got, _, _ := f.quantize((want - offset) / scale)
			want = max(-128, min(127, want))
			if math.Abs(float64(got)-want) > 0.502 {
				t.Fatalf("scale %g, offset %g: %d, want about %g (%+v)", scale, offset, got, want, f)
			}
		}
	}
	for _, bad := range [][2]float64{{0, 0}, {math.NaN(), 0}, {1, math.NaN()}, {1, 1 << 23}, {1e-300, 0}, {1e300, 0}, {math.Inf(1), 0}} {
		if f, err := Affine(bad[0], bad[1]); err == nil {
			t.Errorf("%v: %+v", bad, f)
		}
	}
}

func TestQuantizeRefusesWhatIsNoNumber(t *testing.T) {
	f, err := Affine(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	q := Quantizer{Features: []Feature{f}}
	out := make([]int8, 2)
	for _, x := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		if _, err := Quantize(&q, []float32{0, x}, out); err != ErrNotFinite {
			t.Errorf("%v: %v", x, err)
		}
	}
	if _, err := Quantize(&q, []float64{1}, out); err == nil {
		t.Error("a short input")
	}
	if _, err := Quantize(&Quantizer{Features: make([]Feature, 3)}, []float64{1, 2}, out); err == nil {
		t.Error("rules for another length")
	}
	if _, err := Quantize(&q, []float32{-3.5, 3.5}, out); err != nil || out[0] != -3 || out[1] != 4 {
		t.Errorf("%v, %v: halves go up", out, err)
	}
	per := Quantizer{Features: []Feature{f, {Exponent: 0, Multiplier: -1, Shift: 1}}}
	if _, err := Quantize(&per, []float64{1, 8}, out); err != nil || out[0] != 1 || out[1] != -4 {
		t.Errorf("%v, %v", out, err)
	}
}

// TestValuesOutsideTheRangeAreCounted: those that became an end, not those at it.
func TestValuesOutsideTheRangeAreCounted(t *testing.T) {
	f, err := Affine(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	q := Quantizer{Features: []Feature{f}}
	in := []float64{-128, 127, 0, -128.4, 127.4, -129, 128, 1e30, -1e30}
	clipped, err := Quantize(&q, in, make([]int8, len(in)))
	if err != nil || clipped != 4 {
		t.Errorf("%d clipped, %v; want the last 4", clipped, err)
	}
}

func TestQuantizerCheck(t *testing.T) {
	good := Feature{Multiplier: 1, Shift: 1}
	other := Feature{Multiplier: 2, Shift: 1}
	cases := []struct {
		q  Quantizer
		ok bool
	}{
		{Quantizer{}, false}, {Quantizer{[]Feature{good}}, true}, {Quantizer{[]Feature{good, good}}, false},
		{Quantizer{[]Feature{good, other}}, true}, {Quantizer{[]Feature{good, other, good}}, false},
		{Quantizer{[]Feature{{Shift: 0}}}, false}, {Quantizer{[]Feature{{Shift: 63}}}, false},
		{Quantizer{[]Feature{{Shift: 1, Exponent: 513}}}, false}, {Quantizer{[]Feature{{Shift: 1, Exponent: -513}}}, false},
		{Quantizer{[]Feature{{Shift: 1, Multiplier: 1 << 30}}}, false}, {Quantizer{[]Feature{{Shift: 1, Multiplier: -1 << 30}}}, false},
		{Quantizer{[]Feature{{Shift: 1, Offset: 1<<61 + 1}}}, false}, {Quantizer{[]Feature{{Shift: 1, Offset: -1<<61 - 1}}}, false},
	}
	for i, c := range cases {
		if err := c.q.Check(2); (err == nil) != c.ok {
			t.Errorf("case %d: %v", i, err)
		}
	}
}
