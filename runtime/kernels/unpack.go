package kernels

import (
	"encoding/binary"
	"fmt"
	"math"
)

// UnpackRow computes one row of a row group as float32 values: those that gguf-py and ggml
// give for the same block of GGUF, to the last bit.
func UnpackRow(dst []float32, group []byte, t Type, row, cols int) error {
	if size := TileBytes(t, cols); size == 0 || len(group) != size || row < 0 || row >= TileRows || len(dst) != cols {
		return fmt.Errorf("unpack row %d of %d columns of %s from %d bytes: %w", row, cols, t, len(group), ErrShape)
	}
	l := t.layout()
	for b := range cols / BlockCols {
		head, at := l.blockAt(b)
		out, block := dst[b*BlockCols:][:BlockCols], group[at:at+l.block]
		if t.float() {
			for c := range out {
				out[c] = weightAt(block, t, c, row)
			}
			continue
		}
		var q [BlockCols]int32
		l.levels(&q, block, row)
		s := scalesAt(group[head:], block, t, row)
		for c, v := range q {
			out[c] = float32(s.scale[c/16] * float32(v-l.zero))
			if s.affine {
				out[c] -= s.minimum[c/16]
			}
		}
	}
	return nil
}

// weightAt is the weight in column c and row r of a block of floating-point numbers.
func weightAt(block []byte, t Type, c, r int) float32 {
	switch t {
	case F32:
		return math.Float32frombits(binary.LittleEndian.Uint32(block[64*c+4*r:]))
	case BF16:
		return math.Float32frombits(uint32(binary.LittleEndian.Uint16(block[32*c+2*r:])) << 16)
	}
	return float16At(block, 32*c+2*r)
}

// levels reads the 32 levels of a row, or the values that they stand for.
func (l *layout) levels(q *[BlockCols]int32, block []byte, r int) {
	at := 4 * r
	switch {
	case l.bytes != 0:
		for c := range q {
			q[c] = int32(block[l.bytes+64*(c/4)+at+c%4])
		}
	case l.fives != 0:
		for k := range 4 {
			fives(q, block[l.fives+at+k:], k)
		}
	case l.sixes != 0:
		for k := range 4 {
			sixes(q[k:], block[l.sixes+at+k:])
			sixes(q[16+k:], block[l.sixes+192+at+k:])
		}
	case l.nibbles != 0:
		for c := range 16 {
			v := block[l.nibbles+64*(c/4)+at+c%4]
			q[c], q[c+16] = int32(v&15), int32(v>>4)
		}
	default:
		for c := range q {
			j := c / 4
			q[c] = int32(block[l.pairs+64*(j/4)+at+c%4] >> (j % 4 * 2) & 3)
			if l.bits != 0 {
				q[c] |= int32(block[l.bits+at+c%4]>>j&1) << 2
			}
		}
	}
	if l.values != nil {
		for c, v := range q {
			q[c] = int32(l.values[v])
		}
	}
}

// fives is the inverse of putFives.
func fives(q *[BlockCols]int32, v []byte, k int) {
	v0, v1, v2, v3, v4 := int32(v[0]), int32(v[64]), int32(v[128]), int32(v[192]), int32(v[256])
	q[k], q[4+k], q[8+k], q[12+k], q[16+k] = v0&31, v1&31, v2&31, v3&31, v4&31
	q[20+k] = v0>>5 | v1>>6<<3
	q[24+k] = v2>>5 | v3>>6<<3
	q[28+k] = v4>>5 | v1>>5&1<<3 | v3>>5&1<<4
}

// sixes is the inverse of putSixes.
func sixes(q []int32, v []byte) {
	v0, v1, v2 := int32(v[0]), int32(v[64]), int32(v[128])
	q[0], q[4], q[8], q[12] = v0&63, v1&63, v2&63, v0>>6|v1>>6<<2|v2>>6<<4
}

// scales are what turns the levels of a row into weights: scale (level - zero) -
// minimum, for each 16 columns.
type scales struct {
	scale, minimum [2]float32
	affine         bool
}

func both(v float32) [2]float32 { return [2]float32{v, v} }

// scalesAt reads the scales of row r of a block, whose super-block begins at head.
func scalesAt(head, block []byte, t Type, r int) scales {
	switch t {
	case Q4_1, Q5_1:
		return scales{both(float16At(block, 2*r)), both(-float16At(block, 32+2*r)), true}
	case Q4_K, Q5_K:
		d, m := float16At(head, 2*r), float16At(head, 32+2*r)
		return scales{both(d * float32(block[r])), both(m * float32(block[16+r])), true}
	case Q2_K:
		d, m := float16At(head, 2*r), float16At(head, 32+2*r)
		a, b := block[r], block[16+r]
		return scales{[2]float32{d * float32(a&15), d * float32(b&15)}, [2]float32{m * float32(a>>4), m * float32(b>>4)}, true}
	case Q3_K, Q6_K:
		d := float16At(head, 2*r)
		return scales{scale: [2]float32{d * float32(int8(block[r])), d * float32(int8(block[16+r]))}}
	case IQ4_XS:
		return scales{scale: both(float16At(head, 2*r) * float32(int8(block[r])))}
	case MXFP4:
		return scales{scale: both(halfPowerOf2(block[r]))}
	}
	return scales{scale: both(float16At(block, 2*r))}
}

// halfPowerOf2 is 2^(e-128), exact, for values that are stored twice as large.
func halfPowerOf2(e uint8) float32 {
	return math.Float32frombits(max(uint32(e)<<23, 1<<22)) / 2
}

func float16At(b []byte, i int) float32 {
	return Float16to32(binary.LittleEndian.Uint16(b[i:]))
}
