package gguftest

import "fmt"

// Encoders are the architectures of embedding models that Of makes models of.
var Encoders = []string{"bert", "nomic-bert"}

// EncoderContext is the longest text of an embedding model, in tokens.
const EncoderContext = 64

// Encoder makes an embedding model of this number of blocks. The weights follow from the seed.
func Encoder(architecture string, blocks int, seed uint64) *Model {
	m := Of(architecture, seed)
	m.Set(architecture+".block_count", uint32(blocks))
	for i := range blocks {
		m.encoderBlock(architecture, fmt.Sprintf("blk.%d.", i))
	}
	return m
}

// wordPieces are the tokens of an embedding model: five control tokens, two that begin a word, and
// all small letters, which begin a word or continue it.
func wordPieces() (tokens []string, kinds []int32) {
	tokens = []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "▁the", "▁!"}
	kinds = []int32{3, 3, 3, 3, 3, 1, 1}
	for _, before := range []string{"▁", ""} {
		for r := 'a'; r <= 'z'; r++ {
			tokens, kinds = append(tokens, before+string(r)), append(kinds, 1)
		}
	}
	return tokens, kinds
}

// encoder makes a model an embedding model: what is read goes both ways, and the mean is taken.
func (m *Model) encoder(architecture string) {
	tokens, kinds := wordPieces()
	m.Tensors = nil
	m.Unset("llama.rope.dimension_count", "llama.vocab_size", "llama.attention.head_count_kv", "llama.attention.layer_norm_rms_epsilon", "tokenizer.ggml.pre",
		"tokenizer.ggml.merges", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.add_bos_token", "tokenizer.chat_template")
	if architecture == "bert" {
		m.Unset("llama.rope.freq_base")
	}
	m.Rename(architecture)
	m.Set(architecture+".context_length", uint32(EncoderContext))
	m.Set(architecture+".attention.layer_norm_epsilon", float32(1e-5))
	m.Set(architecture+".attention.causal", false)
	m.Set(architecture+".pooling_type", uint32(1))
	m.Set("tokenizer.ggml.model", "bert")
	m.Set("tokenizer.ggml.tokens", tokens)
	m.Set("tokenizer.ggml.token_type", kinds)
	m.Set("tokenizer.ggml.token_type_count", uint32(2))
	m.Set("tokenizer.ggml.bos_token_id", uint32(2))
	m.Set("tokenizer.ggml.unknown_token_id", uint32(1))
	m.Set("tokenizer.ggml.seperator_token_id", uint32(3))
	m.Matrix("token_embd.weight", len(tokens), Width)
	m.Matrix("token_types.weight", 2, Width)
	if architecture == "bert" {
		m.Matrix("position_embd.weight", EncoderContext, Width)
	}
	m.affine("token_embd_norm")
	for i := range Layers {
		m.encoderBlock(architecture, fmt.Sprintf("blk.%d.", i))
	}
}

func (m *Model) affine(name string) {
	m.Vector(name+".weight", Width, 1)
	m.Vector(name+".bias", Width, 0)
}

func (m *Model) encoderBlock(architecture, at string) {
	if architecture == "bert" {
		product := func(name string, rows, cols int) {
			m.Vector(at+name+".bias", rows, 0)
			m.Matrix(at+name+".weight", rows, cols)
		}
		for _, name := range []string{"attn_q", "attn_k", "attn_v", "attn_output"} {
			product(name, Width, Width)
		}
		product("ffn_up", FeedForward, Width)
		product("ffn_down", Width, FeedForward)
	} else {
		m.Matrix(at+"attn_qkv.weight", 3*Width, Width)
		m.Matrix(at+"attn_output.weight", Width, Width)
		m.Matrix(at+"ffn_gate.weight", FeedForward, Width)
		m.Matrix(at+"ffn_up.weight", FeedForward, Width)
		m.Matrix(at+"ffn_down.weight", Width, FeedForward)
	}
	m.affine(at + "attn_output_norm")
	m.affine(at + "layer_output_norm")
}
