package dp

import (
	"math"
	"math/big"
)

// Laplace draws from the discrete Laplace distribution: each integer x with a
// probability proportional to exp(-|x|/scale).
type Laplace struct {
	scale   float64
	inverse float64
	shift   uint
	buckets *table
}

// NewLaplace prepares a sampler. Several goroutines may use it, each with a Source of its own.
// scale is rounded up to a multiple of 2^-20.
func NewLaplace(scale float64) (*Laplace, error) {
	scale, err := roundUp(scale)
	if err != nil {
		return nil, err
	}
	l := &Laplace{scale: scale, inverse: 1 / scale, shift: shiftOf(scale)}
	last := int(math.Ceil(scale*tailBits*math.Ln2))>>l.shift + 2
	weights := make([]*big.Float, last)
	for h := range weights {
		weights[h] = expNeg(l.exponent(int64(h) << l.shift))
	}
	l.buckets = newTable(weights)
	return l, nil
}

// exponent is x/scale.
func (l *Laplace) exponent(x int64) *big.Float {
	return newFloat(0).Quo(newFloat(0).SetInt64(x), newFloat(l.scale))
}

// Scale is the scale in use.
func (l *Laplace) Scale() float64 { return l.scale }

// Sample draws one integer.
func (l *Laplace) Sample(s *Source) int64 {
	for {
		edge := int64(l.buckets.draw(s)) << l.shift
		negative, inside, u := place(s, l.shift)
		if inside != 0 && !accept(s, u, float64(inside)*l.inverse, func() *big.Float { return l.exponent(inside) }) {
			continue
		}
		x := edge + inside
		if v, ok := signed(x, negative); ok {
			return v
		}
	}
}

// Fill draws for each element.
func (l *Laplace) Fill(s *Source, dst []int64) {
	for i := range dst {
		dst[i] = l.Sample(s)
	}
}
