package kernels

var attendNEON = attending{{3, scores3NEON, sum3NEON}, {2, scores2NEON, sum2NEON}, {1, scores1NEON, sum1NEON}}

//go:noescape
func scores1NEON(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)

//go:noescape
func sum1NEON(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)

//go:noescape
func scores2NEON(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)

//go:noescape
func sum2NEON(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)

//go:noescape
func scores3NEON(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)

//go:noescape
func sum3NEON(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)
