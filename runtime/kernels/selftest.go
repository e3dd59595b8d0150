package kernels

import "math"

// agrees runs every kernel of a set on a small fixed problem and compares it
// with the reference, bit for bit. A set that disagrees is never selected: a
// processor, an emulator or a hypervisor that computes otherwise costs speed,
// not correctness.
func (s *Set) agrees() bool {
	const cols, rows, tokens = 2 * BlockCols, 2 * TileRows, batch + 1
	var seed uint32 = 1
	next := func() uint32 { // a small linear congruential generator, for fixed bytes only
		seed = seed*1664525 + 1013904223
		return seed >> 8
	}
	act, err := NewActivations(make([]byte, ActivationBytes(tokens, cols)), tokens, cols)
	if err != nil {
		return false
	}
	x := make([]float32, cols)
	for t := range tokens {
		for i := range x {
			x[i] = float32(int32(next())-1<<23) / (1 << 20)
		}
		act.Quantize(t, x)
	}
	for t := range s.one {
		groups := make([]byte, rows/TileRows*TileBytes(t, cols))
		for i := range groups {
			groups[i] = byte(next())
		}
		for i := 0; i < len(groups); i += t.blockBytes() {
			for j := range 32 { // scales and minima: finite, both signs
				groups[i+2*(j%16)+1] &= 0xbf
				if t == Q4_1 {
					groups[i+32+2*(j%16)+1] &= 0xbf
				}
			}
		}
		got, want := make([]float32, tokens*rows), make([]float32, tokens*rows)
		s.multiply(got, rows, groups, t, rows, &act)
		genericSet().multiply(want, rows, groups, t, rows, &act)
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				return false
			}
		}
	}
	return s.vectorsAgree(x)
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
	both(func(s *Set, dst []float32) { s.AxpyF16(dst, 1.5, h) })
	both(func(s *Set, dst []float32) { s.SiLUMul(dst, x) })
	both(func(s *Set, dst []float32) { s.Softmax(dst) })
	both(func(s *Set, dst []float32) { s.WeightedSum(dst, x[:1], h) })
	both(func(s *Set, dst []float32) { s.Scores(dst[:2], x[:lanes], h, 0.5) })
	both(func(s *Set, dst []float32) { dst[0], dst[1] = s.Dot(x, dst), s.DotF16(dst, h) })
	p, q := make([]record, len(x)/BlockCols), make([]record, len(x)/BlockCols)
	s.vector.quantize(p, x)
	g.vector.quantize(q, x)
	for i := range p {
		ok = ok && p[i] == q[i]
	}
	return ok
}
