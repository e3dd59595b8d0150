package kernels

import (
	"math"
	"slices"
)

// selfTokens are tokens for every kernel: two tiles at once and one, four tokens and one.
const selfTokens = 3*wide + batch + 1

// agrees runs every kernel of a set on a small fixed problem and compares it
// with the reference, bit for bit. A set that disagrees is never selected: a
// processor, an emulator or a hypervisor that computes otherwise costs speed,
// not correctness.
func (s *Set) agrees() bool {
	const tokens, widest = selfTokens, 10 * BlockCols
	var seed uint32 = 1
	next := func() uint32 { // a small linear congruential generator, for fixed bytes only
		seed = seed*1664525 + 1013904223
		return seed >> 8
	}
	x := make([]float32, tokens*widest)
	for i := range x {
		x[i] = float32(int32(next())-1<<23) / (1 << 20)
	}
	for t := range Type(len(layouts)) {
		if t.Known() && !s.productAgrees(t, x, next) {
			return false
		}
	}
	return s.vectorsAgree(x[:2*BlockCols]) && s.attentionAgrees(x)
}

// productAgrees does so for one type: with a super-block, or more blocks than a panel has, and with tokens for every kernel.
func (s *Set) productAgrees(t Type, x []float32, next func() uint32) bool {
	const rows, tokens = 2 * TileRows, selfTokens
	cols := 10 * BlockCols / t.Span() * t.Span()
	act, err := NewActivations(make([]byte, ActivationBytes(tokens, cols)), tokens, cols)
	if err != nil {
		return false
	}
	x = x[:tokens*cols]
	for i := range tokens {
		act.Quantize(i, x[i*cols:(i+1)*cols])
	}
	source := make([]byte, TileRows*RowBytes(t, cols))
	for i := range source {
		source[i] = byte(next())
	}
	tame(source, t)
	groups := make([]byte, rows/TileRows*TileBytes(t, cols))
	for g := range rows / TileRows {
		if Pack(groups[g*TileBytes(t, cols):][:TileBytes(t, cols)], source, t, TileRows, cols) != nil {
			return false
		}
	}
	got, want := make([]float32, tokens*rows), make([]float32, tokens*rows)
	s.multiply(got, rows, groups, t, rows, &act, x)
	genericSet().multiply(want, rows, groups, t, rows, &act, x)
	return sameValues(got, want)
}

// tame clears bits of exponents, so that all numbers of random rows are finite.
func tame(source []byte, t Type) {
	span, at, width := t.Floats()
	for i := 0; i < len(source); i += span {
		for _, o := range at {
			if width == 1 { // an exponent alone
				source[i+o] = 0x70 | source[i+o]&15
				continue
			}
			source[i+o+width-1] &= 0xbf // the highest bit of the exponent
		}
	}
}

// vectorsAgree does the same for the operations on plain vectors; x has 64 values.
func (s *Set) vectorsAgree(x []float32) bool {
	g := genericSet()
	h := make([]uint16, len(x))
	for i, v := range x {
		h[i] = Float32to16(v)
	}
	ok := true
	both := func(do func(s *Set, dst []float32)) {
		p, q := append([]float32(nil), x...), append([]float32(nil), x...)
		do(s, p)
		do(g, q)
		for i := range p {
			ok = ok && math.Float32bits(p[i]) == math.Float32bits(q[i])
		}
	}
	both(func(s *Set, dst []float32) { s.SiLUMul(dst, x) })
	both(func(s *Set, dst []float32) { dst[0] = s.Exponentials(dst[1:]) })
	both(func(s *Set, dst []float32) { dst[0] = s.Dot(x, dst) })
	both(func(s *Set, dst []float32) {
		for i, v := range s.NotBelow(make([]uint64, 1), dst, 0.25) {
			dst[2*i], dst[2*i+1] = math.Float32frombits(uint32(v)), math.Float32frombits(uint32(v>>32))
		}
		dst[2] = s.Largest(dst[3:])
	})
	both(func(s *Set, dst []float32) {
		out := make([]uint16, len(dst))
		s.Halves(out, dst)
		for i, v := range out {
			dst[i] = float32(v)
		}
	})
	both(func(s *Set, dst []float32) {
		codes, out := make([]int8, PackedBlock*KeyTile), make([]uint16, PackedBlock*KeyTile)
		for i := range codes {
			codes[i] = int8(h[i%len(h)] >> 3)
		}
		s.Unpack8Keys(out, codes, h[:KeyTile], PackedBlock, 1)
		for i, v := range out[:len(dst)] {
			dst[i] = float32(v)
		}
		s.Unpack8(out, codes[:2*PackedBlock], h[:2])
		for i, v := range out[:len(dst)] {
			dst[i] += float32(v)
		}
	})
	p, q := make([]record, len(x)/BlockCols), make([]record, len(x)/BlockCols)
	s.vector.quantize(p, x)
	g.vector.quantize(q, x)
	for i := range p {
		ok = ok && p[i] == q[i]
	}
	return ok
}

// attentionAgrees does the same for attention, for each number of queries.
func (s *Set) attentionAgrees(x []float32) bool {
	const size, tiles = columnsOfTest, 2
	g := genericSet()
	rows := make([]uint16, tiles*KeyTile*size)
	for i := range rows {
		rows[i] = Float32to16(x[i])
	}
	for n := 1; n <= MaxQueries; n++ {
		var results [2][]float32
		for i, set := range []*Set{s, g} {
			scores, sums := make([]float32, n*tiles*KeyTile), slices.Clone(x[:n*size])
			set.Scores(scores, tiles*KeyTile, x[:n*size], n, rows, tiles)
			set.WeightedSum(sums, n, size, scores, tiles*KeyTile, rows, tiles*KeyTile-1)
			results[i] = append(scores, sums...)
		}
		if !sameValues(results[0], results[1]) {
			return false
		}
	}
	return true
}

// columnsOfTest are elements for the kernels of attention and a rest.
const columnsOfTest = 40

// sameValues compares bit for bit.
func sameValues(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) })
}
