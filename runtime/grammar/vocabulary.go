package grammar

import (
	"bytes"
	"slices"
)

// Vocabulary is the tokens of a model in the order of their bytes: a trie, walked without being
// built. It costs 5 bytes for each token, is immutable and safe for concurrent use.
type Vocabulary struct {
	piece  func(int32) []byte
	ids    []int32
	common []uint8 // bytes that a token has in common with the one before, at most 255
}

// NewVocabulary makes one of size tokens. Tokens without bytes are left out.
func NewVocabulary(size int, piece func(id int32) []byte) *Vocabulary {
	v := &Vocabulary{piece: piece, ids: make([]int32, 0, size)}
	for id := range int32(size) {
		if len(piece(id)) > 0 {
			v.ids = append(v.ids, id)
		}
	}
	slices.SortFunc(v.ids, func(a, b int32) int { return bytes.Compare(piece(a), piece(b)) })
	v.common = make([]uint8, len(v.ids))
	for i := 1; i < len(v.ids); i++ {
		a, b := piece(v.ids[i-1]), piece(v.ids[i])
		n := 0
		for n < min(len(a), len(b), 255) && a[n] == b[n] {
			n++
		}
		v.common[i] = uint8(n)
	}
	return v
}

// Each calls allow with every token that may come next in an answer, in the order of their
// bytes. Where a token may not begin, all that begin like it are passed over.
func (v *Vocabulary) Each(m *Matcher, allow func(id int32)) error {
	path := append(m.path[:0], m.state) // the states after each byte
	for i := 0; i < len(v.ids); {
		piece := v.piece(v.ids[i])
		path = path[:min(int(v.common[i]), len(path)-1)+1]
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
			allow(v.ids[i])
			i++
			continue
		}
		for i++; i < len(v.ids) && int(v.common[i]) > at; i++ {
		}
	}
	m.path = path
	return nil
}
