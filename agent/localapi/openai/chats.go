package openai

import (
	"fmt"

	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// answerObject is the whole response, and with other members each chunk of a
// stream.
type answerObject struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage,omitempty"`
	Receipt string   `json:"receipt,omitempty"`
	// Issued is the whole receipt with its salts, as /v1/receipts/{id} has it.
	Issued *receipt.Issued `json:"issued_receipt,omitempty"`
}

// chats are chats and plain completions in OpenAI's form.
type chats struct{ plain bool }

func (f chats) parse(raw []byte) (*Request, error) { return Parse(raw, !f.plain) }

type choice struct {
	Index        int      `json:"index"`
	Message      *message `json:"message,omitempty"` // of a chat
	Delta        *message `json:"delta,omitempty"`   // of a streamed chat
	Text         *string  `json:"text,omitempty"`    // of a plain completion
	Logprobs     any      `json:"logprobs"`          // null if not asked for
	FinishReason *string  `json:"finish_reason"`
}

type message struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
	Calls   []call  `json:"tool_calls,omitempty"`
}

// call is a call of a tool, its number in a stream alone.
type call struct {
	Index    *int         `json:"index,omitempty"`
	ID       string       `json:"id"`
	Type     string       `json:"type"`
	Function functionCall `json:"function"`
}

type functionCall struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// callID is the id of a call of a choice.
func (c *completion) callID(choice, n int) string {
	return fmt.Sprintf("call_%s%d%02d", c.id.String()[:16], choice, n)
}

// callsOf writes the calls of a choice from the first one on.
func (c *completion) callsOf(index int, list []receipt.Call, first int, numbered bool) (out []call) {
	for i, l := range list {
		n := first + i
		o := call{ID: c.callID(index, n), Type: "function", Function: functionCall{l.Name, l.Arguments}}
		if numbered {
			o.Index = &n
		}
		out = append(out, o)
	}
	return out
}

// header is what response and chunks have in common.
func (f chats) header(c *completion) answerObject {
	o := answerObject{ID: "cmpl-" + c.id.String(), Object: "text_completion", Created: c.created, Model: c.request.Model}
	if !f.plain {
		o.ID, o.Object = "chat"+o.ID, "chat.completion"
		if c.request.Stream {
			o.Object += ".chunk"
		}
	}
	return o
}

func (f chats) whole(c *completion) any {
	o := f.header(c)
	for i, a := range c.answers {
		ch, text := choice{Index: i, Logprobs: c.logprobs(a.scored, 0), FinishReason: &a.result.FinishReason}, a.text.String()
		if !f.plain {
			ch.Message = &message{Role: "assistant", Content: &text, Calls: c.callsOf(i, a.calls, 0, false)}
			if a.calls != nil && text == "" {
				ch.Message.Content = nil
			}
		} else {
			ch.Text = &text
		}
		o.Choices = append(o.Choices, ch)
	}
	o.Usage, o.Receipt, o.Issued = c.usage(), c.id.String(), c.issued
	return o
}
