package dp

import "math"

// Norm adds up the Euclidean norm of a vector that comes in parts.
type Norm struct {
	sum   float64
	count uint64
}

// Add takes a part. Values that are not finite are refused.
func (n *Norm) Add(values []float32) error {
	var a, b float64
	for len(values) >= 2 {
		x, y := float64(values[0]), float64(values[1])
		a += x * x // exact: 48 bits
		b += y * y
		values = values[2:]
		n.count += 2
	}
	for _, v := range values {
		a += float64(v) * float64(v)
		n.count++
	}
	// A value that is not finite makes the sum so; float32 squares alone cannot.
	if s := n.sum + a + b; s <= math.MaxFloat64 {
		n.sum = s
		return nil
	}
	return ErrNotFinite
}

// L2 is the norm, never less than the true one: each addition may have lost half a
// unit in the last place.
func (n *Norm) L2() float64 {
	if n.sum == 0 {
		return 0
	}
	return math.Sqrt(n.sum*(1+float64(n.count)*0x1p-52)) * (1 + 0x1p-51)
}

// Count is how many values were added.
func (n *Norm) Count() uint64 { return n.count }

// Factor is what to multiply a vector of this norm with so that its norm is inside
// the bound: at most 1.
func Factor(norm, bound float64) float64 {
	if norm <= bound {
		return 1
	}
	return bound / norm * (1 - 0x1p-50)
}

// Round writes x*scale rounded at random to one of the two integers beside it, so
// that its mean is the value (unbiased to 2^-32 of a step while |x*scale| is below
// 2^20), clamped to -top and top.
func Round(s *Source, dst []int32, x []float32, scale float32, top int32) error {
	low, high := -float64(top), float64(top)
	k := float64(scale)
	i := 0
	for ; i+2 <= len(x); i += 2 {
		r := s.Uint64()
		a := math.Floor(float64(x[i])*k + float64(uint32(r))*0x1p-32)
		b := math.Floor(float64(x[i+1])*k + float64(r>>32)*0x1p-32)
		if a != a || b != b {
			return ErrNotFinite
		}
		dst[i], dst[i+1] = int32(min(max(a, low), high)), int32(min(max(b, low), high))
	}
	for ; i < len(x); i++ {
		a := math.Floor(float64(x[i])*k + float64(s.Uint64()>>32)*0x1p-32)
		if a != a {
			return ErrNotFinite
		}
		dst[i] = int32(min(max(a, low), high))
	}
	return nil
}
