package kernels

import "math"

// PackedBlock is the number of values that share a scale where keys and values are kept in 8 bits.
const PackedBlock = 32

// Pack8 writes x, whole blocks of 32, as codes of 8 bits times a float16 of each block: the largest of a block
// has the code 127 or -127, ties go to even. A block with a value that is not finite becomes one of values
// that are not numbers.
func Pack8(codes []int8, scales []uint16, x []float32) {
	codes = codes[:len(x)]
	for b := 0; b*PackedBlock < len(x); b++ {
		block, out := x[b*PackedBlock:][:PackedBlock], codes[b*PackedBlock:][:PackedBlock]
		var top float32
		finite := true
		for _, v := range block {
			v = max(v, -v)
			top = max(top, v)
			finite = finite && v <= math.MaxFloat32
		}
		scales[b] = Float32to16(top / 127)
		scale := Float16to32(scales[b])
		if !finite || scale > math.MaxFloat32 {
			scales[b] = 0x7e00
			clear(out)
			continue
		}
		if scale == 0 {
			clear(out)
			continue
		}
		inverse := 1 / scale
		for i, v := range block {
			out[i] = int8(max(-127, min(127, math.RoundToEven(float64(v*inverse)))))
		}
	}
}

// PutKey8 stores the packed key of a position in its tile, whose codes lie as float16 keys do ([KeyTile]); its scales
// lie likewise, one for each block in place of each element.
func PutKey8(codes []int8, scales []uint16, position int, key []int8, keyScales []uint16) {
	putKey(codes, position, key)
	putKey(scales, position, keyScales)
}

// Unpack8Keys writes whole tiles of packed keys as tiles of float16: each code times its scale, rounded.
func (s *Set) Unpack8Keys(dst []uint16, codes []int8, scales []uint16, size, tiles int) {
	blocks := size / PackedBlock
	for i := range tiles * blocks {
		const block = PackedBlock * KeyTile
		s.vector.unpackTile(dst[i*block:][:block], codes[i*block:][:block], scales[i*KeyTile:][:KeyTile])
	}
}

// Unpack8 writes packed values, whole blocks, as float16: each code times its block's scale, rounded.
func (s *Set) Unpack8(dst []uint16, codes []int8, scales []uint16) {
	if len(codes) > 0 {
		s.vector.unpackRows(dst[:len(codes)], codes, scales[:len(codes)/PackedBlock])
	}
}

// genericUnpackTile has a scale for each position: rows of KeyTile codes are multiplied by the same scales.
func genericUnpackTile(dst []uint16, codes []int8, scales []uint16) {
	var wide [KeyTile]float32
	for p, v := range scales {
		wide[p] = Float16to32(v)
	}
	for i, c := range codes {
		dst[i] = Float32to16(float32(c) * wide[i%KeyTile])
	}
}

func genericUnpackRows(dst []uint16, codes []int8, scales []uint16) {
	for b, v := range scales {
		scale := Float16to32(v)
		for i := b * PackedBlock; i < (b+1)*PackedBlock; i++ {
			dst[i] = Float32to16(float32(codes[i]) * scale)
		}
	}
}
