package kernels

import "math"

// Float16to32 converts an IEEE 754 binary16 value exactly.
func Float16to32(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h)&0x3ff
	switch exponent {
	case 0: // zero and subnormals: fraction * 2^-24, exact in float32
		f := float32(fraction) * 0x1p-24
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 31: // infinities and NaN; a NaN becomes quiet, as the hardware does
		if fraction != 0 {
			fraction |= 0x200
		}
		return math.Float32frombits(sign | 0xff<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}

// Float32to16 converts with rounding to the nearest, ties to even.
func Float32to16(f float32) uint16 {
	bits := math.Float32bits(f)
	sign, magnitude := uint16(bits>>16)&0x8000, bits&0x7fffffff
	switch {
	case magnitude > 0x7f800000: // NaN
		return sign | 0x7e00 | uint16(magnitude>>13)&0x3ff
	case magnitude >= 0x477ff000: // rounds past the largest finite value
		return sign | 0x7c00
	case magnitude < 0x38800000: // subnormal: let the adder round
		return sign | uint16(math.Float32bits(math.Float32frombits(magnitude)+0.5)-0x3f000000)
	}
	odd := magnitude >> 13 & 1
	return sign | uint16((magnitude+0xfff+odd-0x38000000)>>13)
}
