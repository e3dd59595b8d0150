package gguftest

import (
	"fmt"
	"slices"
	"strings"
)

// Architectures are those that Of makes models of.
var Architectures = []string{"llama", "qwen2", "qwen3", "gemma3", "phi3", "smollm3", "granite"}

// Window is the number of positions that local blocks of a gemma3 model see.
const Window = 8

// Of makes a whole model like New's of another architecture, with as many blocks as it takes for
// every kind of block. The weights follow from the seed.
func Of(architecture string, seed uint64) *Model {
	m := New(seed)
	if architecture == "llama" {
		return m
	}
	if slices.Contains(Encoders, architecture) {
		m.encoder(architecture)
		return m
	}
	m.Rename(architecture)
	blocks := Layers
	switch architecture {
	case "qwen2":
		m.Set("tokenizer.ggml.pre", "qwen2")
	case "gemma3":
		blocks = 7
		m.Set("gemma3.attention.sliding_window", uint32(Window))
		m.Set("gemma3.rope.freq_base", float32(1e6))
		m.Set("gemma3.attention.key_length", uint32(2*HeadSize))
		m.Set("gemma3.attention.value_length", uint32(2*HeadSize))
		m.Set("gemma3.rope.dimension_count", uint32(2*HeadSize))
	case "smollm3":
		blocks = 5
	case "granite":
		m.Set("granite.embedding_scale", float32(1.5))
		m.Set("granite.residual_scale", float32(0.9))
		m.Set("granite.attention.scale", float32(0.5))
		m.Set("granite.logit_scale", float32(0.5))
	}
	m.Blocks(architecture, blocks)
	return m
}

// Blocks gives a model of the architecture this number of blocks.
func (m *Model) Blocks(architecture string, n int) {
	m.Set(architecture+".block_count", uint32(n))
	for i := range n {
		m.block(architecture, fmt.Sprintf("blk.%d.", i))
	}
}

// Rename moves the keys of the architecture llama to another.
func (m *Model) Rename(architecture string) {
	m.Set("general.architecture", architecture)
	for i := range m.KVs {
		if rest, ok := strings.CutPrefix(m.KVs[i].Key, "llama."); ok {
			m.KVs[i].Key = architecture + "." + rest
		}
	}
}

// SentencePiece gives a model a tokenizer of that kind, of as many tokens: all bytes, two words
// and three control tokens.
func (m *Model) SentencePiece() {
	var tokens []string
	var kinds []int32
	for b := range 256 {
		tokens, kinds = append(tokens, fmt.Sprintf("<0x%02X>", b)), append(kinds, 6)
	}
	tokens = append(tokens, "▁", "▁a", "<s>", "<|im_start|>", "<|im_end|>")
	scores := make([]float32, len(tokens))
	scores[257] = -1
	m.Set("tokenizer.ggml.model", "llama")
	m.Set("tokenizer.ggml.pre", "default")
	m.Set("tokenizer.ggml.tokens", tokens)
	m.Set("tokenizer.ggml.token_type", append(kinds, 1, 1, 3, 3, 3))
	m.Set("tokenizer.ggml.scores", scores)
	m.Set("tokenizer.ggml.bos_token_id", uint32(258))
	m.Set("tokenizer.ggml.add_bos_token", true)
	m.Set("tokenizer.ggml.add_space_prefix", false)
	m.Unset("tokenizer.ggml.merges")
}

// phi3 names a model, and makes three of its tokens those of Phi-3 that it goes by.
func (m *Model) phi3(name string) {
	tokens, kinds := m.Value("tokenizer.ggml.tokens").([]string), m.Value("tokenizer.ggml.token_type").([]int32)
	for _, text := range []string{"<unk>", "</s>", "<|endoftext|>"} {
		tokens, kinds = append(tokens, text), append(kinds, 3)
	}
	m.Set("general.name", name)
	m.Set("tokenizer.ggml.tokens", tokens)
	m.Set("tokenizer.ggml.token_type", kinds)
	m.Set("tokenizer.ggml.scores", append(m.Value("tokenizer.ggml.scores").([]float32), 0, 0, 0))
	m.Set("phi3.vocab_size", uint32(len(tokens)))
	m.Matrix("token_embd.weight", len(tokens), Width)
}

// Unigram gives a model a tokenizer of that kind: four control tokens, and letters.
func (m *Model) Unigram() {
	tokens, kinds, scores := []string{"<s>", "<pad>", "</s>", "<unk>"}, []int32{3, 3, 3, 2}, []float32{0, 0, 0, 0}
	for i, text := range strings.Fields("▁ ▁the a b c d e f g h i j k l m n o p q r s t u v w x y z . , [PAD0]") {
		tokens, kinds, scores = append(tokens, text), append(kinds, 1), append(scores, -1-float32(i)/8)
	}
	last := len(tokens) - 1
	kinds[last], scores[last] = 5, -10000 // as converters fill a vocabulary
	m.Unset("tokenizer.ggml.seperator_token_id")
	set := func(key string, value any) { m.Set("tokenizer.ggml."+key, value) }
	set("model", "t5")
	set("tokens", tokens)
	set("token_type", kinds)
	set("scores", scores)
	set("bos_token_id", uint32(0))
	set("eos_token_id", uint32(2))
	set("unknown_token_id", uint32(3))
	for _, key := range []string{"add_bos_token", "add_eos_token", "add_space_prefix", "remove_extra_whitespaces"} {
		set(key, true)
	}
	m.Matrix("token_embd.weight", len(tokens), Width)
}

// RoBERTa gives an embedding model byte-level BPE with all keys that converters write.
func (m *Model) RoBERTa() {
	from := New(1)
	for _, key := range []string{"model", "tokens", "token_type", "merges", "bos_token_id", "eos_token_id"} {
		m.Set("tokenizer.ggml."+key, from.Value("tokenizer.ggml."+key))
	}
	m.Set("tokenizer.ggml.pre", "roberta-bpe")
	for _, key := range []string{"add_bos_token", "add_eos_token", "add_sep_token"} {
		m.Set("tokenizer.ggml."+key, true)
	}
	for key, from := range map[string]string{"cls": "bos", "seperator": "eos"} {
		m.Set("tokenizer.ggml."+key+"_token_id", m.Value("tokenizer.ggml."+from+"_token_id"))
	}
	m.Set("tokenizer.ggml.token_type_count", uint32(1))
	m.Unset("tokenizer.ggml.unknown_token_id")
	m.Matrix("token_embd.weight", len(from.Value("tokenizer.ggml.tokens").([]string)), Width)
	m.Matrix("token_types.weight", 1, Width)
}

// block makes the tensors of a block.
func (m *Model) block(architecture, at string) {
	const narrow = KVHeads * HeadSize
	wide, few := Width, narrow
	if architecture == "gemma3" {
		wide, few = 2*Width, 2*narrow
	}
	m.Vector(at+"attn_norm.weight", Width, 1)
	m.Vector(at+"ffn_norm.weight", Width, 1)
	m.Matrix(at+"attn_output.weight", Width, wide)
	m.Matrix(at+"ffn_down.weight", Width, FeedForward)
	if architecture == "phi3" {
		m.Unset(at+"attn_q.weight", at+"attn_k.weight", at+"attn_v.weight", at+"ffn_gate.weight")
		m.Matrix(at+"attn_qkv.weight", Width+2*narrow, Width)
		m.Matrix(at+"ffn_up.weight", 2*FeedForward, Width)
		return
	}
	m.Matrix(at+"attn_q.weight", wide, Width)
	m.Matrix(at+"attn_k.weight", few, Width)
	m.Matrix(at+"attn_v.weight", few, Width)
	m.Matrix(at+"ffn_gate.weight", FeedForward, Width)
	m.Matrix(at+"ffn_up.weight", FeedForward, Width)
	switch architecture {
	case "qwen2":
		m.Vector(at+"attn_q.bias", wide, 0.1)
		m.Vector(at+"attn_k.bias", few, 0.1)
		m.Vector(at+"attn_v.bias", few, 0.1)
	case "gemma3":
		m.Vector(at+"post_attention_norm.weight", Width, 1)
		m.Vector(at+"post_ffw_norm.weight", Width, 1)
		fallthrough
	case "qwen3":
		m.Vector(at+"attn_q_norm.weight", wide/Heads, 1)
		m.Vector(at+"attn_k_norm.weight", wide/Heads, 1)
	}
}

// of is a model of the architecture with an edit.
func of(architecture string, edit func(*Model)) func(*Model) {
	return func(m *Model) {
		*m = *Of(architecture, 1)
		if edit != nil {
			edit(m)
		}
	}
}

// variant is a model of the architecture with an edit.
func variant(name, architecture string, edit func(*Model), want ...string) Variant {
	return Variant{Name: name, Edit: of(architecture, edit), Want: want}
}

// ofFamilies are whole models of each architecture, and parts that are right in another.
func ofFamilies() []Variant {
	long := func(m *Model) {
		m.Set("llama.rope.scaling.type", "longrope")
		m.Set("llama.rope.scaling.original_context_length", uint32(64))
		m.Values("rope_factors_short.weight", 1, 1, 1, 1, 1, 1, 1, 1)
		m.Values("rope_factors_long.weight", 1, 2, 3, 4, 5, 6, 7, 8)
	}
	factors := func(m *Model) {
		m.Set("phi3.rope.scaling.original_context_length", uint32(64))
		m.Values("rope_factors_short.weight", 1, 1, 1, 1, 1, 1, 1, 1)
		m.Values("rope_factors_long.weight", 1, 2, 3, 4, 5, 6, 7, 8)
	}
	return []Variant{
		variant("llama with longrope", "llama", long),
		variant("llama with the factors of longrope and another kind of scaling", "llama", func(m *Model) { long(m); m.Set("llama.rope.scaling.type", "yarn") },
			"tensor-unknown rope_factors_long.weight", "tensor-unknown rope_factors_short.weight"),
		variant("llama with longrope and factors of every context", "llama", func(m *Model) { long(m); m.Values("rope_freqs.weight", 1, 1, 1, 1, 2, 4, 8, 8) },
			"tensor-unknown rope_freqs.weight"),
		variant("llama with longrope that nothing chooses", "llama", func(m *Model) { long(m); m.Unset("llama.rope.scaling.original_context_length") },
			"key-missing llama.rope.scaling.original_context_length"),
		variant("qwen2 with longrope, which llama.cpp has no factors for", "qwen2", set("qwen2.rope.scaling.type", "longrope"), "key-value qwen2.rope.scaling.type"),
		variant("a whole qwen2 model", "qwen2", nil),
		variant("qwen2 without a bias", "qwen2", func(m *Model) { m.Unset("blk.1.attn_v.bias") }, "tensor-missing blk.1.attn_v.bias"),
		variant("qwen2 with the bias of another product", "qwen2", bias("ffn_down.bias", Width), "tensor-unknown blk.*.ffn_down.bias"),
		variant("qwen2 with an output bias", "qwen2", func(m *Model) { m.Vector("output.bias", 261, 0) }, "tensor-unknown output.bias"),
		variant("qwen2 with factors of frequencies", "qwen2", func(m *Model) { m.Values("rope_freqs.weight", 1, 1, 1, 1, 2, 4, 8, 8) }, "tensor-unknown rope_freqs.weight"),
		variant("qwen2 with a window", "qwen2", set("qwen2.attention.sliding_window", uint32(64)), "key-value qwen2.attention.sliding_window"),
		variant("qwen2 with a key of llama", "qwen2", set("llama.context_length", uint32(64)), "key-unknown llama.context_length"),
		variant("a whole qwen3 model", "qwen3", nil),
		variant("qwen3 without a norm of keys", "qwen3", func(m *Model) { m.Unset("blk.0.attn_k_norm.weight") }, "tensor-missing blk.0.attn_k_norm.weight"),
		variant("qwen3 with biases", "qwen3", bias("attn_q.bias", Width), "tensor-unknown blk.*.attn_q.bias"),
		variant("a whole gemma3 model", "gemma3", nil),
		variant("gemma3 without a window", "gemma3", func(m *Model) { m.Unset("gemma3.attention.sliding_window") }, "key-missing gemma3.attention.sliding_window"),
		variant("gemma3 with another pattern of windows", "gemma3", set("gemma3.attention.sliding_window_pattern", uint32(4)), "key-value gemma3.attention.sliding_window_pattern"),
		variant("gemma3 with its pattern of windows", "gemma3", set("gemma3.attention.sliding_window_pattern", uint32(6))),
		variant("gemma3 with capped logits", "gemma3", set("gemma3.final_logit_softcapping", float32(30)), "key-value gemma3.final_logit_softcapping"),
		variant("gemma3 with yarn", "gemma3", set("gemma3.rope.scaling.type", "yarn"), "key-value gemma3.rope.scaling.type"),
		variant("gemma3 without a norm after attention", "gemma3", func(m *Model) { m.Unset("blk.3.post_attention_norm.weight") }, "tensor-missing blk.3.post_attention_norm.weight"),
		variant("a whole phi3 model", "phi3", nil),
		variant("phi3 with factors for long and short contexts", "phi3", factors),
		variant("phi3 with a window, which bounds its context", "phi3", set("phi3.attention.sliding_window", uint32(100))),
		variant("phi3 with factors for long contexts alone", "phi3", func(m *Model) { factors(m); m.Unset("rope_factors_short.weight") }, "tensor-missing rope_factors_short.weight"),
		variant("phi3 with factors that nothing chooses", "phi3", func(m *Model) { factors(m); m.Unset("phi3.rope.scaling.original_context_length") },
			"key-missing phi3.rope.scaling.original_context_length"),
		variant("phi3 with a factor of 0", "phi3", func(m *Model) { factors(m); m.Values("rope_factors_long.weight", 1, 1, 1, 1, 1, 1, 1, 0) }, "tensor-value rope_factors_long.weight"),
		variant("phi3 with matrices of its own for queries", "phi3", func(m *Model) { m.Matrix("blk.0.attn_q.weight", Width, Width) }, "tensor-unknown blk.0.attn_q.weight"),
		variant("phi3 with SentencePiece, named Phi-3", "phi3", func(m *Model) { m.SentencePiece(); m.phi3("Phi-3-mini-4k-instruct") }),
		variant("phi3 with SentencePiece under another name", "phi3", func(m *Model) { m.SentencePiece(); m.phi3("Phi 3.5 Mini Instruct") }, "tokenizer-unsupported tokenizer.ggml"),
		variant("phi3 with SentencePiece and without its tokens", "phi3", func(m *Model) { m.SentencePiece(); m.Set("general.name", "Phi-3") }, "tokenizer-unsupported tokenizer.ggml"),
		variant("a whole smollm3 model", "smollm3", nil),
		variant("a whole granite model", "granite", nil),
		variant("granite without a scale of logits", "granite", func(m *Model) { m.Unset("granite.logit_scale") }, "key-missing granite.logit_scale"),
		variant("granite with a scale of 0", "granite", set("granite.residual_scale", float32(0)), "key-value granite.residual_scale"),
		variant("granite without rotation", "granite", set("granite.rope.scaling.finetuned", false), "key-value granite.rope.scaling.finetuned"),
	}
}

// ofEncoders are embedding models, and parts that are right in others.
func ofEncoders() []Variant {
	return []Variant{
		variant("a whole bert model", "bert", nil),
		variant("a bert model that takes the first token", "bert", set("bert.pooling_type", uint32(2))),
		variant("a bert model that takes the last token", "bert", set("bert.pooling_type", uint32(3)), "key-value bert.pooling_type"),
		variant("a bert model that ranks", "bert", set("bert.pooling_type", uint32(4)), "key-value bert.pooling_type"),
		variant("a bert model without pooling", "bert", func(m *Model) { m.Unset("bert.pooling_type") }, "key-missing bert.pooling_type"),
		variant("a bert model with a classifier", "bert", func(m *Model) { m.Matrix("cls.weight", 2, Width) }, "tensor-unknown cls.weight"),
		variant("a bert model that reads one way", "bert", set("bert.attention.causal", true), "key-value bert.attention.causal"),
		variant("a bert model that does not say which way it reads", "bert", func(m *Model) { m.Unset("bert.attention.causal") }, "key-missing bert.attention.causal"),
		variant("a bert model with a rotation", "bert", set("bert.rope.freq_base", float32(1000)), "key-unknown bert.rope.freq_base"),
		variant("a bert model with positions for a part of its context", "bert", func(m *Model) { m.Matrix("position_embd.weight", 32, Width) }, "tensor-shape position_embd.weight"),
		variant("a bert model without a bias", "bert", func(m *Model) { m.Unset("blk.1.attn_q.bias") }, "tensor-missing blk.1.attn_q.bias"),
		variant("a bert model with norms of queries", "bert", bias("attn_q_norm.weight", Width), "tensor-unknown blk.*.attn_q_norm.weight"),
		variant("a bert model without kinds of tokens", "bert", func(m *Model) { m.Unset("tokenizer.ggml.token_type_count") }, "key-missing tokenizer.ggml.token_type_count"),
		variant("a bert model that tells capital letters", "bert", func(m *Model) {
			m.Value("tokenizer.ggml.tokens").([]string)[5] = "▁The"
		}, "tokenizer-unsupported tokenizer.ggml"),
		variant("a bert model that says that it tells capital letters", "bert", func(m *Model) {
			m.Value("tokenizer.ggml.tokens").([]string)[5] = "▁The"
			m.Set("tokenizer.ggml.normalizer.lowercase", false)
		}),
		variant("a bert model that keeps accents", "bert", set("tokenizer.ggml.normalizer.strip_accents", false)),
		variant("a bert model with a number in place of a switch", "bert", set("tokenizer.ggml.normalizer.lowercase", uint32(1)),
			"key-value tokenizer.ggml.normalizer.lowercase", "tokenizer-unsupported tokenizer.ggml"),
		variant("a bert model with the unigram model", "bert", (*Model).Unigram),
		variant("a bert model with the unigram model and no merging of spaces", "bert", func(m *Model) {
			m.Unigram()
			m.Set("tokenizer.ggml.remove_extra_whitespaces", false)
		}, "tokenizer-unsupported tokenizer.ggml"),
		variant("a bert model with user-defined tokens beside the unigram model", "bert", func(m *Model) {
			m.Unigram()
			m.Value("tokenizer.ggml.token_type").([]int32)[7] = 4
		}, "tokenizer-unsupported tokenizer.ggml"),
		variant("a bert model with the unigram model and all keys that converters write", "bert", func(m *Model) {
			m.Unigram()
			m.Set("tokenizer.ggml.precompiled_charsmap", []uint8{8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
			for key, value := range map[string]uint32{"padding": 1, "seperator": 2, "cls": 0, "unknown": 3} {
				m.Set("tokenizer.ggml."+key+"_token_id", value)
			}
			m.Set("tokenizer.ggml.add_sep_token", true)
			m.Set("tokenizer.ggml.token_type_count", uint32(2))
		}),
		variant("a nomic-bert model with all keys that converters write", "nomic-bert", func(m *Model) {
			for key, value := range map[string]uint32{"padding": 0, "seperator": 3, "cls": 2, "mask": 4, "bos": 2, "eos": 3} {
				m.Set("tokenizer.ggml."+key+"_token_id", value)
			}
			m.Set("tokenizer.ggml.scores", make([]float32, len(m.Value("tokenizer.ggml.tokens").([]string))))
			m.Set("tokenizer.ggml.add_bos_token", true)
			m.Set("tokenizer.ggml.add_sep_token", true)
			m.Set("tokenizer.ggml.normalizer.lowercase", true)
		}),
		variant("a nomic-bert model with the unigram model", "nomic-bert", (*Model).Unigram),
		variant("a llama model with the unigram model", "llama", func(m *Model) {
			m.Unigram()
			m.Unset("tokenizer.ggml.merges", "tokenizer.ggml.add_eos_token", "tokenizer.chat_template", "tokenizer.ggml.pre", "llama.vocab_size")
			m.Set("tokenizer.ggml.add_eos_token", true)
		}, "tokenizer-unsupported tokenizer.ggml.model"),
		variant("a bert model with byte-level BPE of a generative model", "bert", func(m *Model) { m.RoBERTa(); m.Set("tokenizer.ggml.pre", "gpt-2") },
			"key-value tokenizer.ggml.add_eos_token", "key-value tokenizer.ggml.add_sep_token", "tokenizer-unsupported tokenizer.ggml.model"),
		variant("a bert model with byte-level BPE, as RoBERTa has it", "bert", (*Model).RoBERTa),
		variant("a bert model like RoBERTa whose texts do not say how they end", "bert", func(m *Model) { m.RoBERTa(); m.Unset("tokenizer.ggml.add_eos_token") },
			"tokenizer-unsupported tokenizer.ggml"),
		variant("a llama model with the pre-tokenizer of RoBERTa", "llama", func(m *Model) {
			m.Set("tokenizer.ggml.pre", "roberta-bpe")
			m.Set("tokenizer.ggml.add_bos_token", true)
			m.Set("tokenizer.ggml.add_eos_token", true)
		}, "tokenizer-unsupported tokenizer.ggml.model"),
		variant("a llama model with WordPiece", "llama", func(m *Model) {
			from := Of("bert", 1)
			for _, key := range []string{"model", "tokens", "token_type", "bos_token_id", "unknown_token_id", "seperator_token_id"} {
				m.Set("tokenizer.ggml."+key, from.Value("tokenizer.ggml."+key))
			}
			m.Unset("tokenizer.ggml.merges", "tokenizer.ggml.add_bos_token", "tokenizer.ggml.eos_token_id", "tokenizer.chat_template", "llama.vocab_size")
			m.Matrix("token_embd.weight", len(from.Value("tokenizer.ggml.tokens").([]string)), Width)
		}, "tokenizer-unsupported tokenizer.ggml.model"),
		variant("a whole nomic-bert model", "nomic-bert", nil),
		variant("nomic-bert with linear scaling", "nomic-bert", set("nomic-bert.rope.scaling.type", "linear"), "key-value nomic-bert.rope.scaling.type"),
		variant("nomic-bert with biases", "nomic-bert", bias("attn_qkv.bias", 3*Width), "tensor-unknown blk.*.attn_qkv.bias"),
		variant("nomic-bert with experts", "nomic-bert", set("nomic-bert.expert_count", uint32(8)), "key-unknown nomic-bert.expert_count"),
		variant("nomic-bert with a partial rotation", "nomic-bert", set("nomic-bert.rope.dimension_count", uint32(8)), "key-value nomic-bert.rope.dimension_count"),
	}
}
