package tokenize

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/runtime/gguf"
)

// blank is how SentencePiece files write a space. The vocabulary keeps a space in its place, and
// a blank in a text is the same as a space, as in the reference implementation.
const blank = "\u2581"

// pieces is what SentencePiece BPE adds to a vocabulary: characters merge into the token of the
// highest score, and what is no token becomes bytes.
type pieces struct {
	// ranks order tokens by their scores: the lower, the earlier a pair merges into the token.
	// It is nil if scores fall with each token's number, which is then its rank.
	ranks []uint32
	// joins are the last bytes of characters that a token has before a space: text is cut into
	// words before all other spaces, since no token reaches across them.
	joins [256]bool
	// prefix: a space goes before text that begins, or that follows a special token.
	prefix bool
}

func loadPieces(f *gguf.File, v *vocabulary) (*pieces, error) {
	const key = "tokenizer.ggml.scores"
	scores, ok := f.Floats(key)
	if !ok || len(scores) != v.size() {
		return nil, fmt.Errorf("%s is not a list of %d floating-point numbers", key, v.size())
	}
	p := &pieces{prefix: true}
	const prefixKey = "tokenizer.ggml.add_space_prefix"
	if f.Has(prefixKey) {
		if p.prefix, ok = f.Bool(prefixKey); !ok {
			return nil, fmt.Errorf("%s is not a boolean", prefixKey)
		}
	}
	falling, last := true, float32(math.Inf(1))
	for id, score := range scores {
		if score != score {
			return nil, fmt.Errorf("the score of token %d is not a number", id)
		}
		if v.kindOf(int32(id)) == kindNormal {
			falling = falling && score < last
			last = score
			p.note(v.bytes(int32(id)))
		}
	}
	if !falling {
		p.ranks = make([]uint32, len(scores))
		for id, score := range scores {
			p.ranks[id] = scoreRank(score)
		}
	}
	return p, nil
}

// note enters the characters that a token has before its spaces.
func (p *pieces) note(token []byte) {
	for i := 1; i < len(token); i++ {
		if token[i] == ' ' && token[i-1] != ' ' {
			p.joins[token[i-1]] = true
		}
	}
}

// scoreRank maps scores to numbers in the opposite order, all of them less than noRank.
func scoreRank(score float32) uint32 {
	if score == 0 {
		score = 0 // not negative zero
	}
	bits := math.Float32bits(score)
	if bits>>31 != 0 {
		return bits
	}
	return 1<<31 - 1 - bits
}

func (p *pieces) rank(id int32) uint32 {
	if p.ranks == nil {
		return uint32(id)
	}
	return p.ranks[id]
}

// token is the token of a rank, or -1 if ranks do not tell.
func (p *pieces) token(rank uint32) int32 {
	if p.ranks == nil {
		return int32(rank)
	}
	return -1
}

// words calls yield with parts of text within which tokens merge, until it wants no more.
func (p *pieces) words(text string, yield func(word string) (more bool)) {
	begin := 0
	for i := 1; i < len(text); i++ {
		if text[i] == ' ' && text[i-1] != ' ' && !p.joins[text[i-1]] {
			if !yield(text[begin:i]) {
				return
			}
			begin = i
		}
	}
	if begin < len(text) {
		yield(text[begin:])
	}
}

// spaced is text as the vocabulary writes it. Nothing or a special token is before it.
func (p *pieces) spaced(text string) string {
	if p.prefix && text != "" {
		text = " " + text
	}
	return strings.ReplaceAll(text, blank, " ")
}

// tokenText is the text of a token of a SentencePiece file as the vocabulary keeps it.
func tokenText(text []byte, kind tokenKind) ([]byte, error) {
	switch kind {
	case kindNormal:
		if bytes.IndexByte(text, ' ') >= 0 {
			return nil, errors.New("contains a space, which SentencePiece never writes")
		}
		return bytes.ReplaceAll(text, []byte(blank), []byte(" ")), nil
	case kindByte:
		b, ok := byteOf(text)
		if !ok {
			return nil, errors.New(`has type 6 (byte), but is not written as "<0xFF>"`)
		}
		return []byte{b}, nil
	case kindUnused:
		return nil, errors.New("has type 5 (unused), whose use is not defined")
	}
	return text, nil
}

// byteOf reads the byte that a token such as <0x0A> stands for.
func byteOf(text []byte) (byte, bool) {
	const digits = "0123456789ABCDEF"
	if len(text) != 6 || string(text[:3]) != "<0x" || text[5] != '>' {
		return 0, false
	}
	high, low := strings.IndexByte(digits, text[3]), strings.IndexByte(digits, text[4])
	return byte(high<<4 | low), high >= 0 && low >= 0
}

// loadBytes finds the tokens of single bytes, of which none may be missing.
func (t *Tokenizer) loadBytes() error {
	for b := range t.byteID {
		t.byteID[b] = -1
	}
	for id := range int32(t.Size()) {
		if t.vocab.kindOf(id) == kindByte {
			t.byteID[t.vocab.bytes(id)[0]] = id
		}
	}
	if b := slices.Index(t.byteID[:], -1); b >= 0 {
		return fmt.Errorf("no token stands for the byte 0x%02X", b)
	}
	if t.vocab.find([]byte(" ")) < 0 {
		return errors.New("no token is a space")
	}
	return nil
}

// characters lays out a word's characters as symbols, each byte that is not UTF-8 as one of its
// own, and queues the pairs that merge.
func (e *encoder) characters(word string) {
	e.symbols, e.queue, e.text = e.symbols[:0], e.queue[:0], word
	for at := 0; at < len(word); {
		_, n := utf8.DecodeRuneInString(word[at:])
		i := int32(len(e.symbols))
		e.symbols = append(e.symbols, symbol{id: int32(at), size: int32(n), token: -1, prev: i - 1, next: i + 1, rank: noRank})
		at += n
	}
	e.symbols[len(e.symbols)-1].next = -1
	for i := range e.symbols {
		e.join(int32(i))
	}
}

// join looks up whether the symbol and its successor are a token together, and queues them.
func (e *encoder) join(at int32) {
	s := &e.symbols[at]
	s.rank = noRank
	if s.next < 0 {
		return
	}
	if id := e.t.vocab.findText(e.text[s.id : s.id+s.size+e.symbols[s.next].size]); id >= 0 {
		s.rank = e.t.pieces.rank(id)
		e.push(uint64(s.rank)<<32 | uint64(uint32(at)))
	}
}

// pieceWord merges one word's characters, always the pair of highest score first and of equals
// the leftmost, until no pair merges.
func (e *encoder) pieceWord(word string) {
	if len(word) <= shortWord {
		e.shortPieces(word)
		return
	}
	e.characters(word)
	for len(e.queue) > 0 {
		top := e.pop()
		rank, at := uint32(top>>32), int32(uint32(top))
		s := &e.symbols[at]
		if s.rank != rank { // the pair is gone
			continue
		}
		gone := &e.symbols[s.next]
		s.size += gone.size
		s.token = e.t.pieces.token(rank)
		s.next = gone.next
		gone.rank = noRank
		if s.next >= 0 {
			e.symbols[s.next].prev = at
		}
		e.join(at)
		if s.prev >= 0 {
			e.join(s.prev)
		}
	}
	for i := int32(0); i >= 0; i = e.symbols[i].next {
		s := &e.symbols[i]
		e.piece(word[s.id:s.id+s.size], s.token)
	}
}

// shortPieces is pieceWord for short words.
func (e *encoder) shortPieces(word string) {
	var begins [shortWord + 1]int   // of each character, or token, in the word
	var tokens [shortWord]int32     // -1: not looked up
	var ranks [shortWord + 1]uint32 // of each one's pair with the next
	n := 0
	for at := 0; at < len(word); n++ {
		begins[n], tokens[n] = at, -1
		_, size := utf8.DecodeRuneInString(word[at:])
		at += size
	}
	begins[n] = len(word)
	rank := func(i int) uint32 {
		if i+2 > n {
			return noRank
		}
		if id := e.t.vocab.findText(word[begins[i]:begins[i+2]]); id >= 0 {
			return e.t.pieces.rank(id)
		}
		return noRank
	}
	for i := range n - 1 {
		ranks[i] = rank(i)
	}
	for n > 1 {
		best, at := noRank, 0
		for i, r := range ranks[:n-1] {
			if r < best {
				best, at = r, i
			}
		}
		if best == noRank {
			break
		}
		tokens[at] = e.t.pieces.token(best)
		copy(begins[at+1:n], begins[at+2:n+1])
		copy(tokens[at+1:n], tokens[at+2:n])
		copy(ranks[at+1:n], ranks[at+2:n])
		n--
		ranks[at] = rank(at)
		if at > 0 {
			ranks[at-1] = rank(at - 1)
		}
	}
	for i := range n {
		e.piece(word[begins[i]:begins[i+1]], tokens[i])
	}
}

// piece puts out a token, if it is known, or the token of a text, or its bytes.
func (e *encoder) piece(text string, token int32) {
	if token < 0 {
		token = e.t.vocab.findText(text)
	}
	if token >= 0 {
		e.out = append(e.out, token)
		return
	}
	for k := range len(text) {
		e.out = append(e.out, e.t.byteID[text[k]])
	}
}
