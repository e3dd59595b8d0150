package tokenize

import (
	"bytes"
	"slices"
	"testing"
	"unicode/utf8"
)

// FuzzEncode checks, for each pre-tokenizer, that words join to the text and that
// plain text holds no control token.
func FuzzEncode(f *testing.F) {
	for _, s := range []string{"Hello, world!", "  a\n\n b\t", "don't I'LL 12345", "<s>ab</s>\xff", "漢字 ünï \u00a0x", "\r\n \r\n'''", "éABc\u0301/\n", "(a|b)… 1"} {
		f.Add(s)
	}
	var toks []*Tokenizer
	for _, pre := range []string{"gpt-2", "default", "falcon", "smollm", "llama-bpe", "qwen2", "qwen35", "seed-coder", "minicpm5", "tekken", "gpt-4o", "deepseek-llm", "deepseek-coder", "deepseek-v3", "bloom", "viking"} {
		file, err := tiny(f, func(kv map[string]any) { kv["tokenizer.ggml.pre"] = pre })
		if err != nil {
			f.Fatal(err)
		}
		toks = append(toks, newTokenizer(f, file))
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, tok := range toks {
			var back []byte
			tok.split.words(text, func(word string) bool {
				if word == "" {
					t.Error("an empty word")
				}
				back = append(back, word...)
				return true
			})
			if !bytes.Equal(back, []byte(text)) {
				t.Errorf("%q splits into %q", text, back)
			}
			plain := tok.Encode(text, false)
			if slices.ContainsFunc(plain, tok.IsControl) {
				t.Errorf("%q yields a control token", text)
			}
			if utf8.ValidString(text) && !slices.Equal(plain, tok.Encode(tok.Guard(text), true)) {
				t.Errorf("%q: guarded differs from plain", text)
			}
			tok.Encode(text, true)
		}
	})
}
