package classifier

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// ErrNotFinite means an input with a value that is infinite or not a number.
var ErrNotFinite = errors.New("classifier: an input value is not a finite number")

// Bounds of a Feature, by which nothing overflows.
const (
	maxExponent   = 512
	maxMultiplier = 1 << 30
	maxShift      = 62
	maxOffset     = 1 << 61
	maxFixed      = 1<<31 - 1
)

// Quantizer turns an input of floating-point values into int8. It is the only place where
// a classifier meets floating point, and it is exact:
//
//	X = x * 2^Exponent, rounded to the nearest integer, half to even,
//	    then limited to -(2^31-1) .. 2^31-1
//	q = (X*Multiplier + Offset + 2^(Shift-1)) >> Shift, limited to -128 .. 127
//
// The shift rounds down. x is a float64; a float32 is converted first, which is exact.
// Scaling by a power of two is exact too, or the result is so large or so small that the
// limit or the rounding decides; so both lines are the same on every machine.
type Quantizer struct {
	Features []Feature // one for each input value, or a single one for all
}

// Feature is the rule for one input value.
type Feature struct {
	Exponent   int32 // -512 .. 512
	Multiplier int32 // less than 2^30 either way
	Shift      uint8 // 1 .. 62
	Offset     int64 // at most 2^61 either way
}

// Affine returns the rule nearest to q = x*scale + offset, where the input value's range of
// interest ends where q saturates. It fails if the offset is so large compared with the scale
// that a float64 input would lose significant digits.
func Affine(scale, offset float64) (Feature, error) {
	// Beyond this size of x, q is saturated.
	end := (math.Abs(offset) + 130) / math.Abs(scale)
	if math.IsNaN(scale) || scale == 0 || math.IsNaN(end) || end == 0 || math.IsInf(end, 0) || math.Abs(offset) > 1<<22 {
		return Feature{}, fmt.Errorf("classifier: an input value times %g plus %g cannot be quantized: its range is too small for its magnitude", scale, offset)
	}
	_, e := math.Frexp(end) // end < 2^e
	exponent := 31 - e
	_, s := math.Frexp(math.Ldexp(scale, -exponent)) // below 2^s
	shift := min(30-s, maxShift)
	f := Feature{
		Exponent:   int32(exponent),
		Multiplier: int32(math.RoundToEven(math.Ldexp(scale, shift-exponent))),
		Shift:      uint8(max(shift, 0)),
	}
	if f.Multiplier == maxMultiplier || f.Multiplier == -maxMultiplier {
		f.Multiplier, f.Shift = f.Multiplier/2, f.Shift-1
	}
	f.Offset = int64(math.RoundToEven(math.Ldexp(offset, int(f.Shift))))
	return f, f.check()
}

func (f Feature) check() error {
	switch {
	case f.Exponent < -maxExponent || f.Exponent > maxExponent, f.Shift < 1 || f.Shift > maxShift,
		f.Multiplier >= maxMultiplier || f.Multiplier <= -maxMultiplier, f.Offset > maxOffset || f.Offset < -maxOffset:
		return fmt.Errorf("classifier: input rule %+v is out of range", f)
	}
	return nil
}

// Check reports rules that are out of bounds, and a number of rules other than one or n.
func (q *Quantizer) Check(n int) error {
	if len(q.Features) != 1 && len(q.Features) != n {
		return fmt.Errorf("classifier: got %d input rules for %d values", len(q.Features), n)
	}
	if n > 1 && len(q.Features) == n && !slices.ContainsFunc(q.Features, func(f Feature) bool { return f != q.Features[0] }) {
		return errors.New("classifier: input rules that are equal for all values must be written once")
	}
	for _, f := range q.Features {
		if err := f.check(); err != nil {
			return err
		}
	}
	return nil
}

// Float is a type of input values.
type Float interface{ ~float32 | ~float64 }

// Quantize writes the quantized input to out, which has the length of in, and returns how many
// values were outside the range of the rules and were clamped to its ends. The Quantizer must
// have passed Check for that length. It allocates nothing.
func Quantize[F Float](q *Quantizer, in []F, out []int8) (clipped int, err error) {
	if len(in) != len(out) || len(q.Features) != 1 && len(q.Features) != len(in) {
		return 0, fmt.Errorf("classifier: got an input of %d values, want %d", len(in), len(out))
	}
	step := 1
	if len(q.Features) == 1 {
		step = 0
	}
	for i, at := 0, 0; i < len(in); i, at = i+1, at+step {
		v, outside, ok := q.Features[at].quantize(float64(in[i]))
		if !ok {
			return 0, ErrNotFinite
		}
		out[i] = v
		if outside {
			clipped++
		}
	}
	return clipped, nil
}

// quantize returns the integer, and whether the value lay outside its range.
func (f *Feature) quantize(x float64) (q int8, outside, ok bool) {
	if x-x != 0 { // NaN or infinite
		return 0, false, false
	}
	// 2^Exponent from its bits: exact, and quicker than Ldexp.
	scaled := math.RoundToEven(x * math.Float64frombits(uint64(1023+f.Exponent)<<52))
	fixed := int64(max(-maxFixed, min(maxFixed, scaled)))
	v := (fixed*int64(f.Multiplier) + f.Offset + 1<<(f.Shift-1)) >> f.Shift
	q = int8(max(-128, min(127, v)))
	return q, int64(q) != v, true
}
