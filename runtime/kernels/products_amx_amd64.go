package kernels

// The assembly reads and writes exactly what the reference does for the same
// arguments; all lengths were checked by the callers.

//go:noescape
func sixteenQ40AMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)

//go:noescape
func sixteenQ41AMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)

//go:noescape
func sixteenQ50AMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)

//go:noescape
func sixteenQ51AMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)

//go:noescape
func sixteenQ80AMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)

//go:noescape
func sixteenQ3KAMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)

//go:noescape
func sixteenQ4KAMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)

//go:noescape
func sixteenQ5KAMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)

//go:noescape
func sixteenQ6KAMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)

//go:noescape
func sixteenIQ4NLAMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)

//go:noescape
func sixteenIQ4XSAMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)

//go:noescape
func sixteenMXFP4AMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)
