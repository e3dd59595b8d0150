package localapi_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

const weather = `{"type":"function","function":{"name":"weather","description":"of a place","parameters":{"type":"object","properties":{"place":{"type":"string"}},"required":["place"],"additionalProperties":false},"strict":true}}`

// called is an answer with calls.
type called struct {
	Choices []struct {
		Message, Delta struct {
			Content   *string
			ToolCalls []struct {
				Index    *int
				ID, Type string
				Function struct{ Name, Arguments string }
			} `json:"tool_calls"`
		}
		Reason string `json:"finish_reason"`
	}
	Receipt string
}

func readCalled(t testing.TB, body string) (c called) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		t.Fatal(body, err)
	}
	return c
}

// TestCallsAreTakenOutOfTheText: however their text comes in pieces, whole and streamed.
func TestCallsAreTakenOutOfTheText(t *testing.T) {
	f := start(t, nil)
	const one, two = `{"place": "K\u00f6ln </tool_call>"}`, `{"place":"a"}`
	text := "I look.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": " + one + "}\n</tool_call>\n<tool_call>\n{\"name\": \"weather\", \"arguments\": " + two + "}\n</tool_call>"
	want := []receipt.Choice{{Text: "I look.\n", Calls: []receipt.Call{{Name: "weather", Arguments: one}, {Name: "weather", Arguments: two}}}}
	for size := 1; size <= len(text); size += 1 + size/3 {
		var pieces []string
		for at := 0; at < len(text); at += size {
			pieces = append(pieces, text[at:min(at+size, len(text))])
		}
		f.engine.say(pieces...)
		check := func(id, content string, got []receipt.Call, reason string) {
			t.Helper()
			if content != want[0].Text || fmt.Sprint(got) != fmt.Sprint(want[0].Calls) || reason != "tool_calls" {
				t.Errorf("pieces of %d: %q, %v, %s", size, content, got, reason)
			}
			issued := f.receipt(t, id)
			if issued.Receipt.Body.OutputCommitment != receipt.CommitOutput(issued.Salts.Output, receipt.EncodeChoices(want)) {
				t.Error("the receipt does not commit to the calls")
			}
		}
		c := readCalled(t, f.chat(t, `,"tools":[`+weather+`]`).body)
		var calls []receipt.Call
		for _, call := range c.Choices[0].Message.ToolCalls {
			calls = append(calls, receipt.Call{Name: call.Function.Name, Arguments: call.Function.Arguments})
		}
		check(c.Receipt, *c.Choices[0].Message.Content, calls, c.Choices[0].Reason)

		calls = nil
		var content, reason, id string
		events := f.chat(t, `,"stream":true,"tools":[`+weather+`]`).events(t)
		for _, e := range events[:len(events)-1] {
			c := readCalled(t, e)
			id = c.Receipt
			if d := c.Choices[0].Delta; d.Content != nil {
				content += *d.Content
			}
			for _, call := range c.Choices[0].Delta.ToolCalls {
				if *call.Index != len(calls) || call.ID == "" || call.Type != "function" {
					t.Errorf("%+v", call)
				}
				calls = append(calls, receipt.Call{Name: call.Function.Name, Arguments: call.Function.Arguments})
			}
			reason += c.Choices[0].Reason
		}
		check(id, content, calls, reason)
	}
	// Without text there is no content, and what was cut is text.
	f.engine.say(text[len("I look.\n"):])
	if c := readCalled(t, f.chat(t, `,"tools":[`+weather+`]`).body); c.Choices[0].Message.Content != nil || len(c.Choices[0].Message.ToolCalls) != 2 {
		t.Errorf("%+v", c)
	}
	f.engine.say(text[:60])
	if c := readCalled(t, f.chat(t, `,"tools":[`+weather+`]`).body); *c.Choices[0].Message.Content != text[:60] || c.Choices[0].Reason != "stop" {
		t.Errorf("%+v", c)
	}
	// Nothing is taken out where no tool may be called.
	f.engine.say(text)
	for _, extra := range []string{``, `,"tool_choice":"none","tools":[` + weather + `]`, `,"tools":[]`} {
		if c := readCalled(t, f.chat(t, extra).body); *c.Choices[0].Message.Content != text || f.engine.asked.Tools != nil {
			t.Errorf("%s: %+v", extra, c)
		}
	}
}

// TestConversationsWithTools reach the engine: the tools as sent, calls and answers by name.
func TestConversationsWithTools(t *testing.T) {
	f := start(t, nil)
	r := f.do(t, "POST", "/v1/chat/completions", `{"model":"tiny","max_tokens":1,"tools":[`+weather+`],"messages":[{"role":"user","content":"hi"},
		{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"weather","arguments":"{\"place\": \"x\"}"}},{"id":"c2","type":"function","function":{"name":"weather","arguments":""}}]},
		{"role":"tool","tool_call_id":"c1","content":"rain"},{"role":"tool","tool_call_id":"c2","name":"weather","content":[{"type":"text","text":"sun"}]}]}`)
	if r.status != 200 {
		t.Fatal(r)
	}
	m := f.engine.asked.Messages
	if string(f.engine.asked.Tools) != `[`+weather+`]` || len(m) != 4 || len(m[1].Calls) != 2 || string(m[1].Calls[0].Arguments) != `{"place": "x"}` || string(m[1].Calls[1].Arguments) != `{}` ||
		m[2].Name != "weather" || m[2].Content != "rain" || m[3].Content != "sun" {
		t.Errorf("%s: %+v", f.engine.asked.Tools, m)
	}
	if g := f.engine.seen[0].Grammar; g == nil {
		t.Error("the answer has no grammar")
	}
}

// TestFormatsBecomeGrammars, and what cannot be enforced is refused by name.
func TestFormatsBecomeGrammars(t *testing.T) {
	f := start(t, nil)
	format := func(schema string) string {
		return `,"response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":` + schema + `}}`
	}
	for _, extra := range []string{`,"response_format":{"type":"json_object"}`, format(`{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}`),
		`,"grammar":"root ::= \"a\" | [0-9]+"`, `,"stream":true,"n":2,"logprobs":true` + format(`true`)} {
		before := len(f.engine.seen)
		if r := f.chat(t, extra+`,"max_tokens":2`); r.status != 200 || f.engine.seen[before].Grammar == nil {
			t.Error(extra, r)
		}
	}
	many := `{"enum":[` + strings.TrimSuffix(strings.Repeat("1,", 1<<14), ",") + `]}`
	tools := func(list string) string { return `,"tools":[` + list + `]` }
	function := func(more string) string { return `{"type":"function","function":{"name":"f"` + more + `}}` }
	for extra, want := range map[string][3]string{
		format(`{"type":"object","patternProperties":{}}`): {"response_format", "grammar-refused", "patternProperties"},
		format(`{"type":"string","format":"email"}`):       {"response_format", "grammar-refused", "email"},
		format(`7`):  {"response_format", "grammar-refused", "object or true"},
		format(many): {"response_format", "invalid-value", "16384 values"},
		format(`{"enum":["` + strings.Repeat("x", 20000) + `"]}`):                                            {"response_format", "grammar-refused", "elements"},
		format(strings.Repeat(`{"items":`, 300) + `true` + strings.Repeat(`}`, 300)):                         {"response_format", "grammar-refused", "levels deep"},
		`,"response_format":{"type":"xml"}`:                                                                  {"response_format", "unsupported-value", "xml"},
		`,"response_format":"json"`:                                                                          {"response_format", "invalid-type", ""},
		`,"response_format":{"type":"json_schema"}`:                                                          {"response_format", "missing-parameter", ""},
		`,"response_format":{"type":"json_object","strict":true}`:                                            {"response_format.strict", "unsupported-parameter", ""},
		`,"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":true,"more":1}}`:        {"response_format.more", "unsupported-parameter", ""},
		`,"grammar":"root ::= root"`:                                                                         {"grammar", "grammar-refused", "never end"},
		`,"grammar":7`:                                                                                       {"grammar", "invalid-type", ""},
		`,"grammar":"root ::= \"a\"","response_format":{"type":"json_object"}`:                               {"grammar", "invalid-value", "exclusive"},
		`,"response_format":{"type":"json_object"}` + tools(weather):                                         {"tools", "unsupported-value", ""},
		tools(`{"type":"web_search"}`):                                                                       {"tools[0].type", "unsupported-tool", "web_search"},
		tools(`7`):                                                                                           {"tools[0]", "invalid-type", ""},
		tools(`{"type":"function"}`):                                                                         {"tools[0].name", "invalid-value", ""},
		tools(`{"type":"function","function":{"name":"a b"}}`):                                               {"tools[0].name", "invalid-value", ""},
		tools(`{"type":"function","function":{"name":"` + strings.Repeat("a", 65) + `"}}`):                   {"tools[0].name", "invalid-value", "64"},
		tools(function(`,"more":1`)):                                                                         {"tools[0].more", "unsupported-parameter", ""},
		tools(function(`,"strict":true,"parameters":{"not":{}}`)):                                            {"tools", "grammar-refused", `"not"`},
		tools(function(`,"parameters":[]`)):                                                                  {"tools[0].parameters", "invalid-type", ""},
		tools(function(``) + `,` + function(``)):                                                             {"tools", "invalid-value", "two functions"},
		tools(strings.TrimSuffix(strings.Repeat(`{"type":"function","function":{"name":"f%"}},`, 129), ",")): {"tools[0].name", "invalid-value", ""},
		`,"tools":{}`:                             {"tools", "invalid-type", ""},
		`,"tool_choice":"required"`:               {"tool_choice", "invalid-value", "requires tools"},
		`,"tool_choice":"maybe"` + tools(weather): {"tool_choice", "invalid-value", ""},
		`,"tool_choice":{"type":"function","function":{"name":"other"}}` + tools(weather): {"tool_choice", "invalid-value", ""},
		`,"parallel_tool_calls":1` + tools(weather):                                       {"parallel_tool_calls", "invalid-type", ""},
	} {
		if strings.Contains(extra, "f%") {
			for i := range 129 {
				extra = strings.Replace(extra, "f%", fmt.Sprintf("f%d", i), 1)
			}
			want = [3]string{"tools", "invalid-value", "at most 128"}
		}
		r := f.chat(t, extra)
		if r.status != 400 || r.param() != want[0] || r.code() != want[1] || !strings.Contains(r.body, strings.ReplaceAll(want[2], `"`, `\"`)) {
			t.Errorf("%.100s: %d %.300s, want %q", extra, r.status, r.body, want)
		}
	}
	before := len(f.engine.seen)
	for _, extra := range []string{tools(function(`,"parameters":{"not":{}}`)), `,"tool_choice":{"type":"function","function":{"name":"weather"}}` + tools(weather), `,"tool_choice":"required"` + tools(weather),
		`,"tool_choice":"auto"`, `,"tool_choice":"none"`, `,"parallel_tool_calls":false` + tools(weather)} {
		if r := f.chat(t, extra); r.status != 200 {
			t.Error(extra, r)
		}
	}
	if len(f.engine.seen) != before+6 {
		t.Error(len(f.engine.seen))
	}
	if used := f.server.Intake().Budget.Used(); used != 0 {
		t.Errorf("%d bytes are held after it", used)
	}
	// A grammar's memory is asked for.
	small := start(t, func(c *setup) { c.Memory, c.MaxBodyBytes = 256<<10, 16<<10 })
	if r := small.chat(t, `,"response_format":{"type":"json_object"}`); r.status != 413 || len(small.engine.seen) != 0 {
		t.Error(r)
	}
}

// TestArgumentsAreObjects, whatever a schema admits: anything else would be no call.
func TestArgumentsAreObjects(t *testing.T) {
	f := start(t, nil)
	tool := func(more, schema string) string {
		return `,"tool_choice":"required","tools":[{"type":"function","function":{"name":"f"` + more + `,"parameters":` + schema + `}}]`
	}
	const head = "<tool_call>\n{\"name\": \"f\", \"arguments\": "
	for schema, object := range map[string]string{
		`{}`: `{"x": 7}`, `{"type":["object","string"]}`: `{"x": 7}`, `{"enum":["a"]}`: `{"x": 7}`, `{"$ref":"#/$defs/a","$defs":{"a":{"type":"integer"}}}`: `{"x": 7}`,
		`{"properties":{"a":{"type":"null"}}}`: `{"a": null}`, `{"$ref":"#/$defs/a","$defs":{"a":{"type":"object","properties":{"a":{}}}}}`: `{"a": 7}`,
	} {
		before := len(f.engine.seen)
		if r := f.chat(t, tool("", schema)); r.status != 200 {
			t.Fatal(schema, r)
		}
		m, err := f.engine.seen[before].Grammar.NewMatcher()
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := m.Allows([]byte(head + object)); err != nil || !ok {
			t.Errorf("%s: no %s: %v", schema, object, err)
		}
		for _, other := range []string{"7", `"a`, "[", "null"} {
			if ok, err := m.Allows([]byte(head + other)); err != nil || ok {
				t.Errorf("%s: arguments may be %s: %v", schema, other, err)
			}
		}
	}
	for _, schema := range []string{`{}`, `{"enum":["a"]}`, `{"properties":{},"minLength":1}`, `{"$ref":"#"}`} {
		if r := f.chat(t, tool(`,"strict":true`, schema)); r.status != 400 || r.code() != "grammar-refused" || !strings.Contains(r.body, "type object") {
			t.Errorf("strict %s: %v", schema, r)
		}
	}
}

// TestTextInArgumentsIsNoValues: conversations carry whole files.
func TestTextInArgumentsIsNoValues(t *testing.T) {
	f := start(t, nil)
	arguments, err := json.Marshal(`{"text":"` + strings.Repeat(`\"{[,:\\`, 5<<10) + `"}`)
	if err != nil {
		t.Fatal(err)
	}
	many, err := json.Marshal(`{"text":"\\","list":[` + strings.Repeat("1,", 1<<14) + `1]}`)
	if err != nil {
		t.Fatal(err)
	}
	for want, arguments := range map[int][]byte{200: arguments, 400: many} {
		r := f.do(t, "POST", "/v1/chat/completions", `{"model":"tiny","max_tokens":1,"messages":[{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":`+string(arguments)+`}}]}]}`)
		if r.status != want {
			t.Errorf("want %d, got %.300s", want, r.body)
		}
	}
}

// TestMessagesOfToolsAreChecked: each mistake alone.
func TestMessagesOfToolsAreChecked(t *testing.T) {
	f := start(t, nil)
	call := func(arguments string) string {
		return `{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":` + arguments + `}}]}`
	}
	for messages, param := range map[string]string{
		`{"role":"tool","content":"x"}`:                      "messages[0].tool_call_id",
		`{"role":"tool","tool_call_id":"c","content":"x"}`:   "messages[0].tool_call_id",
		`{"role":"tool","tool_call_id":7,"content":"x"}`:     "messages[0].tool_call_id",
		call(`"{}"`) + `,{"role":"tool","tool_call_id":"c"}`: "messages[1].content",
		call(`"[]"`): "messages[0].tool_calls",
		call(`"{"`):  "messages[0].tool_calls",
		call(`7`):    "messages[0].tool_calls",
		call(`"{\"a\":[` + strings.Repeat("1,", 1<<14) + `1]}"`):                           "messages[0].tool_calls",
		`{"role":"user","content":"a","tool_calls":[]}`:                                    "messages[0].tool_calls",
		`{"role":"assistant","tool_calls":[7]}`:                                            "messages[0].tool_calls",
		`{"role":"assistant","tool_calls":{}}`:                                             "messages[0].tool_calls",
		`{"role":"assistant","tool_calls":[{"type":"custom"}]}`:                            "messages[0].tool_calls",
		`{"role":"assistant","tool_calls":[{"function":{"name":"a b","arguments":"{}"}}]}`: "messages[0].tool_calls",
		strings.TrimSuffix(strings.Repeat(`{"role":"assistant","tool_calls":[`+strings.TrimSuffix(strings.Repeat(`{"function":{"name":"f","arguments":"{}"}},`, 100), ",")+`]},`, 11), ","): "messages[10].tool_calls",
		`{"role":"assistant"}`: "messages[0].content",
		`{"role":"assistant","tool_calls":[` + strings.TrimSuffix(strings.Repeat(`{"function":{"name":"f","arguments":"{}"}},`, 129), ",") + `]}`: "messages[0].tool_calls",
	} {
		if r := f.do(t, "POST", "/v1/chat/completions", `{"model":"tiny","messages":[`+messages+`]}`); r.status != 400 || r.param() != param {
			t.Errorf("%.120s: %d %.300s, want %s", messages, r.status, r.body, param)
		}
	}
}

// TestASchemaThatIsNotEnforcedIsTold: of a function that is not strict in a header, whole and
// streamed; of one that is, it is refused.
func TestASchemaThatIsNotEnforcedIsTold(t *testing.T) {
	f := start(t, nil)
	tool := func(name, more string) string {
		return `{"type":"function","function":{"name":"` + name + `","parameters":{"type":"object","properties":{"a":{"type":"string","contentEncoding":"base64"}}}` + more + `}}`
	}
	const good = `{"type":"function","function":{"name":"good","parameters":{"type":"object","properties":{}}}},{"type":"function","function":{"name":"none"}}`
	for _, stream := range []string{"", `,"stream":true`} {
		r := f.chat(t, `,"tools":[`+good+`,`+tool("loose", "")+`]`+stream)
		if got := r.header.Get("Anchorhold-Warning"); r.status != 200 || got != "tool-schema-not-enforced: loose" {
			t.Errorf("%d with %q: %s", r.status, got, r.body)
		}
		if r := f.chat(t, `,"tools":[`+good+`]`+stream); r.status != 200 || r.header.Get("Anchorhold-Warning") != "" {
			t.Errorf("%d with %q: %s", r.status, r.header.Get("Anchorhold-Warning"), r.body)
		}
		if r := f.chat(t, `,"tools":[`+tool("tight", `,"strict":true`)+`]`+stream); r.status != 400 || r.code() != "grammar-refused" {
			t.Errorf("%d: %s", r.status, r.body)
		}
	}
	var many []string
	for i := range 10 {
		many = append(many, tool(fmt.Sprintf("f%d", i), ""))
	}
	if r := f.chat(t, `,"tools":[`+strings.Join(many, ",")+`]`); !strings.HasSuffix(r.header.Get("Anchorhold-Warning"), "f6, f7 and 2 more") {
		t.Errorf("%q", r.header.Get("Anchorhold-Warning"))
	}
}
