package kernels

// The reference kernels, in the exact order of operations that every other
// kernel keeps. For each block of 32 columns, or of 16 where those have a scale
// of their own (Q2_K, Q3_K, Q6_K):
//
//	acc  = sum of level times 16-bit code, minus zero times the sum of codes,
//	       exact in 32 bits
//	t    = scale * float32(acc)        exact beside float32(acc): scale is a power of two
//	y   += d * t                       (super-blocks: d is float16 times the block's scale)
//	y   -= m * offset                  (Q4_1, Q5_1: y += m * offset)
//
// with m, where the type has minima, the minimum (super-blocks: float16 times
// the block's minimum) and offset = scale * float32(sum of codes). Product and sum of a line for
// y are rounded once, together (fused).

// referenceMatMul computes all rows of some row groups for one token.
func referenceMatMul(dst []float32, groups []byte, t Type, blocks []record) {
	l := t.layout()
	size := TileBytes(t, len(blocks)*BlockCols)
	var codes, q [BlockCols]int32
	for g := range len(dst) / TileRows {
		group, y := groups[g*size:][:size], dst[g*TileRows:][:TileRows]
		clear(y)
		for b := range blocks {
			for c := range codes {
				codes[c] = blocks[b].code(c)
			}
			head, at := l.blockAt(b)
			block := group[at : at+l.block]
			for r := range y {
				l.levels(&q, block, r)
				y[r] = l.addBlock(y[r], scalesAt(group[head:], block, t, r), &q, &codes, &blocks[b])
			}
		}
	}
}

// addBlock adds one block of one row to y.
func (l *layout) addBlock(y float32, s scales, q, codes *[BlockCols]int32, a *record) float32 {
	var acc [2]int32
	for c := range 16 {
		acc[0] += q[c] * codes[c]
		acc[1] += q[16+c] * codes[16+c]
	}
	add := func(d, m float32, acc, sum int32, offset float32) {
		y = fused(d, a.scale*float32(acc-l.zero*sum), y)
		if s.affine {
			y = fused(-m, offset, y)
		}
	}
	if !l.halves {
		add(s.scale[0], s.minimum[0], acc[0]+acc[1], a.sum, a.offset)
		return y
	}
	for h, sum := range [2]int32{a.first, a.sum - a.first} {
		add(s.scale[h], s.minimum[h], acc[h], sum, float32(a.scale*float32(sum)))
	}
	return y
}

// code is the 16-bit code of one column.
func (r *record) code(c int) int32 { return int32(r.high[c])<<8 + int32(r.low[c]) }

// referenceFloats does the same for weights that are floating-point numbers,
// with unquantized inputs: column after column, product and sum rounded once, together.
func referenceFloats(dst []float32, groups []byte, t Type, x []float32) {
	size := t.layout().block / BlockCols
	for g := range len(dst) / TileRows {
		group := groups[g*size*len(x):]
		var y [TileRows]float32
		for c, v := range x {
			column := group[c*size : (c+1)*size]
			for r := range TileRows {
				y[r] = fused(weightAt(column, t, 0, r), v, y[r])
			}
		}
		copy(dst[g*TileRows:], y[:])
	}
}
