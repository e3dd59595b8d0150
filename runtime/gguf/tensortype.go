package gguf

import (
	"fmt"
	"math/bits"
)

// Type is a tensor's element type, numbered as in the GGUF specification.
type Type uint32

// The types that the engine computes with. Others are known by name and size,
// so that a refusal can say which one a file uses.
const (
	F32    Type = 0
	F16    Type = 1
	Q4_0   Type = 2
	Q4_1   Type = 3
	Q5_0   Type = 6
	Q5_1   Type = 7
	Q8_0   Type = 8
	Q2_K   Type = 10
	Q3_K   Type = 11
	Q4_K   Type = 12
	Q5_K   Type = 13
	Q6_K   Type = 14
	IQ4_NL Type = 20
	IQ4_XS Type = 23
	BF16   Type = 30
	MXFP4  Type = 39
)

// layout returns a type's name, elements per block and bytes per block.
func (t Type) layout() (name string, elements, bytes uint64) {
	switch t {
	case F32:
		return "F32", 1, 4
	case F16:
		return "F16", 1, 2
	case Q4_0:
		return "Q4_0", 32, 18
	case Q4_1:
		return "Q4_1", 32, 20
	case Q5_0:
		return "Q5_0", 32, 22
	case Q5_1:
		return "Q5_1", 32, 24
	case Q8_0:
		return "Q8_0", 32, 34
	case 9:
		return "Q8_1", 32, 36
	case Q2_K:
		return "Q2_K", 256, 84
	case Q3_K:
		return "Q3_K", 256, 110
	case Q4_K:
		return "Q4_K", 256, 144
	case Q5_K:
		return "Q5_K", 256, 176
	case Q6_K:
		return "Q6_K", 256, 210
	case 15:
		return "Q8_K", 256, 292
	}
	return t.rareLayout()
}

// rareLayout is layout for the types that language models seldom use.
func (t Type) rareLayout() (name string, elements, bytes uint64) {
	switch t {
	case 16:
		return "IQ2_XXS", 256, 66
	case 17:
		return "IQ2_XS", 256, 74
	case 18:
		return "IQ3_XXS", 256, 98
	case 19:
		return "IQ1_S", 256, 50
	case IQ4_NL:
		return "IQ4_NL", 32, 18
	case 21:
		return "IQ3_S", 256, 110
	case 22:
		return "IQ2_S", 256, 82
	case IQ4_XS:
		return "IQ4_XS", 256, 136
	case 24:
		return "I8", 1, 1
	case 25:
		return "I16", 1, 2
	case 26:
		return "I32", 1, 4
	case 27:
		return "I64", 1, 8
	case 28:
		return "F64", 1, 8
	case 29:
		return "IQ1_M", 256, 56
	case BF16:
		return "BF16", 1, 2
	case 34:
		return "TQ1_0", 256, 54
	case 35:
		return "TQ2_0", 256, 66
	case MXFP4:
		return "MXFP4", 32, 17
	case 40:
		return "NVFP4", 64, 36
	case 41:
		return "Q1_0", 128, 18
	}
	return "", 0, 0
}

// String returns the type's usual name, such as "Q4_K".
func (t Type) String() string {
	if name, _, _ := t.layout(); name != "" {
		return name
	}
	return fmt.Sprintf("unknown tensor type %d", uint32(t))
}

// Known reports whether the type's layout is known, so that sizes can be checked.
func (t Type) Known() bool {
	name, _, _ := t.layout()
	return name != ""
}

// RowBytes returns the size in bytes of a row of columns, or an error if the columns do not fill
// whole blocks.
func (t Type) RowBytes(columns uint64) (int64, error) {
	return t.size([]uint64{columns})
}

// size returns the bytes of a tensor. Every product is checked: a wrapped one
// would make a huge tensor look small.
func (t Type) size(dims []uint64) (int64, error) {
	name, elements, bytes := t.layout()
	if name == "" {
		return 0, fmt.Errorf("%s", t)
	}
	if len(dims) == 0 || len(dims) > MaxDims {
		return 0, fmt.Errorf("got %d dimensions, want 1 to %d", len(dims), MaxDims)
	}
	if dims[0]%elements != 0 {
		return 0, fmt.Errorf("%d columns are not a multiple of the block size %d (%s)", dims[0], elements, name)
	}
	total := dims[0] / elements
	for i, d := range dims {
		if d == 0 {
			return 0, fmt.Errorf("dimension %d is zero", i)
		}
		if i == 0 {
			d = bytes
		}
		hi, lo := bits.Mul64(total, d)
		if hi != 0 || lo > MaxTensorBytes {
			return 0, fmt.Errorf("more than %d bytes", int64(MaxTensorBytes))
		}
		total = lo
	}
	return int64(total), nil
}
