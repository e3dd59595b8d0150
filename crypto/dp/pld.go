package dp

import "math"

// A privacy loss distribution (Sommer, Meiser, Mohammadi 2019) on a grid: mass[i]
// is the probability, under the first of two neighbouring inputs, of the loss
// (i-zero)*step; what cannot be bounded is in infinite. Masses are put on the grid
// so that the hockey-stick curve is met at every grid point and never below it
// between them (Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022, "connect the
// dots"): the result is an upper bound that is wrong by the square of the step.
type lossDistribution struct {
	step     float64
	zero     int
	mass     []float64
	infinite float64
}

func newLoss(step float64, n int) *lossDistribution {
	return &lossDistribution{step: step, zero: n / 2, mass: make([]float64, n)}
}

func (d *lossDistribution) loss(i int) float64 { return float64(i-d.zero) * d.step }

// spread puts onto grid points i and i+1 what has probability p under the first
// input and r under the second, with losses between the two points: both sums stay.
func (d *lossDistribution) spread(i int, p, r float64) {
	if p <= 0 {
		return
	}
	upper := (p - r*math.Exp(d.loss(i))) / -math.Expm1(-d.step)
	upper = min(max(upper, 0), p)
	d.mass[i] += p - upper
	d.mass[i+1] += upper
}

// atom puts a single loss onto the grid.
func (d *lossDistribution) atom(loss, p float64) {
	i := int(math.Floor(loss/d.step)) + d.zero
	switch {
	case i < 0:
		d.mass[0] += p // rounded up
	case i >= len(d.mass)-1:
		d.infinite += p
	default:
		d.spread(i, p, p*math.Exp(-loss))
	}
}

// normal is the probability of a normal variable between a and b, with a small
// relative error on both sides.
func normal(a, b float64) float64 {
	if a > b {
		return 0
	}
	if a > 0 {
		return (math.Erfc(a/math.Sqrt2) - math.Erfc(b/math.Sqrt2)) / 2
	}
	return (math.Erfc(-b/math.Sqrt2) - math.Erfc(-a/math.Sqrt2)) / 2
}

// gaussianLoss is the distribution of one use of the subsampled Gaussian. With
// removed, the first input has the participant and the second has not.
func gaussianLoss(sigma, q, step float64, n int, removed bool) *lossDistribution {
	d := newLoss(step, n)
	// at returns where the likelihood ratio with/without is exp(l).
	at := func(l float64) float64 {
		if v := math.Expm1(l) + q; v > 0 {
			return sigma*sigma*(math.Log(v)-math.Log(q)) + 0.5
		}
		return math.Inf(-1)
	}
	without := func(a, b float64) float64 { return normal(a/sigma, b/sigma) }
	with := func(a, b float64) float64 {
		return (1-q)*normal(a/sigma, b/sigma) + q*normal((a-1)/sigma, (b-1)/sigma)
	}
	for i := range n - 1 {
		if removed {
			a, b := at(d.loss(i)), at(d.loss(i+1))
			d.spread(i, with(a, b), without(a, b))
		} else {
			a, b := at(-d.loss(i+1)), at(-d.loss(i))
			d.spread(i, without(a, b), with(a, b))
		}
	}
	lowest, highest := d.loss(0), d.loss(n-1)
	if removed {
		d.mass[0] += with(math.Inf(-1), at(lowest))
		d.infinite += with(at(highest), math.Inf(1))
	} else {
		d.mass[0] += without(at(-lowest), math.Inf(1))
		d.infinite += without(math.Inf(-1), at(-highest))
	}
	return d
}

// laplaceLoss is the distribution of one use of the Laplace mechanism of scale m
// times the sensitivity. It is the same in both directions.
func laplaceLoss(m, step float64, n int) *lossDistribution {
	d := newLoss(step, n)
	d.atom(1/m, 0.5)
	d.atom(-1/m, 0.5*math.Exp(-1/m))
	for i := range n - 1 {
		low, high := max(d.loss(i), -1/m), min(d.loss(i+1), 1/m)
		if low >= high {
			continue
		}
		// The loss at x in [0,1] is (1-2x)/m; densities in units of the sensitivity.
		a, b := (1-high*m)/2, (1-low*m)/2
		p := 0.5 * (math.Exp(-a/m) - math.Exp(-b/m))
		r := 0.5 * (math.Exp(-(1-b)/m) - math.Exp(-(1-a)/m))
		d.spread(i, p, r)
	}
	return d
}

// gridPoints is the size of every distribution: a power of two.
const gridPoints = 1 << 17

// window is how far the losses of all events together reach, but for a probability
// below tail on either side. The upper side is bounded by Renyi divergences; on the
// lower, exp(-loss) has mean 1.
func window(events []Event, tail float64) float64 {
	best := math.Inf(1)
	for _, alpha := range orders() {
		total := 0.0
		for _, e := range events {
			total += float64(e.Steps) * e.rdp(alpha)
		}
		best = min(best, total-math.Log(tail)/(alpha-1))
	}
	return max(best, -math.Log(tail))
}

// compose is the distribution of the sum of all events' losses, in one direction.
func compose(events []Event, reach float64, removed bool) *lossDistribution {
	step := 2 * reach / gridPoints
	product := make([]complex128, gridPoints)
	for i := range product {
		product[i] = 1
	}
	out := newLoss(step, gridPoints)
	finite := 1.0
	for _, e := range events {
		var d *lossDistribution
		if e.Mechanism == MechanismLaplace {
			d = laplaceLoss(e.Multiplier, step, gridPoints)
		} else {
			d = gaussianLoss(e.Multiplier, e.Rate, step, gridPoints, removed)
		}
		finite *= math.Pow(1-d.infinite, float64(e.Steps))
		spectrum := make([]complex128, gridPoints)
		for i, p := range d.mass {
			spectrum[(i-d.zero+gridPoints)%gridPoints] = complex(p, 0)
		}
		transform(spectrum, false)
		for i, c := range spectrum {
			product[i] *= power(c, e.Steps)
		}
	}
	transform(product, true)
	for i := range out.mass {
		out.mass[i] = max(real(product[(i-out.zero+gridPoints)%gridPoints]), 0)
	}
	out.infinite = 1 - finite
	return out
}

// epsilon is the least at which the hockey-stick curve is at most delta.
func (d *lossDistribution) epsilon(delta float64) float64 {
	// From the top: p is the mass above, r the same under the second input.
	p, r := d.infinite, 0.0
	if p > delta {
		return math.Inf(1)
	}
	for i := len(d.mass) - 1; i >= 0; i-- {
		// Between this grid point and the next, delta(e) = p - exp(e)*r.
		if e := d.loss(i); p-math.Exp(e)*r > delta {
			return math.Log((p - delta) / r)
		}
		p += d.mass[i]
		r += d.mass[i] * math.Exp(-d.loss(i))
	}
	return d.loss(0)
}

func power(c complex128, n int) complex128 {
	out := complex(1, 0)
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			out *= c
		}
		c *= c
	}
	return out
}
