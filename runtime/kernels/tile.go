package kernels

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Type is the type of a tiled tensor. The numbers are part of the sealed format.
type Type uint8

// Types of tiles.
const (
	F32  Type = 1
	F16  Type = 2
	Q4_0 Type = 3
	Q4_1 Type = 4
	Q8_0 Type = 5
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

// String is the type's name as GGUF writes it.
func (t Type) String() string {
	switch t {
	case F32:
		return "F32"
	case F16:
		return "F16"
	case Q4_0:
		return "Q4_0"
	case Q4_1:
		return "Q4_1"
	case Q8_0:
		return "Q8_0"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Known reports whether the type exists.
func (t Type) Known() bool { return t.blockBytes() != 0 }

// blockBytes is the size of a tile of 16 rows and 32 columns.
func (t Type) blockBytes() int {
	switch t {
	case F32:
		return 2048
	case F16:
		return 1024
	case Q4_0:
		return 288
	case Q4_1:
		return 320
	case Q8_0:
		return 544
	}
	return 0
}

// rowBlockBytes is the size of 32 columns of one row as GGUF stores them.
func (t Type) rowBlockBytes() int { return t.blockBytes() / TileRows }

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

// TileBytes is the size of one row group: 16 rows of cols columns. It is 0 for
// an unknown type or if cols is not a positive multiple of 32.
func TileBytes(t Type, cols int) int {
	if cols <= 0 || cols%BlockCols != 0 || cols > math.MaxInt32 {
		return 0
	}
	return cols / BlockCols * t.blockBytes()
}

// RowBytes is the size of one row of cols columns in GGUF's layout, or 0.
func RowBytes(t Type, cols int) int { return TileBytes(t, cols) / TileRows }

// Pack turns 1 to 16 rows in GGUF's layout (row after row) into one row group.
func Pack(dst, src []byte, t Type, rows, cols int) error {
	size := TileBytes(t, cols)
	if size == 0 || rows < 1 || rows > TileRows || len(dst) != size || len(src) != rows*RowBytes(t, cols) {
		return fmt.Errorf("pack %d rows of %d columns of %s, %d bytes into %d: %w", rows, cols, t, len(src), len(dst), ErrShape)
	}
	clear(dst)
	rowBytes, rowBlock, block := RowBytes(t, cols), t.rowBlockBytes(), t.blockBytes()
	for r := range rows {
		row := src[r*rowBytes:]
		for b := range cols / BlockCols {
			packBlock(dst[b*block:(b+1)*block], row[b*rowBlock:(b+1)*rowBlock], t, r)
		}
	}
	if t == Q8_0 {
		padOffset(dst, rows, cols)
	}
	return nil
}

// padOffset gives the rows that are missing the byte that means zero.
func padOffset(dst []byte, rows, cols int) {
	block := Q8_0.blockBytes()
	for b := range cols / BlockCols {
		for j := range 8 {
			v := dst[b*block+32+64*j:][:64]
			for i := 4 * rows; i < 64; i++ {
				v[i] = 0x80
			}
		}
	}
}

// packBlock puts 32 columns of one row into a tile.
func packBlock(tile, src []byte, t Type, r int) {
	switch t {
	case F32:
		for c := range BlockCols {
			copy(tile[64*c+4*r:][:4], src[4*c:])
		}
	case F16:
		for c := range BlockCols {
			copy(tile[32*c+2*r:][:2], src[2*c:])
		}
	case Q4_0: // GGUF: scale, then 16 bytes: low nibbles columns 0..15, high 16..31
		copy(tile[2*r:][:2], src)
		packNibbles(tile[32:], src[2:], r)
	case Q4_1: // GGUF: scale, minimum, the same 16 bytes
		copy(tile[2*r:][:2], src)
		copy(tile[32+2*r:][:2], src[2:])
		packNibbles(tile[64:], src[4:], r)
	case Q8_0: // GGUF: scale, then 32 signed bytes
		copy(tile[2*r:][:2], src)
		for c := range BlockCols {
			tile[32+64*(c/4)+4*r+c%4] = src[2+c] ^ 0x80
		}
	}
}

func packNibbles(vectors, src []byte, r int) {
	for c := range 16 {
		vectors[64*(c/4)+4*r+c%4] = src[c]
	}
}

// UnpackRow computes one row of a row group as float32 values.
func UnpackRow(dst []float32, group []byte, t Type, row, cols int) error {
	if size := TileBytes(t, cols); size == 0 || len(group) != size || row < 0 || row >= TileRows || len(dst) != cols {
		return fmt.Errorf("unpack row %d of %d columns of %s from %d bytes: %w", row, cols, t, len(group), ErrShape)
	}
	block := t.blockBytes()
	for b := range cols / BlockCols {
		unpackBlock(dst[b*BlockCols:(b+1)*BlockCols], group[b*block:(b+1)*block], t, row)
	}
	return nil
}

func unpackBlock(dst []float32, tile []byte, t Type, r int) {
	switch t {
	case F32:
		for c := range dst {
			dst[c] = math.Float32frombits(binary.LittleEndian.Uint32(tile[64*c+4*r:]))
		}
	case F16:
		for c := range dst {
			dst[c] = float16At(tile, 32*c+2*r)
		}
	case Q4_0, Q4_1:
		scale, minimum, zero, vectors := nibbleParts(tile, t, r)
		for c := range 16 {
			v := vectors[64*(c/4)+4*r+c%4]
			dst[c] = float32(scale*float32(int(v&15)-zero)) + minimum
			dst[c+16] = float32(scale*float32(int(v>>4)-zero)) + minimum
		}
	case Q8_0:
		scale := float16At(tile, 2*r)
		for c := range dst {
			dst[c] = scale * float32(int(tile[32+64*(c/4)+4*r+c%4])-128)
		}
	}
}

func nibbleParts(tile []byte, t Type, r int) (scale, minimum float32, zero int, vectors []byte) {
	scale = float16At(tile, 2*r)
	if t == Q4_0 {
		return scale, 0, 8, tile[32:]
	}
	return scale, float16At(tile, 32+2*r), 0, tile[64:]
}

func float16At(b []byte, i int) float32 {
	return Float16to32(binary.LittleEndian.Uint16(b[i:]))
}
