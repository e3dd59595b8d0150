package openai

import (
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// repeatingEngine has tokens that begin alike.
type repeatingEngine struct {
	Engine
	text string
}

func (e repeatingEngine) Piece(id int32) []byte { return fmt.Appendf(nil, "%s%03d", e.text, id) }

// TestLongTokensAreCharged: what an answer's likelihoods take grows with the length of its tokens, and the charge did not.
func TestLongTokensAreCharged(t *testing.T) {
	longtest.WithoutRace(t, "it counts what is allocated, and pools keep only a part under the race detector")
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const tokens = 500
	for _, c := range []struct {
		form form
		body string
	}{
		{chats{}, `{"model":"m","messages":[{"role":"user","content":"a"}],"logprobs":true,"top_logprobs":%d}`},
		{chats{plain: true}, `{"model":"m","prompt":"a","logprobs":%d}`},
		{responses{}, `{"model":"m","input":"a","include":["message.output_text.logprobs"],"top_logprobs":%d}`},
	} {
		for _, text := range []string{"", "a", "word", "sentence", "twelve bytes", strings.Repeat(" ", 64), strings.Repeat("w", 300), strings.Repeat("<", 100), strings.Repeat("\x01", 100), strings.Repeat("\xff\x01", 50), strings.Repeat("\u20ac", 40)} {
			for _, top := range []int{0, 5} {
				q, err := c.form.parse(fmt.Appendf(nil, c.body, top))
				if err != nil {
					t.Fatal(err)
				}
				q.Gen.MaxTokens = tokens
				do := &completion{service: &Service{}, form: c.form, request: q, session: Session{Engine: repeatingEngine{text: text}}, answers: []*answer{answerOf(tokens, top)}}
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
					t.Errorf("%T: tokens %.12q with %d others hold %d bytes each, %d are charged at first and %d at the end", c.form, text, top, held/tokens, first/tokens, beyond/tokens)
				}
			}
		}
	}
}

// TestAnswersOfLongTokensAreRefused where the memory for them is not there, and have it otherwise.
func TestAnswersOfLongTokensAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		code string
	}{
		"short": {"word", ""},
		"long":  {strings.Repeat(" ", 256), "request-too-large"},
	} {
		const tokens = 1000
		q, err := chats{}.parse([]byte(`{"model":"m","messages":[{"role":"user","content":"a"}],"logprobs":true}`))
		if err != nil {
			t.Fatal(err)
		}
		q.Gen.MaxTokens = tokens
		budget := localapi.NewBudget(2<<20, 1<<20, 1, time.Second)
		held, err := budget.Reserve(t.Context(), 1, 1<<10)
		if err != nil {
			t.Fatal(err)
		}
		m := &memory{held: held}
		do := &completion{service: &Service{}, form: chats{}, request: q, session: Session{Engine: repeatingEngine{text: c.text}}, held: m}
		if err := m.grow(answerCost(q)); err != nil {
			t.Fatal(err)
		}
		switch err := do.ended(answerOf(tokens, 0), nil); {
		case c.code == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.code != "":
			if told, ok := err.(*localapi.Error); !ok || told.Code != c.code || told.Status != http.StatusRequestEntityTooLarge {
				t.Errorf("%s: %v, want %s", name, err, c.code)
			}
		}
		m.release()
	}
}
