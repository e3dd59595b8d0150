package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/infer"
)

// repeatingEngine has tokens that begin alike.
type repeatingEngine struct {
	Engine
	text string
}

func (e repeatingEngine) Piece(id int32) []byte { return fmt.Appendf(nil, "%s%03d", e.text, id) }

// oddTexts are those that JSON writes in more bytes, and long ones.
var oddTexts = []string{"", "a", "word", "sentence", "twelve bytes", strings.Repeat(" ", 64), strings.Repeat("w", 300), strings.Repeat("<", 100), strings.Repeat("\x01", 100), strings.Repeat("\xff\x01", 50), strings.Repeat("\u20ac", 40)}

// TestLongTokensAreCharged: what the likelihoods of a stream that repeats them hold grows with the length of its tokens, and the charge did not.
func TestLongTokensAreCharged(t *testing.T) {
	longtest.WithoutRace(t, "it counts what is allocated, and pools keep only a part under the race detector")
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const tokens = 500
	for _, text := range oddTexts {
		for _, top := range []int{0, 5} {
			q, err := responses{}.parse(fmt.Appendf(nil, `{"model":"m","input":"a","stream":true,"include":["message.output_text.logprobs"],"top_logprobs":%d}`, top))
			if err != nil {
				t.Fatal(err)
			}
			q.Gen.MaxTokens = tokens
			do := &completion{service: &Service{}, form: responses{}, request: q, session: Session{Engine: repeatingEngine{text: text}}, answers: []*answer{answerOf(tokens, top)}}
			var before, after runtime.MemStats
			var whole []byte
			for range 2 { // the encoder's buffer grows first
				runtime.ReadMemStats(&before)
				if whole, err = json.Marshal(do.form.whole(do)); err != nil {
					t.Fatal(err)
				}
				runtime.ReadMemStats(&after)
			}
			held, first := int64(after.TotalAlloc-before.TotalAlloc)+int64(len(whole)), answerCost(q)
			beyond := max(0, do.beyond(do.answers[0].scored))
			if charged := first + beyond; held > charged || beyond > 0 && charged > 2*held {
				t.Errorf("tokens %.12q with %d others hold %d bytes each, %d are charged at first and %d at the end", text, top, held/tokens, first/tokens, beyond/tokens)
			}
		}
	}
}

// TestWholeAnswersAreWrittenOnce: token by token they are the bytes that they are at once, in memory of just that size.
func TestWholeAnswersAreWrittenOnce(t *testing.T) {
	for _, c := range []struct {
		form form
		body string
	}{
		{chats{}, `{"model":"m","messages":[{"role":"user","content":"a"}],"n":2,"logprobs":true,"top_logprobs":%d}`},
		{chats{plain: true}, `{"model":"m","prompt":"a","n":2,"logprobs":%d}`},
		{chats{plain: true}, `{"model":"m","prompt":"a","echo":true,"max_tokens":0,"logprobs":%d}`},
		{responses{}, `{"model":"m","input":"a","include":["message.output_text.logprobs"],"top_logprobs":%d}`},
		{ollama{}, `{"model":"m","stream":false,"messages":[{"role":"user","content":"a"}],"logprobs":true,"top_logprobs":%d}`},
		{ollama{generate: true}, `{"model":"m","stream":false,"prompt":"a","raw":true,"logprobs":true,"top_logprobs":%d}`},
		{chats{}, `{"model":"m","messages":[{"role":"user","content":"a"}],"n":%d}`},
		{responses{}, `{"model":"m","input":"a","max_output_tokens":%d}`},
	} {
		for _, text := range oddTexts {
			for _, top := range []int{1, 5} {
				q, err := c.form.parse(fmt.Appendf(nil, c.body, top))
				if err != nil {
					t.Fatal(c.body, err)
				}
				q.Gen.MaxTokens = 1 << 20
				if q.Scores {
					q.first = []infer.Scored{{}}
				}
				made := func() *completion {
					do := &completion{service: &Service{Now: func() time.Time { return time.Unix(5, 0) }}, form: c.form, request: q, session: Session{Engine: repeatingEngine{text: text}}, held: &memory{}}
					for i := range q.Choices {
						do.answers = append(do.answers, answerOf(3-i%4, top)) // none, too
					}
					do.answers[0].scored[1].Top = nil
					if text == "" { // calls alone
						do.answers[0].calls = []receipt.Call{{Name: "f", Arguments: `{"":0}`}}
						do.answers[0].text.Reset()
					}
					return do
				}
				want, err := json.Marshal(c.form.whole(made()))
				if err != nil {
					t.Fatal(err)
				}
				got, err := made().encode()
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %v\n%s\nwant\n%s", c.body, err, got, want)
				}
				if q.Scores { // what the receipt commits to is a part of it
					do := made()
					if said, err := do.scores(do.answers[0].scored); err != nil || !bytes.Contains(want, []byte(`"logprobs":`+said+`,"finish_reason"`)) {
						t.Errorf("the receipt is of %s, %v, the answer\n%s", said, err, want)
					}
				}
				if q.Logprobs && text != "" && cap(got) != len(got) {
					t.Errorf("%s: it takes %d bytes for %d", c.body, cap(got), len(got))
				}
			}
		}
	}
}

// TestAnswersOfLongTokensAreRefused where the memory for them is not there.
func TestAnswersOfLongTokensAreRefused(t *testing.T) {
	const tokens = 2000
	for _, c := range []struct {
		form form
		body string
	}{
		{chats{}, `{"model":"m","messages":[{"role":"user","content":"a"}],"logprobs":true}`},
		{responses{}, `{"model":"m","input":"a","stream":true,"include":["message.output_text.logprobs"]}`},
	} {
		for text, want := range map[string]string{"w": "", strings.Repeat(" ", 256): "request-too-large"} {
			q, err := c.form.parse([]byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			q.Gen.MaxTokens = tokens
			held, err := localapi.NewBudget(2<<20, 1<<20, 1, time.Second).Reserve(t.Context(), 1, 1<<10)
			if err != nil {
				t.Fatal(err)
			}
			a := answerOf(tokens, 0)
			do := &completion{service: &Service{}, form: c.form, request: q, session: Session{Engine: repeatingEngine{text: text}}, answers: []*answer{a}, held: &memory{held: held}}
			if err := do.held.grow(answerCost(q)); err != nil {
				t.Fatal(err)
			}
			err = do.ended(a, nil)
			if err == nil && !q.Stream {
				_, err = do.encode()
			}
			told, _ := errors.AsType[*localapi.Error](err)
			if (err == nil) != (want == "") || err != nil && (told == nil || told.Code != want) {
				t.Errorf("%T, tokens %.3q: %v, want %q", c.form, text, err, want)
			}
			do.held.release()
		}
	}
}
