package openai

import (
	"context"
	"net/http"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/agent/localapi"
)

// runStream answers piece by piece, one choice after another. The end mark is sent only after
// the receipt was issued: a stream that has it is whole.
func (c *completion) runStream(ctx context.Context, w http.ResponseWriter) error {
	st := localapi.NewStream(w)
	var end answerObject
	for i := range c.request.Choices {
		first := true
		begin := func() error {
			if !c.chat || !first {
				return nil
			}
			first = false
			return st.Send(c.chunk(choice{Index: i, Delta: &message{Role: "assistant", Content: new(string)}}))
		}
		err := c.generate(ctx, func(piece string) error {
			if err := begin(); err != nil {
				return err
			}
			return st.Send(c.chunk(c.delta(i, piece)))
		})
		if err != nil {
			return err
		}
		if i == c.request.Choices-1 {
			if err := c.sign(ctx); err != nil {
				return err
			}
		}
		end = c.chunk(c.last(i, first))
		if i < c.request.Choices-1 {
			if err := st.Send(end); err != nil {
				return err
			}
		}
	}
	if c.request.IncludeUsage {
		if err := st.Send(end); err != nil {
			return err
		}
		end = c.header()
		end.Choices, end.Usage = []choice{}, c.usage()
	}
	end.Receipt, end.Issued = c.id.String(), c.issued
	if err := st.Send(end); err != nil {
		return err
	}
	return st.Event([]byte("[DONE]"))
}

// delta is a piece of a choice, with the tokens that it is of.
func (c *completion) delta(index int, piece string) choice {
	a := c.answers[index]
	ch := choice{Index: index, Logprobs: c.logprobs(a.scored, a.runes)}
	a.scored = nil
	a.runes += utf8.RuneCountInString(piece)
	if c.chat {
		ch.Delta = &message{Content: &piece}
	} else {
		ch.Text = &piece
	}
	return ch
}

// last ends a choice.
func (c *completion) last(index int, first bool) choice {
	a := c.answers[index]
	none := len(a.scored) == 0
	ch := c.delta(index, "")
	if none {
		ch.Logprobs = nil
	}
	if c.chat {
		ch.Delta = &message{}
		if first {
			ch.Delta.Role = "assistant"
		}
	}
	ch.FinishReason = &a.result.FinishReason
	return ch
}

func (c *completion) chunk(ch choice) answerObject {
	o := c.header()
	o.Choices = []choice{ch}
	return o
}
