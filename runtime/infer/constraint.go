package infer

import (
	"errors"
	"fmt"
	"math"

	"github.com/anchorhold/anchorhold/runtime/grammar"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// ErrGrammar means that an answer cannot go on within its grammar: following it takes more than
// one gets, or no token of the model is part of what may come next.
var ErrGrammar = errors.New("infer: the grammar cannot be followed")

// words are a vocabulary as grammars see it. It is made when the first grammar comes: sorting
// takes a tenth of a second, and few agents need it.
type words struct {
	vocabulary *grammar.Vocabulary
	ends       []int32
}

func newWords(t *tokenize.Tokenizer) *words {
	w := &words{vocabulary: grammar.NewVocabulary(t.Size(), func(id int32) []byte {
		if t.IsControl(id) || t.IsEnd(id) {
			return nil // whose text is not part of an answer
		}
		return t.Piece(id)
	})}
	for id := range int32(t.Size()) {
		if t.IsEnd(id) {
			w.ends = append(w.ends, id)
		}
	}
	return w
}

// constraint keeps one answer within a grammar.
type constraint struct {
	tokenizer *tokenize.Tokenizer
	words     *words
	match     *grammar.Matcher
}

// constrain begins an answer within a grammar; nil without one.
func (e *Engine) constrain(g *grammar.Grammar) (*constraint, error) {
	if g == nil {
		return nil, nil
	}
	e.sort.Do(func() { e.words = newWords(e.tokenizer) })
	match, err := g.NewMatcher()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGrammar, err)
	}
	return &constraint{e.tokenizer, e.words, match}, nil
}

// allows says whether a token may come next.
func (c *constraint) allows(id int32) (bool, error) {
	switch {
	case c.tokenizer.IsEnd(id):
		return c.match.MayEnd(), nil
	case c.tokenizer.IsControl(id):
		return false, nil
	}
	return c.match.Allows(c.tokenizer.Piece(id))
}

// mask copies the logits of tokens that may come next into out; all others can never come.
func (c *constraint) mask(out, logits []float32) error {
	none := float32(math.Inf(-1))
	for i := range out {
		out[i] = none
	}
	if c.match.MayEnd() {
		for _, id := range c.words.ends {
			out[id] = logits[id]
		}
	}
	return c.words.vocabulary.Each(c.match, func(id int32) { out[id] = logits[id] })
}

// take goes past a token, and says whether the answer has to end behind it.
func (c *constraint) take(id int32) (end bool, err error) {
	if c.tokenizer.IsEnd(id) {
		return true, nil
	}
	if err := c.match.Advance(c.tokenizer.Piece(id)); err != nil {
		return false, err
	}
	return c.match.MustEnd(), nil
}

// within replaces a token that its grammar does not allow by a choice among those that it does.
// Most tokens of most models are allowed, so that the whole vocabulary is looked at seldom, and
// what is chosen has the probabilities of a choice among the allowed ones alone.
func (s *sampler) within(c *choice, logits []float32, token int32) (int32, error) {
	ok, err := c.constraint.allows(token)
	if ok && err == nil {
		return token, nil
	}
	if len(s.masked) < len(logits) {
		s.masked = make([]float32, len(logits))
	}
	if err == nil {
		err = c.constraint.mask(s.masked[:len(logits)], logits)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrGrammar, err)
	}
	token, err = s.pick(c, s.masked[:len(logits)])
	if errors.Is(err, ErrLogits) {
		return 0, fmt.Errorf("%w: no token of the model may come next", ErrGrammar)
	}
	return token, err
}
