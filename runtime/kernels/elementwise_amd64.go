package kernels

import "unsafe"

//go:noescape
func expSumAVX2(x *float32, top float32, sums *[lanes]float32, n int)

//go:noescape
func siluMulAVX2(gate, up *float32, n int)

//go:noescape
func scoresAVX2(scores, query *float32, keys *uint16, scale float32, n, count int)

//go:noescape
func largestAVX2(x *float32, n int) float32

//go:noescape
func scaleAVX2(x *float32, by float32, n int)

//go:noescape
func weightedSum64AVX2(dst, weights *float32, vals *uint16, stride, count int)

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

func scoresWithAVX2(scores, query []float32, keys []uint16, scale float32) {
	n := len(query)
	if n == 0 || n%lanes != 0 || len(scores) == 0 {
		genericScores(scores, query, keys, scale)
		return
	}
	keys = keys[:len(scores)*n]
	scoresAVX2(unsafe.SliceData(scores), unsafe.SliceData(query), unsafe.SliceData(keys), scale, n, len(scores))
}

// weightedSumWithAVX2 keeps 64 columns at a time in registers over all rows.
func weightedSumWithAVX2(dst, weights []float32, vals []uint16) {
	n := len(dst)
	vals = vals[:len(weights)*n]
	if n%64 == 0 && len(weights) > 0 {
		for c := 0; c < n; c += 64 {
			weightedSum64AVX2(&dst[c], unsafe.SliceData(weights), &vals[c], 2*n, len(weights))
		}
		return
	}
	clear(dst)
	m := n / lanes * lanes
	for i, w := range weights {
		row := vals[i*n : (i+1)*n]
		axpyF16WithAVX2(dst[:m], w, row[:m])
		genericAxpyF16(dst[m:], w, row[m:])
	}
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
