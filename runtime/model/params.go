// Package model is the forward pass of a language model over tiled quantized weights, one batch
// of tokens at a time.
//
// The result for a token is the same to the last bit whatever else is in the batch, for any number
// of threads, and whether the weights are resident or streamed. A forward pass takes no memory
// beyond what was counted into the budget at the start. A [Model] trusts its [Source] for the
// authenticity of the weights. It refuses architectures and shapes that it does not know, by
// name. Package infer calls it.
package model

import (
	"errors"
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
	// RopeFactors means that the vector rope_freqs.weight, with a value for each pair of
	// RopeDims, divides the frequencies of the rotation.
	RopeFactors bool
	// Biases names the vectors that are added to products, such as blk.0.attn_q.bias.
	Biases map[string]bool
}

// RopeFactorsName is the tensor that [Params].RopeFactors is about. Llama 3.1 and later
// have it.
const RopeFactorsName = "rope_freqs.weight"

// biased are the products of a block that may have a bias.
var biased = [...]string{"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}

// KeyError means a missing or unsupported value of one key of a header.
type KeyError struct{ Key, Detail string }

// Error names the key.
func (e *KeyError) Error() string { return "model: " + e.Key + " " + e.Detail }

// ParseParams reads the shape from a model's header, and which optional vectors it has. Its
// error joins a *KeyError for each key that is wrong.
func ParseParams(f *gguf.File) (Params, error) {
	architecture, _ := f.String("general.architecture")
	if architecture != "llama" {
		return Params{}, fmt.Errorf("model: architecture %q is not supported; want llama", architecture)
	}
	var p Params
	var wrong []error
	missing := func(key string) {
		wrong = append(wrong, &KeyError{key, "is missing, out of range, or not the same number for all blocks"})
	}
	number := func(key string, limit uint64) int {
		n, ok := f.Uint("llama." + key)
		if !ok || n < 1 || n > limit {
			missing("llama." + key)
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
	} else if p.Width%p.Heads != 0 && wrong == nil {
		return Params{}, &KeyError{"llama.attention.key_length", fmt.Sprintf("is missing, and a width of %d is not a multiple of %d heads", p.Width, p.Heads)}
	}
	p.RopeDims = p.HeadSize
	if f.Has("llama.rope.dimension_count") {
		p.RopeDims = number("rope.dimension_count", 1024)
	}
	epsilon, ok := f.Float("llama.attention.layer_norm_rms_epsilon")
	if !ok || !(epsilon > 0 && epsilon < 1) {
		missing("llama.attention.layer_norm_rms_epsilon")
	}
	p.Epsilon = float32(epsilon)
	p.RopeBase = 10000
	if f.Has("llama.rope.freq_base") {
		if p.RopeBase, ok = f.Float("llama.rope.freq_base"); !ok {
			missing("llama.rope.freq_base")
		}
	}
	if wrong != nil {
		return Params{}, errors.Join(wrong...)
	}
	_, p.RopeFactors = f.Tensor(RopeFactorsName)
	for block := range p.Layers {
		for _, part := range biased {
			if name := fmt.Sprintf("blk.%d.%s.bias", block, part); hasTensor(f, name) {
				if p.Biases == nil {
					p.Biases = map[string]bool{}
				}
				p.Biases[name] = true
			}
		}
	}
	return p, p.check()
}

func hasTensor(f *gguf.File, name string) bool {
	_, ok := f.Tensor(name)
	return ok
}

func (p Params) check() error {
	key, detail := "", ""
	switch {
	case p.Heads%p.KVHeads != 0:
		key, detail = "attention.head_count_kv", fmt.Sprintf("is %d, of which %d query heads are not a multiple", p.KVHeads, p.Heads)
	case p.HeadSize%16 != 0 || p.Heads*p.HeadSize > 4*maxWidth:
		key, detail = "attention.key_length", fmt.Sprintf("makes heads of %d values; want a multiple of 16", p.HeadSize)
	case p.Width%kernels.BlockCols != 0 || p.Heads*p.HeadSize%kernels.BlockCols != 0:
		key, detail = "embedding_length", fmt.Sprintf("makes widths of %d and %d; want multiples of %d", p.Width, p.Heads*p.HeadSize, kernels.BlockCols)
	case p.FeedForward%kernels.BlockCols != 0:
		key, detail = "feed_forward_length", fmt.Sprintf("is %d; want a multiple of %d", p.FeedForward, kernels.BlockCols)
	case p.RopeDims > p.HeadSize || p.RopeDims%2 != 0:
		key, detail = "rope.dimension_count", fmt.Sprintf("rotates %d of %d dimensions; want an even number, at most all of them", p.RopeDims, p.HeadSize)
	case !(p.RopeBase > 1) || math.IsInf(p.RopeBase, 0):
		key, detail = "rope.freq_base", fmt.Sprintf("is %v; want a finite number above 1", p.RopeBase)
	default:
		return nil
	}
	return &KeyError{"llama." + key, detail}
}

// CacheBytes is the memory for the keys and values of one position: float16, all layers.
func (p Params) CacheBytes() int64 {
	return int64(p.Layers) * int64(p.KVHeads) * int64(p.HeadSize) * 2 * 2
}

// Tensor is a tensor that the forward pass uses.
type Tensor struct {
	// Dims are its dimensions, innermost first; of the embedding the last is 0, since the
	// vocabulary says it.
	Dims []int
	// Optional tensors may be absent, and change the result if they are present.
	Optional bool
}

// Tensors are all tensors that a model of this shape may have, by name: any other tensor plays
// no part in the forward pass.
func (p Params) Tensors() map[string]Tensor {
	wide, narrow := p.Heads*p.HeadSize, p.KVHeads*p.HeadSize
	list := map[string]Tensor{
		"token_embd.weight":  {Dims: []int{p.Width, 0}},
		"output.weight":      {Dims: []int{p.Width, 0}, Optional: true}, // else it is the embedding
		"output_norm.weight": {Dims: []int{p.Width}},
		RopeFactorsName:      {Dims: []int{p.RopeDims / 2}, Optional: true},
	}
	outputs := map[string]int{"attn_q": wide, "attn_k": narrow, "attn_v": narrow, "attn_output": p.Width,
		"ffn_gate": p.FeedForward, "ffn_up": p.FeedForward, "ffn_down": p.Width}
	inputs := map[string]int{"attn_output": wide, "ffn_down": p.FeedForward}
	for block := range p.Layers {
		at := fmt.Sprintf("blk.%d.", block)
		list[at+"attn_norm.weight"] = Tensor{Dims: []int{p.Width}}
		list[at+"ffn_norm.weight"] = Tensor{Dims: []int{p.Width}}
		for _, part := range biased {
			columns := p.Width
			if n, ok := inputs[part]; ok {
				columns = n
			}
			list[at+part+".weight"] = Tensor{Dims: []int{columns, outputs[part]}}
			list[at+part+".bias"] = Tensor{Dims: []int{outputs[part]}, Optional: true}
		}
	}
	return list
}
