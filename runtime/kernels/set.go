package kernels

import (
	"fmt"
	"unsafe"
)

// batch is the number of tokens that the batched kernels take at once.
const batch = 4

// quantized computes groups row groups of blocks blocks each for one token:
// dst gets 16 values for each group.
type quantized func(dst *float32, groups *byte, act *record, blocks, groupCount int)

// batched is the same for 4 tokens: token i's inputs start blocks records after
// token i-1's, its outputs stride bytes after.
type batched func(dst *float32, stride int, groups *byte, act *record, blocks, groupCount int)

// Set is the set of kernels for one instruction set. It is safe for concurrent use.
type Set struct {
	name   string
	one    map[Type]quantized
	four   map[Type]batched
	vector vectorOps
}

// Name is "generic", "avx2" or "avx512".
func (s *Set) Name() string { return s.name }

// Select returns a set by name; "auto" and "" select the fastest that this processor runs. A set
// whose results differ from the reference is not selected.
func Select(name string) (*Set, error) {
	for _, s := range sets() {
		if (name == "" || name == "auto" || name == s.name) && s.agrees() {
			return s, nil
		}
	}
	return nil, fmt.Errorf("kernels: the set %q does not exist or does not run correctly on this processor", name)
}

// genericSet is plain Go.
func genericSet() *Set { return &Set{name: "generic", vector: genericVector} }

// MatMul multiplies whole row groups with every token of the activations. groups
// holds the tiles of rows rows (the last group padded to 16); output row i of
// token t goes to dst[t*stride+i]. For F16 and F32 tiles the unquantized inputs
// x are used, token-major. Rows beyond rows, up to the end of the last group,
// are written with zeros: dst must have room for them.
func (s *Set) MatMul(dst []float32, stride int, groups []byte, t Type, rows int, act *Activations, x []float32) error {
	size := TileBytes(t, act.cols)
	count := (rows + TileRows - 1) / TileRows
	padded := count * TileRows
	if size == 0 || rows < 1 || len(groups) != count*size || stride < padded && act.tokens > 1 ||
		len(dst) < (act.tokens-1)*stride+padded {
		return fmt.Errorf("multiply %d rows of %d columns of %s, %d bytes, for %d tokens into %d values with stride %d: %w",
			rows, act.cols, t, len(groups), act.tokens, len(dst), stride, ErrShape)
	}
	if t == F16 || t == F32 {
		if len(x) < act.tokens*act.cols {
			return fmt.Errorf("%s tiles need the unquantized inputs: %w", t, ErrShape)
		}
		for i := range act.tokens {
			floatMatMul(dst[i*stride:][:padded], groups, t, x[i*act.cols:][:act.cols])
		}
		return nil
	}
	s.multiply(dst, stride, groups, t, padded, act)
	return nil
}

// multiply runs on checked lengths.
func (s *Set) multiply(dst []float32, stride int, groups []byte, t Type, padded int, act *Activations) {
	blocks, token := act.cols/BlockCols, 0
	if four := s.four[t]; four != nil {
		for ; token+batch <= act.tokens; token += batch {
			four(&dst[token*stride], stride*4, unsafe.SliceData(groups), &act.row(token)[0], blocks, padded/TileRows)
		}
	}
	for ; token < act.tokens; token++ {
		if one := s.one[t]; one != nil {
			one(&dst[token*stride], unsafe.SliceData(groups), &act.row(token)[0], blocks, padded/TileRows)
		} else {
			referenceMatMul(dst[token*stride:][:padded], groups, t, act.row(token))
		}
	}
}
