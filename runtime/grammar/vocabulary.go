package grammar

import (
	"bytes"
	"slices"
)

// Vocabulary is the tokens of a model in the order of their bytes: a trie, walked without being
// built. It costs 4 bytes for each token, is immutable and safe for concurrent use.
type Vocabulary struct {
	piece func(int32) []byte
	words []word
}

// word is a token's number, below 2^24, and in the lower 8 bits the bytes that it has in common with the
// one before, at most 255.
type word uint32

func (w word) id() int32   { return int32(w >> 8) }
func (w word) common() int { return int(w & 0xff) }

// NewVocabulary makes one of size tokens, at most 2^24. Tokens without bytes are left out.
func NewVocabulary(size int, piece func(id int32) []byte) *Vocabulary {
	v := &Vocabulary{piece: piece, words: make([]word, 0, size)}
	for id := range int32(size) {
		if len(piece(id)) > 0 {
			v.words = append(v.words, word(id)<<8)
		}
	}
	slices.SortFunc(v.words, func(a, b word) int { return bytes.Compare(piece(a.id()), piece(b.id())) })
	for i := 1; i < len(v.words); i++ {
		a, b := piece(v.words[i-1].id()), piece(v.words[i].id())
		n := 0
		for n < min(len(a), len(b), 255) && a[n] == b[n] {
			n++
		}
		v.words[i] |= word(n)
	}
	return v
}

// Each calls allow with every token that may come next in an answer, in the order of their
// bytes. Where a token may not begin, all that begin like it are passed over.
func (v *Vocabulary) Each(m *Matcher, allow func(id int32)) error {
	path := append(m.path[:0], m.state) // the states after each byte
	for i := 0; i < len(v.words); {
		piece := v.piece(v.words[i].id())
		path = path[:min(v.words[i].common(), len(path)-1)+1]
		for len(path) <= len(piece) {
			state := m.step(path[len(path)-1], piece[len(path)-1])
			if m.err != nil {
				return m.err
			}
			if state == dead {
				break
			}
			path = append(path, state)
		}
		at := len(path) - 1
		if at == len(piece) {
			allow(v.words[i].id())
			i++
			continue
		}
		for i++; i < len(v.words) && v.words[i].common() > at; i++ {
		}
	}
	m.path = path
	return nil
}
