package localapi_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// looseWeather is a tool whose schema need not hold.
const looseWeather = `{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}}`

const callText = "Hm.<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"place\":\"x\"}}\n</tool_call>"

// TestBlocksOfJSONAreCallsOfLooseFunctions: of functions that there are and whose schema need not
// hold, and in no other case.
func TestBlocksOfJSONAreCallsOfLooseFunctions(t *testing.T) {
	f := start(t, nil)
	block := "```json\n{\n  \"name\": \"weather\",\n  \"arguments\": {\"place\": \"x\"}\n}\n```"
	for _, c := range []struct {
		extra, text, content string
		calls                int
	}{
		{`,"tools":[` + looseWeather + `]`, block, "", 1},
		{`,"tools":[` + looseWeather + `]`, "So:\n" + block + "\n" + block, "So:\n", 2},
		{`,"tools":[` + looseWeather + `]`, strings.Replace(block, "weather", "other", 1), strings.Replace(block, "weather", "other", 1), 0},
		{`,"tools":[` + looseWeather + `]`, "```json\n[1]\n``` and ```json\n{", "```json\n[1]\n``` and ```json\n{", 0},
		{`,"tools":[` + looseWeather + `]`, strings.Replace(block, `{"place": "x"}`, "7", 1), strings.Replace(block, `{"place": "x"}`, "7", 1), 0},
		{`,"tools":[` + weather + `]`, block, block, 0},
		{`,"tool_choice":"required","tools":[` + looseWeather + `]`, block, block, 0},
		{``, block, block, 0},
	} {
		for size := 1; size <= len(c.text); size += 1 + size/2 {
			var pieces []string
			for at := 0; at < len(c.text); at += size {
				pieces = append(pieces, c.text[at:min(at+size, len(c.text))])
			}
			f.engine.say(pieces...)
			m := readCalled(t, f.chat(t, c.extra).body).Choices[0].Message
			content := ""
			if m.Content != nil {
				content = *m.Content
			}
			if content != c.content || len(m.ToolCalls) != c.calls {
				t.Errorf("%s: %q in pieces of %d: %q, %d calls", c.extra, c.text, size, content, len(m.ToolCalls))
			}
		}
	}
}

// TestResponses: whole and streamed, with text, with a call, and cut.
func TestResponses(t *testing.T) {
	f := start(t, nil)
	ask := func(extra string) response {
		return f.do(t, "POST", "/v1/responses", `{"model":"tiny","store":false`+extra+`}`)
	}
	type object struct {
		ID, Object, Status, Receipt string
		Incomplete                  *struct{ Reason string } `json:"incomplete_details"`
		Output                      []struct {
			Type, ID, Status, Name, Arguments string
			CallID                            string `json:"call_id"`
			Content                           []struct{ Type, Text string }
		}
		Usage *struct {
			Input  int `json:"input_tokens"`
			Output int `json:"output_tokens"`
		}
	}
	decode := func(body string) (o object) {
		if err := json.Unmarshal([]byte(body), &o); err != nil {
			t.Fatal(body, err)
		}
		return o
	}
	r := ask(`,"input":"one two","instructions":"be brief","max_output_tokens":2`)
	o := decode(r.body)
	if r.status != 200 || o.Object != "response" || o.Status != "incomplete" || o.Incomplete.Reason != "max_output_tokens" || o.Output[0].Content[0].Text != "w0 w1 " || o.Usage.Input != 13 || o.Usage.Output != 2 {
		t.Error(r)
	}
	if m := f.engine.asked.Messages; m[0].Role != "system" || m[0].Content != "be brief" || m[1].Content != "one two" {
		t.Errorf("%+v", m)
	}
	f.receipt(t, o.Receipt)

	const tool = `,"tools":[{"type":"function","name":"weather","description":"d","parameters":{"type":"object"},"strict":false}]`
	f.engine.say(callText[:10], callText[10:])
	o = decode(ask(`,"input":[{"role":"user","content":[{"type":"input_text","text":"hi"}]}]` + tool).body)
	if o.Status != "completed" || len(o.Output) != 2 || o.Output[0].Content[0].Text != "Hm." || o.Output[1].Type != "function_call" || o.Output[1].Name != "weather" || o.Output[1].Arguments != `{"place":"x"}` {
		t.Errorf("%+v", o)
	}
	if got := string(f.engine.asked.Tools); got != `[{"type":"function","function":{"name":"weather","description":"d","parameters":{"type":"object"}}}]` {
		t.Error(got)
	}
	again := fmt.Sprintf(`,"input":[{"role":"user","content":"hi"},{"type":"message","id":"m","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hm.","annotations":[],"logprobs":[]}]},
		{"type":"function_call","id":"i","status":"completed","call_id":%q,"name":"weather","arguments":"{\"place\":\"x\"}"},{"type":"function_call_output","call_id":%q,"output":"rain"}]`, o.Output[1].CallID, o.Output[1].CallID)
	f.engine.say()
	if r := ask(again + `,"max_output_tokens":1` + tool); r.status != 200 {
		t.Fatal(r)
	}
	if m := f.engine.asked.Messages; len(m) != 3 || m[1].Content != "Hm." || len(m[1].Calls) != 1 || m[2].Name != "weather" || m[2].Content != "rain" {
		t.Errorf("%+v", m)
	}

	f.engine.say("Hm", callText[2:])
	r = ask(`,"stream":true,"input":"hi"` + tool)
	var kinds []string
	var text, arguments string
	for i, block := range strings.Split(strings.TrimSuffix(r.body, "\n\n"), "\n\n") {
		name, data, ok := strings.Cut(block, "\ndata: ")
		var e struct {
			Type, Delta string
			Number      int `json:"sequence_number"`
			Response    json.RawMessage
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil || !ok || name != "event: "+e.Type || e.Number != i {
			t.Fatal(block, err)
		}
		kinds = append(kinds, strings.TrimPrefix(e.Type, "response."))
		switch e.Type {
		case "response.output_text.delta":
			text += e.Delta
		case "response.function_call_arguments.delta":
			arguments += e.Delta
		case "response.completed":
			if o := decode(string(e.Response)); len(o.Output) != 2 || o.Usage.Output != 2 {
				t.Errorf("%+v", o)
			} else {
				f.receipt(t, o.Receipt)
			}
		}
	}
	want := "created in_progress output_item.added content_part.added output_text.delta output_text.delta output_item.added function_call_arguments.delta function_call_arguments.done output_item.done output_text.done content_part.done output_item.done completed"
	if got := strings.Join(kinds, " "); got != want || text != "Hm." || arguments != `{"place":"x"}` {
		t.Errorf("%s; %q, %q", got, text, arguments)
	}
	f.engine.say()
	if r := ask(`,"input":"hi","text":{"format":{"type":"json_schema","name":"x","strict":true,"schema":{"type":"object"}},"verbosity":"medium"}`); r.status != 200 || f.engine.seen[len(f.engine.seen)-1].Grammar == nil {
		t.Error(r)
	}
	for extra, param := range map[string]string{
		``: "input", `,"input":[]`: "input", `,"input":7`: "input", `,"input":[7]`: "input", `,"input":"a","previous_response_id":"resp_1"`: "previous_response_id", `,"input":"a","store":true`: "store",
		`,"input":"a","background":true`: "background", `,"input":"a","reasoning":{"effort":"high"}`: "reasoning", `,"input":"a","max_tokens":1`: "max_tokens", `,"input":"a","max_output_tokens":0`: "max_output_tokens",
		`,"input":[{"type":"reasoning","summary":[]}]`: "input[0].type", `,"input":[{"type":"function_call_output","call_id":"x","output":"y"}]`: "input[0].call_id", `,"input":"a","tools":[{"type":"web_search"}]`: "tools[0].type",
		`,"input":"a","text":{"format":{"type":"xml"}}`: "response_format", `,"input":"a","text":7`: "text", `,"input":"a","text":{"x":1}`: "text.x", `,"input":[{"role":"user","content":"a","x":1}]`: "input[0].x",
		`,"input":[` + strings.TrimSuffix(strings.Repeat(`{"role":"user","content":""},`, 1025), ",") + `]`: "input",
	} {
		if r := ask(extra); r.status != 400 || r.param() != param {
			t.Errorf("%.90s: %d %.200s, want %s", extra, r.status, r.body, param)
		}
	}
}

// TestLikelihoodsOfOllamaAndResponses: as their documentation has them, whole and streamed.
func TestLikelihoodsOfOllamaAndResponses(t *testing.T) {
	f := start(t, nil)
	type token struct {
		Token   string
		Logprob float64
		Bytes   []int
		Top     []struct{ Token string } `json:"top_logprobs"`
	}
	check := func(where string, list []token, top int) {
		t.Helper()
		if len(list) != 2 {
			t.Fatalf("%s: %+v", where, list)
		}
		for i, l := range list {
			if want := fmt.Sprintf("w%d ", i); l.Token != want || l.Logprob != -0.5 || len(l.Bytes) != len(want) || len(l.Top) != top || l.Top == nil {
				t.Errorf("%s: %+v, want %q", where, l, want)
			}
		}
	}
	for _, top := range []int{0, 2} {
		for path, prompt := range map[string]string{"/api/chat": `"messages":[{"role":"user","content":"a"}]`, "/api/generate": `"prompt":"a"`} {
			for _, stream := range []bool{false, true} {
				r := f.do(t, "POST", path, fmt.Sprintf(`{"model":"tiny",%s,"stream":%v,"logprobs":true,"top_logprobs":%d,"options":{"num_predict":2}}`, prompt, stream, top))
				var all []token
				for line := range strings.Lines(r.body) {
					var part struct{ Logprobs []token }
					if err := json.Unmarshal([]byte(line), &part); err != nil {
						t.Fatal(line, err)
					}
					if stream && len(part.Logprobs) > 1 {
						t.Errorf("%s: a piece of one token has %+v", path, part.Logprobs)
					}
					all = append(all, part.Logprobs...)
				}
				check(path, all, top)
			}
		}
		ask := fmt.Sprintf(`{"model":"tiny","input":"a","max_output_tokens":2,"include":["message.output_text.logprobs"],"top_logprobs":%d`, top)
		read := func(body string) []token {
			var whole struct {
				Output []struct{ Content []struct{ Logprobs []token } }
			}
			if err := json.Unmarshal([]byte(body), &whole); err != nil || len(whole.Output) != 1 {
				t.Fatal(body, err)
			}
			return whole.Output[0].Content[0].Logprobs
		}
		check("responses", read(f.do(t, "POST", "/v1/responses", ask+`}`).body), top)
		var deltas []token
		for block := range strings.SplitSeq(f.do(t, "POST", "/v1/responses", ask+`,"stream":true}`).body, "\n\n") {
			_, data, ok := strings.Cut(block, "\ndata: ")
			var e struct {
				Type     string
				Logprobs []token
				Response json.RawMessage
			}
			if !ok {
				continue
			}
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				t.Fatal(data, err)
			}
			switch e.Type {
			case "response.output_text.delta":
				deltas = append(deltas, e.Logprobs...)
			case "response.output_text.done":
				check("text done", e.Logprobs, top)
			case "response.incomplete":
				check("the whole response", read(string(e.Response)), top)
			}
		}
		check("streamed responses", deltas, top)
	}
	for path, body := range map[string]string{
		"/api/chat":     `"messages":[{"role":"user","content":"a"}],"top_logprobs":2`,
		"/api/generate": `"prompt":"a","logprobs":true,"top_logprobs":21`,
		"/v1/responses": `"input":"a","top_logprobs":2`,
	} {
		if r := f.do(t, "POST", path, `{"model":"tiny",`+body+`}`); r.status != 400 || r.param() != "top_logprobs" {
			t.Errorf("%s: %v", path, r)
		}
	}
}

// TestOllama: lines of pieces, and an answer in one.
func TestOllama(t *testing.T) {
	f := start(t, nil)
	type line struct {
		Model, Response string
		Created         string `json:"created_at"`
		Message         struct {
			Content string
			Calls   []struct {
				Function struct {
					Name      string
					Arguments map[string]any
				}
			} `json:"tool_calls"`
		}
		Done    bool
		Reason  string `json:"done_reason"`
		Prompt  int    `json:"prompt_eval_count"`
		Count   int    `json:"eval_count"`
		Receipt string
	}
	ask := func(path, extra string) (list []line) {
		t.Helper()
		r := f.do(t, "POST", path, `{"model":"tiny:latest"`+extra+`}`)
		if r.status != 200 {
			t.Fatal(r)
		}
		for _, text := range strings.Split(strings.TrimSpace(r.body), "\n") {
			var l line
			if err := json.Unmarshal([]byte(text), &l); err != nil {
				t.Fatal(r, err)
			}
			list = append(list, l)
		}
		return list
	}
	const hi = `,"messages":[{"role":"user","content":"one two"}]`
	list := ask("/api/chat", hi+`,"options":{"num_predict":2,"num_ctx":4096,"temperature":0,"stop":["w9"]},"keep_alive":"5m"`)
	if len(list) != 3 || list[0].Message.Content+list[1].Message.Content != "w0 w1 " || list[1].Done || !list[2].Done || list[2].Reason != "length" || list[2].Count != 2 || list[2].Prompt != 8 {
		t.Errorf("%+v", list)
	}
	issued := f.receipt(t, list[2].Receipt)
	if issued.Receipt.Body.OutputCommitment != receipt.CommitOutput(issued.Salts.Output, []byte("w0 w1 ")) {
		t.Error("another text's receipt")
	}
	f.engine.say(callText)
	list = ask("/api/chat", `,"stream":false,"tools":[`+weather+`],"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"","tool_calls":[{"function":{"name":"weather","arguments":{"place":"y"}}}]},{"role":"tool","tool_name":"weather","content":"sun"}]`)
	if m := list[0].Message; len(list) != 1 || m.Content != "Hm." || len(m.Calls) != 1 || m.Calls[0].Function.Arguments["place"] != "x" || list[0].Reason != "stop" {
		t.Errorf("%+v", list)
	}
	if m := f.engine.asked.Messages; string(m[1].Calls[0].Arguments) != `{"place":"y"}` || m[2].Name != "weather" {
		t.Errorf("%+v", m)
	}
	f.engine.say()
	list = ask("/api/generate", `,"prompt":"a b","system":"s","stream":false,"format":"json","options":{"num_predict":-1}`)
	if m := f.engine.asked.Messages; list[0].Response == "" || !list[0].Done || len(m) != 2 || m[0].Role != "system" || f.engine.seen[len(f.engine.seen)-1].Grammar == nil {
		t.Errorf("%+v %+v", list, m)
	}
	if list = ask("/api/generate", `,"prompt":"a b","raw":true,"stream":false`); list[0].Prompt != 2 {
		t.Errorf("%+v", list)
	}
	for path, cases := range map[string]map[string]string{
		"/api/chat": {``: "messages", hi + `,"think":true`: "think", hi + `,"options":{"mirostat":1}`: "mirostat", hi + `,"options":{"new":1}`: "new", hi + `,"options":7`: "options", hi + `,"format":"xml"`: "format",
			hi + `,"format":{"not":{}}`: "format", `,"messages":[{"role":"user","content":"a","images":["x"]}]`: "messages[0].images", hi + `,"options":{"num_predict":-3}`: "num_predict", hi + `,"prompt":"a"`: "prompt"},
		"/api/generate": {``: "prompt", `,"prompt":"a","suffix":"b"`: "suffix", `,"prompt":"a","images":["x"]`: "images", `,"prompt":"a","raw":1`: "raw", `,"prompt":"a","raw":true,"system":"s"`: "system", `,"prompt":"a","tools":[` + weather + `]`: "tools"},
	} {
		for extra, param := range cases {
			if r := f.do(t, "POST", path, `{"model":"tiny"`+extra+`}`); r.status != 400 || r.param() != param {
				t.Errorf("%s %s: %d %.200s, want %s", path, extra, r.status, r.body, param)
			}
		}
	}
	if r := f.do(t, "GET", "/api/tags", ""); r.status != 200 || !strings.Contains(r.body, `"name":"tiny"`) {
		t.Error(r)
	}
	if r := f.do(t, "GET", "/api/ps", ""); r.status != 200 || !strings.Contains(r.body, `"name":"tiny"`) || !strings.Contains(r.body, `"digest":"0100`) || !strings.Contains(r.body, `"context_length":64`) {
		t.Error(r)
	}
	for _, body := range []string{`{"model":"tiny"}`, `{"name":"tiny:latest","verbose":true}`} {
		if r := f.do(t, "POST", "/api/show", body); r.status != 200 || !strings.Contains(r.body, `"capabilities":["completion"]`) || !strings.Contains(r.body, `"sealed.context_length":64`) {
			t.Errorf("%s: %+v", body, r)
		}
	}
	for body, want := range map[string]int{`{"model":"other"}`: 404, `{}`: 400, `{"model":7}`: 400, `{"model":"tiny","new":1}`: 400, `[`: 400} {
		if r := f.do(t, "POST", "/api/show", body); r.status != want {
			t.Errorf("%s: %d %s, want %d", body, r.status, r.body, want)
		}
	}
	if r := f.do(t, "GET", "/api/version", ""); r.status != 200 || !strings.Contains(r.body, `"version":"1.2.3"`) {
		t.Error(r)
	}
	// An error in the middle is a line.
	f.engine.step = make(chan struct{}, 2)
	f.engine.step <- struct{}{}
	go func() {
		f.engine.step <- struct{}{}
		f.expire()
	}()
	r := f.do(t, "POST", "/api/chat", `{"model":"tiny"`+hi+`}`)
	lines := strings.Split(strings.TrimSpace(r.body), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, "lease-expired") || strings.HasPrefix(last, "data:") {
		t.Error(r)
	}
}

// TestLikelihoodsOfResponsesAreOfTheirText, and not of the calls beside it.
func TestLikelihoodsOfResponsesAreOfTheirText(t *testing.T) {
	f := start(t, nil)
	const ask = `{"model":"tiny","input":"hi","include":["message.output_text.logprobs"],"tools":[{"type":"function","name":"weather","parameters":{"type":"object"},"strict":false}]`
	call := callText[len("Hm."):]
	for _, c := range []struct {
		says []string
		want []int // tokens
	}{
		{[]string{"Hm", ".", call[:20], call[20:]}, []int{0, 1}},
		{[]string{"Hm", ".", call[:20], call[20:], "\n"}, []int{0, 1}},
		{[]string{"Hm", ".", call[:20], call[20:], "\n", call[:9], call[9:]}, []int{0, 1}},
		{[]string{"Hm", call[:20], call[20:], "So", "."}, []int{0, 3, 4}},
		{[]string{"Hm", "<tool_", "x"}, []int{0, 1, 2}},
		{[]string{"Hm", "<tool_call>\n{", "x"}, []int{0, 1, 2}},
	} {
		f.engine.say(c.says...)
		type content struct {
			Logprobs []struct{ Token string }
		}
		type output []struct{ Content []content }
		check := func(where string, list content) {
			t.Helper()
			var got []string
			for _, l := range list.Logprobs {
				got = append(got, l.Token)
			}
			var want []string
			for _, n := range c.want {
				want = append(want, fmt.Sprintf("w%d ", n))
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%q, %s: tokens %q, want %q", c.says, where, got, want)
			}
		}
		var whole struct{ Output output }
		if r := f.do(t, "POST", "/v1/responses", ask+`}`); json.Unmarshal([]byte(r.body), &whole) != nil || len(whole.Output) == 0 {
			t.Fatal(r)
		}
		check("whole", whole.Output[0].Content[0])
		var deltas content
		for block := range strings.SplitSeq(f.do(t, "POST", "/v1/responses", ask+`,"stream":true}`).body, "\n\n") {
			_, data, _ := strings.Cut(block, "\ndata: ")
			var e struct {
				Type string
				content
				Part     content
				Response struct{ Output output }
			}
			if data == "" {
				continue
			}
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				t.Fatal(data, err)
			}
			switch e.Type {
			case "response.output_text.delta":
				deltas.Logprobs = append(deltas.Logprobs, e.Logprobs...)
			case "response.output_text.done":
				check(e.Type, e.content)
			case "response.content_part.done":
				check(e.Type, e.Part)
			case "response.completed":
				check(e.Type, e.Response.Output[0].Content[0])
			}
		}
		check("deltas", deltas)
	}
}

// TestLikelihoodsOfChatsAreOfTheirCalls, too, each once and in order: vLLM's and llama.cpp's are, so clients judge calls by them.
func TestLikelihoodsOfChatsAreOfTheirCalls(t *testing.T) {
	f := start(t, nil)
	f.engine.say("Hm", ".", callText[3:20], callText[20:])
	const want = "[w0  w1  w2  w3 ]"
	type tokens []struct{ Token string }
	check := func(where string, lists ...tokens) {
		t.Helper()
		var got []string
		for _, list := range lists {
			for _, l := range list {
				got = append(got, l.Token)
			}
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%s: tokens %q, want %s", where, got, want)
		}
	}
	type answer struct {
		Choices []struct {
			Logprobs struct{ Content tokens }
			Reason   string `json:"finish_reason"`
		}
		Logprobs tokens // of Ollama
	}
	read := func(body string) (a answer) {
		t.Helper()
		if err := json.Unmarshal([]byte(body), &a); err != nil {
			t.Fatal(body, err)
		}
		return a
	}
	const ask = `,"logprobs":true,"tools":[` + weather + `]`
	whole := read(f.chat(t, ask).body)
	if check("whole", whole.Choices[0].Logprobs.Content); whole.Choices[0].Reason != "tool_calls" {
		t.Errorf("the answer is no call: %+v", whole)
	}
	var lists []tokens
	events := f.chat(t, ask+`,"stream":true`).events(t)
	for _, e := range events[:len(events)-1] {
		for _, c := range read(e).Choices {
			lists = append(lists, c.Logprobs.Content)
		}
	}
	check("streamed", lists...)
	chat := `{"model":"tiny","messages":[{"role":"user","content":"hi"}]` + ask
	check("Ollama's", read(f.do(t, "POST", "/api/chat", chat+`,"stream":false}`).body).Logprobs)
	lists = nil
	for line := range strings.Lines(f.do(t, "POST", "/api/chat", chat+`}`).body) {
		lists = append(lists, read(line).Logprobs)
	}
	check("Ollama's, streamed", lists...)
}
