package dp

import (
	"errors"
	"math"
	"math/cmplx"
	"math/rand/v2"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
)

func near(t *testing.T, what string, got, want, relative float64) {
	t.Helper()
	if !(math.Abs(got-want) <= relative*math.Abs(want)) {
		t.Errorf("%s: %.9g, want %.9g", what, got, want)
	}
}

// Published values: tests of dp-accounting (fifty steps at rate 0.01, sigma 2.5),
// and at the fractional order 1.5 a numeric integral, which is below the
// interpolated bound of that library.
func TestRenyiDivergencesArePublishedOnes(t *testing.T) {
	for alpha, want := range map[float64]float64{5: 2.18075656e-3, 50: 2.38460375e-2, 100: 167.416308, 2.5: 1.08541806e-3, 1.5: 6.50071e-4} {
		near(t, "alpha", 50*GaussianRDP(2.5, 0.01, alpha), want, 1e-5)
	}
	near(t, "no sampling", GaussianRDP(2, 1, 3), 3.0/8, 1e-12)
	if GaussianRDP(2, 0, 3) != 0 {
		t.Error("nobody is sampled, and something is spent")
	}
	// Whole orders are limits of fractional ones.
	near(t, "continuity", GaussianRDP(1.1, 0.02, 7+1e-7), GaussianRDP(1.1, 0.02, 7), 1e-4)
	near(t, "laplace", LaplaceRDP(1, 2), math.Log(2.0/3*math.E+1.0/3*math.Exp(-2)), 1e-12)
}

// Published epsilons by Renyi divergence: Opacus' and TF-Privacy's tests,
// dp-accounting's.
func TestRenyiEpsilonsArePublishedOnes(t *testing.T) {
	for _, v := range []struct {
		e                      Event
		delta, want, tolerance float64
	}{
		{Event{Multiplier: 1.5, Rate: 0.04, Steps: 2250}, 1e-5, 7.32911117143, 1e-6},
		{Event{Multiplier: 1, Rate: 64.0 / 10000, Steps: 5 * 10000 / 64}, 1e-6, 1.616, 2e-3},
		{Event{Multiplier: 4.530877117, Rate: 1, Steps: 1}, 1e-6, 1, 2e-3},
		{Event{Multiplier: 1.1, Rate: 256.0 / 60000, Steps: 60 * 60000 / 256}, 1e-5, 2.597, 2e-3},
	} {
		got, err := RDPEpsilon([]Event{v.e}, v.delta)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "epsilon", got, v.want, v.tolerance)
	}
}

// The tight accountant is not below the true value, and within half a percent of
// what others publish: Opacus' PRV accountant, TF-Privacy's and dp-accounting's PLD.
func TestSpendIsTight(t *testing.T) {
	longtest.WithoutRace(t, "it composes thousands of steps numerically")
	for _, v := range []struct {
		e           Event
		delta, want float64
	}{
		{Event{Multiplier: 1.5, Rate: 0.04, Steps: 2249}, 1e-5, 6.777395712},
		{Event{Multiplier: 1, Rate: 64.0 / 10000, Steps: 5 * 10000 / 64}, 1e-6, 1.199},
	} {
		s, err := Spend([]Event{v.e}, v.delta)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "epsilon", s.Epsilon, v.want, 5e-3)
		if s.EpsilonWithoutSampling <= s.Epsilon {
			t.Errorf("without sampling %g, with %g", s.EpsilonWithoutSampling, s.Epsilon)
		}
	}
}

// One Gaussian without sampling has a closed form (Balle and Wang 2018).
func TestOneGaussianHasItsClosedForm(t *testing.T) {
	delta := func(sigma, eps float64) float64 {
		phi := func(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }
		return phi(1/(2*sigma)-eps*sigma) - math.Exp(eps)*phi(-1/(2*sigma)-eps*sigma)
	}
	for _, sigma := range []float64{0.5, 1, 3, 10} {
		for _, eps := range []float64{0.1, 0.5, 2} {
			d := delta(sigma, eps)
			if d < 1e-11 || d > 0.3 {
				continue
			}
			s, err := Spend([]Event{{Multiplier: sigma, Rate: 1, Steps: 1}}, d)
			if err != nil {
				t.Fatal(err)
			}
			if s.Epsilon < eps*(1-1e-9) {
				t.Errorf("sigma %g: states %g, the truth is %g", sigma, s.Epsilon, eps)
			}
			near(t, "epsilon", s.Epsilon, eps, 2e-3)
		}
	}
	// k uses of sigma are one of sigma/sqrt(k).
	s, err := Spend([]Event{{Multiplier: 8, Rate: 1, Steps: 16}}, 1e-5)
	if err != nil {
		t.Fatal(err)
	}
	one, err := Spend([]Event{{Multiplier: 2, Rate: 1, Steps: 1}}, 1e-5)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "sixteen uses", s.Epsilon, one.Epsilon, 2e-3)
}

func TestLaplaceIsPureAtItsScale(t *testing.T) {
	longtest.WithoutRace(t, "it integrates numerically")
	for _, m := range []float64{0.5, 1, 4} {
		s, err := Spend([]Event{{Mechanism: MechanismLaplace, Multiplier: m, Rate: 1, Steps: 1}}, 1e-11)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "epsilon", s.Epsilon, 1/m, 2e-3)
	}
	// Its closed form: delta(eps) = 1 - exp((eps-1/m)/2).
	const m, eps = 1.0, 0.4
	s, err := Spend([]Event{{Mechanism: MechanismLaplace, Multiplier: m, Rate: 1, Steps: 1}}, 1-math.Exp((eps-1/m)/2))
	if err != nil || s.Epsilon < eps*(1-1e-9) {
		t.Errorf("epsilon %g below the truth", s.Epsilon)
	}
	near(t, "epsilon", s.Epsilon, eps, 2e-3)
}

// Published calibrations: dp-accounting's PLD and Opacus' PRV.
func TestCalibrationsArePublishedOnes(t *testing.T) {
	longtest.Arithmetic(t, "it searches the noise of 2,000 steps")
	for _, v := range []struct {
		eps, delta, rate float64
		steps            int
		want             float64
	}{{1, 1e-5, 0.01, 1, 0.67379294682}, {8, 1e-5, 0.04, 2000, 1.2915}} {
		got, err := Calibrate(v.eps, v.delta, v.rate, v.steps)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "sigma", got, v.want, 3e-3)
		s, err := Spend([]Event{{Multiplier: got, Rate: v.rate, Steps: v.steps}}, v.delta)
		if err != nil || s.Epsilon > v.eps {
			t.Errorf("calibrated to %g, spends %g", v.eps, s.Epsilon)
		}
	}
	if s, err := Calibrate(1000, 1e-5, 1, 1); err != nil || s != minMultiplier {
		t.Errorf("nearly no noise: %g, %v", s, err)
	}
}

// More events never spend less.
func TestSpendingIsMonotone(t *testing.T) {
	longtest.Arithmetic(t, "it composes six accounts numerically")
	r := rand.New(rand.NewPCG(4, 4))
	var events []Event
	last := 0.0
	for range 6 {
		e := Event{Multiplier: 0.8 + 3*r.Float64(), Rate: 0.01 + 0.99*r.Float64(), Steps: 1 + r.IntN(20)}
		if r.IntN(3) == 0 {
			e = Event{Mechanism: MechanismLaplace, Multiplier: 2 + r.Float64(), Rate: 1, Steps: 1}
		}
		events = append(events, e)
		s, err := Spend(events, 1e-6)
		if err != nil {
			t.Fatal(err)
		}
		if s.Epsilon < last*(1-1e-6) {
			t.Errorf("after %+v the account is %g, it was %g", e, s.Epsilon, last)
		}
		last = s.Epsilon
	}
}

func TestEventsAreBounded(t *testing.T) {
	good := Event{Multiplier: 1, Rate: 1, Steps: 1}
	for name, change := range map[string]func(*Event){
		"no noise": func(e *Event) { e.Multiplier = 0 }, "nan": func(e *Event) { e.Multiplier = math.NaN() }, "rate": func(e *Event) { e.Rate = 1.1 },
		"no rate": func(e *Event) { e.Rate = 0 }, "steps": func(e *Event) { e.Steps = 0 }, "mechanism": func(e *Event) { e.Mechanism = 7 },
	} {
		e := good
		change(&e)
		if _, err := Spend([]Event{e}, 1e-5); !errors.Is(err, ErrRange) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := RDPEpsilon([]Event{e}, 1e-5); !errors.Is(err, ErrRange) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, delta := range []float64{0, 1, math.NaN()} {
		if _, err := Spend([]Event{good}, delta); !errors.Is(err, ErrRange) {
			t.Errorf("delta %g: %v", delta, err)
		}
	}
	if _, err := Calibrate(0, 1e-5, 1, 1); !errors.Is(err, ErrRange) {
		t.Error("epsilon 0")
	}
	if _, err := Calibrate(1, 2, 1, 1); !errors.Is(err, ErrRange) {
		t.Error("delta 2")
	}
	if s, err := Spend(nil, 1e-5); err != nil || s.Epsilon != 0 {
		t.Errorf("nothing spends %g, %v", s.Epsilon, err)
	}
}

func TestSharedNoise(t *testing.T) {
	rho, err := SharedGaussianRho(100, 4, 200, 1000)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "rho", rho, 0.5, 1e-9) // as one Gaussian of 200
	if one, err := SharedGaussianRho(0.5, 4, 1, 1000); err != nil || one < 1 {
		t.Errorf("small shares are not one Gaussian: %g, %v", one, err)
	}
	if _, err := SharedGaussianRho(0, 4, 1, 1); !errors.Is(err, ErrRange) {
		t.Error("no noise")
	}
	near(t, "epsilon", RhoEpsilon(0.5, 1e-5), 0.5+2*math.Sqrt(0.5*math.Log(1e5)), 1e-12)
}

func TestTransform(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	x := make([]complex128, 64)
	for i := range x {
		x[i] = complex(r.Float64(), r.Float64())
	}
	y := append([]complex128(nil), x...)
	transform(y, false)
	for k := range x {
		want := complex(0, 0)
		for i, v := range x {
			want += v * cmplx.Rect(1, -2*math.Pi*float64(i*k)/64)
		}
		if cmplx.Abs(want-y[k]) > 1e-12 {
			t.Fatalf("point %d is %v, want %v", k, y[k], want)
		}
	}
	transform(y, true)
	for i := range x {
		if cmplx.Abs(x[i]-y[i]) > 1e-13 {
			t.Fatal("does not come back")
		}
	}
}

func TestNormIsNeverTooSmall(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	var n Norm
	exact := newFloat(0)
	for range 9 {
		part := make([]float32, 1001)
		for i := range part {
			part[i] = r.Float32() - 0.5
			v := newFloat(float64(part[i]))
			exact.Add(exact, v.Mul(v, v))
		}
		if err := n.Add(part); err != nil {
			t.Fatal(err)
		}
	}
	want, _ := exact.Sqrt(exact).Float64()
	if got := n.L2(); got < want || got > want*(1+1e-9) || n.Count() != 9009 {
		t.Errorf("norm %.17g of %d values, want %.17g", got, n.Count(), want)
	}
	if f := Factor(n.L2(), want/2); f*want > want/2 {
		t.Error("a scaled vector is beyond the bound")
	}
	if Factor(1, 2) != 1 {
		t.Error("a short vector is scaled")
	}
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		for at := range 3 {
			v := make([]float32, 3)
			v[at] = bad
			if err := new(Norm).Add(v); !errors.Is(err, ErrNotFinite) {
				t.Errorf("%g at %d: %v", bad, at, err)
			}
		}
	}
	if new(Norm).L2() != 0 {
		t.Error("nothing has a norm")
	}
}

func TestRoundingIsUnbiasedAndClamped(t *testing.T) {
	const n = 100_001
	x, out := make([]float32, n), make([]int32, n)
	for _, v := range []float32{0.25, -0.75, 3.9, -1000.5} {
		for i := range x {
			x[i] = v
		}
		if clamped, err := Round(source(t, 3), out, x, 1, 1<<20); err != nil || clamped != 0 {
			t.Fatal(clamped, err)
		}
		sum, floor := 0.0, int32(math.Floor(float64(v)))
		for _, o := range out {
			if o != floor && o != floor+1 {
				t.Fatalf("%g became %d", v, o)
			}
			sum += float64(o)
		}
		if d := math.Abs(sum/n - float64(v)); d > 5*0.5/math.Sqrt(n) {
			t.Errorf("the mean of %g is off by %g", v, d)
		}
	}
	if clamped, err := Round(source(t, 3), out[:3], []float32{1e9, -1e9, 1e30}, 1, 500); err != nil || clamped != 3 || out[0] != 500 || out[1] != -500 || out[2] != 500 {
		t.Errorf("not clamped: %v, %v", out[:3], err)
	}
	for at := range 3 {
		bad := make([]float32, 3)
		bad[at] = float32(math.NaN())
		if _, err := Round(source(t, 3), out[:3], bad, 1, 500); !errors.Is(err, ErrNotFinite) {
			t.Errorf("not a number at %d: %v", at, err)
		}
	}
}

func TestRoundRefusesABoundThatDoesNotFit(t *testing.T) {
	for _, top := range []int32{-1, roundOffset} {
		if _, err := Round[float32](source(t, 3), nil, nil, 1, top); !errors.Is(err, ErrRange) {
			t.Errorf("%d: %v", top, err)
		}
	}
}

func BenchmarkNorm(b *testing.B) {
	x := make([]float32, 1<<14)
	var n Norm
	for b.Loop() {
		if err := n.Add(x); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(x)), "ns/value")
}

func BenchmarkRound(b *testing.B) {
	x, out := make([]float32, 1<<14), make([]int32, 1<<14)
	s := source(b, 1)
	for b.Loop() {
		if _, err := Round(s, out, x, 1000, 1<<20); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(x)), "ns/value")
}

func BenchmarkSpend(b *testing.B) {
	for b.Loop() {
		if _, err := Spend([]Event{{Multiplier: 1.5, Rate: 0.04, Steps: 2250}}, 1e-5); err != nil {
			b.Fatal(err)
		}
	}
}
