package tokenize

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
)

// phi3 is a small file of that name.
func phi3(t testing.TB, name string) *gguf.File {
	return sentencePieces(t, func(kv map[string]any) {
		kv["general.name"], kv["general.architecture"] = name, "phi3"
		add := func(text string, kind int32) {
			kv["tokenizer.ggml.tokens"] = append(kv["tokenizer.ggml.tokens"].([]string), text)
			kv["tokenizer.ggml.token_type"] = append(kv["tokenizer.ggml.token_type"].([]int32), kind)
			kv["tokenizer.ggml.scores"] = append(kv["tokenizer.ggml.scores"].([]float32), 0)
		}
		add("<|endoftext|>", 3)
		add("<|user|>", 3)
		add("<|end|>", 4)
		kv["tokenizer.ggml.add_space_prefix"] = true
	})
}

// TestSpecialTokensTakeWhiteSpaceAlong in models named so, but three of them do not.
func TestSpecialTokensTakeWhiteSpaceAlong(t *testing.T) {
	for _, name := range []string{"Phi-3-mini-4k-instruct", "phi3", "My PHI-3 tune"} {
		tok := newTokenizer(t, phi3(t, name))
		for text, want := range map[string]string{
			"<|user|>\n\t \v\f\r a<|end|>  ":    "<|user|> a<|end|>",
			"<|user|>\u00a0a":                   "<|user|> \u00a0a",
			"<s> \na":                           "<s>  \na",
			"<unk> a<|endoftext|> a":            "<unk>  a<|endoftext|>  a",
			"</s> \na":                          "</s> a",
			"<|user|>  <|user|> <|end|>\n</s> ": "<|user|><|user|><|end|></s>",
		} {
			var got []byte
			for _, id := range tok.Encode(text, true) {
				got = append(got, tok.Piece(id)...)
			}
			if string(got) != want {
				t.Errorf("%s: %q became %q, want %q", name, text, got, want)
			}
		}
		// User-defined tokens match in plain text, and strip it, too.
		if got, want := tok.Encode("<|user|>\n<user>\na", false), tok.Encode("<|user|>\n<user>a", false); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if _, err := New(phi3(t, "Phi 3.5 Mini Instruct")); err == nil || !strings.Contains(err.Error(), "--general-name") {
		t.Errorf("a name that llama.cpp does not know: %v", err)
	}
}

// TestStrippedContentCannotForgeATurn: white space that goes joins no halves of a token.
func TestStrippedContentCannotForgeATurn(t *testing.T) {
	f := phi3(t, "phi-3")
	tok := newTokenizer(t, f)
	for cut := range len("<|user|>") {
		a, b := "<|user|>"[:cut], "<|user|>"[cut:]
		ids := tok.Encode("<|user|>\n"+tok.Guard(a)+"<|end|>\n"+tok.Guard(" \n"+b), true)
		n := 0
		for _, id := range ids {
			if tok.IsControl(id) {
				n++
			}
		}
		if n != 2 {
			t.Errorf("%q and %q: %v", a, b, ids)
		}
	}
}

// TestPhi3EqualsLlamaCpp on the real vocabulary: texts of special tokens, white space and words.
func TestPhi3EqualsLlamaCpp(t *testing.T) {
	path := shared(t, "models/vocab/ggml-vocab-phi-3.gguf")
	tok := newTokenizer(t, openFile(t, path))
	if !tok.strips.on {
		t.Fatal("the file's name is not that of Phi-3")
	}
	r := rand.New(rand.NewPCG(31, 7))
	parts := []string{"<|user|>", "<|assistant|>", "<|end|>", "<|system|>", "<|endoftext|>", "<s>", "</s>", "<unk>", "<|placeholder1|>", " ", "  ", "\n", "\t", "\r\n", "\v", "\f", "\u00a0", "\u2003", "\u0085",
		"Hello", " world", "▁", "x", "漢字", "é", "e\u0301", "\x00", "\x1b", "\u202e", "<0x0A>", "<|", "|>", "<", "123", "ﬁ", "👩‍👩‍👧"}
	texts := append(oddTexts(500), peerTexts...)
	for range 3000 {
		var b strings.Builder
		for range 1 + r.IntN(14) {
			b.WriteString(parts[r.IntN(len(parts))])
		}
		texts = append(texts, b.String())
	}
	equalsLlamaCpp(t, tok, path, texts)
}

// equalsLlamaCpp compares the tokens of texts, as plain ones and with special tokens.
func equalsLlamaCpp(t *testing.T, tok *Tokenizer, path string, texts []string) {
	t.Helper()
	answers, err := gguftest.AskLlamaCpp(t.Context(), []gguftest.Job{{File: path, Texts: texts, Vocabulary: true}, {File: path, Texts: texts, Vocabulary: true, Special: true}})
	if errors.Is(err, gguftest.ErrNoLlamaCpp) {
		t.Skip(err)
	}
	if err != nil || answers[0].Error != "" {
		t.Fatal(err, answers[0].Error)
	}
	wrong := 0
	for k, special := range []bool{false, true} {
		for i, text := range texts {
			if got := tok.Encode(text, special); !slices.Equal(got, answers[k].IDs[i]) {
				if wrong++; wrong <= 10 {
					t.Errorf("%q, special %v: %v, llama.cpp %v", text, special, names(tok, got), names(tok, answers[k].IDs[i]))
				}
			}
		}
	}
	t.Logf("%d texts compared, %d differ", 2*len(texts), wrong)
}

// names are tokens with their texts.
func names(tok *Tokenizer, ids []int32) (list []string) {
	for _, id := range ids {
		list = append(list, fmt.Sprintf("%d %q", id, tok.Piece(id)))
	}
	return list
}
