package dp

import (
	"fmt"
	"math"
)

// orders at which Renyi divergences are bounded.
func orders() []float64 {
	var list []float64
	for x := 1; x < 100; x++ {
		list = append(list, 1+float64(x)/10)
	}
	for x := 11; x < 64; x++ {
		list = append(list, float64(x))
	}
	return append(list, 80, 100, 128, 192, 256, 384, 512, 1024)
}

// GaussianRDP is the Renyi divergence of order alpha of one use of the
// Poisson-subsampled Gaussian mechanism with noise multiplier sigma and sampling
// rate q (Mironov, Talwar, Zhang 2019, section 3.3). The discrete Gaussian has no
// more (Canonne, Kamath, Steinke 2020).
func GaussianRDP(sigma, q, alpha float64) float64 {
	switch {
	case q == 0:
		return 0
	case q == 1:
		return alpha / (2 * sigma * sigma)
	case alpha == math.Trunc(alpha):
		return logAInteger(sigma, q, int(alpha)) / (alpha - 1)
	}
	return logAFractional(sigma, q, alpha) / (alpha - 1)
}

// logAInteger is the log of the binomial sum for a whole order.
func logAInteger(sigma, q float64, alpha int) float64 {
	sum := math.Inf(-1)
	logBinomial := 0.0
	for k := range alpha + 1 {
		f := float64(k)
		sum = logAdd(sum, logBinomial+float64(alpha-k)*math.Log1p(-q)+f*math.Log(q)+(f*f-f)/(2*sigma*sigma))
		logBinomial += math.Log(float64(alpha-k)) - math.Log(f+1)
	}
	return sum
}

// logAFractional sums the two series of the reference until they no longer matter.
func logAFractional(sigma, q, alpha float64) float64 {
	a0, a1 := math.Inf(-1), math.Inf(-1)
	z0 := sigma*sigma*math.Log(1/q-1) + 0.5
	coefficient, logCoefficient, sign := 1.0, 0.0, 1.0
	for i := 0; ; i++ {
		f := float64(i)
		j := alpha - f
		s0 := logCoefficient + f*math.Log(q) + j*math.Log1p(-q) + (f*f-f)/(2*sigma*sigma) - math.Ln2 + logErfc((f-z0)/(math.Sqrt2*sigma))
		s1 := logCoefficient + j*math.Log(q) + f*math.Log1p(-q) + (j*j-j)/(2*sigma*sigma) - math.Ln2 + logErfc((z0-j)/(math.Sqrt2*sigma))
		if sign > 0 {
			a0, a1 = logAdd(a0, s0), logAdd(a1, s1)
		} else {
			a0, a1 = logSub(a0, s0), logSub(a1, s1)
		}
		total := logAdd(a0, a1)
		if f > alpha && max(s0, s1) < total-35 || i > 10_000 {
			return total
		}
		coefficient = (alpha - f) / (f + 1)
		logCoefficient += math.Log(math.Abs(coefficient))
		if coefficient < 0 {
			sign = -sign
		}
	}
}

// LaplaceRDP is the divergence of order alpha of the Laplace mechanism whose scale
// is m times the sensitivity (Mironov 2017, table II).
func LaplaceRDP(m, alpha float64) float64 {
	return logAdd(math.Log(alpha/(2*alpha-1))+(alpha-1)/m, math.Log((alpha-1)/(2*alpha-1))-alpha/m) / (alpha - 1)
}

func logAdd(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(b, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}

// logSub is log(exp(a)-exp(b)); rounding may make b the larger, then nothing is
// left.
func logSub(a, b float64) float64 {
	if math.IsInf(b, -1) {
		return a
	}
	if a <= b {
		return math.Inf(-1)
	}
	return a + math.Log1p(-math.Exp(b-a))
}

// logErfc is log(erfc(x)), by the asymptotic series where erfc underflows.
func logErfc(x float64) float64 {
	if x < 20 {
		return math.Log(math.Erfc(x))
	}
	y := 1 / (2 * x * x)
	return -x*x - math.Log(x*math.Sqrt(math.Pi)) + math.Log1p(-y*(1-3*y*(1-5*y)))
}

// RDPEpsilon returns the epsilon that events spend together at a delta, by Renyi divergences: an
// upper bound that is fast to compute, and looser than Spend's.
func RDPEpsilon(events []Event, delta float64) (float64, error) {
	if err := checkEvents(events, delta); err != nil {
		return 0, err
	}
	best := math.Inf(1)
	for _, alpha := range orders() {
		total := 0.0
		for _, e := range events {
			total += float64(e.Steps) * e.rdp(alpha)
		}
		best = min(best, rdpToEpsilon(total, alpha, delta))
	}
	return max(best, 0), nil
}

func (e Event) rdp(alpha float64) float64 {
	if e.Mechanism == MechanismLaplace {
		return LaplaceRDP(e.Multiplier, alpha)
	}
	return GaussianRDP(e.Multiplier, e.Rate, alpha)
}

// rdpToEpsilon converts (Canonne, Kamath, Steinke 2020, proposition 12).
func rdpToEpsilon(rdp, alpha, delta float64) float64 {
	return rdp + math.Log1p(-1/alpha) - (math.Log(delta)+math.Log(alpha))/(alpha-1)
}

// SharedGaussianRho is the concentrated privacy (zCDP) of a sum of n discrete
// Gaussians of standard deviation s each, against a change of Euclidean norm l2 and
// absolute norm l1 in d coordinates: shares of noise that participants add by
// themselves (Kairouz, Liu, Steinke 2021, theorem 1).
func SharedGaussianRho(s float64, n int, l2 float64, d uint64) (float64, error) {
	if !(s > 0) || n < 1 || !(l2 >= 0) {
		return 0, fmt.Errorf("shared noise: %w", ErrRange)
	}
	tau := 0.0
	for k := 1; k < n; k++ {
		tau += 10 * math.Exp(-2*math.Pi*math.Pi*s*s*float64(k)/float64(k+1))
	}
	base := l2 / (math.Sqrt(float64(n)) * s)
	eps := min(math.Sqrt(base*base+tau*float64(d)/2), base+tau*math.Sqrt(float64(d)))
	return eps * eps / 2, nil
}

// RhoEpsilon converts concentrated privacy (Bun and Steinke 2016).
func RhoEpsilon(rho, delta float64) float64 { return rho + 2*math.Sqrt(rho*math.Log(1/delta)) }
