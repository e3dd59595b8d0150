// Package tenuretest makes guests for tests: a configuration, and a tiny sealed model behind
// it.
//
// Tests of tenures and of whole agents call [New].
package tenuretest

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
	"github.com/anchorhold/anchorhold/runtime/sealer"
)

// ModelKey is the key of a guest's model, NewKey one that it may be sealed under anew.
const (
	ModelKey = "a model key of thirty-two bytes!"
	NewKey   = "another key with thirty-two byte"
)

// GGUF writes a model of one layer whose vocabulary is all bytes.
func GGUF(t *testing.T) string {
	t.Helper()
	const width, inner = 64, 64
	tokens, kinds := gguftest.Alphabet()
	tokens, kinds = append(tokens, "<|end|>"), append(kinds, 3)
	var tensors []gguf.TensorData
	matrix := func(name string, rows, cols int) {
		raw := make([]byte, 4*rows*cols)
		for i := range rows * cols {
			binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(float32(i*7919%211-105)/1000))
		}
		tensors = append(tensors, gguf.TensorData{Name: name + ".weight", Dims: []uint64{uint64(cols), uint64(rows)}, Data: raw})
	}
	vector := func(name string) {
		raw := make([]byte, 4*width)
		for i := range width {
			binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(1))
		}
		tensors = append(tensors, gguf.TensorData{Name: name + ".weight", Dims: []uint64{width}, Data: raw})
	}
	matrix("token_embd", len(tokens), width)
	vector("blk.0.attn_norm")
	for _, name := range []string{"attn_q", "attn_k", "attn_v", "attn_output"} {
		matrix("blk.0."+name, width, width)
	}
	vector("blk.0.ffn_norm")
	matrix("blk.0.ffn_gate", inner, width)
	matrix("blk.0.ffn_up", inner, width)
	matrix("blk.0.ffn_down", width, inner)
	vector("output_norm")
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	err = gguf.Write(f, []gguf.KV{
		{Key: "general.architecture", Value: "llama"}, {Key: "llama.block_count", Value: uint32(1)},
		{Key: "llama.embedding_length", Value: uint32(width)}, {Key: "llama.feed_forward_length", Value: uint32(inner)},
		{Key: "llama.attention.head_count", Value: uint32(4)}, {Key: "llama.context_length", Value: uint32(512)},
		{Key: "llama.attention.layer_norm_rms_epsilon", Value: float32(1e-5)},
		{Key: "tokenizer.ggml.model", Value: "gpt2"}, {Key: "tokenizer.ggml.pre", Value: "gpt-2"},
		{Key: "tokenizer.ggml.tokens", Value: tokens}, {Key: "tokenizer.ggml.token_type", Value: kinds},
		{Key: "tokenizer.ggml.merges", Value: []string{}}, {Key: "tokenizer.ggml.eos_token_id", Value: uint32(len(tokens) - 1)},
	}, tensors)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// Guest is a configuration with a sealed tiny model behind it.
type Guest struct {
	Config    settings.Config
	Sealed    string   // the model's path
	Model     [32]byte // its id
	Publisher *identity.Private
}

// Seal seals a version of the tiny model under a key, at path, and returns its id.
func (g Guest) Seal(t *testing.T, path, key string, version uint64) [32]byte {
	t.Helper()
	return g.SealFile(t, GGUF(t), path, key, version)
}

// SealFile seals a GGUF file, as older versions did: unchecked.
func (g Guest) SealFile(t *testing.T, in, path, key string, version uint64) [32]byte {
	t.Helper()
	sum, err := sealer.Seal(t.Context(), sealer.Options{In: in, Out: path, Key: Key(t, key), Name: "tiny", Version: version, Unchecked: true,
		Sign: func(root []byte) ([]byte, []byte, error) {
			sig, err := g.Publisher.Sign(chunkseal.SignContext, root)
			return g.Publisher.Public().Bytes(), sig, err
		}})
	if err != nil {
		t.Fatal(err)
	}
	return sum.Root
}

// New seals a tiny model under ModelKey and configures a guest with it.
func New(t *testing.T) Guest {
	t.Helper()
	dir := t.TempDir()
	publisher, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(publisher.Wipe)
	path := filepath.Join(dir, "tiny.ahm")
	g := Guest{Sealed: path, Publisher: publisher}
	g.Model = g.Seal(t, path, ModelKey, 3)
	text, err := publisher.Public().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	g.Config.Compute.TEE.AttestationTTLSeconds, g.Config.Compute.TEE.MemoryLimitMB = 600, 64
	g.Config.Models = []settings.Model{{Name: "tiny", Path: g.Sealed, Resource: "models/test", Publisher: string(text), Threads: 1, Context: 64}}
	return g
}

// Key is a text's bytes as a key, which is wiped when the test ends.
func Key(t testing.TB, text string) *keybuf.Buffer {
	t.Helper()
	b, err := keybuf.Take([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Wipe)
	return b
}

// Unsupported seals a model that the engine would compute otherwise than its file means it.
func (g Guest) Unsupported(t *testing.T, path string) {
	t.Helper()
	raw, err := gguftest.Variant{Edit: func(m *gguftest.Model) { m.Set("llama.final_logit_softcapping", float32(30)) }}.File(1)
	if err != nil {
		t.Fatal(err)
	}
	in := filepath.Join(t.TempDir(), "in.gguf")
	if err := os.WriteFile(in, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	g.SealFile(t, in, path, ModelKey, 3)
}

// Replace puts a whole file under the name of the guest's model.
func (g Guest) Replace(t *testing.T, make func(path string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "other.ahm")
	make(path)
	Install(t, path, g.Sealed)
}

// Install puts a file in the place of another, as an administrator does: whole, by a rename.
func Install(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(to+".new", to); err != nil {
		t.Fatal(err)
	}
}
