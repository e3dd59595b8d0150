// Package model is the forward pass of a language model over tiled quantized weights, one batch
// of tokens at a time.
//
// The result for a token is the same to the last bit whatever else is in the batch, for any number
// of threads, and whether the weights are resident or streamed. A forward pass takes no memory
// beyond what was counted into the budget at the start. A [Model] trusts its [Source] for the
// authenticity of the weights. It refuses architectures and shapes that it does not know, by
// name. One forward pass serves all architectures: what distinguishes them is data, in the table
// of architecture.go. Package infer calls it.
package model

import (
	"errors"
	"fmt"
	"math"
	"strings"

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

// Params is the shape of a model, and how its architecture computes.
type Params struct {
	// Layers is the number of blocks.
	Layers int
	// Width is the size of the residual stream; FeedForward of the inner layer.
	Width, FeedForward int
	// Heads and KVHeads are the numbers of query heads and of key and value
	// heads; HeadSize is the size of each.
	Heads, KVHeads, HeadSize int
	// Cache is how keys and values are kept. It is the caller's choice and no part of the file.
	Cache CacheType
	// Vocabulary is the number of tokens.
	Vocabulary int
	// Context is the longest sequence that the model was trained for.
	Context int
	// RopeBase and RopeDims say how positions rotate queries and keys, and Scaling how
	// positions beyond those of the training do.
	RopeBase float64
	RopeDims int
	Scaling  Scaling
	// Window is the number of positions that a local block attends to, the token's own among
	// them, and LocalBase the base of its rotation. Only architectures with local blocks have
	// them.
	Window    int
	LocalBase float64
	// Epsilon keeps the norms from dividing by zero.
	Epsilon float32
	// EmbeddingScale multiplies embeddings, ResidualScale what a block adds to the residual
	// stream, AttentionScale the scores and LogitScale the logits.
	EmbeddingScale, ResidualScale, AttentionScale, LogitScale float32
	// RopeFactors means that vectors with a value for each pair of RopeDims divide the
	// frequencies of the rotation: rope_freqs.weight, or those of longrope.
	RopeFactors bool
	// Biases names the vectors that are added to products, such as blk.0.attn_q.bias.
	Biases map[string]bool
	// Pooling and TokenTypes are of embedding models: how a text's outputs become one vector, and
	// how many kinds of tokens have embeddings, of which a text has the first.
	Pooling    Pooling
	TokenTypes int

	family family
}

// Scaling says how a model's rotation was stretched to longer texts than it was first trained
// for. The zero value leaves it as it is.
type Scaling struct {
	// Kind is empty, "linear", "yarn" or "longrope".
	Kind string
	// Factor divides the frequencies: of all pairs, or with yarn of the slow ones.
	Factor float64
	// Original is the context before: with longrope, longer sequences have factors of their
	// own.
	Original int
	// Magnitude multiplies queries and keys.
	Magnitude float64
}

// The tensors that [Params].RopeFactors is about. Llama 3.1 and later have the first, Phi-3 with
// a long context and others with longrope the other two.
const (
	RopeFactorsName = "rope_freqs.weight"
	RopeLongName    = "rope_factors_long.weight"
	RopeShortName   = "rope_factors_short.weight"
)

// local says whether a block attends to the last Window positions only.
func (p *Params) local(layer int) bool {
	return p.family.globalEvery != 0 && (layer+1)%p.family.globalEvery != 0
}

// rotates says whether a block rotates queries and keys.
func (p *Params) rotates(layer int) bool {
	return p.family.unrotatedEvery == 0 || (layer+1)%p.family.unrotatedEvery != 0
}

// KeyError means a missing or unsupported value of one key of a header.
type KeyError struct{ Key, Detail string }

// Error names the key.
func (e *KeyError) Error() string { return "model: " + e.Key + " " + e.Detail }

// ParseParams reads the shape from a model's header, and which optional vectors it has. Its
// error joins a *KeyError for each key that is wrong.
func ParseParams(f *gguf.File) (Params, error) {
	architecture, _ := f.String("general.architecture")
	family, ok := familyOf(architecture)
	if !ok {
		return Params{}, fmt.Errorf("model: architecture %q is not supported; want %s", architecture, strings.Join(Architectures(), ", "))
	}
	h := &header{f: f, space: architecture + "."}
	p := Params{family: family, EmbeddingScale: 1, ResidualScale: 1, LogitScale: 1}
	h.shape(&p)
	if family.encoder {
		h.encoder(&p)
		if h.wrong != nil {
			return Params{}, errors.Join(h.wrong...)
		}
		return p, p.check()
	}
	h.rotation(&p)
	h.scales(&p)
	if h.wrong != nil {
		return Params{}, errors.Join(h.wrong...)
	}
	for block := range p.Layers {
		for _, part := range family.biased {
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
	case !(p.RopeBase > 1) && !p.family.positions || math.IsInf(p.RopeBase, 0):
		key, detail = "rope.freq_base", fmt.Sprintf("is %v; want a finite number above 1", p.RopeBase)
	case p.family.globalEvery != 0 && !(p.LocalBase > 1 && !math.IsInf(p.LocalBase, 0)):
		key, detail = "rope.freq_base_swa", fmt.Sprintf("is %v; want a finite number above 1", p.LocalBase)
	default:
		return nil
	}
	return &KeyError{p.family.name + "." + key, detail}
}

// Encoder says whether this is an embedding model, which an Encoder computes; other models a Model
// does.
func (p Params) Encoder() bool { return p.family.encoder }
