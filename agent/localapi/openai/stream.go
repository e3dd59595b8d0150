package openai

import (
	"context"
	"net/http"
	"strings"

	"github.com/anchorhold/anchorhold/agent/localapi"
)

// runStream answers piece by piece. The end mark is sent only after the receipt
// was issued: a stream that has it is whole.
func (c *completion) runStream(ctx context.Context, w http.ResponseWriter) error {
	st := localapi.NewStream(w)
	empty := ""
	var text strings.Builder
	first := true
	result, err := c.generate(ctx, &text, func(piece string) error {
		if c.chat && first {
			first = false
			if err := st.Send(c.chunk(choice{Delta: &message{Role: "assistant", Content: &empty}})); err != nil {
				return err
			}
		}
		return st.Send(c.chunk(c.delta(piece)))
	})
	if err != nil {
		return err
	}
	if err := c.sign(ctx, text.String(), result); err != nil {
		return err
	}
	last := c.delta(empty)
	if c.chat {
		last.Delta = &message{}
		if first {
			last.Delta.Role = "assistant"
		}
	}
	last.FinishReason = &result.FinishReason
	end := c.chunk(last)
	if c.request.IncludeUsage {
		if err := st.Send(end); err != nil {
			return err
		}
		end = c.header()
		end.Choices, end.Usage = []choice{}, newUsage(result)
	}
	end.Receipt, end.Issued = c.id.String(), c.issued
	if err := st.Send(end); err != nil {
		return err
	}
	return st.Event([]byte("[DONE]"))
}

func (c *completion) delta(piece string) choice {
	if c.chat {
		return choice{Delta: &message{Content: &piece}}
	}
	return choice{Text: &piece}
}

func (c *completion) chunk(ch choice) answerObject {
	o := c.header()
	o.Choices = []choice{ch}
	return o
}
