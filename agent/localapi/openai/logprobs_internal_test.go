package openai

import (
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/infer"
)

// wordsEngine has words for tokens.
type wordsEngine struct{ Engine }

func (wordsEngine) Piece(id int32) []byte { return fmt.Appendf(nil, "word%d ", id) }

// discard is a reader of answers who keeps nothing.
type discard struct {
	header http.Header
	bytes  int64
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { d.bytes += int64(len(p)); return len(p), nil }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Flush()                      {}

// answerOf is an answer of so many tokens, each with so many others.
func answerOf(tokens, top int) *answer {
	a := &answer{}
	for i := range tokens {
		s := infer.Scored{Likelihood: infer.Likelihood{Token: int32(i), Logprob: -1.2345678}}
		for j := range top {
			s.Top = append(s.Top, infer.Likelihood{Token: int32(i + j), Logprob: -1.2345678})
		}
		a.scored = append(a.scored, s)
		a.text.WriteString("word ")
	}
	return a
}

// TestWholeLikelihoodsAreCharged: an answer in one piece held a list of its likelihoods, the encoder's text of JSON and
// a copy of that, and paid for one text, which is all that it holds.
func TestWholeLikelihoodsAreCharged(t *testing.T) {
	longtest.WithoutRace(t, "it counts what is allocated, and pools keep only a part under the race detector")
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const tokens = 1000
	for _, c := range []struct {
		name string
		form form
		body string
	}{
		{"chat", chats{}, `{"model":"m","messages":[{"role":"user","content":"a"}],"logprobs":true,"top_logprobs":%d}`},
		{"completion", chats{plain: true}, `{"model":"m","prompt":"a","logprobs":%d}`},
		{"response", responses{}, `{"model":"m","input":"a","include":["message.output_text.logprobs"],"top_logprobs":%d}`},
	} {
		for _, top := range []int{0, 5, infer.MaxTop} {
			q, err := c.form.parse(fmt.Appendf(nil, c.body, top))
			if err != nil {
				if c.name == "completion" && top > 5 {
					continue // at most five there
				}
				t.Fatalf("%s with %d others: %v", c.name, top, err)
			}
			q.Gen.MaxTokens = tokens
			do := &completion{service: &Service{}, form: c.form, request: q, session: Session{Engine: wordsEngine{}}, answers: []*answer{answerOf(tokens, top)}, held: &memory{}}
			var before, after runtime.MemStats
			for range 2 { // the encoder's buffer grows first
				runtime.ReadMemStats(&before)
				if _, err = do.encode(); err != nil {
					t.Fatal(err)
				}
				runtime.ReadMemStats(&after)
			}
			// Of each token some short texts become garbage, twice, which is counted here.
			held, charged := int64(after.TotalAlloc-before.TotalAlloc), answerCost(q)
			if held > charged || charged > 3*held {
				t.Errorf("%s: %d tokens with %d others take %d bytes, and %d are charged", c.name, tokens, top, held, charged)
			}
		}
	}
}

// TestRepeatedLikelihoodsAreCharged: a streamed response repeats the likelihoods of all of its tokens
// four times at its end. It held four lists and as many texts of JSON, and paid for one text.
func TestRepeatedLikelihoodsAreCharged(t *testing.T) {
	longtest.WithoutRace(t, "it counts what is allocated, and pools keep only a part under the race detector")
	// What is allocated is counted, with one processor's buffers of encoding/json.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, top := range []int{0, 5, infer.MaxTop} {
		const tokens = 4000
		q, err := responses{}.parse(fmt.Appendf(nil, `{"model":"m","input":"a","stream":true,"include":["message.output_text.logprobs"],"top_logprobs":%d}`, top))
		if err != nil {
			t.Fatal(err)
		}
		q.Gen.MaxTokens = tokens
		a := answerOf(tokens, top)
		c := &completion{service: &Service{}, request: q, session: Session{Engine: wordsEngine{}}, answers: []*answer{a}}
		w := &discard{header: http.Header{}}
		out := responses{}.stream(c, w)
		if err := out.pass(0, piece{text: a.text.String()}); err != nil {
			t.Fatal(err)
		}
		if err := out.end(0, true); err != nil { // the encoder's buffer grows first
			t.Fatal(err)
		}
		begun := w.bytes
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := out.end(0, true); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		// Four events of one size, each in the encoder and as JSON. Three are garbage.
		event := (w.bytes - begun) / 4
		held := int64(after.TotalAlloc-before.TotalAlloc) - 3*event + event
		if charged := answerCost(q); held > charged || charged > 2*held {
			t.Errorf("%d tokens with %d others take %d bytes, and %d are charged", tokens, top, held, charged)
		}
	}
}
