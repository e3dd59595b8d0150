package infer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
	"github.com/anchorhold/anchorhold/runtime/kernels"
	"github.com/anchorhold/anchorhold/runtime/model"
)

// smallTokens is a vocabulary of all bytes, two of them merged, and an end token.
func smallTokens() (tokens []string, kinds []int32) {
	tokens, kinds = gguftest.Alphabet()
	return append(tokens, "th", "<|end|>"), append(kinds, 1, 3)
}

// smallFile writes a model of random weights in every quantized type that has no super-blocks.
func smallFile(t testing.TB) string {
	t.Helper()
	const width, inner, narrow, layers = 64, 96, 32, 2
	rng := rand.New(rand.NewPCG(21, 22))
	tokens, kinds := smallTokens()
	var tensors []gguf.TensorData
	matrix := func(name string, typ gguf.Type, rows, cols int) {
		raw := make([]byte, rows*kernels.RowBytes(tileTypes[typ], cols))
		for i := range raw {
			raw[i] = byte(rng.Uint32())
		}
		setScales(raw, typ)
		tensors = append(tensors, gguf.TensorData{Name: name + ".weight", Type: typ, Dims: []uint64{uint64(cols), uint64(rows)}, Data: raw})
	}
	vector := func(name string) {
		raw := make([]byte, 4*width)
		for i := range width {
			binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(1+rng.Float32()/4))
		}
		tensors = append(tensors, gguf.TensorData{Name: name + ".weight", Type: 0, Dims: []uint64{width}, Data: raw})
	}
	matrix("token_embd", gguf.Q8_0, len(tokens), width)
	for i := range layers {
		block := fmt.Sprintf("blk.%d.", i)
		vector(block + "attn_norm")
		matrix(block+"attn_q", gguf.Q4_1, width, width)
		matrix(block+"attn_k", gguf.Q4_0, narrow, width)
		matrix(block+"attn_v", gguf.Q5_0, narrow, width)
		matrix(block+"attn_output", gguf.Q5_1, width, width)
		vector(block + "ffn_norm")
		matrix(block+"ffn_gate", gguf.IQ4_NL, inner, width)
		matrix(block+"ffn_up", gguf.MXFP4, inner, width)
		matrix(block+"ffn_down", gguf.Q4_1, width, inner)
	}
	vector("output_norm")
	path := filepath.Join(t.TempDir(), "small.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	err = gguf.Write(f, []gguf.KV{
		{Key: "general.architecture", Value: "llama"},
		{Key: "llama.block_count", Value: uint32(layers)},
		{Key: "llama.embedding_length", Value: uint32(width)},
		{Key: "llama.feed_forward_length", Value: uint32(inner)},
		{Key: "llama.attention.head_count", Value: uint32(4)},
		{Key: "llama.attention.head_count_kv", Value: uint32(2)},
		{Key: "llama.context_length", Value: uint32(256)},
		{Key: "llama.attention.layer_norm_rms_epsilon", Value: float32(1e-5)},
		{Key: "tokenizer.ggml.model", Value: "gpt2"},
		{Key: "tokenizer.ggml.pre", Value: "gpt-2"},
		{Key: "tokenizer.ggml.tokens", Value: tokens},
		{Key: "tokenizer.ggml.token_type", Value: kinds},
		{Key: "tokenizer.ggml.merges", Value: []string{"t h"}},
		{Key: "tokenizer.ggml.eos_token_id", Value: uint32(len(tokens) - 1)},
	}, tensors)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// setScales makes the weights of random rows small and about zero in the mean.
func setScales(raw []byte, typ gguf.Type) {
	scale, least := 0.02, 0.0
	switch typ {
	case gguf.Q8_0, gguf.IQ4_NL:
		scale /= 16
	case gguf.Q5_0:
		scale /= 2
	case gguf.Q4_1:
		least = -8 * scale
	case gguf.Q5_1:
		scale /= 2
		least = -16 * scale
	}
	block, offsets, width := tileTypes[typ].Floats()
	for i := 0; i < len(raw); i += block {
		for j, at := range offsets {
			switch {
			case width == 1:
				raw[i+at] = 121 // 2^-7
			case j == 0:
				binary.LittleEndian.PutUint16(raw[i+at:], kernels.Float32to16(float32(scale)))
			default:
				binary.LittleEndian.PutUint16(raw[i+at:], kernels.Float32to16(float32(least)))
			}
		}
	}
}

func smallEngine(t testing.TB, src model.Source, f *gguf.File, threads, sequences int) *Engine {
	t.Helper()
	e, err := New(Config{Source: src, File: f, Budget: arena.NewBudget(64 << 20), Threads: threads, Context: 128, MaxSequences: sequences})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// smallRequests are requests of every kind, seeds included.
func smallRequests(e *Engine) []Request {
	one, two := uint64(1), uint64(2)
	prompt := e.Tokenizer().Encode("the cat", false)
	return []Request{
		{Prompt: prompt, MaxTokens: 20},
		{Prompt: prompt, MaxTokens: 20, Temperature: 1, Seed: &one},
		{Prompt: prompt, MaxTokens: 20, Temperature: 1, Seed: &two},
		{Prompt: e.Tokenizer().Encode(strings.Repeat("on the mat ", 9), false), MaxTokens: 12, Temperature: 0.8, TopP: 0.9, TopK: 40, Seed: &one},
	}
}

func answers(t testing.TB, e *Engine) []string {
	t.Helper()
	var texts []string
	for _, r := range smallRequests(e) {
		text, result := answer(t, e, r)
		texts = append(texts, fmt.Sprintf("%q %s", text, result.FinishReason))
	}
	return texts
}

func TestSeedsAndThreadsAndNeighbours(t *testing.T) {
	src, f := load(t, smallFile(t))
	e := smallEngine(t, src, f, 1, 1)
	want := answers(t, e)
	if again := answers(t, e); !slices.Equal(want, again) {
		t.Errorf("the same seeds gave\n%q\nthen\n%q", want, again)
	}
	if want[1] == want[2] || want[0] == want[1] {
		t.Errorf("different seeds gave the same: %q", want)
	}
	many := smallEngine(t, src, f, 3, 3)
	got := make([]string, len(want))
	var wg sync.WaitGroup
	for round := range 3 {
		for i, r := range smallRequests(many) {
			wg.Go(func() {
				var text strings.Builder
				result, err := many.Generate(context.Background(), r, func(s string) error { text.WriteString(s); return nil })
				if err != nil {
					t.Error(err)
				}
				got[i] = fmt.Sprintf("%q %s", text.String(), result.FinishReason)
			})
		}
		wg.Wait()
		if !slices.Equal(got, want) {
			t.Errorf("round %d, beside each other on 3 threads:\n%q\nalone:\n%q", round, got, want)
		}
	}
}

// TestBrokenOutputsEndOneAnswer: outputs that are no numbers end that answer
// with an error, and the engine goes on.
func TestBrokenOutputsEndOneAnswer(t *testing.T) {
	src, f := load(t, smallFile(t))
	e := smallEngine(t, src, f, 2, 2)
	request := smallRequests(e)[0]
	norm := src.vectors["output_norm.weight"]
	good := norm[5]
	norm[5] = float32(math.NaN())
	if _, err := e.Generate(context.Background(), request, func(string) error { return nil }); !errors.Is(err, ErrLogits) {
		t.Errorf("a weight that is not a number: %v", err)
	}
	given := Request{Prompt: request.Prompt, Given: []int32{1, 2}, Observe: func([]Scored) error { return nil }}
	if _, err := e.Generate(context.Background(), given, func(string) error { return nil }); !errors.Is(err, ErrLogits) {
		t.Errorf("a given answer: %v", err)
	}
	norm[5] = good
	if _, r := answer(t, e, request); r.CompletionTokens == 0 {
		t.Errorf("after it: %+v", r)
	}
}
