package kernels

import (
	"encoding/binary"
	"math"
)

// The reference kernels, in the exact order of operations that every other
// kernel keeps:
//
//	acc  = sum of nibble or byte times 16-bit code, exact in 32 bits
//	p    = d * scale
//	t    = p * float32(acc)            (Q4_1: + m * offset)
//	y   += t, block after block
//
// Each product and sum is rounded to float32; nothing is fused.

// referenceMatMul computes all rows of some row groups for one token.
func referenceMatMul(dst []float32, groups []byte, t Type, blocks []record) {
	size := t.blockBytes()
	for g := range len(dst) / TileRows {
		group := groups[g*size*len(blocks):]
		var y [TileRows]float32
		for b := range blocks {
			tile := group[b*size : (b+1)*size]
			switch t {
			case Q4_0:
				referenceQ4(&y, tile[:32], nil, tile[32:], &blocks[b])
			case Q4_1:
				referenceQ4(&y, tile[:32], tile[32:64], tile[64:], &blocks[b])
			case Q8_0:
				referenceQ8(&y, tile, &blocks[b])
			}
		}
		copy(dst[g*TileRows:], y[:])
	}
}

// code is the 16-bit code of one column.
func (r *record) code(c int) int32 { return int32(r.high[c])<<8 + int32(r.low[c]) }

func referenceQ4(y *[TileRows]float32, scales, minima, vectors []byte, a *record) {
	for r := range TileRows {
		var acc int32
		for c := range 16 {
			v := vectors[64*(c/4)+4*r+c%4]
			acc += int32(v&15)*a.code(c) + int32(v>>4)*a.code(16+c)
		}
		p := float32(float16At(scales, 2*r) * a.scale)
		if minima == nil {
			y[r] += float32(p * float32(acc-8*a.sum))
			continue
		}
		t := float32(p * float32(acc))
		m := float32(float16At(minima, 2*r) * a.offset)
		y[r] += float32(t + m)
	}
}

func referenceQ8(y *[TileRows]float32, tile []byte, a *record) {
	for r := range TileRows {
		var acc int32
		for c := range BlockCols {
			acc += int32(tile[32+64*(c/4)+4*r+c%4]) * a.code(c)
		}
		p := float32(float16At(tile, 2*r) * a.scale)
		y[r] += float32(p * float32(acc-128*a.sum))
	}
}

// floatMatMul serves F16 and F32 tiles, which no model keeps in its hot path,
// with unquantized inputs.
func floatMatMul(dst []float32, groups []byte, t Type, x []float32) {
	size := t.blockBytes()
	for g := range len(dst) / TileRows {
		group := groups[g*size*(len(x)/BlockCols):]
		var y [TileRows]float32
		for c, v := range x {
			for r := range TileRows {
				var w float32
				if t == F16 {
					w = float16At(group, 32*c+2*r)
				} else {
					w = math.Float32frombits(binary.LittleEndian.Uint32(group[64*c+4*r:]))
				}
				y[r] += float32(w * v)
			}
		}
		copy(dst[g*TileRows:], y[:])
	}
}
