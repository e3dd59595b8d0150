package tokenize

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
)

// peerTexts exercise what the pre-tokenizers disagree about.
var peerTexts = []string{
	"Hello, world!", "  leading", "trailing  ", "a  b   c", "\n", "\n\n", "\n\n\n", "a\n\nb", "a \n b", "a\r\nb\r\n", " \n \n x", "\t\ta\t b",
	"don't DON'T I'll I'LL we've WE'VE you're he'd it's 'sound 't 'tis'", "''''''", "'", "x'", "1 12 123 1234 12345 3.14 1,000,000 0x7f",
	" 1 22  333", "a1b2c3", "½ Ⅷ ٣٤٥ ²", "naïve café Ünïcödé straße", "日本語のテキスト 漢字かな交じり文", "한국어 텍스트", "привет, мир!", "مرحبا بالعالم",
	"👩‍👩‍👧 🎉🎉 ok", "!!! ... ??? --- ==> <=", "$5 + $6 = $11 ~ ^ | <a>", "foo_bar.baz(qux)[0]; // comment\n\treturn x != y && !z;\n",
	"http://example.com/?a=b&c=d#e", "a\u00a0b\u3000c\u2003d", "\u0000\u0001\u007f", "e\u0301 combining", "#\nheading\n\n- item\n- item", "\u200bzero", "(a) [b] {c}",
	"mixed漢字and1234numbers!", "…—–“”‘’", "A.B.C.", "x\n\n\ny", "   \n\n   z", "end\n",
}

// TestPreTokenizerNames: names that this package serves are told, and those that llama.cpp knows (its
// src/llama-vocab.cpp of October 2026) and this package does not serve are refused by name.
func TestPreTokenizerNames(t *testing.T) {
	with := func(name string) error {
		f, err := tiny(t, func(kv map[string]any) { kv["tokenizer.ggml.pre"] = name })
		if err != nil {
			t.Fatal(err)
		}
		_, err = newPreTokenizer(f)
		return err
	}
	served := strings.Fields(preTokenizerNames)
	for _, name := range served {
		if err := with(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range strings.Fields("afmoe chameleon cohere2moe exaone-moe gemma4 granite-embed-multi-311m granite-embed-multi-97m jais-2 jina-de jina-es jina-v1-en " +
		"jina-v2-code jina-v2-de jina-v2-es jina-v5-nano kimi-k2 laguna modern-bert sarvam-moe spark2_5 superbpe tiny_aya whitespace youtu another") {
		if err := with(name); err == nil || !strings.Contains(err.Error(), name) || slices.Contains(served, name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPreTokenizersEqualLlamaCpp puts each pre-tokenizer's name into a real
// vocabulary and compares with llama.cpp's ids.
func TestPreTokenizersEqualLlamaCpp(t *testing.T) {
	longtest.Arithmetic(t, "llama.cpp's regular expressions take a minute")
	base := openFile(t, shared(t, "models/vocab/ggml-vocab-gpt-2.gguf"))
	texts := append(randomTexts(700, 77), caseTexts(500)...)
	texts = slices.DeleteFunc(texts, func(text string) bool { return len(text) > 600 })                             // its regular expressions recurse
	names := slices.DeleteFunc(strings.Fields(preTokenizerNames), func(name string) bool { return name == "gpt2" }) // a spelling of old files
	var jobs []gguftest.Job
	dir := t.TempDir()
	for _, name := range names {
		path := filepath.Join(dir, name+".gguf")
		header := replacePre(base.HeaderBytes, "gpt-2", name)
		if name == "roberta-bpe" {
			header = switchOn(header, "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_sep_token")
		}
		if err := os.WriteFile(path, header, 0o600); err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, gguftest.Job{File: path, Texts: texts, Vocabulary: true, Around: name == "roberta-bpe"})
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
		tok := newTokenizer(t, openFile(t, jobs[i].File))
		wrong := 0
		for k, text := range texts {
			got := tok.Encode(text, false)
			if begin, end, ok := tok.Enclosed(); ok {
				got = append(append([]int32{begin}, got...), end)
			}
			if !slices.Equal(got, answers[i].IDs[k]) {
				if wrong++; wrong <= 3 {
					t.Errorf("%s %q: %q, llama.cpp %q", name, text, pieceTexts(tok, got), pieceTexts(tok, answers[i].IDs[k]))
				}
			}
		}
		if wrong > 0 {
			t.Errorf("%s: %d of %d texts differ", name, wrong, len(texts))
		}
	}
}

func pieceTexts(tok *Tokenizer, ids []int32) (list []string) {
	for _, id := range ids {
		list = append(list, string(tok.Piece(id)))
	}
	return list
}

// caseTexts are words of letters of either case and of none, marks, numbers and signs.
func caseTexts(n int) (texts []string) {
	r := rand.New(rand.NewPCG(19, 84))
	parts := []string{"a", "b", "A", "B", "é", "É", "ß", "ǅ", "ʰ", "漢", "か", "\u0301", "\u093e", "1", "٣", "'s", "'LL", "'", " ", "\n", "\r", "/", "!", "_", "$", "`", "|", "\x00", "\u200b", "\u00a0", "…", "。", "ת", "ꙮ", "\U0001f600", "½", "(", ")"}
	for range n {
		var b strings.Builder
		for range 1 + r.IntN(16) {
			b.WriteString(parts[r.IntN(len(parts))])
		}
		texts = append(texts, b.String())
	}
	return texts
}

// switchOn returns the header with these keys, true.
func switchOn(header []byte, keys ...string) []byte {
	var added []byte
	for _, key := range keys {
		added = append(binary.LittleEndian.AppendUint64(added, uint64(len(key))), key...)
		added = append(added, 7, 0, 0, 0, 1) // a boolean
	}
	const count, first = 16, 24 // where the number of keys and the first of them stand
	header = slices.Insert(slices.Clone(header), first, added...)
	binary.LittleEndian.PutUint64(header[count:], binary.LittleEndian.Uint64(header[count:])+uint64(len(keys)))
	return header
}

// replacePre returns the header with another value of tokenizer.ggml.pre.
func replacePre(header []byte, from, to string) []byte {
	value := func(s string) string {
		return "tokenizer.ggml.pre\x08\x00\x00\x00" + string(binary.LittleEndian.AppendUint64(nil, uint64(len(s)))) + s
	}
	return []byte(strings.Replace(string(header), value(from), value(to), 1))
}
