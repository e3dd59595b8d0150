package kernels

import "math"

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
	table               [64]uint16 // bfloat16 of what a level stands for, by its 5 or 6 lowest bits
}

// kindOf is a type as the AMX kernels have it.
func kindOf(t Type) *tiledType {
	l := t.layout()
	kind := tiledType{head: uint64(l.head), block: uint64(l.block), zero: uint32(l.zero) * 0x01010101}
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
	}
	switch {
	case t == MXFP4:
		kind.scales = exponentScales
	case l.head != 0:
		kind.scales = superScales
	}
	kind.fillTable(l)
	return &kind
}

// tiledTypes are the quantized types whose products AMX-INT8 computes: not Q2_K, for with two scales and two minima for
// 16 columns each, four tokens at a time are as fast, and not those of wideTypes.
func tiledTypes() map[Type]paneled {
	out := map[Type]paneled{}
	for t, kernel := range map[Type]func(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int, kind *tiledType){
		Q8_0: sixteenLinearAMX, IQ4_NL: sixteenLinearAMX, IQ4_XS: sixteenLinearAMX,
	} {
		kind := kindOf(t)
		out[t] = func(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int) {
			kernel(dst, stride, groups, groupBytes, act, tokenBytes, blocks, groupCount, kind)
		}
	}
	return out
}

// wideTypes are those whose products AMX-BF16 computes: the sum of a block, or of its half, of at most 512 levels times
// codes of 15 bits, is a float32.
func wideTypes() map[Type]widePaneled {
	out := map[Type]widePaneled{}
	for t, kernel := range map[Type]func(dst *float32, stride int, groups *byte, groupBytes int, codes *byte, codeBytes, blocks, groupCount, tiles int, kind *tiledType){
		Q4_0: panelLinearAMX, Q5_0: panelLinearAMX, MXFP4: panelLinearAMX,
		Q4_1: panelAffineAMX, Q4_K: panelAffineAMX,
		Q5_1: panelFivesAMX, Q5_K: panelFivesAMX,
		Q6_K: panelSplitAMX, Q3_K: panelSplitAMX,
	} {
		kind := kindOf(t)
		out[t] = func(dst *float32, stride int, groups *byte, groupBytes int, codes *byte, codeBytes, blocks, groupCount, tiles int) {
			kernel(dst, stride, groups, groupBytes, codes, codeBytes, blocks, groupCount, tiles, kind)
		}
	}
	return out
}

func widenWithAVX512(tile []byte, row int, records []record) {
	tile = tile[:len(records)*wideBytes]
	wideRow(&tile[row*128], &tile[wideScales+row*16], &records[0], len(records))
}

// fillTable fills in the table of at most 6 bits.
func (k *tiledType) fillTable(l *layout) {
	for i := range k.table {
		level := int32(i)
		switch {
		case l.sixes != 0:
		case l.fives != 0:
			level %= 32
		default:
			level %= 16
		}
		if l.values != nil {
			level = int32(l.values[level])
		} else {
			level -= l.zero
		}
		k.table[i] = uint16(math.Float32bits(float32(level)) >> 16)
	}
}

// The assembly reads and writes exactly what the reference does for the same
// arguments; all lengths were checked by the callers.

//go:noescape
func sixteenLinearAMX(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int, kind *tiledType)

//go:noescape
func panelLinearAMX(dst *float32, stride int, groups *byte, groupBytes int, codes *byte, codeBytes, blocks, groupCount, tiles int, kind *tiledType)

//go:noescape
func panelAffineAMX(dst *float32, stride int, groups *byte, groupBytes int, codes *byte, codeBytes, blocks, groupCount, tiles int, kind *tiledType)

//go:noescape
func panelFivesAMX(dst *float32, stride int, groups *byte, groupBytes int, codes *byte, codeBytes, blocks, groupCount, tiles int, kind *tiledType)

//go:noescape
func panelSplitAMX(dst *float32, stride int, groups *byte, groupBytes int, codes *byte, codeBytes, blocks, groupCount, tiles int, kind *tiledType)

//go:noescape
func wideRow(codes, scales *byte, records *record, blocks int)
