package kernels

import (
	"fmt"
	"math"
	"unsafe"
)

// record is 32 activations of one token as the kernels read them, 48 bytes: the
// layout is known to the assembly.
type record struct {
	code [32]int8 // value / scale, rounded, -127..127
	// scale is the block's scale; offset is scale * sum as float32.
	scale, offset float32
	// sum is the sum of the codes.
	sum int32
	_   int32
}

const recordBytes = 48

// Activations are the inputs of a matrix product: tokens of cols values each,
// quantized to 8 bits in blocks of 32 with one float32 scale.
type Activations struct {
	tokens, cols int
	records      []record // token-major, cols/32 a token
}

// ActivationBytes is the memory that NewActivations needs; 0 for a bad shape.
func ActivationBytes(tokens, cols int) int {
	if tokens < 1 || cols < BlockCols || cols%BlockCols != 0 {
		return 0
	}
	return tokens * cols / BlockCols * recordBytes
}

// NewActivations lays activations out in memory that the caller owns, 4-byte aligned.
func NewActivations(mem []byte, tokens, cols int) (Activations, error) {
	size := ActivationBytes(tokens, cols)
	if size == 0 || len(mem) < size || uintptr(unsafe.Pointer(unsafe.SliceData(mem)))%4 != 0 {
		return Activations{}, fmt.Errorf("%d activations of %d in %d bytes: %w", tokens, cols, len(mem), ErrShape)
	}
	n := size / recordBytes
	return Activations{tokens: tokens, cols: cols, records: unsafe.Slice((*record)(unsafe.Pointer(unsafe.SliceData(mem))), n)}, nil
}

// Tokens is the number of tokens, Cols of values each.
func (a *Activations) Tokens() int { return a.tokens }

// Cols is the number of values of each token.
func (a *Activations) Cols() int { return a.cols }

// row returns the records of one token.
func (a *Activations) row(token int) []record {
	n := a.cols / BlockCols
	return a.records[token*n : (token+1)*n]
}

// magic rounds a float32 of magnitude below 2^22 to the nearest integer, ties to
// even, by pushing the fraction out of the significand.
const magic = 3 << 22

// Quantize writes the values of one token, which must be finite.
func (a *Activations) Quantize(token int, x []float32) {
	records := a.row(token)
	x = x[:len(records)*BlockCols]
	for b := range records {
		quantizeBlock(&records[b], (*[BlockCols]float32)(x[b*BlockCols:]))
	}
}

// QuantizeRest writes what quantizing left of token from's values x as the
// values of another token: the two products together have the precision of
// about 15 bits.
func (a *Activations) QuantizeRest(token, from int, x []float32) {
	records, coarse := a.row(token), a.row(from)
	var rest [BlockCols]float32
	for b := range records {
		for i, code := range coarse[b].code {
			rest[i] = x[b*BlockCols+i] - float32(coarse[b].scale*float32(code))
		}
		quantizeBlock(&records[b], &rest)
	}
}

func quantizeBlock(r *record, x *[BlockCols]float32) {
	var top float32
	for _, v := range x {
		top = max(top, math.Float32frombits(math.Float32bits(v)&0x7fffffff))
	}
	if top == 0 || top > math.MaxFloat32 {
		*r = record{} // all zero; a non-finite block has no meaning and adds nothing
		return
	}
	scale := top / 127
	inverse := 127 / top
	var sum int32
	for i, v := range x {
		q := int32(math.Float32bits(float32(v*inverse)+magic)) - int32(math.Float32bits(magic))
		r.code[i] = int8(q)
		sum += q
	}
	r.scale, r.sum, r.offset = scale, sum, float32(scale*float32(sum))
}
