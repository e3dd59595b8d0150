package dp

import (
	"fmt"
	"math"
	"math/big"
)

const (
	// maxScale bounds standard deviations and scales.
	maxScale = 1 << 40
	// scaleUnit is what standard deviations are rounded up to: exact rationals.
	scaleUnit = 1 << 20
	// tailBits: what lies beyond the last bucket has a probability below 2^-140.
	tailBits = 140
)

// Gaussian draws from the discrete Gaussian: each integer x with a probability
// proportional to exp(-x*x/(2*sigma*sigma)) (Canonne, Kamath, Steinke 2020).
type Gaussian struct {
	sigma   float64
	inverse float64 // 1/(2 sigma^2), to a relative error below 2^-50
	shift   uint    // buckets are 2^shift wide
	buckets *table
}

// NewGaussian prepares a sampler. Several goroutines may use it, each with a Source of its own.
// sigma is rounded up to a multiple of 2^-20, so noise is never less than requested.
func NewGaussian(sigma float64) (*Gaussian, error) {
	sigma, err := roundUp(sigma)
	if err != nil {
		return nil, err
	}
	g := &Gaussian{sigma: sigma, inverse: 1 / (2 * sigma * sigma), shift: shiftOf(sigma)}
	// Beyond x the mass is below exp(-x*x/(2 sigma^2)) times a small factor.
	last := int(math.Ceil(sigma*math.Sqrt(2*tailBits*math.Ln2)))>>g.shift + 2
	weights := make([]*big.Float, last)
	for h := range weights {
		weights[h] = expNeg(g.exponent(int64(h)<<g.shift, 0))
	}
	g.buckets = newTable(weights)
	return g, nil
}

func roundUp(scale float64) (float64, error) {
	if !(scale > 0 && scale <= maxScale) {
		return 0, fmt.Errorf("noise of scale %g: %w", scale, ErrRange)
	}
	return math.Ceil(scale*scaleUnit) / scaleUnit, nil
}

// shiftOf makes buckets between a sixteenth and an eighth of the scale wide, and
// never narrower than one.
func shiftOf(scale float64) uint {
	return uint(max(math.Ilogb(scale)-3, 0))
}

// exponent is (x*x - edge*edge)/(2 sigma^2), exactly but for the precision.
func (g *Gaussian) exponent(x, edge int64) *big.Float {
	a, b := big.NewInt(x), big.NewInt(edge)
	a.Mul(a, a).Sub(a, b.Mul(b, b))
	s := newFloat(g.sigma)
	return newFloat(0).Quo(newFloat(0).SetInt(a), s.Mul(s, s).Mul(s, newFloat(2)))
}

// Sigma is the standard deviation parameter in use.
func (g *Gaussian) Sigma() float64 { return g.sigma }

// Sample draws one integer.
func (g *Gaussian) Sample(s *Source) int64 {
	for {
		edge := int64(g.buckets.draw(s)) << g.shift
		negative, inside, u := place(s, g.shift)
		x := edge + inside
		if inside != 0 {
			gamma := float64(inside) * float64(2*edge+inside) * g.inverse
			if !accept(s, u, gamma, func() *big.Float { return g.exponent(x, edge) }) {
				continue
			}
		}
		if v, ok := signed(x, negative); ok {
			return v
		}
	}
}

// Fill draws for each element.
func (g *Gaussian) Fill(s *Source, dst []int64) {
	for i := range dst {
		dst[i] = g.Sample(s)
	}
}
