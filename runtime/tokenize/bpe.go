package tokenize

import (
	"slices"
	"unicode/utf8"
)

// maxWordBytes bounds the working memory of one word. Text without a single
// boundary in so many bytes is cut there.
const maxWordBytes = 1 << 16

// encoder is the state of one Encode call.
type encoder struct {
	t       *Tokenizer
	out     []int32
	limit   int         // beyond it nothing is encoded any more
	ended   func() bool // nor once this says so
	steps   int         // words and special tokens so far
	symbols []symbol
	queue   []uint64 // heap of rank<<32 | position
	text    string   // the word, of SentencePiece
	nodes   []node   // of the unigram model
}

// symbol is a token of a word in the making; its neighbours are linked, because
// merging removes symbols from the middle.
type symbol struct {
	id         int32  // -1: a byte that the vocabulary lacks; with SentencePiece where it begins
	size       int32  // of SentencePiece: its bytes
	token      int32  // of SentencePiece: what it is; -1 if it was not looked up
	prev, next int32  // -1 at the ends
	rank       uint32 // of the pair with next; noRank if they do not merge
}

// full says whether nothing more is to be encoded. Now and then it asks whether the call ended.
func (e *encoder) full() bool {
	const often = 256
	if e.steps++; e.steps%often == 1 && e.ended() {
		e.limit = -1
	}
	return len(e.out) > e.limit
}

// plain encodes text that holds no special token.
func (e *encoder) plain(text string) {
	if e.t.wordPieces != nil {
		e.t.wordPieces.pieceText(e, text)
		return
	}
	if e.t.unigram != nil {
		e.t.unigram.text(e, text)
		return
	}
	words := e.t.split.words
	if e.t.pieces != nil {
		words = e.t.pieces.words
	}
	words(text, func(word string) (more bool) {
		for len(word) > maxWordBytes {
			cut := maxWordBytes
			for cut > maxWordBytes-utf8.UTFMax && !utf8.RuneStart(word[cut]) {
				cut--
			}
			e.word(word[:cut])
			word = word[cut:]
			e.steps = 0 // such a word is many
			if e.full() {
				return false
			}
		}
		e.word(word)
		return !e.full()
	})
}

// word merges one word's bytes, always the pair of lowest rank first and of
// equals the leftmost, until no pair merges.
func (e *encoder) word(word string) {
	if e.t.pieces != nil {
		e.pieceWord(word)
		return
	}
	if len(word) == 1 {
		if id := e.t.byteID[word[0]]; id >= 0 {
			e.out = append(e.out, id)
		}
		return
	}
	if e.t.direct {
		if id := e.t.vocab.find([]byte(word)); id >= 0 {
			e.out = append(e.out, id)
			return
		}
	}
	if len(word) <= shortWord {
		e.short(word)
		return
	}
	e.start(word)
	for len(e.queue) > 0 {
		top := e.pop()
		rank, at := uint32(top>>32), int32(uint32(top))
		if e.symbols[at].rank == rank { // else the pair is gone
			e.merge(at, rank)
		}
	}
	for i := int32(0); i >= 0 && len(e.symbols) > 0; i = e.symbols[i].next {
		if e.symbols[i].id >= 0 {
			e.out = append(e.out, e.symbols[i].id)
		}
	}
}

// shortWord is the length in bytes up to which looking through all pairs is faster than a queue.
const shortWord = 24

// short is word for short ones.
func (e *encoder) short(word string) {
	var ids [shortWord]int32
	var ranks [shortWord]uint32 // of each token's pair with the next
	n := len(word)
	for i := range n {
		ids[i] = e.t.byteID[word[i]]
	}
	rank := func(i int) uint32 {
		if i+1 >= n || ids[i] < 0 || ids[i+1] < 0 {
			return noRank
		}
		return e.t.merges.rank(pairOf(ids[i], ids[i+1]))
	}
	for i := range n {
		ranks[i] = rank(i)
	}
	for {
		best, at := noRank, 0
		for i, r := range ranks[:n] {
			if r < best {
				best, at = r, i
			}
		}
		if best == noRank {
			break
		}
		ids[at] = e.t.merges.result(best)
		copy(ids[at+1:n], ids[at+2:n])
		copy(ranks[at+1:n], ranks[at+2:n])
		n--
		ranks[at] = rank(at)
		if at > 0 {
			ranks[at-1] = rank(at - 1)
		}
	}
	for _, id := range ids[:n] {
		if id >= 0 {
			e.out = append(e.out, id)
		}
	}
}

// start lays out a word's bytes as symbols and queues the pairs that merge.
func (e *encoder) start(word string) {
	e.queue = e.queue[:0]
	e.symbols = slices.Grow(e.symbols[:0], len(word))[:len(word)]
	for i := range e.symbols {
		e.symbols[i] = symbol{id: e.t.byteID[word[i]], prev: int32(i) - 1, next: int32(i) + 1, rank: noRank}
	}
	if len(word) > 0 {
		e.symbols[len(word)-1].next = -1
	}
	for i := range e.symbols {
		e.pair(int32(i))
	}
}

// pair looks up whether the symbol merges with its successor, and queues it.
func (e *encoder) pair(at int32) {
	s := &e.symbols[at]
	s.rank = noRank
	if s.next < 0 || s.id < 0 || e.symbols[s.next].id < 0 {
		return
	}
	if s.rank = e.t.merges.rank(pairOf(s.id, e.symbols[s.next].id)); s.rank != noRank {
		e.push(uint64(s.rank)<<32 | uint64(uint32(at)))
	}
}

func (e *encoder) merge(at int32, rank uint32) {
	s := &e.symbols[at]
	gone := &e.symbols[s.next]
	s.id = e.t.merges.result(rank)
	s.next = gone.next
	gone.rank = noRank
	if s.next >= 0 {
		e.symbols[s.next].prev = at
	}
	e.pair(at)
	if s.prev >= 0 {
		e.pair(s.prev)
	}
}

func (e *encoder) push(x uint64) {
	q := append(e.queue, x)
	i := len(q) - 1
	for i > 0 {
		up := (i - 1) / 2
		if q[up] <= x {
			break
		}
		q[i] = q[up]
		i = up
	}
	q[i] = x
	e.queue = q
}

func (e *encoder) pop() uint64 {
	q := e.queue
	top, x := q[0], q[len(q)-1]
	q = q[:len(q)-1]
	i := 0
	for {
		down := 2*i + 1
		if down >= len(q) {
			break
		}
		if down+1 < len(q) && q[down+1] < q[down] {
			down++
		}
		if q[down] >= x {
			break
		}
		q[i] = q[down]
		i = down
	}
	if len(q) > 0 {
		q[i] = x
	}
	e.queue = q
	return top
}
