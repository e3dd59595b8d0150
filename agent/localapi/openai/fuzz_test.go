package openai

import (
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/runtime/infer"
)

func FuzzRequest(f *testing.F) {
	for _, body := range []string{
		`{"model":"tiny","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},"stop":["a"],"seed":1}`,
		`{"model":"tiny","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"temperature":0.5,"top_p":1,"max_tokens":3,"n":1}`,
		`{"model":"tiny","prompt":["x"],"logit_bias":{},"response_format":{"type":"text"}}`,
		`{"model":"tiny","messages":[{"role":"user","content":"hi"}],"n":3,"logprobs":true,"top_logprobs":2,"logit_bias":{"7":-100},"min_p":0.1,"repeat_last_n":-1}`,
		`{"model":null,"messages":[null]}`,
	} {
		f.Add([]byte(body), true)
		f.Add([]byte(body), false)
	}
	f.Fuzz(func(t *testing.T, body []byte, chat bool) {
		q, err := Parse(body, chat)
		if err != nil {
			if p, ok := err.(*localapi.Error); !ok || p.Status/100 != 4 || p.Code == "" {
				t.Errorf("refused with %#v", err)
			}
			return
		}
		if q.Model == "" || (chat && len(q.Messages) == 0) || q.MaxTokens < 0 || q.Gen.TopP <= 0 || q.Gen.Temperature < 0 || len(q.Gen.Stop) > infer.MaxStops ||
			q.Choices < 1 || q.Choices > maxChoices || len(q.Gen.Bias) > infer.MaxBias || q.Gen.Top > infer.MaxTop {
			t.Errorf("accepted %+v", q)
		}
	})
}

// FuzzForms: in every form, what is accepted is within the limits, and what becomes of it is a
// grammar or a refusal.
func FuzzForms(f *testing.F) {
	forms := []form{chats{}, chats{plain: true}, responses{}, ollama{}, ollama{generate: true}}
	for i, body := range []string{
		`{"model":"tiny","messages":[{"role":"user","content":"hi"},{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"},"strict":true}}],"tool_choice":"required"}`,
		`{"model":"tiny","prompt":"x","grammar":"root ::= [a-z]+"}`,
		`{"model":"tiny","input":[{"role":"user","content":[{"type":"input_text","text":"a"}]},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"x"}],"text":{"format":{"type":"json_schema","name":"x","schema":{"enum":[1]}}},"store":false}`,
		`{"model":"tiny:latest","messages":[{"role":"tool","tool_name":"f","content":"a","images":[]}],"format":{"type":"object"},"options":{"num_predict":-1,"num_ctx":2048}}`,
		`{"model":"tiny","prompt":"a","system":"b","raw":false,"format":"json","keep_alive":"5m"}`,
	} {
		f.Add([]byte(body), uint8(i))
	}
	f.Fuzz(func(t *testing.T, body []byte, which uint8) {
		q, err := forms[int(which)%len(forms)].parse(body)
		if err == nil {
			if len(q.Messages) > maxMessages+1 || len(q.tools) > maxTools || q.values > maxValues+len(q.ToolList) || q.calls > maxMessages || q.Choices < 1 || q.Choices > maxChoices {
				t.Errorf("accepted %+v", q)
			}
			err = q.compile()
			if constrained := q.Gen.Grammar != nil; err == nil && constrained != q.constrained() {
				t.Errorf("a grammar: %v, wanted %v", constrained, q.constrained())
			}
		}
		if p, ok := err.(*localapi.Error); err != nil && (!ok || p.Status/100 != 4 || p.Code == "") {
			t.Errorf("refused with %#v", err)
		}
	})
}

// FuzzCalls: however an answer comes in pieces, its text and calls are the same, and nothing is
// lost but the marks of calls.
func FuzzCalls(f *testing.F) {
	f.Add("a<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>```json\n{\"name\":\"f\",\"arguments\":{}}\n```", uint8(3))
	f.Fuzz(func(t *testing.T, text string, size uint8) {
		read := func(size int) (all piece) {
			r := reader{fenced: []string{"f"}}
			for at := 0; at < len(text); at += size {
				p := r.push(text[at:min(at+size, len(text))])
				all.text += p.text
				all.calls = append(all.calls, p.calls...)
			}
			all.text += r.end().text
			return all
		}
		whole, pieces := read(len(text)+1), read(int(size)+1)
		if len(whole.calls) != len(pieces.calls) || len(whole.calls) == 0 && (whole.text != text || pieces.text != text) || !slices.Equal(whole.calls, pieces.calls) {
			t.Errorf("%q: %+v at once, %+v in pieces", text, whole, pieces)
		}
	})
}
