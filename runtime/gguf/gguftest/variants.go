package gguftest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/runtime/gguf"
)

// Variant is a model that differs from New's in one part.
type Variant struct {
	// Name says what is different.
	Name string
	// Edit changes the model; Raw the finished file. Either may be nil.
	Edit func(*Model)
	Raw  func([]byte) []byte
	// Want is the code and the name of each finding, such as "key-value llama.logit_scale"; a
	// model without findings can be served.
	Want []string
}

// File is the variant's file.
func (v Variant) File(seed uint64) ([]byte, error) {
	m := New(seed)
	if v.Edit != nil {
		v.Edit(m)
	}
	b, err := m.Bytes()
	if err == nil && v.Raw != nil {
		b = v.Raw(b)
	}
	return b, err
}

func set(key string, value any) func(*Model) { return func(m *Model) { m.Set(key, value) } }

func changed(name, key string, value any) Variant {
	return Variant{Name: name, Edit: set(key, value), Want: []string{"key-value " + key}}
}

func harmless(name, key string, value any) Variant {
	return Variant{Name: name, Edit: set(key, value)}
}

func unknown(name, key string, value any) Variant {
	return Variant{Name: name, Edit: set(key, value), Want: []string{"key-unknown " + key}}
}

// bias adds a vector to each block.
func bias(role string, n int) func(*Model) {
	return func(m *Model) {
		for i := range Layers {
			m.Vector(fmt.Sprintf("blk.%d.%s", i, role), n, 0)
		}
	}
}

// rare is a type that is known by name only.
func rare(name string, typ gguf.Type) Variant {
	return Variant{Name: "matrices in " + name, Edit: func(m *Model) {
		m.Wide()
		m.Retype("blk.0.attn_q.weight", typ)
	}, Want: []string{"tensor-type blk.0.attn_q.weight"}}
}

func extra(name, role string, n int) Variant {
	return Variant{Name: name, Edit: bias(role, n), Want: []string{"tensor-unknown blk.*." + role}}
}

// Variants are models with unknown parts, with parts that change the result, and with parts that
// change nothing.
func Variants() []Variant {
	return slices.Concat(ofTensors(), ofKeys(), ofFamilies(), ofEncoders(), ofTokenizer(), ofTemplate(), ofFormat())
}

func ofTensors() []Variant {
	all := func(typ gguf.Type) func(*Model) {
		return func(m *Model) {
			for i := range Layers {
				m.Retype(fmt.Sprintf("blk.%d.attn_q.weight", i), typ)
			}
		}
	}
	value := func(name string, bits uint32) func(*Model) {
		return func(m *Model) { binary.LittleEndian.PutUint32(m.Tensor(name).Data[8:], bits) }
	}
	scale := func(name string, typ gguf.Type, at int) func(*Model) {
		return func(m *Model) {
			m.Retype(name, typ)
			bits := uint16(0x7c00)
			if typ == gguf.MXFP4 {
				bits = 0xff // an exponent alone, and the first two weights
			}
			binary.LittleEndian.PutUint16(m.Tensor(name).Data[at:], bits)
		}
	}
	return []Variant{
		{Name: "a whole model, embedding tied to the output"},
		{Name: "a separate `output.weight`", Edit: func(m *Model) { m.Matrix("output.weight", len(m.Value("tokenizer.ggml.tokens").([]string)), Width) }},
		{Name: "`rope_freqs.weight`, as in Llama 3.1 and later", Edit: func(m *Model) { m.Values("rope_freqs.weight", 1, 1, 1, 1, 2, 4, 8, 8) }},
		{Name: "`rope_freqs.weight` of the wrong length", Edit: func(m *Model) { m.Values("rope_freqs.weight", 1, 1, 8) }, Want: []string{"tensor-shape rope_freqs.weight"}},
		{Name: "`rope_freqs.weight` with a value of 0", Edit: func(m *Model) { m.Values("rope_freqs.weight", 1, 1, 1, 1, 1, 1, 1, 0) }, Want: []string{"tensor-value rope_freqs.weight"}},
		{Name: "attention biases", Edit: func(m *Model) {
			bias("attn_q.bias", Width)(m)
			bias("attn_k.bias", KVHeads*HeadSize)(m)
			bias("attn_v.bias", KVHeads*HeadSize)(m)
			bias("attn_output.bias", Width)(m)
		}},
		{Name: "feed-forward biases", Edit: func(m *Model) {
			bias("ffn_gate.bias", FeedForward)(m)
			bias("ffn_up.bias", FeedForward)(m)
			bias("ffn_down.bias", Width)(m)
		}},
		{Name: "an attention bias of the wrong length", Edit: bias("attn_k.bias", Width), Want: []string{"tensor-shape blk.*.attn_k.bias"}},
		extra("query norms (Qwen3, OLMo 2)", "attn_q_norm.weight", HeadSize),
		extra("norms after attention (Gemma 2 and 3)", "post_attention_norm.weight", Width),
		extra("norm biases", "attn_norm.bias", Width),
		extra("a second norm of the same name in capitals", "ATTN_NORM.weight", Width),
		extra("matrix scales (BitNet, NVFP4)", "attn_q.scale", 1),
		extra("an expert router", "ffn_gate_inp.weight", Width),
		{Name: "`output_norm.bias`", Edit: func(m *Model) { m.Vector("output_norm.bias", Width, 0) }, Want: []string{"tensor-unknown output_norm.bias"}},
		{Name: "`output.bias`", Edit: func(m *Model) { m.Vector("output.bias", 261, 0) }, Want: []string{"tensor-unknown output.bias"}},
		{Name: "`position_embd.weight`", Edit: func(m *Model) { m.Matrix("position_embd.weight", Context, Width) }, Want: []string{"tensor-unknown position_embd.weight"}},
		{Name: "a LoRA tensor", Edit: func(m *Model) { m.Matrix("blk.0.attn_q.weight.lora_a", 32, Width) }, Want: []string{"tensor-unknown blk.0.attn_q.weight.lora_a"}},
		{Name: "one block more than the header says", Edit: set("llama.block_count", uint32(1)), Want: []string{
			"tensor-unknown blk.1.attn_k.weight", "tensor-unknown blk.1.attn_norm.weight", "tensor-unknown blk.1.attn_output.weight", "tensor-unknown blk.1.attn_q.weight",
			"tensor-unknown blk.1.attn_v.weight", "tensor-unknown blk.1.ffn_down.weight", "tensor-unknown blk.1.ffn_gate.weight", "tensor-unknown blk.1.ffn_norm.weight", "tensor-unknown blk.1.ffn_up.weight"}},
		{Name: "a block number with a leading zero", Edit: func(m *Model) { m.Tensor("blk.1.ffn_up.weight").Name = "blk.01.ffn_up.weight" },
			Want: []string{"tensor-missing blk.1.ffn_up.weight", "tensor-unknown blk.01.ffn_up.weight"}},
		{Name: "a tensor is missing", Edit: func(m *Model) { m.Unset("blk.1.ffn_down.weight") }, Want: []string{"tensor-missing blk.1.ffn_down.weight"}},
		{Name: "`output.weight` as a vector", Edit: func(m *Model) { m.Vector("output.weight", Width, 0) }, Want: []string{"tensor-shape output.weight"}},
		{Name: "`output.weight` with fewer rows than tokens", Edit: func(m *Model) { m.Matrix("output.weight", 256, Width) }, Want: []string{"tensor-shape output.weight"}},
		{Name: "an embedding with more rows than tokens", Edit: func(m *Model) { m.Matrix("token_embd.weight", 272, Width) }, Want: []string{"tensor-shape token_embd.weight"}},
		{Name: "a matrix with rows and columns exchanged", Edit: func(m *Model) { m.Matrix("blk.0.ffn_up.weight", Width, FeedForward) }, Want: []string{"tensor-shape blk.0.ffn_up.weight"}},
		{Name: "a norm stored as a matrix of one row", Edit: func(m *Model) { m.Matrix("blk.0.attn_norm.weight", 1, Width) }, Want: []string{"tensor-shape blk.0.attn_norm.weight"}},
		{Name: "a matrix of three dimensions", Edit: func(m *Model) { t := m.Tensor("blk.0.attn_q.weight"); t.Dims = append(t.Dims, 1) }, Want: []string{"tensor-shape blk.0.attn_q.weight"}},
		{Name: "matrices in F16, Q4_0, Q4_1 and Q8_0", Edit: func(m *Model) {
			for name, typ := range map[string]gguf.Type{"attn_q": gguf.F16, "attn_k": gguf.Q4_0, "attn_v": gguf.Q4_1, "attn_output": gguf.Q8_0} {
				m.Retype("blk.0."+name+".weight", typ)
			}
		}},
		{Name: "matrices in BF16, Q5_0, Q5_1, IQ4_NL and MXFP4", Edit: func(m *Model) {
			for name, typ := range map[string]gguf.Type{"attn_q": gguf.BF16, "attn_k": gguf.Q5_0, "attn_v": gguf.Q5_1, "attn_output": gguf.IQ4_NL, "ffn_up": gguf.MXFP4} {
				m.Retype("blk.0."+name+".weight", typ)
			}
		}},
		{Name: "matrices in Q2_K, Q3_K, Q4_K, Q5_K, Q6_K and IQ4_XS", Edit: func(m *Model) {
			m.Wide()
			for name, typ := range map[string]gguf.Type{"attn_q": gguf.Q2_K, "attn_k": gguf.Q3_K, "attn_v": gguf.Q4_K, "attn_output": gguf.Q5_K, "ffn_up": gguf.Q6_K, "ffn_down": gguf.IQ4_XS} {
				m.Retype("blk.0."+name+".weight", typ)
			}
		}},
		{Name: "experts' matrices", Edit: func(m *Model) {
			for i := range Layers {
				m.Matrix(fmt.Sprintf("blk.%d.ffn_up_exps.weight", i), 4*FeedForward, Width)
			}
		}, Want: []string{"tensor-unknown blk.*.ffn_up_exps.weight"}},
		{Name: "matrices in NVFP4", Edit: all(40), Want: []string{"tensor-type blk.*.attn_q.weight"}},
		rare("Q1_0", 41), rare("TQ2_0", 35), rare("IQ3_S", 21), rare("IQ2_XXS", 16),
		{Name: "a norm in F16", Edit: func(m *Model) { m.Retype("blk.0.attn_norm.weight", gguf.F16) }, Want: []string{"tensor-type blk.0.attn_norm.weight"}},
		{Name: "a bias in F16", Edit: func(m *Model) { bias("attn_q.bias", Width)(m); m.Retype("blk.0.attn_q.bias", gguf.F16) }, Want: []string{"tensor-type blk.0.attn_q.bias"}},
		{Name: "a weight that is not a number", Edit: value("blk.1.ffn_up.weight", math.Float32bits(float32(math.NaN()))), Want: []string{"tensor-value blk.1.ffn_up.weight"}},
		{Name: "an infinite norm", Edit: value("output_norm.weight", math.Float32bits(float32(math.Inf(-1)))), Want: []string{"tensor-value output_norm.weight"}},
		{Name: "an infinite scale of Q8_0", Edit: scale("blk.0.ffn_gate.weight", gguf.Q8_0, 34), Want: []string{"tensor-value blk.0.ffn_gate.weight"}},
		{Name: "an infinite scale of Q6_K", Edit: func(m *Model) { m.Wide(); scale("blk.0.ffn_gate.weight", gguf.Q6_K, 208)(m) }, Want: []string{"tensor-value blk.0.ffn_gate.weight"}},
		{Name: "an infinite minimum of Q4_K", Edit: func(m *Model) { m.Wide(); scale("blk.0.ffn_gate.weight", gguf.Q4_K, 146)(m) }, Want: []string{"tensor-value blk.0.ffn_gate.weight"}},
		{Name: "a scale of MXFP4 that is not a number", Edit: scale("blk.0.ffn_gate.weight", gguf.MXFP4, 17), Want: []string{"tensor-value blk.0.ffn_gate.weight"}},
		{Name: "an infinite weight of BF16", Edit: func(m *Model) {
			m.Retype("blk.0.ffn_gate.weight", gguf.BF16)
			binary.LittleEndian.PutUint16(m.Tensor("blk.0.ffn_gate.weight").Data[6:], 0xff80)
		}, Want: []string{"tensor-value blk.0.ffn_gate.weight"}},
		{Name: "an infinite minimum of Q4_1", Edit: scale("blk.0.ffn_gate.weight", gguf.Q4_1, 22), Want: []string{"tensor-value blk.0.ffn_gate.weight"}},
	}
}

func ofKeys() []Variant {
	variants := []Variant{
		{Name: "architecture gemma2", Edit: set("general.architecture", "gemma2"), Want: []string{"architecture-unsupported general.architecture"}},
		{Name: "architecture mamba", Edit: set("general.architecture", "mamba"), Want: []string{"architecture-unsupported general.architecture"}},
		{Name: "an architecture with experts (Qwen3 MoE)", Edit: set("general.architecture", "qwen3moe"), Want: []string{"architecture-unsupported general.architecture"}},
		{Name: "an architecture that nobody knows", Edit: set("general.architecture", "my-own"), Want: []string{"architecture-unsupported general.architecture"}},
		{Name: "no architecture", Edit: func(m *Model) { m.Unset("general.architecture") }, Want: []string{"key-missing general.architecture"}},
		changed("an adapter", "general.type", "adapter"),
		changed("blocks in an older layout", "general.quantization_version", uint32(1)),
		unknown("options for single tensors", "general.tensor_extra.prec_a4", []bool{true}),
		harmless("suggestions for sampling", "general.sampling.top_k", int32(20)),
		harmless("a named base model", "general.base_model.0.name", "Base"),
		harmless("a remark by another tool", "mradermacher.quantized_by", "somebody"),
		harmless("how it was quantized", "quantize.imatrix.chunks_count", int32(100)),
		unknown("a key without a namespace", "sliding_window", uint32(64)),
		unknown("a window under another architecture's name", "mistral3.attention.sliding_window", uint32(64)),
		unknown("adapter keys", "adapter.lora.alpha", float32(16)),
		unknown("a future key of the model", "llama.attention.sink_count", uint32(4)),
		unknown("a window pattern", "llama.attention.sliding_window_pattern", uint32(6)),
		changed("a sliding window", "llama.attention.sliding_window", uint32(64)),
		harmless("a window as long as the context", "llama.attention.sliding_window", uint32(Context)),
		harmless("linear position scaling", "llama.rope.scaling.factor", float32(4)),
		harmless("yarn position scaling", "llama.rope.scaling.type", "yarn"),
		harmless("longrope position scaling", "llama.rope.scaling.type", "longrope"),
		changed("positions closer together", "llama.rope.scaling.factor", float32(0.5)),
		harmless("no position scaling", "llama.rope.scaling.type", "none"),
		harmless("linear position scaling by a factor of 1", "llama.rope.scaling.factor", float32(1)),
		harmless("scaled attention of yarn", "llama.rope.scaling.attn_factor", float32(1.2)),
		changed("another boundary of yarn", "llama.rope.scaling.yarn_beta_fast", float32(16)),
		changed("another share of yarn", "llama.rope.scaling.yarn_ext_factor", float32(0.5)),
		unknown("position sections", "llama.rope.dimension_sections", []int32{4, 4, 0, 0}),
		changed("a different attention scale", "llama.attention.scale", float32(0.0884)),
		harmless("the default attention scale, written out", "llama.attention.scale", float32(0.25)),
		changed("bidirectional attention", "llama.attention.causal", false),
		changed("values of a different size from keys", "llama.attention.value_length", uint32(32)),
		changed("clamped queries", "llama.attention.clamp_kqv", float32(8)),
		changed("ALiBi", "llama.attention.max_alibi_bias", float32(8)),
		changed("attention soft-capping", "llama.attn_logit_softcapping", float32(50)),
		changed("final soft-capping", "llama.final_logit_softcapping", float32(30)),
		changed("scaled logits (Cohere, Granite)", "llama.logit_scale", float32(0.0625)),
		changed("scaled residuals (Granite, MiniCPM)", "llama.residual_scale", float32(0.22)),
		changed("a scaled embedding (Gemma, Granite)", "llama.embedding_scale", float32(12)),
		changed("experts", "llama.expert_count", uint32(8)),
		harmless("no experts", "llama.expert_count", uint32(0)),
		changed("output pooling", "llama.pooling_type", uint32(1)),
		changed("parallel residuals (GPT-NeoX)", "llama.use_parallel_residual", true),
		changed("a different order of rotated pairs", "llama.tensor_data_layout", "reference"),
		changed("prediction of several tokens", "llama.nextn_predict_layers", uint32(1)),
		changed("a different number of tokens", "llama.vocab_size", uint32(300)),
		changed("the first of two files", "split.count", uint16(2)),
	}
	for _, of := range []struct {
		name, key string
		value     any
	}{
		{"head counts that differ by block", "llama.attention.head_count_kv", []uint32{2, 1}},
		{"feed-forward lengths that differ by block", "llama.feed_forward_length", []uint32{FeedForward, 64}},
		{"a rotary base of the wrong type", "llama.rope.freq_base", uint32(500000)},
		{"a rotary base that is not a number", "llama.rope.freq_base", float32(math.NaN())},
		{"an epsilon of 0", "llama.attention.layer_norm_rms_epsilon", float32(0)},
		{"no layers", "llama.block_count", uint32(0)},
		{"heads that do not share keys evenly", "llama.attention.head_count_kv", uint32(3)},
		{"a rotation over more dimensions than a head has", "llama.rope.dimension_count", uint32(32)},
	} {
		variants = append(variants, changed(of.name, of.key, of.value))
	}
	return append(variants, Variant{Name: "no epsilon", Edit: func(m *Model) { m.Unset("llama.attention.layer_norm_rms_epsilon") },
		Want: []string{"key-missing llama.attention.layer_norm_rms_epsilon"}})
}

func ofTokenizer() []Variant {
	broken := func(name, key string, value any) Variant {
		return Variant{Name: name, Edit: set(key, value), Want: []string{"tokenizer-unsupported tokenizer.ggml"}}
	}
	edit := func(name string, change func(tokens []string, kinds []int32)) Variant {
		return Variant{Name: name, Edit: func(m *Model) {
			change(m.Value("tokenizer.ggml.tokens").([]string), m.Value("tokenizer.ggml.token_type").([]int32))
		}, Want: []string{"tokenizer-unsupported tokenizer.ggml"}}
	}
	return []Variant{
		{Name: "a SentencePiece tokenizer", Edit: (*Model).SentencePiece},
		{Name: "a SentencePiece tokenizer that puts a space before texts", Edit: func(m *Model) { m.SentencePiece(); m.Set("tokenizer.ggml.add_space_prefix", true) }},
		{Name: "a SentencePiece tokenizer without scores", Edit: func(m *Model) { m.SentencePiece(); m.Unset("tokenizer.ggml.scores") },
			Want: []string{"tokenizer-unsupported tokenizer.ggml"}},
		{Name: "a SentencePiece tokenizer without the byte 0x41", Edit: func(m *Model) { m.SentencePiece(); m.Value("tokenizer.ggml.tokens").([]string)[0x41] = "<0x42>" },
			Want: []string{"tokenizer-unsupported tokenizer.ggml"}},
		{Name: "a WordPiece tokenizer", Edit: set("tokenizer.ggml.model", "bert"), Want: []string{"tokenizer-unsupported tokenizer.ggml"}},
		{Name: "a unigram tokenizer without scores", Edit: set("tokenizer.ggml.model", "t5"), Want: []string{"tokenizer-unsupported tokenizer.ggml"}},
		{Name: "a tokenizer of another kind (RWKV)", Edit: set("tokenizer.ggml.model", "rwkv"), Want: []string{"tokenizer-unsupported tokenizer.ggml.model"}},
		broken("a pre-tokenizer of another architecture", "tokenizer.ggml.pre", "kimi-k2"),
		broken("an unknown pre-tokenizer", "tokenizer.ggml.pre", "my-own"),
		{Name: "no pre-tokenizer named", Edit: func(m *Model) { m.Unset("tokenizer.ggml.pre") }, Want: []string{"tokenizer-unsupported tokenizer.ggml"}},
		{Name: "no tokenizer", Edit: func(m *Model) { m.Unset("tokenizer.ggml.model") }, Want: []string{"tokenizer-unsupported tokenizer.ggml.model"}},
		changed("EOS added to prompts", "tokenizer.ggml.add_eos_token", true),
		changed("separators added to prompts", "tokenizer.ggml.add_sep_token", true),
		changed("a space added to prompts", "tokenizer.ggml.add_space_prefix", true),
		changed("white space removed", "tokenizer.ggml.remove_extra_whitespaces", true),
		changed("a normalizer's table", "tokenizer.ggml.precompiled_charsmap", []int32{1, 2, 3}),
		changed("a lower-case normalizer", "tokenizer.ggml.normalizer.lowercase", true),
		changed("token types (BERT)", "tokenizer.ggml.token_type_count", uint32(2)),
		unknown("a second tokenizer", "tokenizer.huggingface.json", "{}"),
		changed("a padding token beyond the vocabulary", "tokenizer.ggml.padding_token_id", uint32(9999)),
		changed("added tokens that are not in the vocabulary", "tokenizer.ggml.added_tokens", []string{"<tool>"}),
		harmless("added tokens that are in the vocabulary", "tokenizer.ggml.added_tokens", []string{"<|im_end|>"}),
		{Name: "an end token beyond the vocabulary", Edit: set("tokenizer.ggml.eos_token_id", uint32(9999)),
			Want: []string{"key-value tokenizer.ggml.eos_token_id", "tokenizer-unsupported tokenizer.ggml"}},
		broken("the BOS switch as a number", "tokenizer.ggml.add_bos_token", uint32(1)),
		{Name: "BOS added to prompts, but not named", Edit: func(m *Model) {
			m.Set("tokenizer.ggml.add_bos_token", true)
			m.Unset("tokenizer.ggml.bos_token_id")
		}, Want: []string{"tokenizer-unsupported tokenizer.ggml"}},
		{Name: "BOS added to prompts", Edit: set("tokenizer.ggml.add_bos_token", true)},
		{Name: "merges in a different order", Edit: set("tokenizer.ggml.merges", []string{"Ġ t", "t h", "th e"})},
		broken("a merge into a missing token", "tokenizer.ggml.merges", []string{"t h", "q u"}),
		edit("a token of more bytes than there may be", func(tokens []string, _ []int32) { tokens[258] = strings.Repeat("x", 5000) }),
		edit("two tokens with the same text", func(tokens []string, _ []int32) { tokens[257] = "th" }),
		edit("two control tokens with the same text", func(tokens []string, _ []int32) { tokens[259] = "<|im_end|>" }),
		edit("a byte token in byte-level BPE", func(tokens []string, kinds []int32) { tokens[258], kinds[258] = "<0x0A>", 6 }),
		edit("a token of an unknown type", func(_ []string, kinds []int32) { kinds[258] = 7 }),
		broken("token types as floating-point numbers", "tokenizer.ggml.token_type", make([]float32, 261)),
		{Name: "an end token as a floating-point number", Edit: set("tokenizer.ggml.eot_token_id", float32(3)),
			Want: []string{"key-value tokenizer.ggml.eot_token_id", "tokenizer-unsupported tokenizer.ggml"}},
		{Name: "types for some tokens only", Edit: set("tokenizer.ggml.token_type", []int32{1, 1, 3}), Want: []string{"tokenizer-unsupported tokenizer.ggml"}},
	}
}

func ofTemplate() []Variant {
	template := func(name, source string, want ...string) Variant {
		return Variant{Name: name, Edit: set("tokenizer.chat_template", source), Want: want}
	}
	const refused = "template-unsupported tokenizer.chat_template"
	return []Variant{
		{Name: "no chat template", Edit: func(m *Model) { m.Unset("tokenizer.chat_template") }},
		template("a template with a macro", "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(1) }}"),
		template("a template with a macro in a block", "{% if true %}{% macro f(x) %}{{ x }}{% endmacro %}{% endif %}", refused),
		template("a template with today's date", "{{ strftime_now('%d %b %Y') }}"),
		template("a template with a date in a format that is not supported", "{% if tools %}{{ strftime_now('%e') }}{% endif %}", refused),
		template("a template that takes every second character of a text", "{% if tools %}{{ 'abc'[::2] }}{% endif %}", refused),
		template("a template that prints JSON for every message", "{% for m in messages %}{{ m | tojson }}{% endfor %}"),
		template("a template that replaces parts of texts", "{% for m in messages %}{{ m.content | replace('a', '') }}{% endfor %}"),
		template("a template that replaces parts of its own control tokens", "{{ ('<|im_start|>' + messages[0].content) | replace('t', '') }}", refused),
		template("a template with an unknown filter", "{{ messages[0] | dictsort }}", refused),
		template("a template that ends its loops early", "{% for m in messages %}{% break %}{% endfor %}", refused),
		template("a template with generation marks", "{% generation %}x{% endgeneration %}"),
		template("a template that refuses every user", "{{ raise_exception('no') }}", refused),
		template("a template that refuses system turns", "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}{{ messages[0].content }}"),
		harmless("a second template, for tools", "tokenizer.chat_template.tool_use", "{{ tools }}"),
	}
}

// begins puts bytes in the place of a file's first.
func begins(with string) func([]byte) []byte {
	return func(b []byte) []byte { return append([]byte(with), b[len(with):]...) }
}

func ofFormat() []Variant {
	format := []string{"file-format file"}
	replace := func(old, with string) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(with), 1) }
	}
	return []Variant{
		{Name: "GGUF version 1", Raw: func(b []byte) []byte { b[4] = 1; return b }, Want: format},
		{Name: "GGUF version 4", Raw: func(b []byte) []byte { b[4] = 4; return b }, Want: format},
		{Name: "a big-endian file", Raw: func(b []byte) []byte { b[4], b[7] = 0, 3; return b }, Want: format},
		{Name: "a truncated file", Raw: func(b []byte) []byte { return b[:len(b)-100] }, Want: format},
		{Name: "not a GGUF file", Raw: begins("MZ\x90\x00"), Want: format},
		{Name: "an empty file", Raw: func([]byte) []byte { return nil }, Want: format},
		{Name: "a Git LFS pointer", Raw: begins("version https://git-lfs.github.com/spec/v1\n"), Want: format},
		{Name: "a web page", Raw: begins("<!DOCTYPE html>"), Want: format},
		{Name: "a file of safetensors", Raw: begins("\x10\x00\x00\x00\x00\x00\x00\x00{\"__metadata__\":{}"), Want: format},
		{Name: "a file of PyTorch", Raw: begins("PK\x03\x04"), Want: format},
		{Name: "an older file of PyTorch", Raw: begins("\x80\x02"), Want: format},
		{Name: "a file of Keras", Raw: begins("\x89HDF\r\n\x1a\n"), Want: format},
		{Name: "a file of GGML", Raw: begins("tjgg"), Want: format},
		{Name: "a compressed file", Raw: begins("\x1f\x8b\x08"), Want: format},
		{Name: "a key twice", Raw: replace("general.type", "general.name"), Want: format},
		{Name: "a tensor twice", Raw: replace("blk.1.ffn_up.weight", "blk.0.ffn_up.weight"), Want: format},
		{Name: "an unknown type of tensor", Raw: func(b []byte) []byte {
			name := []byte("blk.1.ffn_up.weight")
			at := bytes.Index(b, name) + len(name) + 4 + 2*8 // past the number of dimensions and two of them
			binary.LittleEndian.PutUint32(b[at:], 99)
			return b
		}, Want: format},
		{Name: "two tensors over the same bytes", Raw: func(b []byte) []byte {
			name := []byte("blk.1.ffn_up.weight")
			at := bytes.Index(b, name) + len(name) + 4 + 2*8 + 4
			binary.LittleEndian.PutUint64(b[at:], 0)
			return b
		}, Want: format},
		{Name: "more tensors than a file may have", Raw: func(b []byte) []byte { binary.LittleEndian.PutUint64(b[8:], gguf.MaxTensors+1); return b }, Want: format},
		{Name: "more keys than a file may have", Raw: func(b []byte) []byte { binary.LittleEndian.PutUint64(b[16:], gguf.MaxKeys+1); return b }, Want: format},
		{Name: "a list of more items than there may be", Raw: func(b []byte) []byte {
			at := bytes.Index(b, []byte("tokenizer.ggml.merges")) + len("tokenizer.ggml.merges") + 4 + 4
			binary.LittleEndian.PutUint64(b[at:], gguf.MaxArrayItems+1)
			return b
		}, Want: format},
		{Name: "a tensor of seven dimensions", Raw: func(b []byte) []byte {
			name := []byte("blk.1.ffn_up.weight")
			binary.LittleEndian.PutUint32(b[bytes.Index(b, name)+len(name):], 7)
			return b
		}, Want: format},
		{Name: "a key with a character that is not printable", Raw: replace("general.name", "general.na\x07e"), Want: format},
		{Name: "a tensor that begins within an alignment", Raw: func(b []byte) []byte {
			name := []byte("blk.1.ffn_up.weight")
			b[bytes.Index(b, name)+len(name)+4+2*8+4]++
			return b
		}, Want: format},
		{Name: "data aligned to 64 bytes, as the file says", Edit: set("general.alignment", uint32(64))},
		{Name: "bytes after the last tensor", Raw: func(b []byte) []byte { return append(b, make([]byte, 4096)...) }},
		{Name: "an alignment of 48 bytes", Raw: func(b []byte) []byte { return b }, Edit: func(m *Model) { m.Set("general.alignment", uint64(48)) }, Want: format},
		{Name: "a value of the wrong type in place of a number", Edit: set("llama.context_length", "256"), Want: []string{"key-value llama.context_length"}},
	}
}
