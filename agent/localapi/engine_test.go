package localapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/localapi/openai"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/chunkseal/chunksealtest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
	"github.com/anchorhold/anchorhold/runtime/infer"
	"github.com/anchorhold/anchorhold/runtime/sealer"
	"github.com/anchorhold/anchorhold/runtime/weights"
)

// toolTemplate shows tools and calls as Qwen's does, in fewer words.
const toolTemplate = "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}" +
	"{% if m.tool_calls %}{% for c in m.tool_calls %}<tool_call>{{ c.function.name }}{{ c.function.arguments | tojson }}</tool_call>{% endfor %}{% endif %}<|im_end|>\n{% endfor %}" +
	"{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

// randomEngine is the real engine over a sealed model of random weights, which says anything that
// nothing keeps it from.
func randomEngine(t testing.TB, template string) openai.Engine {
	t.Helper()
	m := gguftest.New(11)
	m.Set("llama.context_length", uint32(4096))
	m.Set("tokenizer.chat_template", template)
	raw, err := m.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	in, out := filepath.Join(dir, "m.gguf"), filepath.Join(dir, "m.sealed")
	if err := os.WriteFile(in, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	p := chunksealtest.NewPublisher(3)
	key, err := keybuf.Take(bytes.Repeat([]byte{9}, chunkseal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Wipe)
	if _, err := sealer.Seal(context.Background(), sealer.Options{In: in, Out: out, Key: key, Name: "tiny", Version: 1, Sign: p.Sign}); err != nil {
		t.Fatal(err)
	}
	budget := arena.NewBudget(256 << 20)
	w, err := weights.Open(out, key, budget, weights.Options{Workers: 1, Publisher: p})
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.ParseHeader(w.Header())
	if err != nil {
		t.Fatal(err)
	}
	e, err := infer.New(infer.Config{Source: w, File: f, Budget: budget, Threads: 1, Context: 4096, MaxSequences: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(e.Close(), w.Close()); err != nil {
			t.Error(err)
		}
	})
	return openai.Inference{Engine: e}
}

// withEngine has another engine answer than the fake one.
func withEngine(engine openai.Engine) func(*setup) {
	return func(c *setup) {
		c.Models = func(g *fakeGate) openai.Models { return &otherEngine{g, engine} }
	}
}

const cityFormat = `,"response_format":{"type":"json_schema","json_schema":{"name":"city","strict":true,"schema":{"type":"object","properties":{"name":{"type":"string","maxLength":12},"people":{"type":"integer","minimum":1,"maximum":99999},"sea":{"type":"boolean"}},"required":["name","people","sea"],"additionalProperties":false}}}`

func checkCity(t testing.TB, text string) {
	t.Helper()
	var city struct {
		Name   *string
		People int
		Sea    *bool
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&city); err != nil || city.Name == nil || city.People < 1 || city.Sea == nil {
		t.Errorf("%q: %v", text, err)
	}
}

// TestTheRealEngineKeepsToFormats: whole and streamed, with several choices and logarithms, a
// model that knows no JSON writes what the schema wants.
func TestTheRealEngineKeepsToFormats(t *testing.T) {
	f := start(t, withEngine(randomEngine(t, toolTemplate)))
	for seed := range 4 {
		options := fmt.Sprintf(`,"n":2,"logprobs":true,"seed":%d,"temperature":1.5`, seed) + cityFormat
		var answer struct {
			Choices []struct {
				Message  struct{ Content string }
				Logprobs struct {
					Content []struct{ Bytes []int }
				}
				Reason string `json:"finish_reason"`
			}
		}
		if err := json.Unmarshal([]byte(f.chat(t, options).body), &answer); err != nil || len(answer.Choices) != 2 {
			t.Fatal(err, answer)
		}
		for _, c := range answer.Choices {
			checkCity(t, c.Message.Content)
			var tokens []byte
			for _, l := range c.Logprobs.Content {
				for _, b := range l.Bytes {
					tokens = append(tokens, byte(b))
				}
			}
			if string(tokens) != c.Message.Content || c.Reason != "stop" {
				t.Errorf("%q is not %q, %s", tokens, c.Message.Content, c.Reason)
			}
		}
		texts := map[int]string{}
		events := f.chat(t, options+`,"stream":true`).events(t)
		for _, e := range events[:len(events)-1] {
			for _, ch := range read(t, e).Choices {
				texts[ch.Index] += ch.Delta.Content
			}
		}
		for i, c := range answer.Choices {
			if texts[i] != c.Message.Content {
				t.Errorf("streamed %q, whole %q", texts[i], c.Message.Content)
			}
		}
	}
	// What max_tokens cuts says so.
	c := read(t, f.chat(t, `,"max_tokens":5`+cityFormat).body)
	if c.Choices[0].Reason != "length" {
		t.Errorf("%+v", c)
	}
	if r := f.do(t, "POST", "/v1/completions", `{"model":"tiny","prompt":"x","grammar":"root ::= [ab]{7}"}`); len(read(t, r.body).Choices[0].Text) != 7 {
		t.Error(r)
	}
	// A grammar that cannot be followed ends its answer with its name.
	wide := `,"grammar":"root ::= \"q\" r\nr ::= ` + strings.Repeat(`\"a\" [ab]* \"c\" | `, 1100) + `"`
	if r := f.chat(t, wide); r.status != 400 || r.param() != "grammar" || r.code() != "grammar-refused" {
		t.Error(r)
	}
}

// TestTheRealEngineCallsTools: one that is named, any, or several, each with arguments of its
// schema; and through conversations with calls and answers.
func TestTheRealEngineCallsTools(t *testing.T) {
	f := start(t, withEngine(randomEngine(t, toolTemplate)))
	const tools = `,"tools":[{"type":"function","function":{"name":"add","parameters":{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"required":["a","b"],"additionalProperties":false},"strict":true}},
		{"type":"function","function":{"name":"noop"}},{"type":"function","function":{"name":"say","parameters":{"type":"object","properties":{"word":{"enum":["yes","no"]}},"required":["word"]}}}]`
	several := 0
	for seed := range 6 {
		for choice, only := range map[string]string{`"required"`: "", `{"type":"function","function":{"name":"say"}}`: "say"} {
			r := f.chat(t, fmt.Sprintf(`,"seed":%d,"max_tokens":700,"tool_choice":%s`, seed, choice)+tools)
			c := readCalled(t, r.body)
			if c.Choices[0].Reason == "length" {
				continue // it called all the time
			}
			calls := c.Choices[0].Message.ToolCalls
			if len(calls) == 0 || c.Choices[0].Reason != "tool_calls" || only != "" && len(calls) > 1 {
				t.Errorf("%s: %s", choice, r.body)
			}
			if len(calls) > 1 {
				several++
			}
			for _, call := range calls {
				var arguments map[string]any
				if err := json.Unmarshal([]byte(call.Function.Arguments), &arguments); err != nil || only != "" && call.Function.Name != only {
					t.Errorf("%s: %+v: %v", choice, call, err)
				}
				switch call.Function.Name {
				case "add":
					if _, ok := arguments["a"].(float64); !ok || len(arguments) != 2 {
						t.Errorf("%+v", call)
					}
				case "say":
					if arguments["word"] != "yes" && arguments["word"] != "no" {
						t.Errorf("%+v", call)
					}
				}
			}
		}
	}
	if r := f.do(t, "POST", "/v1/chat/completions", `{"model":"tiny","max_tokens":2`+tools+`,"messages":[{"role":"user","content":"hi"},
		{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"add","arguments":"{\"a\":1,\"b\":2}"}}]},{"role":"tool","tool_call_id":"c","content":"3"}]}`); r.status != 200 {
		t.Error(r)
	}
	if r := f.chat(t, `,"tools":[{"type":"function","function":{"name":"f","parameters":{"default":99999999999999999999}}}]`); r.status != 400 || r.param() != "tools" {
		t.Error(r)
	}
	if several == 0 {
		t.Error("no answer called several: the test does not test")
	}
	plain := start(t, withEngine(randomEngine(t, "{% for m in messages %}{{ m.content }}{% endfor %}")))
	for _, body := range []string{`"messages":[{"role":"user","content":"hi"}]` + tools, `"messages":[{"role":"user","content":"hi"},{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}]`} {
		if r := plain.do(t, "POST", "/v1/chat/completions", `{"model":"tiny",`+body+`}`); r.status != 400 || r.code() != "tools-unsupported" || !strings.Contains(r.body, "template") {
			t.Error(r)
		}
	}
}

// TestTextsAreScoredByTheRealEngine: a text's likelihood is that of the same words as an answer, and
// the receipt is of the likelihoods.
func TestTextsAreScoredByTheRealEngine(t *testing.T) {
	f := start(t, withEngine(randomEngine(t, toolTemplate)))
	type scores struct {
		Choices []struct {
			Text     string
			Reason   string `json:"finish_reason"`
			Logprobs json.RawMessage
		}
		Usage struct {
			Prompt     int `json:"prompt_tokens"`
			Completion int `json:"completion_tokens"`
		}
		Issued receipt.Issued `json:"issued_receipt"`
	}
	type lists struct {
		Tokens []string
		Values []*float64 `json:"token_logprobs"`
	}
	ask := func(body string) (s scores, l lists) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://agent/v1/completions", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Anchorhold-Receipt", "full")
		got := f.send(t, req)
		if err := json.Unmarshal([]byte(got.body), &s); err != nil || len(s.Choices) != 1 {
			t.Fatalf("%d: %s", got.status, got.body)
		}
		if err := json.Unmarshal(s.Choices[0].Logprobs, &l); err != nil {
			t.Fatal(err)
		}
		return s, l
	}
	answered, chosen := ask(`{"model":"tiny","prompt":"the cat","max_tokens":6,"temperature":0,"logprobs":0}`)
	text := "the cat" + answered.Choices[0].Text
	raw, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	got, given := ask(`{"model":"tiny","prompt":` + string(raw) + `,"max_tokens":0,"echo":true,"logprobs":0}`)
	if got.Choices[0].Text != text || got.Usage.Completion != 0 || got.Usage.Prompt != len(given.Tokens) || got.Choices[0].Reason != "length" {
		t.Errorf("%+v for %q", got, text)
	}
	if given.Values[0] != nil || given.Values[1] == nil || strings.Join(given.Tokens, "") != text {
		t.Errorf("tokens %q with %v", given.Tokens, given.Values)
	}
	if n := len(chosen.Values); slices.Equal(given.Tokens[len(given.Tokens)-n:], chosen.Tokens) { // else the text has other tokens
		for i, v := range given.Values[len(given.Values)-n:] {
			if *v != *chosen.Values[i] {
				t.Errorf("token %d: %g as text, %g as an answer", i, *v, *chosen.Values[i])
			}
		}
	} else {
		t.Errorf("the same text has the tokens %q, and as an answer %q", given.Tokens, chosen.Tokens)
	}
	if body := got.Issued.Receipt.Body; body.OutputCommitment != receipt.CommitOutput(got.Issued.Salts.Output, got.Choices[0].Logprobs) {
		t.Error("the receipt is not of the likelihoods")
	}
	for name, options := range map[string]string{
		"tokens": `"max_tokens":1,"logprobs":0`, "no limit": `"logprobs":0`, "no logprobs": `"max_tokens":0`,
		"a stream": `"max_tokens":0,"logprobs":0,"stream":true`, "choices": `"max_tokens":0,"logprobs":0,"n":2`,
	} {
		if got := f.do(t, "POST", "/v1/completions", `{"model":"tiny","prompt":"the cat","echo":true,`+options+`}`); got.status != 400 {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	if got := f.do(t, "POST", "/v1/completions", `{"model":"tiny","prompt":"x","echo":true,"max_tokens":0,"logprobs":0}`); got.code() != "text-too-short" {
		t.Errorf("one token: %s", got.body)
	}
	if got := f.do(t, "POST", "/v1/completions", `{"model":"tiny","prompt":"`+strings.Repeat("x ", 4100)+`","echo":true,"max_tokens":0,"logprobs":0}`); got.code() != "context_length_exceeded" {
		t.Errorf("a long text: %s", got.body)
	}
}

// TestCachedTokensAreCounted: those of the same prompt before, but for the last.
func TestCachedTokensAreCounted(t *testing.T) {
	f := start(t, withEngine(randomEngine(t, toolTemplate)))
	for i, path := range []string{"/v1/chat/completions", "/v1/chat/completions", "/v1/responses"} {
		body := `{"model":"tiny","messages":[{"role":"user","content":"the cat sat on the mat"}],"max_tokens":2}`
		if path == "/v1/responses" {
			body = `{"model":"tiny","input":"the cat sat on the mat","max_output_tokens":2}`
		}
		var answer struct {
			Usage struct {
				Prompt int `json:"prompt_tokens"`
				Input  int `json:"input_tokens"`
				Chat   struct {
					Cached int `json:"cached_tokens"`
				} `json:"prompt_tokens_details"`
				Responses struct {
					Cached int `json:"cached_tokens"`
				} `json:"input_tokens_details"`
			}
		}
		r := f.do(t, "POST", path, body)
		if err := json.Unmarshal([]byte(r.body), &answer); err != nil {
			t.Fatalf("%s: %v", r.body, err)
		}
		u := answer.Usage
		want := u.Prompt + u.Input - 1
		if i == 0 {
			want = 0
		}
		if got := u.Chat.Cached + u.Responses.Cached; got != want || u.Prompt+u.Input < 5 {
			t.Errorf("request %d: %d cached of %d, want %d", i, got, u.Prompt+u.Input, want)
		}
	}
}

// TestThinkingIsSwitchedOffOrRefused: by the template's own switch, or with a reason.
func TestThinkingIsSwitchedOffOrRefused(t *testing.T) {
	const turn = "{{ messages[0].content }}"
	for _, c := range []struct {
		template  string
		on        bool
		off, told string // code of a refusal: of off, of on
	}{
		{turn + "{% if enable_thinking is defined and not enable_thinking %} the cat sat on the mat{% endif %}", true, "", ""},
		{turn, false, "", "thinking-unsupported"},
		{turn + "<think>", false, "thinking-unsupported", "thinking-unsupported"},
	} {
		f := start(t, withEngine(randomEngine(t, c.template)))
		prompt := func(path, extra, code string) (tokens int) {
			t.Helper()
			body := `"messages":[{"role":"user","content":"x"}],"max_tokens":1`
			switch path {
			case "/v1/responses":
				body = `"input":"x","max_output_tokens":1`
			case "/api/chat":
				body = `"messages":[{"role":"user","content":"x"}],"stream":false,"options":{"num_predict":1}`
			}
			r := f.do(t, "POST", path, `{"model":"tiny",`+body+extra+`}`)
			if code != "" {
				named, _, _ := strings.Cut(strings.TrimPrefix(extra, `,"`), `"`)
				if r.status != 400 || r.code() != code || r.param() != named {
					t.Errorf("%q with %s at %s: %v, want %s", c.template, extra, path, r, code)
				}
				return 0
			}
			var answer struct {
				Usage struct {
					Prompt int `json:"prompt_tokens"`
					Input  int `json:"input_tokens"`
				}
				Prompt int `json:"prompt_eval_count"`
			}
			if err := json.Unmarshal([]byte(r.body), &answer); err != nil || r.status != 200 {
				t.Fatalf("%q with %s at %s: %v, %v", c.template, extra, path, r, err)
			}
			return answer.Usage.Prompt + answer.Usage.Input + answer.Prompt
		}
		usual := prompt("/v1/chat/completions", "", "")
		for _, way := range [][2]string{
			{"/v1/chat/completions", `,"reasoning_effort":"none"`}, {"/v1/chat/completions", `,"enable_thinking":false`}, {"/v1/chat/completions", `,"thinking":{"type":"disabled"}`},
			{"/v1/responses", `,"reasoning":{"effort":"none"}`}, {"/api/chat", `,"think":false`},
		} {
			path, extra := way[0], way[1]
			if silent := prompt(path, extra, c.off); c.off == "" && (silent != usual) != c.on {
				t.Errorf("%q with %s: %d tokens, and %d without it", c.template, extra, silent, usual)
			}
		}
		prompt("/v1/chat/completions", `,"chat_template_kwargs":{"enable_thinking":true}`, c.told)
	}
}
