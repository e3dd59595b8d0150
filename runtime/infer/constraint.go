package infer

import (
	"errors"
	"fmt"
	"math"
	"time"

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

// constraint keeps one answer within a grammar. Looking at the whole vocabulary may take a hundred times as long as
// a choice, and how long is up to who wrote the grammar: mask may run beside other sequences' passes, and nothing else of
// the constraint does then.
type constraint struct {
	tokenizer *tokenize.Tokenizer
	words     *words
	match     *grammar.Matcher

	allowed []uint64 // bits of the tokens that may come next; valid if masked
	masked  bool
	err     error // of the mask
}

// errMask: the choice needs the constraint's mask.
var errMask = errors.New("infer: the mask of the grammar is needed")

// maskGrace is how long all masks of a step may hold up other sequences.
const maskGrace = time.Millisecond

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
	return &constraint{tokenizer: e.tokenizer, words: e.words, match: match, allowed: make([]uint64, (e.tokenizer.Size()+63)/64)}, nil
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

// mask notes which tokens may come next.
func (c *constraint) mask() {
	clear(c.allowed)
	allow := func(id int32) { c.allowed[id/64] |= 1 << (id % 64) }
	if c.match.MayEnd() {
		for _, id := range c.words.ends {
			allow(id)
		}
	}
	c.err = c.words.vocabulary.Each(c.match, allow)
	c.masked = true
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

// within picks among the tokens that the grammar allows, as its mask has them. Most tokens of most models are allowed, so
// that the whole vocabulary is looked at seldom, and what is chosen has the probabilities of a choice
// among the allowed ones alone.
func (s *sampler) within(c *choice, logits []float32) (int32, error) {
	c.constraint.masked = false
	if err := c.constraint.err; err != nil {
		return 0, fmt.Errorf("%w: %w", ErrGrammar, err)
	}
	if len(s.masked) < len(logits) {
		s.masked = make([]float32, len(logits))
	}
	none := float32(math.Inf(-1))
	for i, v := range logits {
		if c.constraint.allowed[i/64]>>(i%64)&1 == 0 {
			v = none
		}
		s.masked[i] = v
	}
	token, err := s.pick(c, s.masked[:len(logits)])
	if errors.Is(err, ErrLogits) {
		return 0, fmt.Errorf("%w: no token of the model may come next", ErrGrammar)
	}
	return token, err
}

// check looks at a token that was picked among all.
func (c *constraint) check(token int32) error {
	ok, err := c.allows(token)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrGrammar, err)
	case !ok:
		return errMask
	}
	return nil
}

// mask has the mask of a sequence's constraint computed. It returns false if that takes longer than other sequences
// should wait: the sequence then sits out passes, and its last token goes through the model again for the same logits.
func (e *Engine) mask(slot int) bool {
	s := e.slots[slot]
	c := s.choose.constraint
	if e.active() == 1 {
		e.compute(c)
		return true
	}
	done := e.apart(s, func() { e.compute(c) })
	s.again = true
	left := e.grace
	begin := time.Now()
	if left > 0 {
		wait := time.NewTimer(left)
		defer wait.Stop()
		select {
		case <-done:
			e.grace -= time.Since(begin)
			s.waiting, s.again = nil, false
			return true
		case <-wait.C:
			e.grace = 0
		}
	}
	return false
}

// active is the number of sequences.
func (e *Engine) active() (n int) {
	for _, s := range e.slots {
		if s != nil {
			n++
		}
	}
	return n
}
