package sealer

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// HeaderSection is the name of the section that holds the source's header.
const HeaderSection = "[gguf-header]"

// maxChunk is the largest chunk that is made of more than one row group. A
// chunk is what one worker decrypts into its cache and computes from: half of
// a typical second-level cache, and small enough that a matrix of 600 rows
// still gives two workers something to do.
const maxChunk = 192 << 10

// part is one section to write and where its bytes come from.
type part struct {
	chunkseal.Section
	tensor gguf.Tensor
	tile   kernels.Type
}

// plan lays out the sections in the order in which a forward pass uses them.
func plan(f *gguf.File) ([]part, error) {
	parts := []part{headerPart(len(f.HeaderBytes))}
	for _, i := range orderOfUse(f.Tensors) {
		p, err := planTensor(f.Tensors[i])
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	if len(parts) == 1 {
		return nil, fmt.Errorf("sealer: the file holds no tensors")
	}
	return parts, nil
}

func headerPart(size int) part {
	chunks := (size + maxChunk - 1) / maxChunk
	return part{Section: chunkseal.Section{
		Name: HeaderSection, Kind: chunkseal.KindMetadata, Rows: 1, Cols: uint32(size),
		Chunks: uint32(chunks), ChunkBytes: uint32(min(size, maxChunk)), LastBytes: uint32(size - (chunks-1)*maxChunk),
	}}
}

// planTensor cuts a matrix into chunks of about equal size, whole row groups
// each; a vector is one chunk.
func planTensor(t gguf.Tensor) (part, error) {
	if len(t.Dims) == 1 {
		return planVector(t)
	}
	tile, ok := tileTypes[t.Type]
	if !ok {
		return part{}, fmt.Errorf("sealer: tensor %s has type %s, which the engine does not support", t.Name, t.Type)
	}
	if len(t.Dims) != 2 || t.Dims[0] > math.MaxInt32 || t.Dims[1] > math.MaxInt32 {
		return part{}, fmt.Errorf("sealer: tensor %s has shape %v; want a vector or a matrix", t.Name, t.Dims)
	}
	rows, cols := t.Rows(), t.Columns()
	group := kernels.TileBytes(tile, cols)
	if group < 1 || group > chunkseal.MaxChunkBytes {
		return part{}, fmt.Errorf("sealer: tensor %s has rows of %d columns; want a multiple of %d, of which %d rows fit in %d bytes",
			t.Name, cols, tile.Span(), kernels.TileRows, chunkseal.MaxChunkBytes)
	}
	groups := (rows + kernels.TileRows - 1) / kernels.TileRows
	chunks := ceilDiv(groups, max(1, maxChunk/group))
	each := ceilDiv(groups, chunks)
	chunks = ceilDiv(groups, each)
	return part{tensor: t, tile: tile, Section: chunkseal.Section{
		Name: t.Name, Kind: chunkseal.KindTiles, Type: uint8(tile), Rows: uint32(rows), Cols: uint32(cols),
		RowsPerChunk: uint32(each * kernels.TileRows), Chunks: uint32(chunks),
		ChunkBytes: uint32(each * group), LastBytes: uint32((groups - (chunks-1)*each) * group),
	}}, nil
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

func planVector(t gguf.Tensor) (part, error) {
	if t.Type != gguf.F32 {
		return part{}, fmt.Errorf("sealer: vector %s has type %s; want F32", t.Name, t.Type)
	}
	if t.Size > chunkseal.MaxChunkBytes {
		return part{}, fmt.Errorf("sealer: vector %s has %d bytes, the limit is %d", t.Name, t.Size, chunkseal.MaxChunkBytes)
	}
	return part{tensor: t, Section: chunkseal.Section{
		Name: t.Name, Kind: chunkseal.KindVector, Rows: 1, Cols: uint32(t.Columns()), RowsPerChunk: 1,
		Chunks: 1, ChunkBytes: uint32(t.Size), LastBytes: uint32(t.Size),
	}}, nil
}

// tileTypes are the types of matrices that the kernels compute with.
var tileTypes = map[gguf.Type]kernels.Type{
	gguf.F32: kernels.F32, gguf.F16: kernels.F16, gguf.BF16: kernels.BF16,
	gguf.Q4_0: kernels.Q4_0, gguf.Q4_1: kernels.Q4_1, gguf.Q5_0: kernels.Q5_0, gguf.Q5_1: kernels.Q5_1, gguf.Q8_0: kernels.Q8_0,
	gguf.Q2_K: kernels.Q2_K, gguf.Q3_K: kernels.Q3_K, gguf.Q4_K: kernels.Q4_K, gguf.Q5_K: kernels.Q5_K, gguf.Q6_K: kernels.Q6_K,
	gguf.IQ4_NL: kernels.IQ4_NL, gguf.IQ4_XS: kernels.IQ4_XS, gguf.MXFP4: kernels.MXFP4,
}

// roles are the tensors of a block in the order of a forward pass; a streamed
// model is then read front to back.
var roles = [...]string{"attn_norm", "attn_qkv", "attn_q", "attn_k", "attn_v", "attn_q_norm", "attn_k_norm", "attn_output", "attn_output_norm", "post_attention_norm",
	"ffn_norm", "ffn_gate", "ffn_up", "ffn_down", "post_ffw_norm", "layer_output_norm"}

// orderOfUse returns tensor indices: embedding, blocks, final norm, output.
func orderOfUse(tensors []gguf.Tensor) []int {
	type place struct{ phase, block, role int }
	places := make([]place, len(tensors))
	order := make([]int, len(tensors))
	for i, t := range tensors {
		order[i] = i
		first, rest, _ := strings.Cut(t.Name, ".")
		switch first {
		case "token_embd", "position_embd", "token_types", "token_embd_norm":
			places[i] = place{phase: 0}
		case "blk":
			number, role, _ := strings.Cut(rest, ".")
			n, err := strconv.Atoi(number)
			if err != nil {
				places[i] = place{phase: 2}
				continue
			}
			role, _, _ = strings.Cut(role, ".")
			at := slices.Index(roles[:], role)
			if at < 0 {
				at = len(roles)
			}
			places[i] = place{phase: 1, block: n, role: at}
		case "output_norm":
			places[i] = place{phase: 3}
		case "output":
			places[i] = place{phase: 4}
		default:
			places[i] = place{phase: 2}
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := places[a], places[b]
		return cmp.Or(cmp.Compare(x.phase, y.phase), cmp.Compare(x.block, y.block), cmp.Compare(x.role, y.role))
	})
	return order
}
