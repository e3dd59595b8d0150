package tokenize

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
	"github.com/anchorhold/anchorhold/runtime/grammar"
	"github.com/anchorhold/anchorhold/runtime/jinja"
)

// familyFiles are the models that TestTokensOfFamiliesEqualReference reads, by the directory of
// their references.
var familyFiles = map[string]string{"smollm2-135m": "SmolLM2-135M-Instruct.Q4_1.gguf", "gemma3-270m": "gemma-3-270m-q4_k_m.gguf",
	"qwen2.5-coder-1.5b": "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"}

// familyModel opens the header of one of them, or skips.
func familyModel(t testing.TB, name string) *gguf.File {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cache, "anchorhold", "models", familyFiles[name])
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the model is absent, so this test does not run: `make model MODEL=qwen` or MODEL=gemma fetches it (%v)", err)
	}
	return openFile(t, path)
}

func TestTokensOfFamiliesEqualReference(t *testing.T) {
	for name := range familyFiles {
		t.Run(name, func(t *testing.T) {
			tok := newTokenizer(t, familyModel(t, name))
			for _, c := range lines[struct {
				Text     string  `json:"text"`
				IDs      []int32 `json:"ids"`
				IDsPlain []int32 `json:"ids_plain"`
			}](t, shared(t, "models/"+name+"/tokens.jsonl")) {
				if got := tok.Encode(c.Text, true); !slices.Equal(got, c.IDs) {
					t.Errorf("%q: got %v want %v", c.Text, got, c.IDs)
				}
				if got := tok.Encode(c.Text, false); !slices.Equal(got, c.IDsPlain) {
					t.Errorf("%q plain: got %v want %v", c.Text, got, c.IDsPlain)
				}
			}
		})
	}
}

// TestFamiliesEqualLlamaCpp: 400 texts become the tokens that llama.cpp makes of them, and the
// same tokens end an answer.
func TestFamiliesEqualLlamaCpp(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	texts := oddTexts(400 - len(peerTexts))
	for name, file := range familyFiles {
		t.Run(name, func(t *testing.T) {
			tok := newTokenizer(t, familyModel(t, name))
			job := gguftest.Job{File: filepath.Join(cache, "anchorhold", "models", file), Texts: append(texts, peerTexts...), Vocabulary: true, Ends: true}
			special := job
			special.Special, special.Ends = true, false
			answers, err := gguftest.AskLlamaCpp(t.Context(), []gguftest.Job{job, special})
			if errors.Is(err, gguftest.ErrNoLlamaCpp) {
				t.Skip(err)
			}
			if err != nil || answers[0].Error != "" {
				t.Fatal(err, answers)
			}
			for i, text := range job.Texts {
				if got := tok.Encode(text, false); !slices.Equal(got, answers[0].IDs[i]) {
					t.Errorf("%q plain: got %v, llama.cpp %v", text, got, answers[0].IDs[i])
				}
				if got := tok.Encode(text, true); !slices.Equal(got, answers[1].IDs[i]) {
					t.Errorf("%q: got %v, llama.cpp %v", text, got, answers[1].IDs[i])
				}
			}
			var ends []int32
			for id := range int32(tok.Size()) {
				if tok.IsEnd(id) {
					ends = append(ends, id)
				}
			}
			if !slices.Equal(ends, answers[0].Ends) {
				t.Errorf("an answer ends at %v, llama.cpp's at %v", ends, answers[0].Ends)
			}
		})
	}
}

// TestChatsOfQwenEqualReference: conversations become the prompts that its template makes of them
// with the reference implementation, and these the reference's tokens.
func TestChatsOfQwenEqualReference(t *testing.T) {
	const name = "qwen2.5-coder-1.5b"
	f := familyModel(t, name)
	tok := newTokenizer(t, f)
	tmpl, err := NewTemplate(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range lines[struct {
		Messages []Message `json:"messages"`
		Prompt   string    `json:"prompt"`
		IDs      []int32   `json:"prompt_ids"`
	}](t, shared(t, "models/"+name+"/chat.jsonl")) {
		if got, err := tmpl.Render(t.Context(), c.Messages, true); err != nil || got != c.Prompt {
			t.Errorf("got %q, %v; want %q", got, err, c.Prompt)
		}
		if got, err := tmpl.Encode(tok, c.Messages, true); err != nil || !slices.Equal(got, c.IDs) {
			t.Errorf("%q: got %v, %v; want %v", c.Prompt, got, err, c.IDs)
		}
	}
}

// TestToolsOfQwenEqualJinja2: the template with tools, calls of them and their answers.
func TestToolsOfQwenEqualJinja2(t *testing.T) {
	source, ok := familyModel(t, "qwen2.5-coder-1.5b").String("tokenizer.chat_template")
	if !ok {
		t.Fatal("the file has no template")
	}
	python := filepath.Join(os.Getenv("ANCHORHOLD_PEERS"), "zk/bin/python")
	const script = `
import json, sys
from jinja2.sandbox import ImmutableSandboxedEnvironment
env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
env.filters["tojson"] = lambda x, indent=None: json.dumps(x, ensure_ascii=False, indent=indent)
sys.stdout.write(env.from_string(sys.argv[1]).render(**json.load(sys.stdin)))
`
	const variables = `{"add_generation_prompt": true, "tools": [{"type": "function", "function": {"name": "weather", "description": "of <a> place & \"time\"",
		"parameters": {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer", "default": 3}}, "required": ["place"]}}}],
		"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather in Köln?"},
		{"role": "assistant", "content": "I look.", "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"place": "Köln", "days": 1.5}}}, {"name": "time", "arguments": {}}]},
		{"role": "tool", "content": "rain"}, {"role": "tool", "content": "noon"}, {"role": "assistant", "content": "Rain at noon."}, {"role": "user", "content": "Thanks"}]}`
	if exec.CommandContext(t.Context(), python, "-c", "import jinja2").Run() != nil {
		t.Skip("no Python with jinja2: set ANCHORHOLD_PEERS to what .ci/peers-zk makes")
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", script, source)
	cmd.Stdin, cmd.Stderr = strings.NewReader(variables), os.Stderr
	want, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	values, err := jinja.ParseJSON([]byte(variables))
	if err != nil {
		t.Fatal(err)
	}
	program, err := jinja.Compile(source)
	if err != nil {
		t.Fatal(err)
	}
	object := values.(*jinja.Object)
	got, err := program.Render(t.Context(), map[string]any{"add_generation_prompt": true, "tools": object.Get("tools"), "messages": object.Get("messages")})
	if err != nil || got != string(want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if !strings.Contains(got, `{"name": "weather", "arguments": {"place": "Köln", "days": 1.5}}`) {
		t.Errorf("%q holds no call", got)
	}
}

// oddTexts are texts of random parts: words of several scripts, numbers, white space, and texts
// of special tokens.
func oddTexts(n int) []string {
	r := rand.New(rand.NewPCG(17, 4))
	parts := []string{"Hello", " world", "the", " confidential", "VM", "don't", "I'LL", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "1234", " 5", "３", "é", "e\u0301", "漢字", "かな", "한국",
		"مرحبا", "привет", "👩‍👩‍👧", "▁", "<", ">", "</", "s>", "</s>", "<s>", "<bos>", "<eos>", "<end_of_turn>", "<start_of_turn>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>",
		"</tool_call>", "<b>", "</b>", "<table>", "func f(x int) {", "}", "==", "!=", "_", "-", "…", "“", "”", ".", ",", ";", "\u00a0", "\u200b", "\x00", "\x7f", "ﬁ", "İ", "ß", "﷽"}
	texts := make([]string, n)
	for i := range texts {
		var b strings.Builder
		for range 1 + r.IntN(12) {
			b.WriteString(parts[r.IntN(len(parts))])
		}
		texts[i] = b.String()
	}
	return texts
}

// TestMemoryOfALargeVocabulary: 151,936 and 262,144 tokens cost at most 12 bytes each beside their text,
// merges included, and at most 16 with the words that the first grammar sorts.
func TestMemoryOfALargeVocabulary(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for _, name := range []string{"gemma3-270m", "qwen2.5-coder-1.5b"} {
		t.Run(name, func(t *testing.T) {
			f := familyModel(t, name)
			before := heap()
			tok := newTokenizer(t, f)
			used := heap() - before
			beside := float64(used-uint64(len(tok.vocab.blob))) / float64(tok.Size())
			t.Logf("%d bytes, of which text %d: %.1f bytes a token beside it", used, len(tok.vocab.blob), beside)
			if beside > 12 {
				t.Errorf("%.1f bytes a token beside its text, want at most 12", beside)
			}
			words := grammar.NewVocabulary(tok.Size(), tok.Piece)
			sorted := float64(heap()-before-uint64(len(tok.vocab.blob))) / float64(tok.Size())
			t.Logf("%.1f bytes a token with sorted words", sorted)
			if sorted > 16 {
				t.Errorf("%.1f bytes a token with sorted words, want at most 16", sorted)
			}
			runtime.KeepAlive(f)
			runtime.KeepAlive(tok)
			runtime.KeepAlive(words)
		})
	}
}

// BenchmarkEncodeFamilies is the speed with each family's tokenizer, and its ratio to llama.cpp's, which
// tokenizes the same text in the same run.
func BenchmarkEncodeFamilies(b *testing.B) {
	cache, err := os.UserCacheDir()
	if err != nil {
		b.Fatal(err)
	}
	text := strings.Repeat("The quick brown fox, aged 42, doesn't jump over the lazy dog's naïve friend. 漢字と привет!\n", 200)
	for name, file := range familyFiles {
		b.Run(name, func(b *testing.B) {
			tok := newTokenizer(b, familyModel(b, name))
			const rounds = 20
			answers, err := gguftest.AskLlamaCpp(b.Context(), []gguftest.Job{{File: filepath.Join(cache, "anchorhold", "models", file), Texts: slices.Repeat([]string{text}, rounds), Vocabulary: true}})
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				tok.Encode(text, false)
			}
			if err == nil && answers[0].Error == "" {
				b.ReportMetric(answers[0].Seconds/rounds/(b.Elapsed().Seconds()/float64(b.N)), "x-llama.cpp")
			}
		})
	}
}
