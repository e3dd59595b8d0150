package tokenize

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
	"github.com/anchorhold/anchorhold/runtime/jinja"
)

// templateOf compiles a template as a file's.
func templateOf(t *testing.T, source string) *Template {
	t.Helper()
	m := gguftest.New(1)
	m.Set("tokenizer.chat_template", source)
	raw, err := m.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	tmpl, err := NewTemplate(f)
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

// TestThinkingOfATemplateIsKnown, by what it renders: a switch that changes nothing is none.
func TestThinkingOfATemplateIsKnown(t *testing.T) {
	for _, c := range []struct {
		name, source       string
		switched, thinking bool
	}{
		{"qwen3", "x{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>{% endif %}", true, true},
		{"smollm3", "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}{{ '/think' if enable_thinking else '/no_think' }}", true, true},
		{"off by default", "{% if enable_thinking %}<think>{% endif %}", true, false},
		{"always", "{{ messages[0].content }}<think>\n", false, true},
		{"always, seen in the past alone", "{{ messages[0].content.split('</think>')[-1] }}", false, true},
		{"never", "{{ messages[0].content }}", false, false},
		{"named and not used", "{# enable_thinking #}{{ messages[0].content }}{% if enable_thinking %}{% endif %}", false, true},
		{"refuses everything", "{{ raise_exception('no') }}{{ enable_thinking }}", false, true},
	} {
		tmpl := templateOf(t, c.source)
		if tmpl.ThinkingSwitch() != c.switched || tmpl.Thinks() != c.thinking {
			t.Errorf("%s: switch %v, thinks %v", c.name, tmpl.ThinkingSwitch(), tmpl.Thinks())
		}
	}
}

// TestPublishedTemplatesSayWhetherTheyThink: those that models are published with.
func TestPublishedTemplatesSayWhetherTheyThink(t *testing.T) {
	peers := os.Getenv("ANCHORHOLD_PEERS")
	for name, want := range map[string][2]bool{
		"Qwen-Qwen3-0.6B": {true, true}, "HuggingFaceTB-SmolLM3-3B": {true, true}, "Qwen-Qwen2.5-7B-Instruct": {false, false}, "meta-llama-Llama-3.2-3B-Instruct": {false, false},
		"microsoft-Phi-3.5-mini-instruct": {false, false}, "google-gemma-2-2b-it": {false, false}, "ibm-granite-granite-4.0": {false, false}, "llama-cpp-deepseek-r1": {false, true},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join(peers, "templates", name+".jinja"))
			if err != nil {
				t.Skipf("NOT TESTED with the published template: %v", err)
			}
			tmpl := templateOf(t, string(raw))
			if got := [2]bool{tmpl.ThinkingSwitch(), tmpl.Thinks()}; got != want {
				t.Errorf("switch and thinking are %v, want %v", got, want)
			}
			if !want[0] {
				return
			}
			off := false
			c := Conversation{Messages: []Message{{Role: "user", Content: "x"}}, Thinking: &off}
			text, err := tmpl.render(t.Context(), c, func(s string) string { return s }, jinja.Options{}, true)
			if err != nil || !strings.HasSuffix(strings.TrimRight(text, "\n"), "<think>\n\n</think>") {
				t.Errorf("%q, %v", text, err)
			}
		})
	}
}
