package dp

import (
	"errors"
	"math"
	"math/big"
	"testing"
)

func source(t testing.TB, n byte) *Source {
	t.Helper()
	s, err := NewSource([32]byte{n})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// chiSquare compares samples with a density over the integers, cells below 20
// expected samples being joined.
func chiSquare(counts map[int64]float64, n float64, density func(float64) float64, reach int64) (chi float64, cells int) {
	total := 0.0
	for x := -reach; x <= reach; x++ {
		total += density(float64(x))
	}
	expected, seen := 0.0, 0.0
	for x := -reach; x <= reach; x++ {
		expected += n * density(float64(x)) / total
		seen += counts[x]
		if expected >= 20 {
			chi += (seen - expected) * (seen - expected) / expected
			cells++
			expected, seen = 0, 0
		}
	}
	return chi, cells
}

// limit is far in the tail of the chi-square distribution: about 5 standard
// deviations.
func limit(cells int) float64 { return float64(cells) + 5*math.Sqrt(2*float64(cells)) + 10 }

func TestGaussianHasItsDistribution(t *testing.T) {
	const n = 400_000
	for i, sigma := range []float64{0.3, 1, 3.7, 16, 31.5, 100} {
		g, err := NewGaussian(sigma)
		if err != nil {
			t.Fatal(err)
		}
		s, counts := source(t, byte(i)), map[int64]float64{}
		for range n {
			counts[g.Sample(s)]++
		}
		chi, cells := chiSquare(counts, n, func(x float64) float64 { return math.Exp(-x * x / (2 * sigma * sigma)) }, int64(12*sigma)+3)
		if chi > limit(cells) {
			t.Errorf("sigma %g: chi-square %.1f over %d cells", sigma, chi, cells)
		}
	}
}

func TestLaplaceHasItsDistribution(t *testing.T) {
	const n = 400_000
	for i, scale := range []float64{0.2, 1, 5.5, 16, 40, 100} {
		l, err := NewLaplace(scale)
		if err != nil {
			t.Fatal(err)
		}
		s, counts := source(t, byte(i)), map[int64]float64{}
		for range n {
			counts[l.Sample(s)]++
		}
		chi, cells := chiSquare(counts, n, func(x float64) float64 { return math.Exp(-math.Abs(x) / scale) }, int64(40*scale)+3)
		if chi > limit(cells) {
			t.Errorf("scale %g: chi-square %.1f over %d cells", scale, chi, cells)
		}
	}
}

// The statistics of large noise: mean, variance, and the part beyond two and three
// standard deviations.
func TestLargeGaussians(t *testing.T) {
	const n = 200_000
	for i, sigma := range []float64{1000, 1 << 20, 123456789.25, 1 << 40} {
		g, err := NewGaussian(sigma)
		if err != nil {
			t.Fatal(err)
		}
		s := source(t, byte(40+i))
		var sum, square, two, three, even float64
		for range n {
			x := g.Sample(s)
			v := float64(x) / sigma
			sum, square = sum+v, square+v*v
			if math.Abs(v) > 2 {
				two++
			}
			if math.Abs(v) > 3 {
				three++
			}
			if x&1 == 0 {
				even++
			}
		}
		for what, d := range map[string]float64{
			"mean": sum / math.Sqrt(n), "variance": (square - n) / math.Sqrt(2*n),
			"beyond 2": (two - n*0.0455003) / math.Sqrt(n*0.0455*0.9545), "beyond 3": (three - n*0.0026998) / math.Sqrt(n*0.0027),
			"even": (even - n/2) / math.Sqrt(n/4),
		} {
			if math.Abs(d) > 5 {
				t.Errorf("sigma %g: %s is off by %.1f standard deviations", sigma, what, d)
			}
		}
	}
}

// The tables and the acceptance are what a direct computation of any precision
// gives: the whole probability of a sample, bucket by bucket.
func TestProbabilitiesAreExact(t *testing.T) {
	g, err := NewGaussian(40)
	if err != nil {
		t.Fatal(err)
	}
	total := newFloat(0)
	for x := int64(0); x < int64(len(g.buckets.high))<<g.shift; x++ {
		total.Add(total, expNeg(g.exponent(x, 0)))
	}
	one := newFloat(0).SetMantExp(newFloat(1), 128)
	// P(bucket) * accept(x), over the sum of the same for all x, is the target.
	weight := func(h int) *big.Float {
		p := func(i int) *big.Float {
			v := new(big.Int).Lsh(new(big.Int).SetUint64(g.buckets.high[i]), 64)
			return newFloat(0).SetInt(v.Or(v, new(big.Int).SetUint64(g.buckets.low[i])))
		}
		w := p(h)
		if h > 0 {
			w.Sub(w, p(h-1))
		}
		return w.Quo(w, one)
	}
	norm := newFloat(0)
	for h := range g.buckets.high {
		for l := range int64(1) << g.shift {
			edge := int64(h) << g.shift
			norm.Add(norm, newFloat(0).Mul(weight(h), expNeg(g.exponent(edge+l, edge))))
		}
	}
	for _, x := range []int64{0, 1, 7, 8, 39, 40, 200, 400} {
		h, edge := int(x>>g.shift), x>>g.shift<<g.shift
		got := newFloat(0).Quo(newFloat(0).Mul(weight(h), expNeg(g.exponent(x, edge))), norm)
		want := newFloat(0).Quo(expNeg(g.exponent(x, 0)), total)
		if d := got.Sub(got, want); d.Sign() != 0 && d.MantExp(nil) > -110 {
			t.Errorf("P(%d) is off by 2^%d", x, d.MantExp(nil))
		}
	}
}

func TestExpNeg(t *testing.T) {
	for _, r := range []float64{0, 1e-9, 0.1, 1, 5, 90} {
		got, _ := expNeg(newFloat(r)).Float64()
		if want := math.Exp(-r); math.Abs(got-want) > 1e-15*want {
			t.Errorf("exp(-%g) = %g, want %g", r, got, want)
		}
	}
	// e to 100 digits' worth of bits, by its own series.
	e, f := newFloat(1), newFloat(1)
	for i := 1.0; i < 80; i++ {
		f.Quo(f, newFloat(i))
		e.Add(e, f)
	}
	if d := e.Sub(newFloat(0).Mul(e, expNeg(newFloat(1))), newFloat(1)); d.Sign() != 0 && d.MantExp(nil) > -300 {
		t.Errorf("exp(-1)*e differs from 1 by 2^%d", d.MantExp(nil))
	}
}

// Where bounds do not decide, the exact comparison does, on both sides.
func TestExactAcceptance(t *testing.T) {
	half := newFloat(0.5)
	if !acceptExact(source(t, 1), 1<<31-1, half) || acceptExact(source(t, 1), 1<<31, half) {
		t.Error("the comparison with one half is wrong")
	}
	s, yes := source(t, 2), 0
	const n = 100_000
	for range n {
		if accept(s, uint32(s.Uint64()), math.Ln2, func() *big.Float { return newFloat(math.Ln2) }) {
			yes++
		}
	}
	if d := math.Abs(float64(yes)-n/2) / math.Sqrt(n/4); d > 5 {
		t.Errorf("accepted %d of %d", yes, n)
	}
}

func TestParametersAreBounded(t *testing.T) {
	for _, bad := range []float64{0, -1, math.NaN(), math.Inf(1), maxScale * 2} {
		if _, err := NewGaussian(bad); !errors.Is(err, ErrRange) {
			t.Errorf("Gaussian of %g: %v", bad, err)
		}
		if _, err := NewLaplace(bad); !errors.Is(err, ErrRange) {
			t.Errorf("Laplace of %g: %v", bad, err)
		}
	}
	g, err := NewGaussian(1.0000001)
	if err != nil || g.Sigma() < 1.0000001 || g.Sigma() > 1.0000001+0x1p-20 {
		t.Errorf("sigma in use is %g", g.Sigma())
	}
	l, err := NewLaplace(2)
	if err != nil || l.Scale() != 2 {
		t.Errorf("scale in use is %g", l.Scale())
	}
}

func TestSourcesAreOfTheirSeed(t *testing.T) {
	a, b, c := source(t, 1), source(t, 1), source(t, 2)
	same := true
	for range 3000 {
		x := a.Uint64()
		if x != b.Uint64() {
			t.Fatal("the same seed gives another stream")
		}
		same = same && x == c.Uint64()
	}
	if same {
		t.Error("another seed gives the same stream")
	}
	r, err := RandomSource()
	if err != nil {
		t.Fatal(err)
	}
	if first := r.Uint64(); first == r.Uint64() {
		t.Error("a random source repeats itself")
	}
	r.Wipe()
}

func BenchmarkGaussian(b *testing.B) {
	for _, sigma := range []float64{4, 64, 1 << 20} {
		g, err := NewGaussian(sigma)
		if err != nil {
			b.Fatal(err)
		}
		s, dst := source(b, 1), make([]int64, 4096)
		b.Run(new(big.Float).SetFloat64(sigma).Text('g', 8), func(b *testing.B) {
			for b.Loop() {
				g.Fill(s, dst)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/4096, "ns/value")
		})
	}
}

func BenchmarkLaplace(b *testing.B) {
	l, err := NewLaplace(64)
	if err != nil {
		b.Fatal(err)
	}
	s, dst := source(b, 1), make([]int64, 4096)
	for b.Loop() {
		l.Fill(s, dst)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/4096, "ns/value")
}
