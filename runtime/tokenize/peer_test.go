package tokenize

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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

// TestPreTokenizersEqualLlamaCpp puts each pre-tokenizer's name into a real
// vocabulary and compares with llama.cpp's ids.
func TestPreTokenizersEqualLlamaCpp(t *testing.T) {
	base := openFile(t, shared(t, "models/vocab/ggml-vocab-gpt-2.gguf"))
	names := []string{"gpt-2", "default", "smollm", "starcoder", "refact", "llama-bpe", "qwen2", "deepseek-r1-qwen", "deepseek-coder"}
	var jobs []gguftest.Job
	dir := t.TempDir()
	for _, name := range names {
		path := filepath.Join(dir, name+".gguf")
		if err := os.WriteFile(path, replacePre(base.HeaderBytes, "gpt-2", name), 0o600); err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, gguftest.Job{File: path, Texts: peerTexts, Vocabulary: true})
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
		for k, text := range peerTexts {
			if got := tok.Encode(text, false); !slices.Equal(got, answers[i].IDs[k]) {
				t.Errorf("%s %q: %v, llama.cpp %v", name, text, got, answers[i].IDs[k])
			}
		}
	}
}

// replacePre returns the header with another value of tokenizer.ggml.pre.
func replacePre(header []byte, from, to string) []byte {
	value := func(s string) string {
		return "tokenizer.ggml.pre\x08\x00\x00\x00" + string(binary.LittleEndian.AppendUint64(nil, uint64(len(s)))) + s
	}
	return []byte(strings.Replace(string(header), value(from), value(to), 1))
}
