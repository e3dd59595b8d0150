package kernels

import "unsafe"

// The assembly reads and writes exactly what the reference does for the same
// arguments; all lengths were checked by the callers.

//go:noescape
func dotNEON(x, y *float32, n int) float32

//go:noescape
func expSumNEON(x *float32, top float32, sums *[lanes]float32, n int)

//go:noescape
func siluMulNEON(gate, up *float32, n int)

//go:noescape
func largestNEON(x *float32, n int) float32

//go:noescape
func scaleNEON(x *float32, by float32, n int)

//go:noescape
func halvesNEON(dst *uint16, x *float32, n int)

//go:noescape
func quantizeNEON(r *record, x *float32, blocks int) int

//go:noescape
func notBelowNEON(bits *uint64, x *float32, floor float32, words int)

func notBelowWithNEON(bits []uint64, x []float32, floor float32) {
	n := len(x) / 64
	notBelowNEON(unsafe.SliceData(bits), unsafe.SliceData(x), floor, n)
	genericNotBelow(bits[n:], x[64*n:], floor)
}

func dotWithNEON(x, y []float32) float32 {
	return dotNEON(unsafe.SliceData(x), unsafe.SliceData(y[:len(x)]), len(x))
}

func expSumWithNEON(x []float32, top float32) (sums [lanes]float32) {
	n := len(x) / lanes * lanes
	expSumNEON(unsafe.SliceData(x), top, &sums, n)
	addExp(x[n:], top, &sums)
	return sums
}

func siluMulWithNEON(gate, up []float32) {
	up = up[:len(gate)]
	n := len(gate) / 4 * 4
	siluMulNEON(unsafe.SliceData(gate), unsafe.SliceData(up), n)
	genericSiLUMul(gate[n:], up[n:])
}

func largestWithNEON(x []float32) float32 {
	n := len(x) / lanes * lanes
	top := genericLargest(x[n:])
	if n > 0 {
		top = max(top, largestNEON(unsafe.SliceData(x), n))
	}
	return top
}

func scaleWithNEON(x []float32, by float32) {
	n := len(x) / lanes * lanes
	if n > 0 {
		scaleNEON(unsafe.SliceData(x), by, n)
	}
	genericScale(x[n:], by)
}

func halvesWithNEON(dst []uint16, x []float32) {
	n := len(x) / 8 * 8
	halvesNEON(unsafe.SliceData(dst), unsafe.SliceData(x), n)
	genericHalves(dst[n:], x[n:])
}

// quantizeWithNEON leaves blocks that are zero or not finite to plain Go.
func quantizeWithNEON(records []record, x []float32) {
	x = x[:len(records)*BlockCols]
	for len(records) > 0 {
		n := quantizeNEON(&records[0], &x[0], len(records))
		if n < len(records) {
			quantizeBlock(&records[n], (*[BlockCols]float32)(x[n*BlockCols:]))
			n++
		}
		records, x = records[n:], x[n*BlockCols:]
	}
}
