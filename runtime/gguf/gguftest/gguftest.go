// Package gguftest makes small models in GGUF, complete ones and variants with one part changed,
// for tests of the packages that read them.
package gguftest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/runtime/gguf"
)

// The shape of a model that New makes.
const (
	Width       = 64
	FeedForward = 96
	Heads       = 4
	KVHeads     = 2
	HeadSize    = Width / Heads
	Layers      = 2
	Context     = 256
)

// Model is a GGUF file under construction.
type Model struct {
	KVs     []gguf.KV
	Tensors []gguf.TensorData
	rng     *rand.Rand
}

// New makes a whole model of the architecture llama: two blocks of float32, a vocabulary of
// all bytes and a few words, control tokens for turns, and a chat template. The weights
// follow from the seed.
func New(seed uint64) *Model {
	m := &Model{rng: rand.New(rand.NewPCG(seed, 0x67677566))}
	tokens, kinds := vocabulary()
	m.KVs = []gguf.KV{
		{Key: "general.architecture", Value: "llama"}, {Key: "general.type", Value: "model"}, {Key: "general.name", Value: "tiny"},
		{Key: "general.file_type", Value: uint32(0)}, {Key: "general.quantization_version", Value: uint32(2)},
		{Key: "llama.block_count", Value: uint32(Layers)}, {Key: "llama.context_length", Value: uint32(Context)},
		{Key: "llama.embedding_length", Value: uint32(Width)}, {Key: "llama.feed_forward_length", Value: uint32(FeedForward)},
		{Key: "llama.attention.head_count", Value: uint32(Heads)}, {Key: "llama.attention.head_count_kv", Value: uint32(KVHeads)},
		{Key: "llama.attention.layer_norm_rms_epsilon", Value: float32(1e-5)}, {Key: "llama.rope.freq_base", Value: float32(10000)},
		{Key: "llama.rope.dimension_count", Value: uint32(HeadSize)}, {Key: "llama.vocab_size", Value: uint32(len(tokens))},
		{Key: "tokenizer.ggml.model", Value: "gpt2"}, {Key: "tokenizer.ggml.pre", Value: "gpt-2"},
		{Key: "tokenizer.ggml.tokens", Value: tokens}, {Key: "tokenizer.ggml.token_type", Value: kinds},
		{Key: "tokenizer.ggml.merges", Value: []string{"t h", "th e", "Ġ t"}},
		{Key: "tokenizer.ggml.bos_token_id", Value: uint32(len(tokens) - 2)}, {Key: "tokenizer.ggml.eos_token_id", Value: uint32(len(tokens) - 1)},
		{Key: "tokenizer.ggml.add_bos_token", Value: false},
		{Key: "tokenizer.chat_template", Value: "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"},
	}
	m.Matrix("token_embd.weight", len(tokens), Width)
	for i := range Layers {
		at := fmt.Sprintf("blk.%d.", i)
		m.Vector(at+"attn_norm.weight", Width, 1)
		m.Matrix(at+"attn_q.weight", Width, Width)
		m.Matrix(at+"attn_k.weight", KVHeads*HeadSize, Width)
		m.Matrix(at+"attn_v.weight", KVHeads*HeadSize, Width)
		m.Matrix(at+"attn_output.weight", Width, Width)
		m.Vector(at+"ffn_norm.weight", Width, 1)
		m.Matrix(at+"ffn_gate.weight", FeedForward, Width)
		m.Matrix(at+"ffn_up.weight", FeedForward, Width)
		m.Matrix(at+"ffn_down.weight", Width, FeedForward)
	}
	m.Vector("output_norm.weight", Width, 1)
	return m
}

// Wide makes the model's rows 256 columns long, for types of super-blocks.
func (m *Model) Wide() {
	const width, heads = 256, 4
	m.Set("llama.embedding_length", uint32(width))
	m.Set("llama.feed_forward_length", uint32(width))
	m.Set("llama.rope.dimension_count", uint32(width/heads))
	for i := range m.Tensors {
		t := &m.Tensors[i]
		t.Dims[0] = width
		if role := t.Name[strings.LastIndexByte(strings.TrimSuffix(t.Name, ".weight"), '.')+1:]; len(t.Dims) == 1 {
			m.Vector(t.Name, width, 1)
		} else if rows := int(t.Dims[1]); role == "attn_k.weight" || role == "attn_v.weight" {
			m.Matrix(t.Name, KVHeads*width/heads, width)
		} else if strings.HasPrefix(t.Name, "blk.") {
			m.Matrix(t.Name, width, width)
		} else {
			m.Matrix(t.Name, rows, width)
		}
	}
}

// vocabulary is all bytes, three words, and two control tokens.
func vocabulary() (tokens []string, kinds []int32) {
	tokens, kinds = Alphabet()
	tokens = append(tokens, "th", "the", "Ġt", "<|im_start|>", "<|im_end|>")
	return tokens, append(kinds, 1, 1, 1, 3, 3)
}

// Alphabet returns the 256 tokens of a single byte, in the alphabet of byte-level BPE, and
// their types.
func Alphabet() (tokens []string, kinds []int32) {
	next := rune(256)
	for b := range rune(256) {
		r := b
		if b <= ' ' || b >= 127 && b <= 160 || b == 173 { // bytes without a printable character
			r = next
			next++
		}
		tokens, kinds = append(tokens, string(r)), append(kinds, 1)
	}
	return tokens, kinds
}

// Set gives a key a value, in its place or at the end.
func (m *Model) Set(key string, value any) {
	for i := range m.KVs {
		if m.KVs[i].Key == key {
			m.KVs[i].Value = value
			return
		}
	}
	m.KVs = append(m.KVs, gguf.KV{Key: key, Value: value})
}

// Value is the value of a key, or nil.
func (m *Model) Value(key string) any {
	for _, kv := range m.KVs {
		if kv.Key == key {
			return kv.Value
		}
	}
	return nil
}

// Unset removes keys and tensors by name.
func (m *Model) Unset(names ...string) {
	m.KVs = slices.DeleteFunc(m.KVs, func(kv gguf.KV) bool { return slices.Contains(names, kv.Key) })
	m.Tensors = slices.DeleteFunc(m.Tensors, func(t gguf.TensorData) bool { return slices.Contains(names, t.Name) })
}

// Matrix adds a matrix of float32 values around 0, or replaces the one with its name.
func (m *Model) Matrix(name string, rows, cols int) {
	m.add(gguf.TensorData{Name: name, Dims: []uint64{uint64(cols), uint64(rows)}, Data: m.floats(rows*cols, 0, 0.15)})
}

// Vector adds a vector of float32 values around the mean.
func (m *Model) Vector(name string, n int, mean float32) {
	m.add(gguf.TensorData{Name: name, Dims: []uint64{uint64(n)}, Data: m.floats(n, mean, 0.25)})
}

// Values adds a vector of these values.
func (m *Model) Values(name string, values ...float32) {
	data := make([]byte, 0, 4*len(values))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	m.add(gguf.TensorData{Name: name, Dims: []uint64{uint64(len(values))}, Data: data})
}

// Retype gives a tensor another type, with zero bytes as its data.
func (m *Model) Retype(name string, typ gguf.Type) {
	t := m.Tensor(name)
	size, err := typ.RowBytes(t.Dims[0])
	if err != nil {
		panic(err) // a mistake of the test
	}
	for _, d := range t.Dims[1:] {
		size *= int64(d)
	}
	t.Type, t.Data = typ, make([]byte, size)
}

// Tensor returns the tensor with this name, which must exist.
func (m *Model) Tensor(name string) *gguf.TensorData {
	i := slices.IndexFunc(m.Tensors, func(t gguf.TensorData) bool { return t.Name == name })
	return &m.Tensors[i]
}

func (m *Model) add(t gguf.TensorData) {
	if i := slices.IndexFunc(m.Tensors, func(have gguf.TensorData) bool { return have.Name == t.Name }); i >= 0 {
		m.Tensors[i] = t
		return
	}
	m.Tensors = append(m.Tensors, t)
}

func (m *Model) floats(n int, mean, spread float32) []byte {
	data := make([]byte, 0, 4*n)
	for range n {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(mean+spread*(2*m.rng.Float32()-1)))
	}
	return data
}

// Bytes is the file.
func (m *Model) Bytes() ([]byte, error) {
	var b bytes.Buffer
	err := gguf.Write(&b, m.KVs, m.Tensors)
	return b.Bytes(), err
}
