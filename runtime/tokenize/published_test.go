package tokenize

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/runtime/jinja"
)

//go:embed published.py
var publishedPy string

// published are templates of the families that are served, by their files in the collection of
// llama.cpp, and what they must do. Those of SmolLM2, Qwen2.5-Coder and Gemma are in the models' files.
var published = []string{"Qwen-Qwen2.5-7B-Instruct", "Qwen-Qwen3-0.6B", "Qwen-QwQ-32B", "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", "deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "google-gemma-2-2b-it",
	"microsoft-Phi-3.5-mini-instruct", "HuggingFaceTB-SmolLM3-3B", "ibm-granite-granite-3.3-2B-Instruct", "ibm-granite-granite-4.0", "ibm-granite-granite-4.1",
	"meta-llama-Llama-3.1-8B-Instruct", "meta-llama-Llama-3.2-3B-Instruct", "meta-llama-Llama-3.3-70B-Instruct", "mistralai-Mistral-Nemo-Instruct-2407", "Mistral-Small-3.2-24B-Instruct-2506",
	"unsloth-mistral-Devstral-Small-2507", "MiMo-VL", "LFM2-8B-A1B", "Bielik-11B-v3.0-Instruct", "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", "NousResearch-Hermes-3-Llama-3.1-8B-tool_use", "NVIDIA-Nemotron-Nano-v2"}

// conversations are what each template is asked to render.
const conversations = `[
	{"messages": [{"role": "user", "content": "Hello <b>&\"x\"</b>"}]},
	{"messages": [{"role": "user", "content": " spaced \n"}, {"role": "assistant", "content": "Answer."}, {"role": "user", "content": "And?"}]},
	{"messages": [{"role": "system", "content": "Be brief. /no_think"}, {"role": "user", "content": "Grüße 漢字"}]},
	{"messages": [{"role": "system", "content": "You think. /think\n"}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "<think>\ndeep\n</think>\n\nHello"}, {"role": "user", "content": "More"}, {"role": "assistant", "content": "No."}], "end": true},
	{"messages": [{"role": "user", "content": "Weather?"}], "tools": true},
	{"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "id": "abcdef123", "function": {"name": "weather", "arguments": {"place": "Köln", "days": 2}}}]}, {"role": "tool", "name": "weather", "tool_call_id": "abcdef123", "content": "rain"}, {"role": "assistant", "content": "Rain."}, {"role": "user", "content": "Thanks"}], "tools": true},
	{"messages": [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "I look.", "tool_calls": [{"type": "function", "id": "abcdef123", "function": {"name": "weather", "arguments": {"place": "<Bonn>"}}}]}, {"role": "tool", "name": "weather", "tool_call_id": "abcdef123", "content": "{\"sky\": \"clear\"}"}], "tools": true},
	{"messages": [{"role": "assistant", "content": "I begin."}, {"role": "user", "content": "Hm"}]},
	{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]},
	{"messages": [{"role": "user", "content": "no thinking"}], "enable_thinking": false}
]`

// TestPublishedTemplatesEqualJinja2: of each conversation, each template makes what the reference makes
// of it, set as Hugging Face's apply_chat_template sets it, or refuses it as the reference does.
func TestPublishedTemplatesEqualJinja2(t *testing.T) {
	interpreter := python(t)
	dir := filepath.Join(os.Getenv("ANCHORHOLD_PEERS"), "templates")
	if _, err := os.Stat(filepath.Join(dir, published[0]+".jinja")); err != nil {
		t.Skip("NOT COMPARED with published templates: set ANCHORHOLD_PEERS to what `make peers` installs")
	}
	cmd := exec.CommandContext(t.Context(), interpreter, append([]string{"-c", publishedPy, dir}, published...)...)
	cmd.Stdin, cmd.Stderr = strings.NewReader(conversations), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var want map[string][]struct {
		Variables     json.RawMessage
		Text, Refusal string
	}
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	rendered, refused := 0, 0
	for _, name := range published {
		source, err := os.ReadFile(filepath.Join(dir, name+".jinja"))
		if err != nil {
			t.Fatal(err)
		}
		program, err := jinja.Compile(string(source))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i, c := range want[name] {
			v, err := jinja.ParseJSON(bytes.TrimSpace(c.Variables))
			if err != nil {
				t.Fatal(err)
			}
			variables := map[string]any{}
			for _, key := range v.(*jinja.Object).Keys() {
				variables[key] = v.(*jinja.Object).Get(key)
			}
			got, err := program.RenderWith(t.Context(), variables, jinja.Options{Now: func() time.Time { return time.Date(2026, 7, 4, 0, 0, 0, 0, time.UTC) }})
			raised, isRaised := errors.AsType[*jinja.RaisedError](err)
			switch {
			case c.Refusal != "" && isRaised && raised.Message == c.Refusal, strings.HasPrefix(c.Refusal, "TypeError") && err != nil:
				refused++
			case c.Refusal != "" || err != nil || got != c.Text:
				t.Errorf("%s, conversation %d: got %q, %v; want %q %q", name, i, got, err, c.Text, c.Refusal)
			default:
				rendered++
			}
		}
	}
	t.Logf("%d templates: %d conversations rendered alike, %d refused alike", len(published), rendered, refused)
	if rendered < 8*len(published) {
		t.Errorf("%d conversations were rendered", rendered)
	}
}
