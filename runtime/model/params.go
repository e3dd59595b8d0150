// Package model is the forward pass of a language model over tiled quantized
// weights, a batch of tokens at a time.
//
// It guarantees that a token's result does not depend on what else is in the
// batch, on the number of threads, or on whether the weights are resident or
// streamed, to the last bit, and that a forward pass takes no memory but what
// was counted into the budget at the start. It trusts its Source for the
// weights' authenticity. It refuses architectures and shapes that it does not
// know, by name. Inference calls it.
package model

import (
	"fmt"
	"math"

	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// Bounds on what a model's header may ask for.
const (
	maxLayers  = 512
	maxWidth   = 1 << 16
	maxHeads   = 1024
	maxVocab   = 1 << 21
	maxContext = 1 << 22
)

// Params is the shape of a llama model.
type Params struct {
	// Layers is the number of blocks.
	Layers int
	// Width is the size of the residual stream; FeedForward of the inner layer.
	Width, FeedForward int
	// Heads and KVHeads are the numbers of query heads and of key and value
	// heads; HeadSize is the size of each.
	Heads, KVHeads, HeadSize int
	// Vocabulary is the number of tokens.
	Vocabulary int
	// Context is the longest sequence that the model was trained for.
	Context int
	// RopeBase and RopeDims say how positions rotate queries and keys.
	RopeBase float64
	RopeDims int
	// Epsilon keeps the norms from dividing by zero.
	Epsilon float32
}

// ParseParams reads the shape from a model's header.
func ParseParams(f *gguf.File) (Params, error) {
	architecture, _ := f.String("general.architecture")
	if architecture != "llama" {
		return Params{}, fmt.Errorf("model: architecture %q is not supported; this version runs llama", architecture)
	}
	var p Params
	var missing string
	number := func(key string, limit uint64) int {
		n, ok := f.Uint("llama." + key)
		if !ok || n < 1 || n > limit {
			missing = "llama." + key
			return 1
		}
		return int(n)
	}
	p.Layers = number("block_count", maxLayers)
	p.Width = number("embedding_length", maxWidth)
	p.FeedForward = number("feed_forward_length", 4*maxWidth)
	p.Heads = number("attention.head_count", maxHeads)
	p.Context = number("context_length", maxContext)
	p.KVHeads = p.Heads
	if f.Has("llama.attention.head_count_kv") {
		p.KVHeads = number("attention.head_count_kv", maxHeads)
	}
	p.HeadSize = p.Width / p.Heads
	if f.Has("llama.attention.key_length") {
		p.HeadSize = number("attention.key_length", 1024)
	}
	p.RopeDims = p.HeadSize
	if f.Has("llama.rope.dimension_count") {
		p.RopeDims = number("rope.dimension_count", 1024)
	}
	epsilon, ok := f.Float("llama.attention.layer_norm_rms_epsilon")
	if !ok || !(epsilon > 0 && epsilon < 1) {
		missing = "llama.attention.layer_norm_rms_epsilon"
	}
	p.Epsilon = float32(epsilon)
	p.RopeBase = 10000
	if base, ok := f.Float("llama.rope.freq_base"); ok {
		p.RopeBase = base
	}
	if missing != "" {
		return Params{}, fmt.Errorf("model: the header's %s is missing or out of range", missing)
	}
	if f.Has("llama.rope.scaling.type") {
		if kind, _ := f.String("llama.rope.scaling.type"); kind != "none" {
			return Params{}, fmt.Errorf("model: rotary position scaling %q is not supported", kind)
		}
	}
	return p, p.check()
}

func (p Params) check() error {
	switch {
	case p.Heads%p.KVHeads != 0:
		return fmt.Errorf("model: %d query heads are not a multiple of %d key heads", p.Heads, p.KVHeads)
	case p.HeadSize%16 != 0 || p.Heads*p.HeadSize > 4*maxWidth:
		return fmt.Errorf("model: heads of %d values; a multiple of 16 is supported", p.HeadSize)
	case p.Width%kernels.BlockCols != 0 || p.FeedForward%kernels.BlockCols != 0 || p.Heads*p.HeadSize%kernels.BlockCols != 0:
		return fmt.Errorf("model: widths %d, %d and %d; multiples of %d are supported", p.Width, p.FeedForward, p.Heads*p.HeadSize, kernels.BlockCols)
	case p.RopeDims > p.HeadSize || p.RopeDims%2 != 0:
		return fmt.Errorf("model: rotation of %d of %d dimensions", p.RopeDims, p.HeadSize)
	case !(p.RopeBase > 1) || math.IsInf(p.RopeBase, 0):
		return fmt.Errorf("model: rotary base %v", p.RopeBase)
	}
	return nil
}

// CacheBytes is the memory that keys and values of one position take: float16,
// all layers.
func (p Params) CacheBytes() int64 {
	return int64(p.Layers) * int64(p.KVHeads) * int64(p.HeadSize) * 2 * 2
}
