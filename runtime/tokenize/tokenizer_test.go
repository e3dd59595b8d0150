package tokenize

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/runtime/gguf"
)

// shared finds a file of the reference data beside the checkout, or skips.
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
	t.Skipf("reference data not found: no shared/%s above the working directory; set ANCHORHOLD_SHARED", name)
	return ""
}

// realModel opens the header of the real model, or skips.
func realModel(t testing.TB) *gguf.File {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{os.Getenv("ANCHORHOLD_MODEL"), filepath.Join(cache, "anchorhold", "models", "SmolLM2-135M-Instruct.Q4_1.gguf")} {
		if _, err := os.Stat(p); p != "" && err == nil {
			return openFile(t, p)
		}
	}
	t.Skip("the real model is absent, so this test does not run: `make model` fetches it, or set ANCHORHOLD_MODEL to the file")
	return nil
}

func openFile(t testing.TB, path string) *gguf.File {
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
	f, err := gguf.Parse(r, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func newTokenizer(t testing.TB, f *gguf.File) *Tokenizer {
	t.Helper()
	tok, err := New(f)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// lines decodes a file of one JSON object a line.
func lines[T any](t testing.TB, path string) []T {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []T
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var v T
		if err := json.Unmarshal(s.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	if s.Err() != nil || len(out) == 0 {
		t.Fatal(path, s.Err(), len(out))
	}
	return out
}

func TestRealModelTokensEqualReference(t *testing.T) {
	tok := newTokenizer(t, realModel(t))
	for _, c := range lines[struct {
		Text     string  `json:"text"`
		IDs      []int32 `json:"ids"`
		IDsPlain []int32 `json:"ids_plain"`
	}](t, shared(t, "models/smollm2-135m/tokens.jsonl")) {
		if got := tok.Encode(c.Text, true); !slices.Equal(got, c.IDs) {
			t.Errorf("%q: got %v want %v", c.Text, got, c.IDs)
		}
		if got := tok.Encode(c.Text, false); !slices.Equal(got, c.IDsPlain) {
			t.Errorf("%q plain: got %v want %v", c.Text, got, c.IDsPlain)
		}
	}
}

func TestVocabularyFilesEqualReference(t *testing.T) {
	for _, name := range []string{"gpt-2", "deepseek-coder", "llama-spm", "phi-3"} {
		t.Run(name, func(t *testing.T) {
			path := shared(t, "models/vocab/ggml-vocab-"+name+".gguf")
			tok := newTokenizer(t, openFile(t, path))
			inputs, err := os.ReadFile(path + ".inp")
			if err != nil {
				t.Fatal(err)
			}
			outputs, err := os.ReadFile(path + ".out")
			if err != nil {
				t.Fatal(err)
			}
			texts := strings.Split(strings.TrimSuffix(string(inputs), "\n__ggml_vocab_test__\n"), "\n__ggml_vocab_test__\n")
			want := strings.Split(strings.TrimSuffix(string(outputs), "\n"), "\n")
			if len(texts) != len(want) || len(texts) < 40 {
				t.Fatalf("%d texts, %d results", len(texts), len(want))
			}
			for i, text := range texts {
				var ids []int32
				for _, word := range strings.Fields(want[i]) {
					id, err := strconv.Atoi(word)
					if err != nil {
						t.Fatal(err)
					}
					ids = append(ids, int32(id))
				}
				got := tok.Encode(text, false)
				if !slices.Equal(got, ids) {
					t.Errorf("%q: got %v want %v", text, got, ids)
				}
				var back []byte
				for _, id := range got {
					back = append(back, tok.Piece(id)...)
				}
				if tok.pieces != nil && text != "" {
					text = " " + text
				}
				if !bytes.Equal(back, []byte(text)) {
					t.Errorf("%q decodes to %q", text, back)
				}
			}
		})
	}
}
