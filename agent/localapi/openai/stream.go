package openai

import (
	"context"
	"net/http"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/agent/localapi"
)

// runStream answers piece by piece, one choice after another. The end is written only after the
// receipt was issued: a stream that has it is whole.
func (c *completion) runStream(ctx context.Context, w http.ResponseWriter) error {
	out := c.form.stream(c, w)
	for i := range c.request.Choices {
		if err := c.generate(ctx, func(p piece) error { return out.pass(i, p) }); err != nil {
			return err
		}
		last := i == c.request.Choices-1
		if last {
			if err := c.sign(ctx); err != nil {
				return err
			}
		}
		if err := out.end(i, last); err != nil {
			return err
		}
	}
	return nil
}

// chatStream writes chunks of OpenAI's form.
type chatStream struct {
	chats
	c     *completion
	st    *localapi.Stream
	begun int // choices that have begun
	calls int // of the current choice
}

func (f chats) stream(c *completion, w http.ResponseWriter) sink {
	return &chatStream{chats: f, c: c, st: localapi.NewStream(w)}
}

func (s *chatStream) pass(i int, p piece) error {
	if s.begun == i {
		s.begun, s.calls = i+1, 0
		if !s.plain {
			if err := s.st.Send(s.chunk(choice{Index: i, Delta: &message{Role: "assistant", Content: new(string)}})); err != nil {
				return err
			}
		}
	}
	return s.st.Send(s.chunk(s.delta(i, p)))
}

func (s *chatStream) end(i int, last bool) error {
	end := s.chunk(s.last(i))
	if !last {
		return s.st.Send(end)
	}
	if s.c.request.IncludeUsage {
		if err := s.st.Send(end); err != nil {
			return err
		}
		end = s.header(s.c)
		end.Choices, end.Usage = []choice{}, s.c.usage()
	}
	end.Receipt, end.Issued = s.c.id.String(), s.c.issued
	if err := s.st.Send(end); err != nil {
		return err
	}
	return s.st.Event([]byte("[DONE]"))
}

// delta is a piece of a choice, with the tokens that it is of.
func (s *chatStream) delta(index int, p piece) choice {
	a := s.c.answers[index]
	ch := choice{Index: index, Logprobs: s.c.logprobs(a.scored, a.runes)}
	a.scored = nil
	a.runes += utf8.RuneCountInString(p.text)
	if s.plain {
		ch.Text = &p.text
		return ch
	}
	ch.Delta = &message{Calls: s.c.callsOf(index, p.calls, s.calls, true)}
	s.calls += len(p.calls)
	if p.text != "" {
		ch.Delta.Content = &p.text
	}
	return ch
}

// last ends a choice.
func (s *chatStream) last(index int) choice {
	a := s.c.answers[index]
	none := len(a.scored) == 0
	ch := s.delta(index, piece{})
	if none {
		ch.Logprobs = nil
	}
	if !s.plain && s.begun == index { // nothing came before
		ch.Delta.Role = "assistant"
	}
	ch.FinishReason = &a.result.FinishReason
	return ch
}

func (s *chatStream) chunk(ch choice) answerObject {
	o := s.header(s.c)
	o.Choices = []choice{ch}
	return o
}
