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

// Count is the number of values that were added.
func (n *Norm) Count() uint64 { return n.count }

// Factor returns the factor, at most 1, that brings a vector of this norm inside the bound.
func Factor(norm, bound float64) float64 {
	if norm <= bound {
		return 1
	}
	return bound / norm * (1 - 0x1p-50)
}

// roundOffset makes every value that Round does not clamp positive, so that
// truncation rounds down.
const roundOffset = 1 << 28

// Round writes x*scale rounded at random to one of the two integers beside it, so
// that its mean is the value (unbiased to 2^-24 of a step), clamped to -top and top,
// and returns how many values were clamped. top is below 2^28.
func Round[F float32 | float64](s *Source, dst []int32, x []F, scale float32, top int32) (clamped uint64, err error) {
	if top < 0 || top >= roundOffset {
		return 0, ErrRange
	}
	k, limit := float64(scale), float64(top)
	dst = dst[:len(x)]
	var r uint64
	for i, v := range x {
		if i&1 == 0 {
			r = s.Uint64()
		} else {
			r >>= 32
		}
		y := float64(v) * k
		if y >= -limit && y <= limit {
			dst[i] = int32(int64(y+float64(uint32(r))*0x1p-32+roundOffset)) - roundOffset
			continue
		}
		clamped++
		switch {
		case y > limit:
			dst[i] = top
		case y < -limit:
			dst[i] = -top
		default:
			return clamped, ErrNotFinite
		}
	}
	return clamped, nil
}
