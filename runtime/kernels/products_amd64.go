package kernels

// The assembly reads and writes exactly what the reference does for the same
// arguments; all lengths were checked by the callers.

//go:noescape
func oneQ40AVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ41AVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ4KAVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ80AVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ50AVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ51AVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ5KAVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ6KAVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ2KAVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ3KAVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneIQ4NLAVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneIQ4XSAVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneMXFP4AVX2(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ40AVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ41AVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ80AVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ50AVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ51AVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ4KAVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ5KAVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ6KAVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ2KAVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ3KAVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourIQ4NLAVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourIQ4XSAVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourMXFP4AVX2(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneF32AVX2(dst *float32, groups *byte, x *float32, cols, groupCount int)

//go:noescape
func oneF16AVX2(dst *float32, groups *byte, x *float32, cols, groupCount int)

//go:noescape
func oneBF16AVX2(dst *float32, groups *byte, x *float32, cols, groupCount int)

//go:noescape
func fourF32AVX2(dst *float32, stride int, groups *byte, x *float32, cols, groupCount int)

//go:noescape
func fourF16AVX2(dst *float32, stride int, groups *byte, x *float32, cols, groupCount int)

//go:noescape
func fourBF16AVX2(dst *float32, stride int, groups *byte, x *float32, cols, groupCount int)
