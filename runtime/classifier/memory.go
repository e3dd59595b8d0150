package classifier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
)

// parametersBytes is the size of a network's parameters in their sealed form: of each
// layer the biases, then of each layer the multipliers and those for what is below zero, four
// bytes each, then of each layer the weights. In this order each number lies at a multiple of its size, and the sealed
// form is the form in memory.
func parametersBytes(a intnet.Architecture) int {
	words, weights := 0, 0
	for _, g := range a.Geometries() {
		words += g.Biases() + g.Multipliers() + g.Negatives()
		weights += g.Weights()
	}
	return 4*words + weights
}

// appendParameters is the parameters' one encoding (docs/sealed-format.md). The network was
// checked.
func appendParameters(b []byte, n *intnet.Network) []byte {
	for _, l := range n.Parameters.Layers {
		for _, v := range l.Bias {
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		}
	}
	for _, l := range n.Parameters.Layers {
		for _, v := range l.Multiplier {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		for _, v := range l.Negative {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
	}
	for _, l := range n.Parameters.Layers {
		for _, v := range l.Weights {
			b = append(b, byte(v))
		}
	}
	return b
}

// viewParameters returns the parameters that lie in b, without a copy: the slices are b's
// memory. b is aligned to four bytes and has the size that parametersBytes says.
func viewParameters(b []byte, a intnet.Architecture) (intnet.Parameters, error) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return intnet.Parameters{}, errors.New("classifier: this machine's byte order is not supported")
	}
	if len(b) != parametersBytes(a) {
		return intnet.Parameters{}, fmt.Errorf("classifier: got parameters of %d bytes, the architecture has %d", len(b), parametersBytes(a))
	}
	list := a.Geometries()
	p := intnet.Parameters{Layers: make([]intnet.LayerParameters, len(list))}
	at := 0
	for i, g := range list {
		p.Layers[i].Bias = view[int32](b[at:], g.Biases())
		at += 4 * g.Biases()
	}
	for i, g := range list {
		p.Layers[i].Multiplier = view[uint32](b[at:], g.Multipliers())
		at += 4 * g.Multipliers()
		p.Layers[i].Negative = view[uint32](b[at:], g.Negatives())
		at += 4 * g.Negatives()
	}
	for i, g := range list {
		p.Layers[i].Weights = view[int8](b[at:], g.Weights())
		at += g.Weights()
	}
	n := intnet.Network{Architecture: a, Parameters: p}
	return p, n.Check()
}

// view is the first n numbers that lie in b.
func view[T int8 | int32 | uint32 | int64](b []byte, n int) []T {
	var zero T
	_ = b[:n*int(unsafe.Sizeof(zero))]
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), n)
}

// rows is how many outputs a kernel computes at once, two in each 64-bit word.
const (
	rows  = 8
	words = rows / 2
)

// wordsOf is the number of 64-bit words of a layer's packed weights.
func wordsOf(g intnet.Geometry) int {
	if g.Pools() {
		return 0
	}
	return sumsOf(g) / rows * g.Fan * words
}

// sumsOf is the number of sums that the kernel computes at one position of a layer: the
// outputs of each of its groups, in whole blocks of eight.
func sumsOf(g intnet.Geometry) int {
	if g.Pools() {
		return 0
	}
	return g.Out / g.PerGroup() * blocks(g.PerGroup()) * rows
}

func blocks(outputs int) int { return (outputs + rows - 1) / rows }

// pack lays out weights for the kernel: of each block of eight outputs, of each input, four
// words with two weights each. Outputs that a group's last block lacks are zero.
func pack(dst []int64, weights []int8, g intnet.Geometry) {
	clear(dst)
	for o := range g.Weights() / g.Fan {
		at := sumOf(g, o)
		group, row := at/rows, at%rows
		shift := row % 2 * 32
		for k, v := range weights[o*g.Fan : (o+1)*g.Fan] {
			dst[(group*g.Fan+k)*words+row/2] += int64(v) << shift
		}
	}
}

// sumOf is the place of an output among the sums of a position.
func sumOf(g intnet.Geometry, o int) int {
	per := g.PerGroup()
	return o/per*blocks(per)*rows + o%per
}

// kernel computes the sums of weights times values of eight outputs for each block. A word
// holds w0 + w1*2^32, so that one 64-bit multiplication serves two outputs. Their sums are
// below 2^31 either way (intnet.Architecture.Check), so the lower one is the low 32 bits,
// read as a signed number, and the upper one is exact once the lower is taken away.
func kernel(packed, x []int64, acc []int32) {
	n := len(x)
	for at := 0; len(packed) > 0; at += rows {
		p := unsafe.Slice((*[words]int64)(unsafe.Pointer(&packed[0])), n)
		_ = packed[:n*words]
		packed = packed[n*words:]
		var a, b, c, d int64
		for i := range p {
			q, v := &p[i], x[i]
			a += q[0] * v
			b += q[1] * v
			c += q[2] * v
			d += q[3] * v
		}
		out := acc[at : at+rows]
		out[0], out[1] = halves(a)
		out[2], out[3] = halves(b)
		out[4], out[5] = halves(c)
		out[6], out[7] = halves(d)
	}
}

func halves(sum int64) (lower, upper int32) {
	lower = int32(sum)
	return lower, int32((sum - int64(lower)) >> 32)
}
