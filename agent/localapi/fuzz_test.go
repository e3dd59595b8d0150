package localapi

import (
	"bytes"
	"net/http/httptest"
	"testing"
)

func FuzzRequest(f *testing.F) {
	for _, body := range []string{
		`{"model":"tiny","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},"stop":["a"],"seed":1}`,
		`{"model":"tiny","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"temperature":0.5,"top_p":1,"max_tokens":3,"n":1}`,
		`{"model":"tiny","prompt":["x"],"logit_bias":{},"response_format":{"type":"text"}}`,
		`{"model":null,"messages":[null]}`,
	} {
		f.Add([]byte(body), true)
		f.Add([]byte(body), false)
	}
	s := &Server{cfg: Config{MaxBodyBytes: 1 << 16}}
	f.Fuzz(func(t *testing.T, body []byte, chat bool) {
		q, err := s.readRequest(httptest.NewRecorder(), httptest.NewRequest("POST", "/", bytes.NewReader(body)), chat)
		if err != nil {
			if p, ok := err.(*problem); !ok || p.status/100 != 4 || p.Code == "" {
				t.Errorf("refused with %#v", err)
			}
			return
		}
		if q.model == "" || (chat && len(q.messages) == 0) || q.maxTokens < 0 || q.gen.TopP <= 0 || q.gen.Temperature < 0 || len(q.gen.Stop) > maxStops {
			t.Errorf("accepted %+v", q)
		}
	})
}

func FuzzNonce(f *testing.F) {
	f.Add("00112233445566778899aabbccddeeff")
	f.Add("q6urq6urq6urq6urq6urqw")
	f.Fuzz(func(t *testing.T, s string) {
		if nonce, err := parseNonce(s); err == nil && (len(nonce) < 16 || len(nonce) > 64) {
			t.Errorf("%d bytes", len(nonce))
		}
	})
}
