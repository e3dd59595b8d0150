package tokenize

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
)

// pairs is a vocabulary in which any two bytes merge, so that a word cut at another place becomes other tokens
// for half of all texts, whatever its characters are.
func pairs(pre string) map[string]any {
	var merges []string
	tokens, kinds := gguftest.Alphabet()
	for i := range 1 << 16 {
		a, b := tokens[i>>8], tokens[i&255]
		tokens, kinds, merges = append(tokens, a+b), append(kinds, 1), append(merges, a+" "+b)
	}
	rand.New(rand.NewPCG(3, 5)).Shuffle(len(merges), func(i, j int) { merges[i], merges[j] = merges[j], merges[i] })
	tokens, kinds = append(tokens, "<begin>", "<end>"), append(kinds, 3, 3)
	const space = "tokenizer.ggml."
	kv := map[string]any{"general.architecture": "gpt2", space + "model": "gpt2", space + "pre": pre, space + "tokens": tokens, space + "token_type": kinds,
		space + "merges": merges, space + "bos_token_id": uint32(len(tokens) - 2), space + "eos_token_id": uint32(len(tokens) - 1)}
	if pre == "roberta-bpe" {
		kv[space+"add_bos_token"], kv[space+"add_eos_token"] = true, true
	}
	return kv
}

// edgeTexts have the first and last characters of the classes of letters that DeepSeek's pre-tokenizer
// joins, and those beside them, among characters that others cut at.
func edgeTexts(n int) (texts []string) {
	var parts []rune
	for _, r := range cased.R16 {
		parts = append(parts, rune(r.Lo)-1, rune(r.Lo), rune(r.Hi), rune(r.Hi)+1)
	}
	for _, r := range cased.R32 {
		parts = append(parts, rune(r.Lo)-1, rune(r.Lo), rune(r.Hi), rune(r.Hi)+1)
	}
	parts = slices.DeleteFunc(parts, func(r rune) bool { return r >= 0xd800 && r <= 0xdfff })
	others := []rune("  \n\r\t\u00a0\u3000\u2028aZ'19½٣!_~$/:@\x00\x7f\u2017\u2018\u201f\u2020\u3001\u3002\u3003\uff00\uff01\uff0f\uff10\uff1a\uff5e\uff5f\u07ff\u0800\u4dff\u4e00\u9fa5\u9fa6\uabff가\ud7a3\ud7ff\u0301ʰª")
	r := rand.New(rand.NewPCG(10, 1))
	for i := range n {
		var b strings.Builder
		for k := range 40 {
			if k%2 == 0 || r.IntN(4) == 0 {
				b.WriteRune(parts[(i*20+k/2)%len(parts)])
			} else {
				b.WriteRune(others[r.IntN(len(others))])
			}
		}
		texts = append(texts, b.String())
	}
	return texts
}

// TestPreTokenizersCutWhereLlamaCppDoes compares every pre-tokenizer over a vocabulary in which nothing
// but the ends of words keeps two bytes apart.
func TestPreTokenizersCutWhereLlamaCppDoes(t *testing.T) {
	longtest.Arithmetic(t, "llama.cpp's regular expressions take a minute")
	texts := append(edgeTexts(100), caseTexts(150)...)
	texts = append(texts, randomTexts(300, 78)...)
	texts = slices.DeleteFunc(texts, func(text string) bool { return len(text) > 600 })
	var jobs []gguftest.Job
	var toks []*Tokenizer
	names := slices.DeleteFunc(strings.Fields(preTokenizerNames), func(name string) bool { return name == "gpt2" })
	for _, name := range names {
		f, path := writeKeys(t, pairs(name))
		toks = append(toks, newTokenizer(t, f))
		jobs = append(jobs, gguftest.Job{File: path, Texts: texts, Vocabulary: true})
	}
	answers, err := gguftest.AskLlamaCpp(t.Context(), jobs)
	if errors.Is(err, gguftest.ErrNoLlamaCpp) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		if answers[i].Error != "" {
			t.Fatal(name, answers[i].Error)
		}
		wrong := 0
		for k, text := range texts {
			if got := toks[i].Encode(text, false); !slices.Equal(got, answers[i].IDs[k]) {
				if wrong++; wrong <= 3 {
					t.Errorf("%s %q: %q, llama.cpp %q", name, text, pieceTexts(toks[i], got), pieceTexts(toks[i], answers[i].IDs[k]))
				}
			}
		}
		if wrong > 0 {
			t.Errorf("%s: %d of %d texts differ", name, wrong, len(texts))
		}
	}
}
