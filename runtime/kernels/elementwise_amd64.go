package kernels

import "unsafe"

//go:noescape
func expSumAVX2(x *float32, top float32, sums *[lanes]float32, n int)

//go:noescape
func siluMulAVX2(gate, up *float32, n int)

//go:noescape
func largestAVX2(x *float32, n int) float32

//go:noescape
func scaleAVX2(x *float32, by float32, n int)

//go:noescape
func quantizeAVX2(r *record, x *float32, blocks int) int

func expSumWithAVX2(x []float32, top float32) (sums [lanes]float32) {
	n := len(x) / lanes * lanes
	expSumAVX2(unsafe.SliceData(x), top, &sums, n)
	addExp(x[n:], top, &sums)
	return sums
}

func siluMulWithAVX2(gate, up []float32) {
	up = up[:len(gate)]
	n := len(gate) / 8 * 8
	siluMulAVX2(unsafe.SliceData(gate), unsafe.SliceData(up), n)
	genericSiLUMul(gate[n:], up[n:])
}

func largestWithAVX2(x []float32) float32 {
	n := len(x) / lanes * lanes
	top := genericLargest(x[n:])
	if n > 0 {
		top = max(top, largestAVX2(unsafe.SliceData(x), n))
	}
	return top
}

func scaleWithAVX2(x []float32, by float32) {
	n := len(x) / lanes * lanes
	if n > 0 {
		scaleAVX2(unsafe.SliceData(x), by, n)
	}
	genericScale(x[n:], by)
}

// quantizeWithAVX2 leaves blocks that are zero or not finite to plain Go.
func quantizeWithAVX2(records []record, x []float32) {
	x = x[:len(records)*BlockCols]
	for len(records) > 0 {
		n := quantizeAVX2(&records[0], &x[0], len(records))
		if n < len(records) {
			quantizeBlock(&records[n], (*[BlockCols]float32)(x[n*BlockCols:]))
			n++
		}
		records, x = records[n:], x[n*BlockCols:]
	}
}

//go:noescape
func notBelowAVX2(bits *uint64, x *float32, floor float32, words int)

func notBelowWithAVX2(bits []uint64, x []float32, floor float32) {
	n := len(x) / 64
	notBelowAVX2(unsafe.SliceData(bits), unsafe.SliceData(x), floor, n)
	genericNotBelow(bits[n:], x[64*n:], floor)
}
