package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/runtime/infer"
)

// late are the lists of likelihoods of an answer in one piece, which are written into it token by token. As lists of values, in an
// encoder and as its result they took three times what they take as text.
type late struct {
	mark  []byte // stands for each of them in the rest of the answer
	lists []func(io.Writer) error
}

func (l *late) put(write func(io.Writer) error) json.RawMessage {
	l.lists = append(l.lists, write)
	return l.mark
}

// encode is the whole answer as JSON. It knows how long that is before there is memory for it, and asks for what was not charged yet.
func (c *completion) encode() ([]byte, error) {
	// The id is in nothing that the model has seen.
	c.late = &late{mark: []byte(`{"` + c.id.String() + `":0}`)}
	rest, err := json.Marshal(c.form.whole(c))
	if err != nil {
		return nil, err
	}
	parts := bytes.Split(rest, c.late.mark)
	if len(parts) == 1 { // there are none, or a response is calls alone
		return rest, nil
	}
	if len(parts) != len(c.late.lists)+1 {
		return nil, errors.New("the answer's likelihoods have no place in it")
	}
	var size counter
	if err := c.late.write(&size, parts); err != nil {
		return nil, err
	}
	q := c.request
	if err := c.held.grow(int64(size) - jsonCost*int64(1+q.Gen.Top)*int64(q.Gen.MaxTokens)*int64(q.Choices)); err != nil {
		return nil, err
	}
	whole := bytes.NewBuffer(make([]byte, 0, size))
	err = c.late.write(whole, parts)
	return whole.Bytes(), err
}

func (l *late) write(w io.Writer, parts [][]byte) error {
	for i, part := range parts {
		if _, err := w.Write(part); err != nil {
			return err
		}
		if i < len(l.lists) {
			if err := l.lists[i](w); err != nil {
				return err
			}
		}
	}
	return nil
}

// counter counts what is written.
type counter int64

func (n *counter) Write(p []byte) (int, error) { *n += counter(len(p)); return len(p), nil }

// separated writes n parts between two marks, with commas.
func separated(w io.Writer, begin, end string, n int, part func(i int) error) error {
	for i := range n {
		if _, err := io.WriteString(w, begin); err != nil {
			return err
		}
		if err := part(i); err != nil {
			return err
		}
		begin = ","
	}
	if n == 0 {
		end = begin + end
	}
	_, err := io.WriteString(w, end)
	return err
}

// bare leaves out the line's end behind each value.
type bare struct{ w io.Writer }

func (b bare) Write(p []byte) (int, error) {
	if _, err := b.w.Write(bytes.TrimSuffix(p, []byte("\n"))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// writeScored writes what scoredTokens returns.
func (c *completion) writeScored(w io.Writer, list []infer.Scored) error {
	s, enc := scoredToken{Top: []tokenLogprob{}}, json.NewEncoder(bare{w})
	return separated(w, "[", "]", len(list), func(i int) error {
		c.fill(&s.tokenLogprob, list[i].Likelihood)
		for len(s.Top) < len(list[i].Top) {
			s.Top = append(s.Top, tokenLogprob{})
		}
		s.Top = s.Top[:len(list[i].Top)]
		for j, l := range list[i].Top {
			c.fill(&s.Top[j], l)
		}
		return enc.Encode(&s)
	})
}

// fill makes a token what tokenLogprob returns.
func (c *completion) fill(t *tokenLogprob, l infer.Likelihood) {
	piece := c.session.Engine.Piece(l.Token)
	t.Token, t.Logprob = printable(piece), finite(l.Logprob)
	if t.Bytes = t.Bytes[:0]; t.Bytes == nil {
		t.Bytes = []int{}
	}
	for _, b := range piece {
		t.Bytes = append(t.Bytes, int(b))
	}
}

// writeTexts writes what a plain completion has: lists side by side.
func (c *completion) writeTexts(w io.Writer, list []infer.Scored, runes int) error {
	var text string
	var logprob float32
	none := len(c.request.first)
	piece := func(i int) []byte { return c.session.Engine.Piece(list[i].Token) }
	enc := json.NewEncoder(bare{w})
	top := likeliest{values: map[string]float32{}}
	for _, part := range []struct {
		name  string
		write func(i int) error
	}{
		{`{"tokens":`, func(i int) error { text = printable(piece(i)); return enc.Encode(&text) }},
		{`,"token_logprobs":`, func(i int) error {
			if logprob = finite(list[i].Logprob); i < none {
				return enc.Encode(nil)
			}
			return enc.Encode(&logprob)
		}},
		{`,"top_logprobs":`, func(i int) error {
			if i < none {
				return enc.Encode(nil)
			}
			return top.write(c, w, enc, list[i].Top)
		}},
		{`,"text_offset":`, func(i int) error {
			if i > 0 {
				runes += utf8.RuneCount(piece(i - 1))
			}
			return enc.Encode(&runes)
		}},
	} {
		if _, err := io.WriteString(w, part.name); err != nil {
			return err
		}
		if err := separated(w, "[", "]", len(list), part.write); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "}")
	return err
}

// scores is that as a text, in memory of just its size.
func (c *completion) scores(list []infer.Scored) (string, error) {
	var size counter
	if err := c.writeTexts(&size, list, 0); err != nil {
		return "", err
	}
	var text strings.Builder
	text.Grow(int(size))
	err := c.writeTexts(&text, list, 0)
	return text.String(), err
}

// likeliest are the likeliest tokens at one place by their text.
type likeliest struct {
	values map[string]float32
	names  []string
	value  float32
}

func (t *likeliest) write(c *completion, w io.Writer, enc *json.Encoder, list []infer.Likelihood) error {
	clear(t.values)
	for _, l := range list {
		t.values[printable(c.session.Engine.Piece(l.Token))] = finite(l.Logprob)
	}
	t.names = slices.AppendSeq(t.names[:0], maps.Keys(t.values))
	slices.Sort(t.names)
	return separated(w, "{", "}", len(t.names), func(i int) error {
		t.value = t.values[t.names[i]]
		if err := enc.Encode(&t.names[i]); err != nil {
			return err
		}
		if _, err := io.WriteString(w, ":"); err != nil {
			return err
		}
		return enc.Encode(&t.value)
	})
}
