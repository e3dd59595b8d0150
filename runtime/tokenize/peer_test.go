package tokenize

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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
	python := filepath.Join(os.Getenv("ANCHORHOLD_PEERS"), "venv/bin/python")
	if exec.CommandContext(t.Context(), python, "-c", "import llama_cpp").Run() != nil {
		t.Skip("NOT COMPARED with llama.cpp: set ANCHORHOLD_PEERS to a directory whose venv/bin/python has the package llama_cpp")
	}
	base := openFile(t, shared(t, "models/vocab/ggml-vocab-gpt-2.gguf"))
	names := []string{"gpt-2", "default", "smollm", "starcoder", "refact", "llama-bpe", "qwen2", "deepseek-r1-qwen", "deepseek-coder"}
	job := struct {
		Files []string `json:"files"`
		Texts []string `json:"texts"`
	}{Texts: peerTexts}
	dir := t.TempDir()
	for _, name := range names {
		path := filepath.Join(dir, name+".gguf")
		if err := os.WriteFile(path, replacePre(base.HeaderBytes, "gpt-2", name), 0o600); err != nil {
			t.Fatal(err)
		}
		job.Files = append(job.Files, path)
	}
	const script = `
import json, sys, llama_cpp
job = json.load(sys.stdin)
out = []
for path in job["files"]:
    m = llama_cpp.Llama(path, vocab_only=True, verbose=False)
    out.append([m.tokenize(t.encode(), add_bos=False, special=False) for t in job["texts"]])
json.dump(out, sys.stdout)
`
	in, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", script)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	raw, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var want [][][]int32
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		tok := newTokenizer(t, openFile(t, job.Files[i]))
		for k, text := range peerTexts {
			if got := tok.Encode(text, false); !slices.Equal(got, want[i][k]) {
				t.Errorf("%s %q: %v, llama.cpp %v", name, text, got, want[i][k])
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
