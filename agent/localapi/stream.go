package localapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
)

// stream writes server-sent events. All its writes together have a bounded time, the
// recorder's: the place in the line is kept for the engine, not for a reader who is slow.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

// newStream hooks a stream into the response: an error before its first event
// is an ordinary response, one after it an event.
func newStream(w http.ResponseWriter) *stream {
	st := &stream{w: w, control: http.NewResponseController(w)}
	if rec, ok := w.(*recorder); ok {
		rec.stream = st
	}
	return st
}

// send writes one event as JSON.
func (st *stream) send(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return st.event(data)
}

func (st *stream) event(data []byte) error {
	if !st.begun {
		st.begun = true
		h := st.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-store")
		st.w.WriteHeader(http.StatusOK)
	}
	if _, err := st.w.Write(append(append([]byte("data: "), data...), '\n', '\n')); err != nil {
		return err
	}
	return st.control.Flush()
}

// runStream answers piece by piece. The end mark is sent only after the receipt
// was issued: a stream that has it is whole.
func (c *completion) runStream(ctx context.Context, w http.ResponseWriter) error {
	st := newStream(w)
	empty := ""
	var text strings.Builder
	first := true
	result, err := c.generate(ctx, &text, func(piece string) error {
		if c.chat && first {
			first = false
			if err := st.send(c.chunk(choice{Delta: &message{Role: "assistant", Content: &empty}})); err != nil {
				return err
			}
		}
		return st.send(c.chunk(c.delta(piece)))
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
		if err := st.send(end); err != nil {
			return err
		}
		end = c.header()
		end.Choices, end.Usage = []choice{}, newUsage(result)
	}
	end.Receipt, end.Issued = c.id.String(), c.issued
	if err := st.send(end); err != nil {
		return err
	}
	return st.event([]byte("[DONE]"))
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
