package localapi_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// choices are those of an answer.
type choices struct {
	Choices []struct {
		Index   int
		Message struct{ Content string }
		Text    string
		Delta   struct{ Content string }
		Reason  string `json:"finish_reason"`
	}
	Usage   usage
	Receipt string
}

func read(t testing.TB, body string) (c choices) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		t.Fatal(body, err)
	}
	return c
}

// TestSeveralChoices: each has a seed of its own, all have one receipt, and the prompt counts
// once.
func TestSeveralChoices(t *testing.T) {
	f := start(t, nil)
	texts := []string{"s7-0 s7-1 ", "s8-0 s8-1 ", "s9-0 s9-1 "}
	check := func(id string) {
		t.Helper()
		issued := f.receipt(t, id)
		var want []receipt.Choice
		for _, text := range texts {
			want = append(want, receipt.Choice{Text: text})
		}
		if b := issued.Receipt.Body; b.OutputCommitment != receipt.CommitOutput(issued.Salts.Output, receipt.EncodeChoices(want)) || b.PromptTokens != 8 || b.CompletionTokens != 6 {
			t.Errorf("the receipt does not commit to every choice: %+v", b)
		}
	}
	c := read(t, f.chat(t, `,"n":3,"seed":7,"max_tokens":2`).body)
	for i, text := range texts {
		if len(c.Choices) != 3 || c.Choices[i].Index != i || c.Choices[i].Message.Content != text || c.Choices[i].Reason != "length" {
			t.Fatalf("%+v", c)
		}
	}
	if c.Usage != (usage{8, 6, 14}) {
		t.Errorf("usage %+v", c.Usage)
	}
	check(c.Receipt)

	got, ends := make([]string, 3), []int{}
	events := f.chat(t, `,"n":3,"seed":7,"max_tokens":2,"stream":true`).events(t)
	for _, e := range events[:len(events)-1] {
		c = read(t, e)
		for _, ch := range c.Choices {
			got[ch.Index] += ch.Delta.Content
			if ch.Reason != "" {
				ends = append(ends, ch.Index)
			}
		}
	}
	if !slices.Equal(got, texts) || !slices.Equal(ends, []int{0, 1, 2}) || events[len(events)-1] != "[DONE]" {
		t.Errorf("%q, ends %d: %q", got, ends, events)
	}
	check(c.Receipt)
}

// TestLogprobsInBothForms: that of a chat and that of a plain completion, whole and streamed.
func TestLogprobsInBothForms(t *testing.T) {
	f := start(t, nil)
	const first = `{"content":[{"token":"w0 ","logprob":-0.5,"bytes":[119,48,32],"top_logprobs":[{"token":"w0 ","logprob":-0.5,"bytes":[119,48,32]},{"token":"w1 ","logprob":-9999,"bytes":[119,49,32]}]}`
	if r := f.chat(t, `,"logprobs":true,"top_logprobs":2,"max_tokens":2`); !strings.Contains(r.body, `"logprobs":`+first+`,{"token":"w1 "`) {
		t.Error(r)
	}
	events := f.chat(t, `,"logprobs":true,"top_logprobs":2,"max_tokens":2,"stream":true`).events(t)
	if len(events) != 5 || !strings.Contains(events[0], `"logprobs":null`) || !strings.Contains(events[1], `"logprobs":`+first+`]}`) || !strings.Contains(events[3], `"logprobs":null`) {
		t.Errorf("%q", events)
	}
	plain := func(extra string) response {
		return f.do(t, "POST", "/v1/completions", `{"model":"tiny","prompt":"a b c","max_tokens":2`+extra+`}`)
	}
	if r := plain(`,"logprobs":1`); !strings.Contains(r.body, `"logprobs":{"tokens":["w0 ","w1 "],"token_logprobs":[-0.5,-0.5],"top_logprobs":[{"w0 ":-0.5},{"w1 ":-0.5}],"text_offset":[0,3]}`) {
		t.Error(r)
	}
	if ev := plain(`,"logprobs":0,"stream":true`).events(t); !strings.Contains(ev[1], `"tokens":["w1 "]`) || !strings.Contains(ev[1], `"text_offset":[3]`) {
		t.Error(ev)
	}
	for _, bad := range []string{`,"logprobs":6`, `,"logprobs":-1`, `,"logprobs":true`, `,"top_logprobs":1`} {
		if r := plain(bad); r.status != 400 {
			t.Error(bad, r)
		}
	}
}

// TestAnswersThatNeedMemoryAskForIt: logarithms of probabilities are many times their text, and
// whoever asks for more than one request gets is told so before anything is computed.
func TestAnswersThatNeedMemoryAskForIt(t *testing.T) {
	const ask = `,"n":8,"logprobs":true,"top_logprobs":20,"max_tokens":40`
	f := start(t, func(c *setup) { c.Memory, c.MaxBodyBytes = 256<<10, 16<<10 })
	if r := f.chat(t, ask); r.status != 413 || r.code() != "request-too-large" || len(f.engine.seen) != 0 {
		t.Error(r)
	}
	if r := f.chat(t, ask+`,"stream":true`); r.status != 200 {
		t.Error("a stream needs less:", r)
	}
	if used := f.server.Intake().Budget.Used(); used != 0 {
		t.Errorf("%d bytes are held after it", used)
	}
	// What another request holds is not waited for.
	f = start(t, func(c *setup) { c.Memory, c.MaxBodyBytes = 2<<20, 16<<10 })
	if r := f.chat(t, ask); r.status != 200 {
		t.Fatal(r)
	}
	other, err := f.server.Intake().Budget.Reserve(t.Context(), 4242, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Release()
	mine, err := f.server.Intake().Budget.Reserve(t.Context(), uint32(4243), 1<<19)
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Release()
	if r := f.chat(t, ask); r.status != 429 || r.code() != "queue-full" || r.header.Get("Retry-After") == "" {
		t.Error(r.status, r.code())
	}
}

// TestTooManyBiases: one more than the limit.
func TestTooManyBiases(t *testing.T) {
	f := start(t, nil)
	bias := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`"%d":1`, i%1000))
		}
		return `,"max_tokens":1,"logit_bias":{` + strings.Join(list, ",") + `}`
	}
	if r := f.chat(t, bias(1024)); r.status != 200 {
		t.Error(r)
	}
	if r := f.chat(t, bias(1025)); r.status != 400 || r.param() != "logit_bias" || r.code() != "invalid-value" {
		t.Error(r)
	}
}
