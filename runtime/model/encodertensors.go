package model

import (
	"fmt"
	"math"
	"slices"

	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// affine is what follows a norm around the mean.
type affine struct{ weight, bias []float32 }

// encoderLayer is one block's tensors. Those that its architecture lacks are nil.
type encoderLayer struct {
	q, k, v, qkv        *kernels.Tensor
	out, gate, up, down *kernels.Tensor

	qBias, kBias, vBias, outBias, upBias, downBias []float32
	attentionNorm, outputNorm                      affine // of the sum with the block's input
}

// encoderTensors are those that an Encoder needs.
type encoderTensors struct {
	embedding, positions, types kernels.Tensor
	norm                        affine
	layers                      []encoderLayer
}

// maxTokenTypes bounds the kinds of tokens.
const maxTokenTypes = 16

// encoder reads what only embedding models have.
func (h *header) encoder(p *Params) {
	p.AttentionScale = float32(1 / math.Sqrt(float64(p.HeadSize)))
	if p.KVHeads != p.Heads {
		h.refuse("attention.head_count_kv", fmt.Sprintf("is %d; an embedding model has as many as query heads, %d", p.KVHeads, p.Heads))
	}
	if p.Heads*p.HeadSize != p.Width && h.wrong == nil {
		h.refuse("attention.key_length", fmt.Sprintf("makes %d heads of %d values; want a width of %d", p.Heads, p.HeadSize, p.Width))
	}
	pooling, ok := h.f.Uint(h.space + "pooling_type")
	switch p.Pooling = Pooling(pooling); {
	case !ok:
		h.refuse("pooling_type", "is missing or not a number: how a text's outputs become one vector, the file does not say")
	case p.Pooling != PoolMean && p.Pooling != PoolFirst:
		h.refuse("pooling_type", fmt.Sprintf("is %d; supported: 1 (the mean) and 2 (the first token)", pooling))
	}
	if causal, ok := h.f.Bool(h.space + "attention.causal"); !ok || causal {
		h.refuse("attention.causal", "is missing or not false: tokens of an embedding model see what comes after them")
	}
	const types = "tokenizer.ggml.token_type_count"
	n, ok := h.f.Uint(types)
	if !ok || n < 1 || n > maxTokenTypes {
		h.wrong = append(h.wrong, &KeyError{types, fmt.Sprintf("is missing, or not a number from 1 to %d", maxTokenTypes)})
	}
	p.TokenTypes = int(n)
	if p.family.positions {
		return
	}
	h.rotation(p)
	if p.Scaling.Magnitude != 1 {
		h.refuse("rope.scaling.attn_factor", fmt.Sprintf("is %g; only 1 is supported", p.Scaling.Magnitude))
	}
	if p.RopeDims != p.HeadSize && h.wrong == nil {
		h.refuse("rope.dimension_count", fmt.Sprintf("rotates %d dimensions of %d; want all", p.RopeDims, p.HeadSize))
	}
}

// encoderTensors are all tensors of an embedding model, by name.
func (p Params) encoderTensors() map[string]Tensor {
	list := map[string]Tensor{"token_embd.weight": {Dims: []int{p.Width, 0}}, "token_types.weight": {Dims: []int{p.Width, p.TokenTypes}}}
	if p.family.positions {
		list["position_embd.weight"] = Tensor{Dims: []int{p.Width, p.Context}}
	}
	norm := func(name string) {
		list[name+".weight"], list[name+".bias"] = Tensor{Dims: []int{p.Width}}, Tensor{Dims: []int{p.Width}}
	}
	norm("token_embd_norm")
	for block := range p.Layers {
		at := fmt.Sprintf("blk.%d.", block)
		norm(at + "attn_output_norm")
		norm(at + "layer_output_norm")
		for name, m := range p.encoderMatrices() {
			list[at+name+".weight"] = Tensor{Dims: []int{m.cols, m.rows}}
			if slices.Contains(p.family.biased, name) {
				list[at+name+".bias"] = Tensor{Dims: []int{m.rows}}
			}
		}
	}
	return list
}

// encoderMatrices are the shapes of a block's matrices.
func (p *Params) encoderMatrices() map[string]matrix {
	list := map[string]matrix{"attn_output": {p.Width, p.Width}, "ffn_up": {p.FeedForward, p.Width}, "ffn_down": {p.Width, p.FeedForward}}
	if p.family.gated {
		list["attn_qkv"], list["ffn_gate"] = matrix{3 * p.Width, p.Width}, matrix{p.FeedForward, p.Width}
	} else {
		list["attn_q"], list["attn_k"], list["attn_v"] = matrix{p.Width, p.Width}, matrix{p.Width, p.Width}, matrix{p.Width, p.Width}
	}
	return list
}

// encoder finds all tensors of an embedding model.
func (r *resolver) encoder(p *Params) (t encoderTensors) {
	t.embedding = r.matrix("token_embd.weight", 0, p.Width)
	p.Vocabulary = t.embedding.Rows
	t.types = r.matrix("token_types.weight", p.TokenTypes, p.Width)
	if p.family.positions {
		t.positions = r.matrix("position_embd.weight", p.Context, p.Width)
	}
	norm := func(name string) affine {
		return affine{r.vector(name+".weight", p.Width), r.vector(name+".bias", p.Width)}
	}
	t.norm = norm("token_embd_norm")
	shapes := p.encoderMatrices()
	for block := 0; block < p.Layers && r.wrong == nil; block++ {
		at := fmt.Sprintf("blk.%d.", block)
		product := func(part string) *kernels.Tensor {
			if shape, ok := shapes[part]; ok {
				m := r.matrix(at+part+".weight", shape.rows, shape.cols)
				return &m
			}
			return nil
		}
		bias := func(part string) []float32 {
			if slices.Contains(p.family.biased, part) {
				return r.vector(at+part+".bias", shapes[part].rows)
			}
			return nil
		}
		t.layers = append(t.layers, encoderLayer{
			q: product("attn_q"), k: product("attn_k"), v: product("attn_v"), qkv: product("attn_qkv"), out: product("attn_output"),
			gate: product("ffn_gate"), up: product("ffn_up"), down: product("ffn_down"),
			qBias: bias("attn_q"), kBias: bias("attn_k"), vBias: bias("attn_v"), outBias: bias("attn_output"), upBias: bias("ffn_up"), downBias: bias("ffn_down"),
			attentionNorm: norm(at + "attn_output_norm"), outputNorm: norm(at + "layer_output_norm"),
		})
	}
	return t
}
