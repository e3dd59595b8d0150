package kernels

import (
	"fmt"
	"unsafe"
)

// batch is the number of tokens that the batched kernels take at once.
const batch = 4

// kernel computes groups row groups of n blocks (of quantized types) or columns
// (of floating-point ones) each for one token: dst gets 16 values for each group.
type kernel[In any] func(dst *float32, groups *byte, in *In, n, groupCount int)

// batched is the same for 4 tokens, of sixteenFloat for 16: token i's inputs follow those of token i-1,
// its outputs stand stride bytes after.
type batched[In any] func(dst *float32, stride int, groups *byte, in *In, n, groupCount int)

// wide is the number of tokens that kernels of panels take, and panelBlocks the blocks of a panel: the
// activations of 8 blocks, 18 KiB, stay in a cache of 32 KiB beside weights and sums.
const (
	wide        = 16
	panelBlocks = 8
)

// paneled adds the products of some blocks of each row group for 16 tokens to dst. Row groups are
// groupBytes apart, tokens tokenBytes in act and stride bytes in dst.
type paneled func(dst *float32, stride int, groups *byte, groupBytes int, act *record, tokenBytes, blocks, groupCount int)

// widePaneled computes the products of all blocks of each row group for 16 tokens in each of tiles tiles, at most
// wideTiles, and writes them to dst. Row groups are groupBytes apart, tiles codeBytes in codes.
type widePaneled func(dst *float32, stride int, groups *byte, groupBytes int, codes *byte, codeBytes, blocks, groupCount, tiles int)

// wideTiles is how many tiles the kernels take at once: their codes for a panel of 4 blocks, 18 KiB, stay in the cache beside
// the levels of a group.
const wideTiles = 2

// Set is the set of kernels for one instruction set. It is safe for concurrent use.
type Set struct {
	name         string
	one          map[Type]kernel[record]
	four         map[Type]batched[record]
	sixteen      map[Type]paneled
	wide         map[Type]widePaneled
	oneFloat     map[Type]kernel[float32]
	fourFloat    map[Type]batched[float32]
	sixteenFloat map[Type]batched[float32]
	vector       vectorOps
}

// Name is "generic", "avx2", "avx512", "amx", "neon" or "dotprod".
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
// token t goes to dst[t*stride+i]. For F32, F16 and BF16 tiles the unquantized inputs
// x are used, token-major. Rows beyond rows, up to the end of the last group,
// are written with zeros: dst must have room for them, and for the tokens that [Set.NewPadded] added.
func (s *Set) MatMul(dst []float32, stride int, groups []byte, t Type, rows int, act *Activations, x []float32) error {
	size := TileBytes(t, act.cols)
	count := (rows + TileRows - 1) / TileRows
	padded := count * TileRows
	if size == 0 || rows < 1 || len(groups) != count*size || stride < padded && act.tokens > 1 ||
		len(dst) < (act.rows()-1)*stride+padded {
		return fmt.Errorf("multiply %d rows of %d columns of %s, %d bytes, for %d tokens into %d values with stride %d: %w",
			rows, act.cols, t, len(groups), act.rows(), len(dst), stride, ErrShape)
	}
	if t.float() && len(x) < act.tokens*act.cols {
		return fmt.Errorf("%s tiles need the unquantized inputs: %w", t, ErrShape)
	}
	s.multiply(dst, stride, groups, t, padded, act, x)
	return nil
}

// multiply runs on checked lengths.
func (s *Set) multiply(dst []float32, stride int, groups []byte, t Type, padded int, act *Activations, x []float32) {
	if t.float() {
		s.multiplyFloats(dst, stride, groups, t, padded, x[:act.tokens*act.cols], act.tokens)
		return
	}
	token, n := 0, act.cols/BlockCols
	if kernel := s.wide[t]; kernel != nil {
		tiles := act.tiles(leastWide)
		for tile := 0; tile < tiles; tile += wideTiles {
			kernel(&dst[tile*wide*stride], stride*4, &groups[0], TileBytes(t, act.cols), &act.tile(tile)[0], n*wideBytes, n, padded/TileRows, min(wideTiles, tiles-tile))
		}
		token = tiles * wide
	} else if kernel := s.sixteen[t]; kernel != nil {
		for end := act.tiles(leastPaneled) * wide; token < end; token += wide {
			panels(kernel, dst[token*stride:], stride, groups, t, padded, act.records[token*n:(token+wide)*n])
		}
	}
	if token < act.tokens {
		each(s.one[t], s.four[t], referenceMatMul, dst[token*stride:], stride, groups, t, padded, act.records[token*n:act.tokens*n], act.tokens-token)
	}
}

// multiplyFloats does so for floating-point weights.
func (s *Set) multiplyFloats(dst []float32, stride int, groups []byte, t Type, padded int, x []float32, tokens int) {
	token, n := 0, len(x)/tokens
	if kernel := s.sixteenFloat[t]; kernel != nil {
		for ; token+wide <= tokens; token += wide {
			kernel(&dst[token*stride], stride*4, &groups[0], &x[token*n], n, padded/TileRows)
		}
	}
	if token < tokens {
		each(s.oneFloat[t], s.fourFloat[t], referenceFloats, dst[token*stride:], stride, groups, t, padded, x[token*n:], tokens-token)
	}
}

// panels computes all blocks for 16 tokens.
func panels(kernel paneled, dst []float32, stride int, groups []byte, t Type, padded int, in []record) {
	for i := range wide {
		clear(dst[i*stride:][:padded])
	}
	n, l := len(in)/wide, t.layout()
	size := TileBytes(t, n*BlockCols)
	for b := 0; b < n; b += panelBlocks {
		at := b / (l.span / BlockCols) * l.tile()
		kernel(&dst[0], stride*4, &groups[at], size, &in[b], n*recordBytes, min(panelBlocks, n-b), padded/TileRows)
	}
}

// each gives tokens to the kernel for four as long as there are four, then to the
// one for one, and where a set has none, to the reference.
func each[In any](one kernel[In], four batched[In], reference func(dst []float32, groups []byte, t Type, in []In),
	dst []float32, stride int, groups []byte, t Type, padded int, in []In, tokens int) {
	n, token := len(in)/tokens, 0
	if four != nil {
		for ; token+batch <= tokens; token += batch {
			four(&dst[token*stride], stride*4, unsafe.SliceData(groups), &in[token*n], n, padded/TileRows)
		}
	}
	for ; token < tokens; token++ {
		if one != nil {
			one(&dst[token*stride], unsafe.SliceData(groups), &in[token*n], n, padded/TileRows)
		} else {
			reference(dst[token*stride:][:padded], groups, t, in[token*n:(token+1)*n])
		}
	}
}
