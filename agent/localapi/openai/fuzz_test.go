package openai

import (
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
