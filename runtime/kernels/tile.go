package kernels

import (
	"errors"
	"fmt"
	"math"
)

// Type is the type of a tiled tensor. The numbers are part of the sealed format.
type Type uint8

// Types of tiles.
const (
	F32    Type = 1
	F16    Type = 2
	Q4_0   Type = 3
	Q4_1   Type = 4
	Q8_0   Type = 5
	Q5_0   Type = 6
	Q5_1   Type = 7
	Q4_K   Type = 8
	Q5_K   Type = 9
	Q6_K   Type = 10
	BF16   Type = 11
	IQ4_NL Type = 12
	IQ4_XS Type = 13
	MXFP4  Type = 14
	Q2_K   Type = 15
	Q3_K   Type = 16
)

// Shape of a tile.
const (
	// TileRows is the number of rows of a row group.
	TileRows = 16
	// BlockCols is the number of columns of a block.
	BlockCols = 32
)

// ErrShape means lengths or shapes that do not match.
var ErrShape = errors.New("kernels: shape and length do not match")

// layout is where the parts of a type lie, as the package comment has them.
type layout struct {
	name string
	// span is the number of columns that share a scale in GGUF, in row bytes: 32, or 256 for
	// the types of super-blocks. A tile's span is head bytes and span/32 blocks.
	span, row, head, block int
	// Offsets in a block; none is 0, for the scales come first.
	nibbles, pairs, bits, fives, sixes, bytes int
	// zero is the level of a weight of 0; levels of types with values stand for those.
	zero   int32
	values *[16]int8
	// halves: each 16 columns have a scale of their own.
	halves bool
}

// The values of the 4-bit types that are not linear.
var (
	valuesIQ4   = [16]int8{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}
	valuesMXFP4 = [16]int8{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12} // twice the format's
)

var layouts = [...]layout{
	F32:    {name: "F32", span: 32, row: 128, block: 2048},
	F16:    {name: "F16", span: 32, row: 64, block: 1024},
	BF16:   {name: "BF16", span: 32, row: 64, block: 1024},
	Q4_0:   {name: "Q4_0", span: 32, row: 18, block: 288, nibbles: 32, zero: 8},
	Q4_1:   {name: "Q4_1", span: 32, row: 20, block: 320, nibbles: 64},
	Q5_0:   {name: "Q5_0", span: 32, row: 22, block: 352, fives: 32, zero: 16},
	Q5_1:   {name: "Q5_1", span: 32, row: 24, block: 384, fives: 64},
	Q8_0:   {name: "Q8_0", span: 32, row: 34, block: 544, bytes: 32, zero: 128},
	Q2_K:   {name: "Q2_K", span: 256, row: 84, head: 64, block: 160, pairs: 32, halves: true},
	Q3_K:   {name: "Q3_K", span: 256, row: 110, head: 32, block: 224, pairs: 32, bits: 160, zero: 4, halves: true},
	Q4_K:   {name: "Q4_K", span: 256, row: 144, head: 64, block: 288, nibbles: 32},
	Q5_K:   {name: "Q5_K", span: 256, row: 176, head: 64, block: 352, fives: 32},
	Q6_K:   {name: "Q6_K", span: 256, row: 210, head: 32, block: 416, sixes: 32, zero: 32, halves: true},
	IQ4_NL: {name: "IQ4_NL", span: 32, row: 18, block: 288, nibbles: 32, values: &valuesIQ4},
	IQ4_XS: {name: "IQ4_XS", span: 256, row: 136, head: 32, block: 272, nibbles: 16, values: &valuesIQ4},
	MXFP4:  {name: "MXFP4", span: 32, row: 17, block: 272, nibbles: 16, values: &valuesMXFP4},
}

// layout is the type's, or one of size 0.
func (t Type) layout() *layout {
	if int(t) < len(layouts) {
		return &layouts[t]
	}
	return &layouts[0]
}

// tile is the size of 16 rows of span columns.
func (l *layout) tile() int { return l.head + l.span/BlockCols*l.block }

// String is the type's name as GGUF writes it.
func (t Type) String() string {
	if !t.Known() {
		return fmt.Sprintf("type %d", uint8(t))
	}
	return t.layout().name
}

// Known reports whether the type exists.
func (t Type) Known() bool { return t.layout().block != 0 }

// Span is the number of columns of which a row has a multiple: 32, or 256 for
// the types of super-blocks. It is 0 for an unknown type.
func (t Type) Span() int { return t.layout().span }

// Floats says where the floating-point numbers of a type stand in GGUF: in each
// block of so many bytes at these offsets, width bytes each: 4 for float32, 2 for
// float16 (BF16: its own), 1 for the exponents of MXFP4.
func (t Type) Floats() (block int, offsets []int, width int) {
	switch t {
	case F32:
		return 4, []int{0}, 4
	case F16, BF16:
		return 2, []int{0}, 2
	case Q4_1, Q5_1, Q4_K, Q5_K:
		return t.layout().row, []int{0, 2}, 2
	case Q2_K:
		return t.layout().row, []int{80, 82}, 2
	case Q3_K:
		return t.layout().row, []int{108}, 2
	case Q6_K:
		return t.layout().row, []int{208}, 2
	case MXFP4:
		return t.layout().row, []int{0}, 1
	}
	return t.layout().row, []int{0}, 2
}

// float reports whether weights are floating-point numbers, which are multiplied
// with unquantized inputs.
func (t Type) float() bool { return t == F32 || t == F16 || t == BF16 }

// Tensor is the shape of a tiled tensor and how it is cut into chunks.
type Tensor struct {
	// ID is the tensor's number in its file.
	ID int
	// Name is the tensor's name.
	Name string
	// Type is the type of its tiles.
	Type Type
	// Rows and Cols are the matrix's shape: Rows outputs of Cols inputs.
	Rows, Cols int
	// RowsPerChunk is a multiple of 16; Chunks is their number. The last chunk
	// may hold fewer rows.
	RowsPerChunk, Chunks int
}

// ChunkRows is the number of rows of chunk i, without padding.
func (t Tensor) ChunkRows(i int) int { return min(t.RowsPerChunk, t.Rows-i*t.RowsPerChunk) }

// spans is how many spans a row of cols columns has, or 0 if they are not whole.
func (t Type) spans(cols int) int {
	if span := t.Span(); span != 0 && cols > 0 && cols%span == 0 && cols <= math.MaxInt32 {
		return cols / span
	}
	return 0
}

// TileBytes is the size of one row group: 16 rows of cols columns. It is 0 for
// an unknown type or if cols is not a positive multiple of the type's span.
func TileBytes(t Type, cols int) int { return t.spans(cols) * t.layout().tile() }

// RowBytes is the size of one row of cols columns in GGUF's layout, or 0. 16
// rows are never larger than their row group.
func RowBytes(t Type, cols int) int { return t.spans(cols) * t.layout().row }

// blockAt is where block b of a row group begins, and where the head of its
// super-block does.
func (l *layout) blockAt(b int) (head, block int) {
	per := l.span / BlockCols
	head = b / per * l.tile()
	return head, head + l.head + b%per*l.block
}
