package infer

import (
	"encoding/binary"
)

// maxDrafts is how many tokens are guessed at once: with the one that is certain they are the four
// that the kernels compute together.
const maxDrafts = 3

// One of worth guesses has to come true, after the first free ones, for a pass over four tokens to
// be quicker than passes of one. Streamed weights would do with fewer.
const (
	worth = 4
	free  = 24
)

// outputs is how many tokens of a batch may ask for logits.
func outputs(sequences int) int { return min(sequences+maxDrafts, batchSize(sequences)) }

// guesses are a sequence's drafts: tokens that were computed before anybody knew whether they
// follow (prompt lookup decoding, Saxena 2023). Only what the sampler picks by itself is kept, from
// the same logits and random numbers in the same order, so that an answer is the one without them.
type guesses struct {
	tokens         []int32 // those that may still come true in this step
	room           [maxDrafts]int32
	offered, taken int
}

// guess takes the tokens that followed the last place where a text went on as it ends now: text is
// four bytes for each token in the cache, next the one behind them.
func (g *guesses) guess(text []byte, next int32, most int) {
	g.tokens = nil
	most = min(most, maxDrafts)
	if most < 1 || worth*g.taken+free < g.offered {
		return
	}
	n := len(text) / tokenBytes
	at := func(i int) int32 { // and behind the text what is guessed of it
		switch {
		case i < n:
			return int32(binary.LittleEndian.Uint32(text[i*tokenBytes:]))
		case i == n:
			return next
		}
		return g.room[i-n-1]
	}
	for i := n - 1; i >= 2; i-- {
		if at(i) == next && at(i-1) == at(n-1) && at(i-2) == at(n-2) {
			for j := range most {
				g.room[j] = at(i + 1 + j)
			}
			g.tokens = g.room[:most]
			g.offered += most
			return
		}
	}
}

// confirm says whether the next guess is the token that was picked.
func (g *guesses) confirm(token int32) bool {
	if len(g.tokens) == 0 || g.tokens[0] != token {
		g.tokens = nil
		return false
	}
	g.tokens = g.tokens[1:]
	g.taken++
	return true
}

// draft adds guesses to a batch that has the next token of a single sequence.
func (e *Engine) draft(slot int, asked []int) {
	s := e.slots[slot]
	last := e.batch[len(e.batch)-1]
	s.guesses.guess(e.prefixes.text(slot), last.Token, min(e.drafts, s.left-1, e.context-1-last.Position))
	for i, token := range s.guesses.tokens {
		in := last
		in.Token, in.Position = token, last.Position+1+i
		e.batch = append(e.batch, in)
		asked[i] = slot
	}
}
