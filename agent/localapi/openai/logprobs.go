package openai

import (
	"io"
	"strings"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/runtime/infer"
)

// chatLogprobs is the form of a chat.
type chatLogprobs struct {
	Content []scoredToken `json:"content"`
}

// scoredToken is a token of an answer; the list of others is there even if it is empty, because
// clients require it.
type scoredToken struct {
	tokenLogprob
	Top []tokenLogprob `json:"top_logprobs"`
}

type tokenLogprob struct {
	Token   string  `json:"token"`
	Logprob float32 `json:"logprob"`
	Bytes   []int   `json:"bytes"`
}

// textLogprobs is the form of a plain completion: lists side by side.
type textLogprobs struct {
	Tokens  []string             `json:"tokens"`
	Values  []*float32           `json:"token_logprobs"` // null has none before it
	Top     []map[string]float32 `json:"top_logprobs"`
	Offsets []int                `json:"text_offset"`
}

// logprobs writes tokens in the form of the request. runes is how many characters of the
// answer come before them.
func (c *completion) logprobs(list []infer.Scored, runes int) any {
	switch {
	case !c.request.Logprobs:
		return nil
	case c.late != nil && c.request.Messages != nil:
		return map[string]any{"content": c.scoredList(list)}
	case c.late != nil:
		return c.late.put(func(w io.Writer) error { return c.writeTexts(w, list, runes) })
	case c.request.Messages != nil:
		return chatLogprobs{Content: c.scoredTokens(list)}
	}
	out := textLogprobs{Tokens: []string{}, Values: []*float32{}, Top: []map[string]float32{}, Offsets: []int{}}
	for i, s := range list {
		piece := c.session.Engine.Piece(s.Token)
		logprob := finite(s.Logprob)
		out.Tokens, out.Values = append(out.Tokens, printable(piece)), append(out.Values, &logprob)
		out.Offsets = append(out.Offsets, runes)
		runes += utf8.RuneCount(piece)
		top := map[string]float32{}
		for _, l := range s.Top {
			top[printable(c.session.Engine.Piece(l.Token))] = finite(l.Logprob)
		}
		if out.Top = append(out.Top, top); i < len(c.request.first) {
			out.Values[i], out.Top[i] = nil, nil
		}
	}
	return out
}

// scoredTokens writes tokens in the form that chats, responses and Ollama's API share.
func (c *completion) scoredTokens(list []infer.Scored) []scoredToken {
	out := make([]scoredToken, len(list))
	for i, s := range list {
		out[i] = scoredToken{c.tokenLogprob(s.Likelihood), make([]tokenLogprob, len(s.Top))}
		for j, l := range s.Top {
			out[i].Top[j] = c.tokenLogprob(l)
		}
	}
	return out
}

func (c *completion) tokenLogprob(l infer.Likelihood) tokenLogprob {
	piece := c.session.Engine.Piece(l.Token)
	return tokenLogprob{Token: printable(piece), Logprob: finite(l.Logprob), Bytes: numbers(piece)}
}

// scoredList is scoredTokens, or what stands for it in an answer in one piece.
func (c *completion) scoredList(list []infer.Scored) any {
	if c.late == nil || !c.request.Logprobs {
		return c.scoredTokens(list)
	}
	return c.late.put(func(w io.Writer) error { return c.writeScored(w, list) })
}

// finite is a logarithm that JSON can write: of a token that cannot come, what OpenAI has.
func finite(logprob float32) float32 { return max(logprob, -9999) }

func printable(piece []byte) string { return strings.ToValidUTF8(string(piece), "\uFFFD") }

// Bytes of memory for each token of an answer, and for each likeliest one beside it: scored,
// and as JSON.
const (
	textCost, scoreCost, likelihoodCost = 24, 64, 8
	jsonCost                            = 120
)

// answerCost is what the answers of a request hold beyond what every request may: several
// choices, and logarithms of probabilities.
func answerCost(q *Request) int64 {
	if q.Choices == 1 && !q.Logprobs {
		return 0
	}
	each := int64(textCost)
	if q.Logprobs {
		each += scoreCost + likelihoodCost*int64(q.Gen.Top)
		switch {
		case q.repeats && q.Stream: // the list stays while each event that repeats it is written, with the encoder's copy
			each += 3 * jsonCost * int64(1+q.Gen.Top)
		case !q.Stream: // see encode
			each += jsonCost * int64(1+q.Gen.Top)
		}
	}
	return each * int64(q.Gen.MaxTokens) * int64(q.Choices)
}

// Bytes that a token takes as a member of such a list and twice as JSON, beside its text: one of the answer, and a likeliest one.
const chosenHeld, likeliestHeld = 220, 150

// beyond is what the likelihoods of a stream that repeats them hold beyond what answerCost has charged for them: that is enough for tokens
// of six bytes, and a client can have an answer of the longest ones of the vocabulary (logit_bias): Qwen2.5 has one of 128 spaces.
func (c *completion) beyond(list []infer.Scored) int64 {
	q := c.request
	if !q.Logprobs || !q.Stream || !q.repeats {
		return 0
	}
	var n int64
	for _, s := range list {
		n += chosenHeld + c.textHeld(s.Token)
		for _, l := range s.Top {
			n += likeliestHeld + c.textHeld(l.Token)
		}
	}
	return n - 3*jsonCost*int64(1+q.Gen.Top)*int64(q.Gen.MaxTokens)
}

// textHeld is what a token's bytes take there.
func (c *completion) textHeld(token int32) (n int64) {
	piece := c.session.Engine.Piece(token)
	valid := utf8.Valid(piece)
	for _, b := range piece {
		text, written := 3, 1
		switch {
		case b < ' ', b == '<', b == '>', b == '&', b == '"', b == '\\':
			written = len(`\u0000`)
		case b >= utf8.RuneSelf && !valid:
			text, written = 9, len("\uFFFD") // for what is no character; it is made in two steps
		}
		n += int64(text+2*written) + 8 + 2*int64(len("255,")) // and as a number
	}
	return n
}
