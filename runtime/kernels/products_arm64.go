package kernels

// The assembly reads and writes exactly what the reference does for the same
// arguments; all lengths were checked by the callers.

//go:noescape
func oneQ40NEON(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ41NEON(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ50NEON(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ51NEON(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ80NEON(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ2KNEON(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ3KNEON(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ4KNEON(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ5KNEON(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneQ6KNEON(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneIQ4NLNEON(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneIQ4XSNEON(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneMXFP4NEON(dst *float32, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ40NEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ41NEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ50NEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ51NEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ80NEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ2KNEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ3KNEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ4KNEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ5KNEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourQ6KNEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourIQ4NLNEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourIQ4XSNEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func fourMXFP4NEON(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

//go:noescape
func oneF32NEON(dst *float32, groups *byte, x *float32, cols, groupCount int)

//go:noescape
func oneF16NEON(dst *float32, groups *byte, x *float32, cols, groupCount int)

//go:noescape
func oneBF16NEON(dst *float32, groups *byte, x *float32, cols, groupCount int)

//go:noescape
func fourF32NEON(dst *float32, stride int, groups *byte, x *float32, cols, groupCount int)

//go:noescape
func fourF16NEON(dst *float32, stride int, groups *byte, x *float32, cols, groupCount int)

//go:noescape
func fourBF16NEON(dst *float32, stride int, groups *byte, x *float32, cols, groupCount int)
