package dp

import (
	"fmt"
	"math"
)

// Mechanism is how noise was drawn.
type Mechanism int

// The mechanisms.
const (
	MechanismGaussian Mechanism = iota
	MechanismLaplace
)

// Event is one or more uses of a mechanism.
type Event struct {
	Mechanism Mechanism
	// Multiplier is the noise's standard deviation (Gaussian, L2) or scale
	// (Laplace, L1) in units of the sensitivity.
	Multiplier float64
	// Rate is the independent probability that a participant takes part in a use (Poisson
	// sampling); 1 without sampling. The Laplace mechanism is counted at 1.
	Rate float64
	// Steps is the number of uses.
	Steps int
}

// Limits of events.
const (
	minMultiplier = 0.05
	maxSteps      = 1 << 30
	minDelta      = 1e-12
)

func checkEvents(events []Event, delta float64) error {
	if !(delta >= minDelta && delta < 1) {
		return fmt.Errorf("delta %g: %w", delta, ErrRange)
	}
	for _, e := range events {
		if !(e.Multiplier >= minMultiplier && e.Multiplier <= maxScale) || !(e.Rate > 0 && e.Rate <= 1) || e.Steps < 1 || e.Steps > maxSteps ||
			(e.Mechanism != MechanismGaussian && e.Mechanism != MechanismLaplace) {
			return fmt.Errorf("event %+v: %w", e, ErrRange)
		}
	}
	return nil
}

// Statement is what a series of events spent at a delta.
type Statement struct {
	Delta float64 `json:"delta"`
	// Epsilon relies on sampling: it holds against those who do not see who took part.
	Epsilon float64 `json:"epsilon"`
	// EpsilonWithoutSampling holds against everybody, including the aggregator, which sees who
	// took part.
	EpsilonWithoutSampling float64 `json:"epsilon_without_sampling"`
}

// tailShare is the part of delta that is set aside for what the accountant's window
// does not see.
const tailShare = 1e-4

// Spend adds up events by their privacy loss distributions, in both directions of
// neighbouring (a participant more, a participant less; replacing one doubles the sensitivity).
// The result is an upper bound. Of Gaussians without sampling it is the closed form. Of sampled
// ones, as computed for sigma 0.6 to 20, rates 0.0005 to 0.5 and up to 20,000 steps, it is
// within a thousandth of the exact value (or 0.0003) at a delta of 1e-8 or more, and above it by
// up to 1 % at 1e-10, 14 % at 1e-11 and 26 % at 1e-12, the least that is taken: the rounding of the
// Fourier transform, about 1e-17 in each of 131,072 places, counts as probability.
func Spend(events []Event, delta float64) (Statement, error) {
	if err := checkEvents(events, delta); err != nil {
		return Statement{}, err
	}
	s := Statement{Delta: delta}
	if len(events) == 0 {
		return s, nil
	}
	whole := make([]Event, len(events))
	sampled := false
	for i, e := range events {
		sampled = sampled || e.Rate < 1
		e.Rate = 1
		whole[i] = e
	}
	s.EpsilonWithoutSampling = epsilonOf(whole, delta)
	s.Epsilon = s.EpsilonWithoutSampling
	if sampled {
		s.Epsilon = min(epsilonOf(events, delta), s.EpsilonWithoutSampling)
	}
	return s, nil
}

func epsilonOf(events []Event, delta float64) float64 {
	if mu, ok := onlyGaussians(events); ok {
		return gaussianEpsilon(mu, delta)
	}
	tail := delta * tailShare
	reach := window(events, tail)
	rest := delta - 2*tail
	eps := max(compose(events, reach, true).epsilon(rest), compose(events, reach, false).epsilon(rest), 0)
	// Both are upper bounds, so the lesser is one.
	if rdp, err := RDPEpsilon(events, delta); err == nil {
		eps = min(eps, rdp)
	}
	return eps
}

// onlyGaussians says whether all events are Gaussians without sampling. Together
// they are one, and mu is the inverse of its multiplier.
func onlyGaussians(events []Event) (mu float64, ok bool) {
	for _, e := range events {
		if e.Mechanism != MechanismGaussian || e.Rate != 1 {
			return 0, false
		}
		mu += float64(e.Steps) / (e.Multiplier * e.Multiplier)
	}
	return math.Sqrt(mu), true
}

// gaussianEpsilon inverts the closed form of one Gaussian (Balle and Wang 2018,
// theorem 8) by bisection, upwards.
func gaussianEpsilon(mu, delta float64) float64 {
	excess := func(eps float64) bool {
		a, b := mu/2-eps/mu, -mu/2-eps/mu
		// log(exp(eps)*Phi(b)) does not overflow where exp(eps) would.
		return math.Erfc(-a/math.Sqrt2)/2-math.Exp(eps+logErfc(-b/math.Sqrt2)-math.Ln2) > delta*(1-1e-12)
	}
	if !excess(0) {
		return 0
	}
	low, high := 0.0, 1.0
	for excess(high) {
		low, high = high, 2*high
	}
	for high-low > 1e-10*high {
		if middle := (low + high) / 2; excess(middle) {
			low = middle
		} else {
			high = middle
		}
	}
	return high
}

// Calibrate returns the smallest noise multiplier of the Gaussian mechanism with which steps
// uses at a sampling rate spend at most epsilon. It is never too small, and too large by at most
// 10^-5 of its value.
func Calibrate(epsilon, delta, rate float64, steps int) (float64, error) {
	if !(epsilon > 0 && epsilon <= 1000) {
		return 0, fmt.Errorf("epsilon %g: %w", epsilon, ErrRange)
	}
	spent := func(sigma float64) (float64, error) {
		e := []Event{{Multiplier: sigma, Rate: rate, Steps: steps}}
		if err := checkEvents(e, delta); err != nil {
			return 0, err
		}
		return epsilonOf(e, delta), nil
	}
	low, high := minMultiplier, 1.0
	for {
		e, err := spent(high)
		if err != nil {
			return 0, err
		}
		if e <= epsilon {
			break
		}
		low, high = high, 2*high
	}
	if e, err := spent(low); err != nil || e <= epsilon {
		return low, err
	}
	for high-low > 1e-5*high {
		middle := math.Sqrt(low * high)
		e, err := spent(middle)
		if err != nil {
			return 0, err
		}
		if e <= epsilon {
			high = middle
		} else {
			low = middle
		}
	}
	return high, nil
}
