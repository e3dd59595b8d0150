package openai

import (
	"strings"
	"testing"
)

// FuzzParseEmbedding: whatever is sent, what is taken of it has a model and texts, as many as are
// allowed, and holds no more than the request was charged for.
func FuzzParseEmbedding(f *testing.F) {
	for _, body := range []string{`{"model":"m","input":"a"}`, `{"model":"m","input":["a","b"],"encoding_format":"base64","dimensions":3}`, `{"model":"m","input":[1,2,3]}`,
		`{"model":"m:latest","input":[[1],[2,3]],"truncate":false,"options":{}}`, `{"model":"m","input":[[`, `{"model":"m","input":"\ud800"}`, `{"input":null}`,
		`{"model":"m","input":["a` + strings.Repeat(`","a`, 3000) + `"]}`} {
		f.Add([]byte(body), true)
		f.Add([]byte(body), false)
	}
	f.Fuzz(func(t *testing.T, body []byte, ollama bool) {
		q, err := parseEmbedding(body, ollama)
		if err != nil {
			return
		}
		if q.model == "" && !ollama || q.texts() == 0 || q.texts() > maxInputs || q.words != nil && q.numbers != nil {
			t.Errorf("%q becomes %d texts of model %q", body, q.texts(), q.model)
		}
		held := len(body) + inputBytes*q.texts()
		for _, text := range q.words {
			held += len(text)
		}
		for _, ids := range q.numbers {
			held += 4 * cap(ids)
		}
		if int64(held) > inputCost(int64(len(body))) {
			t.Errorf("%d bytes are held of a request of %d, which is charged %d", held, len(body), inputCost(int64(len(body))))
		}
	})
}
