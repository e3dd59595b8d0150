package model

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/runtime/gguf"
)

// header reads the keys of one architecture and collects what is wrong with them.
type header struct {
	f     *gguf.File
	space string // before the keys' names
	wrong []error
}

func (h *header) refuse(key, detail string) {
	h.wrong = append(h.wrong, &KeyError{h.space + key, detail})
}

func (h *header) missing(key string) {
	h.refuse(key, "is missing, out of range, or not the same number for all blocks")
}

func (h *header) has(key string) bool { return h.f.Has(h.space + key) }

// number reads a positive integer.
func (h *header) number(key string, limit uint64) int {
	n, ok := h.f.Uint(h.space + key)
	if !ok || n < 1 || n > limit {
		h.missing(key)
		return 1
	}
	return int(n)
}

// float reads a finite positive number; one that is absent is otherwise.
func (h *header) float(key string, otherwise float64) float64 {
	if !h.has(key) {
		return otherwise
	}
	v, ok := h.f.Float(h.space + key)
	if !ok || !(v > 0) || math.IsInf(v, 0) {
		h.missing(key)
		return 1
	}
	return v
}

// shape reads the numbers that every architecture has.
func (h *header) shape(p *Params) {
	p.Layers = h.number("block_count", maxLayers)
	p.Width = h.number("embedding_length", maxWidth)
	p.FeedForward = h.number("feed_forward_length", 4*maxWidth)
	p.Heads = h.number("attention.head_count", maxHeads)
	p.Context = h.number("context_length", maxContext)
	p.KVHeads = p.Heads
	if h.has("attention.head_count_kv") {
		p.KVHeads = h.number("attention.head_count_kv", maxHeads)
	}
	p.HeadSize = p.Width / p.Heads
	if h.has("attention.key_length") {
		p.HeadSize = h.number("attention.key_length", 1024)
	} else if p.Width%p.Heads != 0 && h.wrong == nil {
		h.refuse("attention.key_length", fmt.Sprintf("is missing, and a width of %d is not a multiple of %d heads", p.Width, p.Heads))
	}
	key := "attention.layer_norm_rms_epsilon"
	if p.family.encoder {
		key = "attention.layer_norm_epsilon"
	}
	epsilon, ok := h.f.Float(h.space + key)
	if !ok || !(epsilon > 0 && epsilon < 1) {
		h.missing(key)
	}
	p.Epsilon = float32(epsilon)
}

// rotation reads how positions rotate queries and keys, and which of them a block sees.
func (h *header) rotation(p *Params) {
	p.RopeDims = p.HeadSize
	if h.has("rope.dimension_count") {
		p.RopeDims = h.number("rope.dimension_count", 1024)
	}
	p.RopeBase = 10000
	if h.has("rope.freq_base") {
		var ok bool
		if p.RopeBase, ok = h.f.Float(h.space + "rope.freq_base"); !ok {
			h.missing("rope.freq_base")
		}
	}
	h.scaling(p)
	switch {
	case p.family.globalEvery != 0:
		p.Window = h.number("attention.sliding_window", maxContext)
		p.LocalBase = h.float("rope.freq_base_swa", 10000)
	case p.family.windowed && h.has("attention.sliding_window"):
		// Within the window, all readings of the key agree.
		if n, ok := h.f.Uint(h.space + "attention.sliding_window"); ok && n > 0 {
			p.Context = int(min(uint64(p.Context), n))
		}
	}
	switch {
	case p.longRope():
		p.RopeFactors = hasTensor(h.f, RopeLongName) || hasTensor(h.f, RopeShortName)
		if p.RopeFactors && p.Scaling.Original == 0 {
			h.missing("rope.scaling.original_context_length")
		}
	case p.family.frequencies:
		p.RopeFactors = hasTensor(h.f, RopeFactorsName)
	}
}

// longRope says whether the factors of frequencies are chosen by the length of the context.
func (p *Params) longRope() bool { return p.family.longRope || p.Scaling.Kind == "longrope" }

// scaling reads how the rotation is stretched.
func (h *header) scaling(p *Params) {
	s := &p.Scaling
	*s = Scaling{Factor: 1, Magnitude: h.float("rope.scaling.attn_factor", 1)}
	const kindKey, factorKey, olderKey, originalKey = "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear", "rope.scaling.original_context_length"
	if h.has(originalKey) {
		s.Original = h.number(originalKey, maxContext)
	}
	kind, _ := h.f.String(h.space + kindKey)
	key := factorKey
	if !h.has(key) && h.has(olderKey) {
		key = olderKey
	}
	// Without a kind, a factor is a linear one.
	if kind == "" && !h.has(kindKey) && h.has(key) {
		kind = "linear"
	}
	if kind == "none" || kind == "" && !h.has(kindKey) {
		return
	}
	if !slices.Contains(p.family.scalings, kind) {
		h.refuse(kindKey, fmt.Sprintf("is %.60q; supported: %s", kind, strings.Join(append([]string{"none"}, p.family.scalings...), ", ")))
		return
	}
	s.Kind = kind
	if s.Factor = h.float(key, 1); s.Factor < 1 {
		h.refuse(key, fmt.Sprintf("is %g; want 1 or more", s.Factor))
	}
	if kind == "yarn" {
		if s.Original == 0 {
			s.Original = p.Context
		}
		s.Magnitude *= 1 + 0.1*math.Log(s.Factor)
	}
}

// scales sets the factors of architectures that have some.
func (h *header) scales(p *Params) {
	p.AttentionScale = float32(1 / math.Sqrt(float64(p.HeadSize)))
	if p.family.wideEmbedding {
		p.EmbeddingScale = float32(math.Sqrt(float64(p.Width)))
	}
	// Gemma 3 of 27 billion parameters, which has 62 blocks, divides by the root of width per
	// head, not of the size of a head.
	if p.family.name == "gemma3" && p.Layers == 62 {
		p.AttentionScale = float32(1 / math.Sqrt(float64(p.Width/p.Heads)))
	}
	if !p.family.scales {
		return
	}
	if !h.has("logit_scale") {
		h.missing("logit_scale")
	}
	p.EmbeddingScale = float32(h.float("embedding_scale", 1))
	p.ResidualScale = float32(h.float("residual_scale", 1))
	p.AttentionScale = float32(h.float("attention.scale", float64(p.AttentionScale)))
	p.LogitScale = 1 / float32(h.float("logit_scale", 1))
}
