package kernels

// Kinds of levels and scales, as amx_amd64.s knows them.
const (
	nibbleLevels = iota
	valueLevels
	fiveLevels
	byteLevels
	sixLevels
	threeLevels
)

const (
	halfScales = iota
	exponentScales
	superScales
)

// tiledType is what the AMX kernels have to know of a type: its layout is known to the assembly.
type tiledType struct {
	levels, scales      uint64
	planes, head, block uint64 // bytes before the planes in a block, and of a head and a block
	masks               [3]uint32
	zero                uint32 // in each byte
	values              [16]int8
}

// tiledTypes are all quantized types but Q2_K: with two scales and two minima for 16 columns each, four
// tokens at a time are as fast.
func tiledTypes() map[Type]paneled {
	out := map[Type]paneled{}
	for t := range Type(len(layouts)) {
		l := t.layout()
		kind := tiledType{head: uint64(l.head), block: uint64(l.block), zero: uint32(l.zero) * 0x01010101}
		kernel := sixteenLinearAMX
		switch t {
		case Q4_1, Q5_1, Q4_K, Q5_K:
			kernel = sixteenAffineAMX
		case Q6_K, Q3_K:
			kernel = sixteenHalvesAMX
		}
		switch {
		case l.values != nil:
			kind.levels, kind.planes, kind.masks, kind.values = valueLevels, uint64(l.nibbles), [3]uint32{0x0f0f0f0f}, *l.values
		case l.nibbles != 0:
			kind.levels, kind.planes, kind.masks = nibbleLevels, uint64(l.nibbles), [3]uint32{0x0f0f0f0f}
		case l.fives != 0:
			kind.levels, kind.planes, kind.masks = fiveLevels, uint64(l.fives), [3]uint32{0x1f1f1f1f, 0x07070707, 0x0f0f0f0f}
		case l.bytes != 0:
			kind.levels, kind.planes = byteLevels, uint64(l.bytes)
		case l.sixes != 0:
			kind.levels, kind.planes, kind.masks = sixLevels, uint64(l.sixes), [3]uint32{0x3f3f3f3f, 0x03030303, 0x0f0f0f0f}
		case l.bits != 0:
			kind.levels, kind.planes, kind.masks = threeLevels, uint64(l.pairs), [3]uint32{0x07070707, 0x03030303}
		default:
			continue
		}
		switch {
		case t == MXFP4:
			kind.scales = exponentScales
		case l.head != 0:
			kind.scales = superScales
		}
		out[t] = func(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int) {
			kernel(dst, stride, groups, groupBytes, act, tokenBytes, blocks, groupCount, &kind)
		}
	}
	return out
}

// The assembly reads and writes exactly what the reference does for the same
// arguments; all lengths were checked by the callers.

//go:noescape
func sixteenLinearAMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int, kind *tiledType)

//go:noescape
func sixteenAffineAMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int, kind *tiledType)

//go:noescape
func sixteenHalvesAMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int, kind *tiledType)
