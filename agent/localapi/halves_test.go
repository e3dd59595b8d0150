package localapi_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// halfForm is an API whose answers are cut in the middle of characters.
type halfForm struct {
	path   string
	prompt string
	limit  string              // the option of how many tokens, with %d
	forces func(string) string // the option that makes the answer a text
	quoted bool                // that text is JSON
	stop   string              // the option of stop texts, with %s; empty has none
	texts  func(value []byte) (whole, piece map[int]string)
}

// halfForms are all of them.
func halfForms() []halfForm {
	schema := func(text string) string { return fmt.Sprintf(`{"enum":[%q]}`, text) }
	one := func(text string) map[int]string { return map[int]string{0: text} }
	chats := func(value []byte) (whole, piece map[int]string) {
		whole, piece = map[int]string{}, map[int]string{}
		var c choices
		_ = json.Unmarshal(value, &c)
		for _, ch := range c.Choices {
			whole[ch.Index], piece[ch.Index] = ch.Message.Content+ch.Text, ch.Delta.Content+ch.Text
		}
		return whole, piece
	}
	responses := func(value []byte) (whole, piece map[int]string) {
		var o struct {
			Delta  string
			Output []struct{ Content []struct{ Text string } }
		}
		_ = json.Unmarshal(value, &o)
		if len(o.Output) > 0 {
			whole = one(o.Output[0].Content[0].Text)
		}
		return whole, one(o.Delta)
	}
	ollama := func(value []byte) (whole, piece map[int]string) {
		var o struct {
			Response string
			Message  struct{ Content string }
		}
		_ = json.Unmarshal(value, &o)
		return one(o.Response + o.Message.Content), one(o.Response + o.Message.Content)
	}
	grammar := func(text string) string { return fmt.Sprintf(`"grammar":%q`, fmt.Sprintf("root ::= %q", text)) }
	format := func(text string) string { return `"format":` + schema(text) }
	const turn = `"messages":[{"role":"user","content":"x"}]`
	return []halfForm{
		{"/v1/chat/completions", turn, `"max_tokens":%d`, grammar, false, `"stop":%s`, chats},
		{"/v1/completions", `"prompt":"x"`, `"max_tokens":%d`, grammar, false, `"stop":%s`, chats},
		{"/v1/responses", `"input":"x"`, `"max_output_tokens":%d`, func(text string) string {
			return `"text":{"format":{"type":"json_schema","name":"x","strict":true,"schema":` + schema(text) + `}}`
		}, true, "", responses},
		{"/api/chat", turn, `"options":{"num_predict":%d}`, format, true, `"options":{"stop":%s}`, ollama},
		{"/api/generate", `"prompt":"x"`, `"options":{"num_predict":%d}`, format, true, `"options":{"stop":%s}`, ollama},
	}
}

// ask answers a request whole and streamed. Nothing in either may be part of a character, or stand
// for one.
func (h halfForm) ask(t *testing.T, f *fixture, options ...string) (texts map[int]string) {
	t.Helper()
	for _, stream := range []bool{false, true} {
		body := fmt.Sprintf(`{"model":"tiny",%s,"stream":%v,%s}`, h.prompt, stream, strings.Join(options, ","))
		r := f.do(t, "POST", h.path, body)
		if r.status != 200 || !utf8.ValidString(r.body) || strings.Contains(r.body, "\uFFFD") || strings.Contains(strings.ToLower(r.body), `\ufffd`) {
			t.Fatalf("%s with %s: %d %q", h.path, body, r.status, r.body)
		}
		if !stream {
			texts, _ = h.texts([]byte(r.body))
			continue
		}
		streamed := map[int]string{}
		for line := range strings.Lines(r.body) {
			value := strings.TrimSpace(strings.TrimPrefix(line, "data: "))
			if !strings.HasPrefix(value, "{") {
				continue
			}
			_, pieces := h.texts([]byte(value))
			for i, text := range pieces {
				streamed[i] += text
			}
		}
		if fmt.Sprint(streamed) != fmt.Sprint(texts) {
			t.Errorf("%s with %s: streamed %v, whole %v", h.path, body, streamed, texts)
		}
	}
	return texts
}

// upTo is what is whole of the first n bytes of a text.
func upTo(text string, n int) string {
	for n < len(text) && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// TestNoAnswerHasHalfACharacter: of a model whose tokens are bytes, answers are cut behind each of
// them, by the number of tokens and by stop texts, in every form, whole and streamed.
func TestNoAnswerHasHalfACharacter(t *testing.T) {
	f := start(t, withEngine(randomEngine(t, toolTemplate)))
	const word = "é漢🙂ü"
	for _, h := range halfForms() {
		t.Run(strings.TrimPrefix(h.path, "/"), func(t *testing.T) {
			text := word
			if h.quoted {
				text = `"` + word + `"`
			}
			for n := 1; n <= len(text); n++ {
				if got, want := h.ask(t, f, h.forces(word), fmt.Sprintf(h.limit, n)), upTo(text, n); len(got) != 1 || got[0] != want {
					t.Errorf("%d tokens: %v, want %q", n, got, want)
				}
			}
			if h.stop == "" {
				return
			}
			// A stop text that an answer contains; and ones that its characters begin like.
			for stop, want := range map[string]string{`["漢"]`: text[:strings.Index(text, "漢")], `["🙂ü"]`: text[:strings.Index(text, "🙂")], `["è","\ud83d\ude43","漣"]`: text} {
				if got := h.ask(t, f, h.forces(word), fmt.Sprintf(h.stop, stop)); len(got) != 1 || got[0] != want {
					t.Errorf("stop %s: %v, want %q", stop, got, want)
				}
			}
		})
	}
	for _, h := range halfForms()[:2] {
		for _, first := range []int{0xc3, 0xe6, 0xf0} { // tokens of bytes have the bytes' numbers
			bias := fmt.Sprintf(`"logit_bias":{"%d":100}`, first)
			if got := h.ask(t, f, bias, `"max_tokens":1`, `"n":3`, `"stop":["é","漢","🙂"]`); len(got) != 3 || got[0]+got[1]+got[2] != "" {
				t.Errorf("%s: a first byte alone is %v", h.path, got)
			}
		}
		for n := 1; n <= len(word); n++ {
			got := h.ask(t, f, h.forces(word), fmt.Sprintf(h.limit, n), `"n":2`, `"stop":["üü"]`)
			if want := upTo(word, n); len(got) != 2 || got[0] != want || got[1] != want {
				t.Errorf("%s: two choices of %d tokens: %v, want %q", h.path, n, got, want)
			}
		}
	}
}
