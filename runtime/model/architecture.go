package model

import (
	"fmt"
	"slices"
)

// family is what distinguishes an architecture from the plain one: RMS norms before attention
// and before the feed-forward part, heads of queries that share keys, a rotation of neighbouring
// elements, and a gate under SiLU.
type family struct {
	name string
	// biased are the products of a block that may have a bias; bound says that they must.
	biased []string
	bound  bool
	// halves: the rotation pairs element i with element i + RopeDims/2.
	halves bool
	// gelu: the gate goes through the tanh form of GELU.
	gelu bool
	// headNorms: an RMS norm for each head's query and key, before the rotation.
	headNorms bool
	// postNorms: an RMS norm for what attention and the feed-forward part add.
	postNorms bool
	// fused: one matrix makes query, key and value, and one gate and inner values.
	fused bool
	// frequencies: rope_freqs.weight may divide the frequencies; longRope: other vectors may, by
	// the length of the context, whatever kind of scaling a file names.
	frequencies, longRope bool
	// unrotatedEvery: each block of this number leaves queries and keys as they are.
	unrotatedEvery int
	// globalEvery: each block of this number attends to all positions, the others to a window.
	globalEvery int
	// wideEmbedding: embeddings are multiplied by the square root of the width.
	wideEmbedding bool
	// scales: keys of the header name the four scales.
	scales bool
	// scalings are the kinds of scaled rotation, besides none.
	scalings []string
	// windowed: a sliding window that the file names bounds the context.
	windowed bool
	// encoder: an embedding model, in which every token sees all of its text: see Encoder. Of the
	// fields above, its architectures have name, biased, bound and halves.
	encoder bool
	// positions: embeddings of positions are added to those of tokens; the others rotate.
	positions bool
	// gated: a gate under SiLU, and one matrix makes query, key and value; else GELU and three.
	gated bool
}

// products are the products of a block.
var products = []string{"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}

// families are the architectures that the forward pass computes, as llama.cpp 0.5.0 understands
// their names (src/models).
var families = [...]family{
	{name: "llama", biased: products, frequencies: true, scalings: []string{"linear", "yarn", "longrope"}},
	{name: "qwen2", biased: products[:3], bound: true, halves: true, scalings: []string{"linear", "yarn"}},
	{name: "qwen3", halves: true, headNorms: true, scalings: []string{"linear", "yarn"}},
	{name: "gemma3", halves: true, gelu: true, headNorms: true, postNorms: true, globalEvery: 6, wideEmbedding: true, scalings: []string{"linear"}},
	{name: "phi3", halves: true, fused: true, longRope: true, windowed: true, scalings: []string{"longrope"}},
	{name: "smollm3", unrotatedEvery: 4, scalings: []string{"linear", "yarn"}},
	{name: "granite", biased: products, frequencies: true, scales: true, scalings: []string{"linear", "yarn", "longrope"}},
	{name: "bert", encoder: true, positions: true, biased: []string{"attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down"}, bound: true},
	{name: "nomic-bert", encoder: true, gated: true, halves: true},
}

func familyOf(name string) (family, bool) {
	i := slices.IndexFunc(families[:], func(f family) bool { return f.name == name })
	if i < 0 {
		return family{}, false
	}
	return families[i], true
}

// Architectures are the names of the architectures that the forward pass computes.
func Architectures() []string {
	names := make([]string, len(families))
	for i, f := range families {
		names[i] = f.name
	}
	return names
}

// IsEncoder says whether an architecture is one of embedding models.
func IsEncoder(architecture string) bool {
	f, ok := familyOf(architecture)
	return ok && f.encoder
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
	if p.family.encoder {
		return p.encoderTensors()
	}
	list := map[string]Tensor{
		"token_embd.weight":  {Dims: []int{p.Width, 0}},
		"output.weight":      {Dims: []int{p.Width, 0}, Optional: true}, // else it is the embedding
		"output_norm.weight": {Dims: []int{p.Width}},
	}
	switch {
	case p.longRope() && p.RopeFactors: // a file that has one must have both
		list[RopeLongName] = Tensor{Dims: []int{p.RopeDims / 2}}
		list[RopeShortName] = Tensor{Dims: []int{p.RopeDims / 2}}
	case p.longRope():
	case p.family.frequencies:
		list[RopeFactorsName] = Tensor{Dims: []int{p.RopeDims / 2}, Optional: true}
	}
	matrices := p.matrices()
	for block := range p.Layers {
		at := fmt.Sprintf("blk.%d.", block)
		for name, size := range p.norms() {
			list[at+name+".weight"] = Tensor{Dims: []int{size}}
		}
		for name, m := range matrices {
			list[at+name+".weight"] = Tensor{Dims: []int{m.cols, m.rows}}
		}
		for _, name := range p.family.biased {
			list[at+name+".bias"] = Tensor{Dims: []int{matrices[name].rows}, Optional: !p.family.bound}
		}
	}
	return list
}

// norms are the sizes of a block's norms.
func (p *Params) norms() map[string]int {
	list := map[string]int{"attn_norm": p.Width, "ffn_norm": p.Width}
	if p.family.headNorms {
		list["attn_q_norm"], list["attn_k_norm"] = p.HeadSize, p.HeadSize
	}
	if p.family.postNorms {
		list["post_attention_norm"], list["post_ffw_norm"] = p.Width, p.Width
	}
	return list
}

// matrix is a matrix's shape: it makes rows values of cols values.
type matrix struct{ rows, cols int }

// matrices are the shapes of a block's matrices.
func (p *Params) matrices() map[string]matrix {
	wide, narrow := p.Heads*p.HeadSize, p.KVHeads*p.HeadSize
	list := map[string]matrix{"attn_output": {p.Width, wide}, "ffn_down": {p.Width, p.FeedForward}}
	if p.family.fused {
		list["attn_qkv"], list["ffn_up"] = matrix{wide + 2*narrow, p.Width}, matrix{2 * p.FeedForward, p.Width}
		return list
	}
	list["attn_q"], list["attn_k"], list["attn_v"] = matrix{wide, p.Width}, matrix{narrow, p.Width}, matrix{narrow, p.Width}
	list["ffn_gate"], list["ffn_up"] = matrix{p.FeedForward, p.Width}, matrix{p.FeedForward, p.Width}
	return list
}
