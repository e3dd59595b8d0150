package kernels

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"
)

// record is 32 activations of one token as the kernels read them, 144 bytes: the
// layout is known to the assembly. A value is scale * (256*high + low). The codes
// stand here twice, in halves for products of bytes and whole for products of words.
type record struct {
	high, low [BlockCols]int8 // high -127..127, low -128..127
	// scale is the block's scale; offset is scale * sum as float32.
	scale, offset float32
	// sum is the sum of the 16-bit codes, first that of the first 16.
	sum, first int32
	// even are the codes of columns 0, 2, 4, ...; odd those of 1, 3, 5, ...
	even, odd [BlockCols / 2]int16
}

const recordBytes = 144

// Activations are the inputs of a matrix product: tokens of cols values each, quantized to 16
// bits in blocks of 32 with one float32 scale. The 8 bits that others use cause most of their
// deviation from exact results (docs/performance.md).
type Activations struct {
	tokens, cols int
	records      []record // token-major, cols/32 a token
	wide         []byte   // of each whole 16 tokens, for products with tiles of bfloat16
}

// The wide form of 32 activations of 16 tokens, 2304 bytes: for each token the 32 high halves of its codes times
// 256 and its scale, then the 32 low ones times its scale, as bfloat16; behind them, for each token, scale, offset and sums of its
// record. Blocks of a token follow one another. wideColumn is the order of columns.
const (
	wideBytes  = 2304
	wideScales = 2048
)

// wideColumn is the column of the block that stands at a place of the wide form.
func wideColumn(place int) int {
	return place&^3 | place&1<<1 | place>>1&1
}

// ActivationBytes is the memory that NewActivations needs; 0 for a bad shape.
func ActivationBytes(tokens, cols int) int {
	if tokens < 1 || cols < BlockCols || cols%BlockCols != 0 {
		return 0
	}
	blocks := cols / BlockCols
	return tokens*blocks*recordBytes + tokens/wide*(blocks*wideBytes) + cacheLine
}

// cacheLine is what the wide form is aligned to.
const cacheLine = 64

// NewActivations lays activations out in memory that the caller owns, 4-byte aligned.
func NewActivations(mem []byte, tokens, cols int) (Activations, error) {
	size := ActivationBytes(tokens, cols)
	if size == 0 || len(mem) < size || uintptr(unsafe.Pointer(unsafe.SliceData(mem)))%4 != 0 {
		return Activations{}, fmt.Errorf("%d rows of %d activations in %d bytes: %w", tokens, cols, len(mem), ErrShape)
	}
	n := tokens * cols / BlockCols
	a := Activations{tokens: tokens, cols: cols, records: unsafe.Slice((*record)(unsafe.Pointer(unsafe.SliceData(mem))), n)}
	rest := mem[n*recordBytes:]
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(rest)))) & (cacheLine - 1)
	a.wide = rest[skip:][:tokens/wide*(cols/BlockCols*wideBytes)]
	return a, nil
}

// tile is the wide form of 16 tokens; nil if they are not whole.
func (a *Activations) tile(number int) []byte {
	size := a.cols / BlockCols * wideBytes
	if (number+1)*size > len(a.wide) {
		return nil
	}
	return a.wide[number*size : (number+1)*size]
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

// Quantize writes the values of one token. A block with a value that is not
// finite, or not below 2^100, makes every product with it NaN.
func (a *Activations) Quantize(token int, x []float32) {
	genericQuantize(a.row(token), x)
	if tile := a.tile(token / wide); tile != nil {
		genericWiden(tile, token%wide, a.row(token))
	}
}

// Quantize does the same as the activations' method, faster, and only in the forms that this set multiplies.
func (s *Set) Quantize(a *Activations, token int, x []float32) {
	s.vector.quantize(a.row(token), x)
	if s.vector.widen == nil {
		return
	}
	if tile := a.tile(token / wide); tile != nil {
		s.vector.widen(tile, token%wide, a.row(token))
	}
}

// genericWiden writes a token's row of the wide form.
func genericWiden(tile []byte, row int, records []record) {
	for b := range records {
		r, block := &records[b], tile[b*wideBytes:][:wideBytes]
		for i := range BlockCols {
			c := wideColumn(i)
			put := func(at int, v int32) {
				binary.LittleEndian.PutUint16(block[row*128+at+2*i:], uint16(math.Float32bits(float32(v)*r.scale)>>16))
			}
			put(0, int32(r.high[c])<<8)
			put(64, int32(r.low[c]))
		}
		scales := block[wideScales+16*row:]
		binary.LittleEndian.PutUint32(scales, math.Float32bits(r.scale))
		binary.LittleEndian.PutUint32(scales[4:], math.Float32bits(r.offset))
		binary.LittleEndian.PutUint32(scales[8:], uint32(r.sum))
		binary.LittleEndian.PutUint32(scales[12:], uint32(r.first))
	}
}

func genericQuantize(records []record, x []float32) {
	x = x[:len(records)*BlockCols]
	for b := range records {
		quantizeBlock(&records[b], (*[BlockCols]float32)(x[b*BlockCols:]))
	}
}

// A scale is the least power of two by which no code is above 256*127, the room of the split: the largest
// magnitude has exponent k and a fraction below 1.984375, and the scale is 2^(k-14), or else 2^(k-13). So codes lose at most
// one of 16 bits, but scales multiply exactly, and products may do it with the codes or the sums.
const (
	scaleCarry   = 0x20000  // carries such a fraction into the exponent
	scaleLess    = 14 << 23 // 2^14
	scaleInverse = 254 << 23
)

// Blocks below minTop are zero, those from endTop on not finite, so that neither scaled codes nor scaled sums overflow, and
// none is subnormal.
const (
	minTop = 0x1p-100
	endTop = 0x1p100
)

func quantizeBlock(r *record, x *[BlockCols]float32) {
	var top float32
	for _, v := range x {
		top = max(top, math.Float32frombits(math.Float32bits(v)&0x7fffffff))
	}
	if top < minTop {
		*r = record{}
		return
	}
	if !(top < endTop) { // what is not finite must not look like a result
		nan := float32(math.NaN())
		*r = record{scale: nan, offset: nan}
		return
	}
	bits := (math.Float32bits(top)+scaleCarry)&0x7f800000 - scaleLess
	scale := math.Float32frombits(bits)
	inverse := math.Float32frombits(scaleInverse - bits)
	var sum int32
	for i, v := range x {
		q := int32(math.Float32bits(float32(v*inverse)+magic)) - int32(math.Float32bits(magic))
		high := (q + 128) >> 8
		r.high[i], r.low[i] = int8(high), int8(q-high<<8)
		if i%2 == 0 {
			r.even[i/2] = int16(q)
		} else {
			r.odd[i/2] = int16(q)
		}
		if sum += q; i == BlockCols/2-1 {
			r.first = sum
		}
	}
	r.scale, r.sum, r.offset = scale, sum, float32(scale*float32(sum))
}
