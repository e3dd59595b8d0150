package gguf

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// shared finds a file of the reference data beside the checkout; empty if absent.
func shared(t testing.TB, name string) string {
	t.Helper()
	if dir := os.Getenv("ANCHORHOLD_SHARED"); dir != "" {
		return filepath.Join(dir, name)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		p := filepath.Join(dir, "shared", name)
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return ""
}

// model finds the real model, or skips.
func model(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{os.Getenv("ANCHORHOLD_MODEL"), filepath.Join(cache, "anchorhold", "models", "SmolLM2-135M-Instruct.Q4_1.gguf")} {
		if _, err := os.Stat(p); p != "" && err == nil {
			return p
		}
	}
	t.Skip("the real model is absent, so this test does not run: `make model` fetches it, or set ANCHORHOLD_MODEL to the file")
	return ""
}

func open(t testing.TB, path string) *File {
	t.Helper()
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	st, err := r.Stat()
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(r, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestRealModelHeader(t *testing.T) {
	f := open(t, model(t))
	if f.Version != 3 || len(f.Tensors) != 272 {
		t.Fatalf("version %d, %d tensors", f.Version, len(f.Tensors))
	}
	count := map[Type]int{}
	for _, x := range f.Tensors {
		count[x.Type]++
	}
	if count[Q4_1] != 210 || count[Q8_0] != 1 || count[F32] != 61 {
		t.Errorf("tensor types: %v", count)
	}
	if s, _ := f.String("general.architecture"); s != "llama" {
		t.Errorf("architecture %q", s)
	}
	if n, ok := f.Uint("llama.block_count"); !ok || n != 30 {
		t.Errorf("blocks %d %v", n, ok)
	}
	if x, ok := f.Float("llama.rope.freq_base"); !ok || x != 100000 {
		t.Errorf("rope base %g %v", x, ok)
	}
	toks, ok := f.Strings("tokenizer.ggml.tokens")
	if !ok || toks.Len() != 49152 || string(toks.At(2)) != "<|im_end|>" {
		t.Errorf("tokens: %d %v", toks.Len(), ok)
	}
	last := f.Tensors[len(f.Tensors)-1]
	if end := f.DataOffset + last.Offset + last.Size; end > 98362432 {
		t.Errorf("data ends at %d", end)
	}
	again, err := ParseHeader(f.HeaderBytes)
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Tensors) != len(f.Tensors) || again.DataOffset != f.DataOffset || !bytes.Equal(again.HeaderBytes, f.HeaderBytes) {
		t.Error("ParseHeader of the kept header differs")
	}
	t.Logf("header %d bytes (capacity %d), keys %d", len(f.HeaderBytes), cap(f.HeaderBytes), len(f.Keys()))
}

// TestVocabularyFiles reads files that other tools wrote and that hold no tensor.
func TestVocabularyFiles(t *testing.T) {
	for name, tokens := range map[string]int{"gpt-2": 50257, "deepseek-coder": 32256, "llama-spm": 32000, "phi-3": 32064, "bert-bge": 30522} {
		path := shared(t, "models/vocab/ggml-vocab-"+name+".gguf")
		if path == "" {
			t.Skip("reference data not found: no shared/models/vocab above the working directory; set ANCHORHOLD_SHARED")
		}
		if a, ok := open(t, path).Strings("tokenizer.ggml.tokens"); !ok || a.Len() != tokens {
			t.Errorf("%s: %d tokens, want %d", name, a.Len(), tokens)
		}
	}
}

func BenchmarkParseRealModel(b *testing.B) {
	r, err := os.Open(model(b))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	st, err := r.Stat()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(r, st.Size()); err != nil {
			b.Fatal(err)
		}
	}
}
