package kernels

// The assembly reads and writes exactly what the reference does for the same
// arguments; all lengths were checked by the callers.

//go:noescape
func oneQ40AVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ41AVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ50AVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ51AVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ80AVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ2KAVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ3KAVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ4KAVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ5KAVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ6KAVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneIQ4NLAVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneIQ4XSAVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneMXFP4AVX512(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ40AVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ41AVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ50AVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ51AVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ80AVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ2KAVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ3KAVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ4KAVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ5KAVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ6KAVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourIQ4NLAVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourIQ4XSAVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourMXFP4AVX512(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func sixteenF32AVX512(dst *float32, stride int, groups *byte, x *float32, cols, groupCount int)

//go:noescape
func sixteenF16AVX512(dst *float32, stride int, groups *byte, x *float32, cols, groupCount int)

//go:noescape
func sixteenBF16AVX512(dst *float32, stride int, groups *byte, x *float32, cols, groupCount int)
