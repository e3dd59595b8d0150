package tokenize

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/runtime/gguf"
)

// unigram is what SentencePiece's unigram model adds to a vocabulary: of all ways to cut a word into
// tokens it takes the one whose scores have the highest sum (Kudo 2018, arXiv 1804.10959, section 3.2). A
// character that is no token costs more than any token, and adjacent ones become one unknown token.
type unigram struct {
	scores       []float32 // of each token
	lengths      []int     // bytes that tokens have, ascending
	unknown      int32
	unknownScore float64
	begin, end   int32
	spaces       pieces // where tokens reach across spaces
	normal       charsmap
}

const (
	maxUnigramBytes = 256 // of a token: each position of a text is looked up with each length
	maxReplacement  = 256 // bytes of what a replacement takes, and of what it puts there; files have up to 33
	unknownPenalty  = 10  // below the lowest score: kUnkPenalty of SentencePiece
	scoresKey       = "tokenizer.ggml.scores"
	charsmapKey     = "tokenizer.ggml.precompiled_charsmap"
)

// loadUnigram reads what the unigram model needs. Two switches must be on: without them, readers
// disagree about the spaces at the ends of a text.
func (t *Tokenizer) loadUnigram(f *gguf.File) (err error) {
	if t.vocab, err = loadVocabulary(f, unigramStyle, true); err != nil {
		return err
	}
	u := &unigram{}
	var ok bool
	if u.scores, ok = f.Floats(scoresKey); !ok || len(u.scores) != t.Size() {
		return fmt.Errorf("%s is not a list of %d floating-point numbers", scoresKey, t.Size())
	}
	for _, key := range []string{"tokenizer.ggml.add_space_prefix", "tokenizer.ggml.remove_extra_whitespaces", "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"} {
		if on, ok := f.Bool(key); !ok || !on {
			return fmt.Errorf("%s is not true; with the unigram model, text begins with a space, spaces are merged, and a text is between the tokens that begin and end it", key)
		}
	}
	if u.unknown, err = t.marker(f, "tokenizer.ggml.unknown_token_id"); err != nil {
		return err
	}
	if u.begin, err = t.marker(f, "tokenizer.ggml.bos_token_id"); err != nil {
		return err
	}
	if u.end, err = t.marker(f, "tokenizer.ggml.eos_token_id"); err != nil {
		return err
	}
	if u.normal, err = loadCharsmap(f); err != nil {
		return err
	}
	t.unigram = u
	return u.survey(&t.vocab)
}

// survey looks through the tokens for what encoding needs, and refuses what readers take differently.
func (u *unigram) survey(v *vocabulary) error {
	lowest := float32(math.Inf(1))
	for id := range int32(v.size()) {
		text, score := v.bytes(id), u.scores[id]
		if math.IsNaN(float64(score)) || math.IsInf(float64(score), 0) {
			return fmt.Errorf("the score of token %d is not a finite number", id)
		}
		switch v.kindOf(id) {
		case kindNormal:
			if len(text) > maxUnigramBytes {
				return fmt.Errorf("token %d has %d bytes, the limit of the unigram model is %d", id, len(text), maxUnigramBytes)
			}
			if !slices.Contains(u.lengths, len(text)) {
				u.lengths = append(u.lengths, len(text))
			}
			lowest = min(lowest, score)
			u.spaces.note(text)
		case kindUserDefined, kindByte:
			return fmt.Errorf("token %d has type %d, whose use beside the unigram model is not defined", id, v.kindOf(id))
		}
	}
	if len(u.lengths) == 0 {
		return errors.New("no token is a normal one")
	}
	slices.Sort(u.lengths)
	u.unknownScore = float64(lowest - unknownPenalty)
	for id := range int32(v.size()) {
		// Some readers match unused tokens and some do not. With such a score it is the same.
		if n := utf8.RuneCount(v.bytes(id)); v.kindOf(id) == kindUnused && float64(u.scores[id]) >= float64(n)*u.unknownScore {
			return fmt.Errorf("token %d has type %d (unused), but a score of %g, with which some readers use it", id, kindUnused, u.scores[id])
		}
	}
	return nil
}

// node is the best way to cut a word up to one of its bytes.
type node struct {
	score float64
	from  int32 // where its last token begins
	id    int32
}

// text encodes text that holds no special token, word by word: no sum of scores reaches across words.
// The sums of 24-bit scores are exact in float64, so that the cuts change nothing.
func (u *unigram) text(e *encoder, text string) {
	word, inWord, unknown := make([]byte, 0, 64), false, false
	flush := func() (more bool) {
		if bytes.Contains(word, []byte(blank)) {
			word = bytes.ReplaceAll(word, []byte(blank), []byte(" "))
		}
		if len(word) > 0 {
			unknown = u.word(e, word, unknown)
		}
		word = word[:0]
		return !e.full()
	}
	space := func() (more bool) {
		n := len(word)
		if n > 0 && !u.spaces.joins[word[n-1]] && !bytes.HasSuffix(word, []byte(blank)) && !flush() {
			return false
		}
		word = append(word, ' ')
		return true
	}
	for len(text) > 0 {
		part, n := u.normal.prefix(text)
		text = text[n:]
		if len(word) >= maxWordBytes {
			e.steps = 0 // such a word is many
			if !flush() {
				return
			}
		}
		for i := range len(part) {
			if part[i] == ' ' {
				inWord = false
				continue
			}
			if !inWord && !space() {
				return
			}
			inWord = true
			word = append(word, part[i])
		}
	}
	flush()
}

// word encodes a word. unknown says that the token before is the unknown one, with which another
// becomes one; the result says so of the last.
func (u *unigram) word(e *encoder, word []byte, unknown bool) bool {
	n := len(word)
	e.nodes = slices.Grow(e.nodes[:0], n+1)[:n+1]
	for i := range e.nodes {
		e.nodes[i] = node{score: math.Inf(-1)}
	}
	e.nodes[0].score = 0
	reach := func(from, to int, id int32, score float64) {
		if score += e.nodes[from].score; score > e.nodes[to].score {
			e.nodes[to] = node{score, int32(from), id}
		}
	}
	for at := 0; at < n; {
		_, size := utf8.DecodeRune(word[at:])
		single := false
		for _, length := range u.lengths {
			if at+length > n {
				break
			}
			if id := e.t.vocab.find(word[at : at+length]); id >= 0 {
				reach(at, at+length, id, float64(u.scores[id]))
				single = single || length == size
			}
		}
		if !single {
			reach(at, at+size, u.unknown, u.unknownScore)
		}
		at += size
	}
	begun := len(e.out)
	for at := int32(n); at > 0; at = e.nodes[at].from {
		e.out = append(e.out, e.nodes[at].id)
	}
	slices.Reverse(e.out[begun:])
	kept := begun
	for _, id := range e.out[begun:] {
		if id != u.unknown || !unknown {
			e.out[kept] = id
			kept++
		}
		unknown = id == u.unknown
	}
	e.out = e.out[:kept]
	return unknown
}

// charsmap replaces parts of a text, always the longest that has a replacement: SentencePiece's
// precompiled_charsmap, a double array (Darts-clone) with the replacements behind it. Without one,
// nothing is replaced.
type charsmap struct {
	units []uint32
	texts string // each ends in a zero byte
}

func loadCharsmap(f *gguf.File) (m charsmap, err error) {
	if !f.Has(charsmapKey) {
		return m, nil
	}
	values, ok := f.Ints(charsmapKey)
	if !ok {
		return m, fmt.Errorf("%s is not a list of bytes", charsmapKey)
	}
	if len(values) == 0 {
		return m, nil
	}
	raw := make([]byte, len(values))
	for i, v := range values {
		if v < math.MinInt8 || v > math.MaxUint8 {
			return m, fmt.Errorf("%s is not a list of bytes", charsmapKey)
		}
		raw[i] = byte(v)
	}
	damaged := fmt.Errorf("%s is damaged", charsmapKey)
	if len(raw) < 4 {
		return m, damaged
	}
	size := binary.LittleEndian.Uint32(raw)
	raw = raw[4:]
	if size%4 != 0 || size == 0 || uint64(size) >= uint64(len(raw)) || raw[len(raw)-1] != 0 {
		return m, damaged
	}
	m.texts = string(raw[size:])
	for at := 0; at < int(size); at += 4 {
		unit := binary.LittleEndian.Uint32(raw[at:])
		if isText(unit) {
			if int(textOf(unit)) >= len(m.texts) {
				return m, damaged
			}
			text := m.texts[textOf(unit):]
			if strings.IndexByte(text[:min(len(text), maxReplacement+1)], 0) < 0 {
				return m, fmt.Errorf("%s has a replacement of more than %d bytes", charsmapKey, maxReplacement)
			}
		}
		m.units = append(m.units, unit)
	}
	return m, nil
}

// A unit of the double array holds a label in bits 0 to 7, whether a replacement ends here in bit 8,
// and where its successors are in bits 9 to 30; or, with bit 31, a replacement's place.
func isText(unit uint32) bool    { return unit>>31 == 1 }
func textOf(unit uint32) uint32  { return unit &^ (1 << 31) }
func ends(unit uint32) bool      { return unit>>8&1 == 1 }
func labelOf(unit uint32) uint32 { return unit & (1<<31 | 0xff) }
func offset(unit uint32) uint32  { return unit >> 10 << (unit & (1 << 9) >> 6) }

// prefix returns what stands for the first n bytes of a text that is not empty: a replacement, or one
// character as it is. A byte that is not UTF-8 becomes U+FFFD.
func (m *charsmap) prefix(text string) (part string, n int) {
	if len(m.units) > 0 {
		at := offset(m.units[0])
		for i := 0; i < min(len(text), maxReplacement) && text[i] != 0; i++ { // a damaged table may have loops
			at ^= uint32(text[i])
			if uint64(at) >= uint64(len(m.units)) || labelOf(m.units[at]) != uint32(text[i]) {
				break
			}
			unit := m.units[at]
			at ^= offset(unit)
			if uint64(at) >= uint64(len(m.units)) {
				break
			}
			if ends(unit) && isText(m.units[at]) {
				part, n = m.texts[textOf(m.units[at]):], i+1
			}
		}
		if n > 0 {
			part, _, _ = strings.Cut(part, "\x00")
			return part, n
		}
	}
	r, size := utf8.DecodeRuneInString(text)
	if r == utf8.RuneError && size == 1 {
		return "\ufffd", 1
	}
	return text[:size], size
}
