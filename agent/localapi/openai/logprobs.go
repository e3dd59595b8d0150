package openai

import (
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
	if !c.request.Logprobs {
		return nil
	}
	if c.request.Messages != nil {
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
		if q.repeats || !q.Stream { // the list stays while it is written as JSON, whose encoder keeps a copy
			each += 3 * jsonCost * int64(1+q.Gen.Top)
		}
	}
	return each * int64(q.Gen.MaxTokens) * int64(q.Choices)
}
