package kernels

import "math"

// vectorOps are the operations on plain vectors that differ between sets. All
// keep the lane order of the generic ones: 16 partial sums, then a fixed tree.
type vectorOps struct {
	dot func(x, y []float32) float32

	quantize    func(records []record, x []float32)
	widen       func(tile []byte, row int, records []record) // nil where no product needs it
	largest     func(x []float32) float32                    // numbers only; -Inf if there is none
	expSum      func(x []float32, top float32) [lanes]float32
	notBelow    func(bits []uint64, x []float32, floor float32)
	scale       func(x []float32, by float32)
	siluMul     func(gate, up []float32)
	halves      func(dst []uint16, x []float32)
	scores      func(scores []float32, stride int, queries []float32, n int, keys []uint16, tiles int)
	weightedSum func(sums []float32, n, size int, weights []float32, stride int, vals []uint16, positions int)
	unpackTile  func(dst []uint16, codes []int8, scales []uint16)
	unpackRows  func(dst []uint16, codes []int8, scales []uint16)
}

// lanes is the number of partial sums of a dot product.
const lanes = 16

var genericVector = vectorOps{dot: genericDot, quantize: genericQuantize,
	largest: genericLargest, notBelow: genericNotBelow, expSum: genericExpSum, scale: genericScale, siluMul: genericSiLUMul,
	halves: genericHalves, scores: genericScores, weightedSum: genericWeightedSum, unpackTile: genericUnpackTile, unpackRows: genericUnpackRows}

// Dot is the inner product of two vectors of equal length, a multiple of 16.
func (s *Set) Dot(x, y []float32) float32 {
	n := min(len(x), len(y)) / lanes * lanes
	return s.vector.dot(x[:n], y[:n])
}

// fold adds 16 partial sums in the order of the vector instructions: halves onto halves.
func fold(l *[lanes]float32) float32 {
	for n := lanes / 2; n > 0; n /= 2 {
		for i := range n {
			l[i] += l[i+n]
		}
	}
	return l[0]
}

func genericDot(x, y []float32) float32 {
	var l [lanes]float32
	for i, v := range x {
		l[i%lanes] += float32(v * y[i])
	}
	return fold(&l)
}

// Exp is e to the x in float32, to about one unit in the last place; below -87
// it is 0. It is plain arithmetic, the same on every machine.
func Exp(x float32) float32 {
	switch {
	case x != x:
		return x
	case x < -87:
		return 0
	case x > 88:
		return math.MaxFloat32
	}
	// x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts keeps r exact.
	const log2e, ln2hi, ln2lo = 1.44269504, 0.693359375, -2.12194440e-4
	rounded := float32(x*log2e) + magic
	n := int32(math.Float32bits(rounded)) - int32(math.Float32bits(magic))
	f := rounded - magic
	r := x - float32(f*ln2hi)
	r -= float32(f * ln2lo)
	// Taylor's polynomial of degree 6 on that range, Horner's order.
	p := float32(1.0 / 720)
	for _, c := range [...]float32{1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1, 1} {
		p = float32(p*r) + c
	}
	return p * math.Float32frombits(uint32(n+127)<<23)
}

func genericLargest(x []float32) float32 {
	top := float32(math.Inf(-1))
	for _, v := range x {
		if v > top {
			top = v
		}
	}
	return top
}

// Largest is the largest number of x; -Inf if there is none.
func (s *Set) Largest(x []float32) float32 { return s.vector.largest(x) }

// NotBelow sets bit i of bits, 64 to a word, if x[i] is not below floor: what is not a number never is. It returns the
// words that it wrote.
func (s *Set) NotBelow(bits []uint64, x []float32, floor float32) []uint64 {
	bits = bits[:(len(x)+63)/64]
	s.vector.notBelow(bits, x, floor)
	return bits
}

func genericNotBelow(bits []uint64, x []float32, floor float32) {
	clear(bits)
	for i, v := range x {
		if !(v < floor) {
			bits[i/64] |= 1 << (i % 64)
		}
	}
}

func genericScale(x []float32, by float32) {
	for i := range x {
		x[i] *= by
	}
}

func genericExpSum(x []float32, top float32) (sums [lanes]float32) {
	addExp(x, top, &sums)
	return sums
}

// addExp replaces x by exponentials of x - top and adds them to 16 sums.
func addExp(x []float32, top float32, sums *[lanes]float32) {
	for i, v := range x {
		e := Exp(v - top)
		x[i] = e
		sums[i%lanes] += e
	}
}

// SiLUMul writes gate/(1+exp(-gate)) times up into gate.
func (s *Set) SiLUMul(gate, up []float32) { s.vector.siluMul(gate, up) }

func genericSiLUMul(gate, up []float32) {
	for i, g := range gate {
		gate[i] = float32(g/(1+Exp(-g))) * up[i]
	}
}

// GELUMul writes the tanh form of GELU of gate, times up, into gate, and changes up. With
// z = 2 sqrt(2/pi) (gate + 0.044715 gate^3), it is gate/(1+exp(-z)), which SiLUMul computes of z
// once up is multiplied by gate/z.
func (s *Set) GELUMul(gate, up []float32) {
	const (
		root  = 1.5957691216057308 // 2 sqrt(2/pi)
		cubic = 0.044715
		far   = 30 // beyond it, GELU and SiLU are both 0 or the value itself
	)
	up = up[:len(gate)]
	for i, g := range gate {
		if g < far && g > -far {
			ratio := root * (1 + float32(cubic*float32(g*g)))
			gate[i] = g * ratio
			up[i] /= ratio
		}
	}
	s.SiLUMul(gate, up)
}

// RMSNorm writes x / sqrt(mean(x*x)+epsilon) * weight into dst.
func (s *Set) RMSNorm(dst, x, weight []float32, epsilon float32) {
	mean := s.Dot(x, x) / float32(len(x))
	inverse := float32(1 / math.Sqrt(float64(mean+epsilon)))
	for i, v := range x {
		dst[i] = float32(v*inverse) * weight[i]
	}
}
