package kernels

import "unsafe"

var (
	attendAVX2   = attending{{3, scores3AVX2, sum3AVX2}, {2, scores2AVX2, sum2AVX2}, {1, scores1AVX2, sum1AVX2}}
	attendAVX512 = attending{{12, scores12AVX512, sum12AVX512}, {6, scores6AVX512, sum6AVX512}, {4, scores4AVX512, sum4AVX512},
		{3, scores3AVX512, sum3AVX512}, {2, scores2AVX512, sum2AVX512}, {1, scores1AVX512, sum1AVX512}}
)

func halvesWithAVX2(dst []uint16, x []float32) {
	n := len(x) / 8 * 8
	halvesAVX2(unsafe.SliceData(dst), unsafe.SliceData(x), n)
	genericHalves(dst[n:], x[n:])
}

func expSumWithAVX512(x []float32, top float32) (sums [lanes]float32) {
	n := len(x) / lanes * lanes
	expSumAVX512(unsafe.SliceData(x), top, &sums, n)
	addExp(x[n:], top, &sums)
	return sums
}

func siluMulWithAVX512(gate, up []float32) {
	up = up[:len(gate)]
	n := len(gate) / lanes * lanes
	siluMulAVX512(unsafe.SliceData(gate), unsafe.SliceData(up), n)
	genericSiLUMul(gate[n:], up[n:])
}

//go:noescape
func halvesAVX2(dst *uint16, x *float32, n int)

//go:noescape
func expSumAVX512(x *float32, top float32, sums *[lanes]float32, n int)

//go:noescape
func siluMulAVX512(gate, up *float32, n int)

//go:noescape
func scores1AVX2(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)

//go:noescape
func sum1AVX2(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)

//go:noescape
func scores2AVX2(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)

//go:noescape
func sum2AVX2(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)

//go:noescape
func scores3AVX2(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)

//go:noescape
func sum3AVX2(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)

//go:noescape
func scores1AVX512(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)

//go:noescape
func sum1AVX512(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)

//go:noescape
func scores2AVX512(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)

//go:noescape
func sum2AVX512(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)

//go:noescape
func scores3AVX512(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)

//go:noescape
func sum3AVX512(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)

//go:noescape
func scores4AVX512(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)

//go:noescape
func sum4AVX512(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)

//go:noescape
func scores6AVX512(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)

//go:noescape
func sum6AVX512(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)

//go:noescape
func scores12AVX512(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)

//go:noescape
func sum12AVX512(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)
