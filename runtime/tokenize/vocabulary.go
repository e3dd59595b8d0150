package tokenize

import (
	"fmt"
	"hash/maphash"
	"math/bits"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/runtime/gguf"
)

// vocabulary holds all tokens' bytes in one blob, and an open-addressing table from bytes to id: a Go map
// of strings would cost ten times as much. It takes 2.8 bytes a token beside their text, and 4 for the
// table.
type vocabulary struct {
	blob  []byte
	base  []uint32 // where each run of runTokens tokens begins in blob
	start []uint16 // and each of its tokens, from there; one more than there are tokens
	kinds []uint8  // of two tokens each
	// slots are 24 bits each: id+1 of a normal token in the lower ones, 0 for empty, and bits of its
	// hash above, which tell most other texts apart without a look at blob. Three quarters are full.
	slots  []byte
	ids    uint32 // the bits of a slot that hold the id
	places uint64 // number of slots
	seed   maphash.Seed
}

// runTokens is the number of tokens whose starts fit in 16 bits: each has at most maxTokenBytes.
const runTokens = 1 << 4

// style is how a file writes its tokens.
type style int

const (
	byteLevelStyle style = iota
	sentencePieceStyle
	wordPieceStyle
	unigramStyle
)

// loadVocabulary reads the tokens. A word may be the whole text </s>, or is always part of it.
func loadVocabulary(f *gguf.File, written style, whole bool) (vocabulary, error) {
	const key = "tokenizer.ggml.tokens"
	texts, ok := f.Strings(key)
	if !ok || texts.Len() == 0 {
		return vocabulary{}, fmt.Errorf("%s is missing", key)
	}
	if texts.Len() > maxVocabulary {
		return vocabulary{}, fmt.Errorf("got %d tokens, the limit is %d", texts.Len(), maxVocabulary)
	}
	const kindKey = "tokenizer.ggml.token_type"
	kinds, hasKinds := f.Ints(kindKey)
	if f.Has(kindKey) && !hasKinds { // else every token would be taken for a normal one
		return vocabulary{}, fmt.Errorf("%s is not a list of integers", kindKey)
	}
	if hasKinds && len(kinds) != texts.Len() {
		return vocabulary{}, fmt.Errorf("got %d token types for %d tokens", len(kinds), texts.Len())
	}
	n := texts.Len()
	v := vocabulary{
		base:   make([]uint32, 0, n/runTokens+1),
		start:  make([]uint16, 0, n+1),
		kinds:  make([]uint8, n/2+1),
		places: uint64(n+n/3) + 1,
		ids:    1<<bits.Len(uint(n)) - 1,
		seed:   maphash.MakeSeed(),
	}
	v.slots = make([]byte, 3*v.places+1)
	v.begin()
	for i := range n {
		kind := kindNormal
		if hasKinds {
			if kinds[i] < int64(kindNormal) || kinds[i] > int64(kindByte) {
				return vocabulary{}, fmt.Errorf("token %d has unknown type %d", i, kinds[i])
			}
			kind = tokenKind(kinds[i])
		}
		text := texts.At(i)
		if len(text) > maxTokenBytes {
			return vocabulary{}, fmt.Errorf("token %d has %d bytes, the limit is %d", i, len(text), maxTokenBytes)
		}
		if isEnd(string(text), kind, whole) || kind == kindUserDefined && isControl(f, string(text)) {
			kind = kindControl
		}
		v.kinds[i/2] |= uint8(kind) << (i % 2 * 4)
		var err error
		if v.blob, err = appendToken(v.blob, text, kind, written); err != nil {
			return vocabulary{}, fmt.Errorf("token %d %w", i, err)
		}
		v.begin()
	}
	v.blob = append(make([]byte, 0, len(v.blob)), v.blob...) // without the room that it grew by
	return v, v.index()
}

// begin notes that the next token begins at the end of blob.
func (v *vocabulary) begin() {
	if len(v.start)%runTokens == 0 {
		v.base = append(v.base, uint32(len(v.blob)))
	}
	v.start = append(v.start, uint16(uint32(len(v.blob))-v.base[len(v.base)-1]))
}

// appendToken appends the bytes that a token of a file stands for.
func appendToken(dst, text []byte, kind tokenKind, written style) ([]byte, error) {
	switch {
	case kind == kindUnused && written == unigramStyle:
		return append(dst, text...), nil
	case written != byteLevelStyle:
		text, err := tokenText(text, kind)
		return append(dst, text...), err
	case kind == kindByte:
		return nil, fmt.Errorf("has type %d (byte), which byte-level BPE does not use", kindByte)
	case kind == kindNormal:
		return appendBytes(dst, text), nil
	}
	return append(dst, text...), nil
}

// index enters the normal tokens, which differ in their bytes: of two that do not, readers
// choose differently.
func (v *vocabulary) index() error {
	for id := range int32(v.size()) {
		b := v.bytes(id)
		if v.kindOf(id) != kindNormal || len(b) == 0 {
			continue
		}
		hash := maphash.Bytes(v.seed, b)
		if other := v.probe(hash, string(b)); other >= 0 {
			return fmt.Errorf("tokens %d and %d are both %q", other, id, b)
		}
		i, mark := v.place(hash)
		for load24(v.slots, i) != 0 {
			if i++; i == v.places {
				i = 0
			}
		}
		store24(v.slots, i, mark|(uint32(id)+1))
	}
	return nil
}

// place returns where to look for a hash first, and the bits of its slot above the id.
func (v *vocabulary) place(hash uint64) (slot uint64, mark uint32) {
	slot, _ = bits.Mul64(hash, v.places)
	return slot, uint32(hash) & (1<<24 - 1) &^ v.ids
}

// probe returns the token with this hash and text, or -1.
func (v *vocabulary) probe(hash uint64, text string) int32 {
	for i, mark := v.place(hash); ; {
		s := load24(v.slots, i)
		if s == 0 {
			return -1
		}
		if (s^mark)&^v.ids == 0 {
			if id := int32(s&v.ids) - 1; string(v.bytes(id)) == text {
				return id
			}
		}
		if i++; i == v.places {
			i = 0
		}
	}
}

// find returns the normal token with these bytes, or -1.
func (v *vocabulary) find(b []byte) int32 { return v.probe(maphash.Bytes(v.seed, b), string(b)) }

// findText is find for text.
func (v *vocabulary) findText(s string) int32 { return v.probe(maphash.String(v.seed, s), s) }

// forgetTexts gives back the table for find, which is not called any more.
func (v *vocabulary) forgetTexts() { v.slots, v.places = nil, 0 }

func (v *vocabulary) size() int { return len(v.start) - 1 }

func (v *vocabulary) kindOf(id int32) tokenKind {
	return tokenKind(v.kinds[id/2] >> (id % 2 * 4) & 0xf)
}

func (v *vocabulary) bytes(id int32) []byte {
	a, b := v.at(id), v.at(id+1)
	return v.blob[a:b:b]
}

func (v *vocabulary) at(id int32) uint32 {
	return v.base[uint32(id)/runTokens] + uint32(v.start[id])
}

// appendBytes undoes the printable alphabet in which byte-level BPE files write
// tokens: each character stands for one byte. Text outside that alphabet (some
// files hold padding tokens of their own making) is kept as it is.
func appendBytes(dst, text []byte) []byte {
	begin := len(dst)
	for rest := text; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		b, ok := alphabetByte(r)
		if !ok || (r == utf8.RuneError && n == 1) {
			return append(dst[:begin], text...)
		}
		dst = append(dst, b)
		rest = rest[n:]
	}
	return dst
}

// alphabetByte returns the byte that a character of the GPT-2 alphabet stands
// for. Printable Latin-1 stands for itself; the other 68 bytes, in order, are
// written as U+0100 and up.
func alphabetByte(r rune) (byte, bool) {
	switch {
	case r >= '!' && r <= '~', r >= 0xa1 && r <= 0xac, r >= 0xae && r <= 0xff:
		return byte(r), true
	case r >= 0x100 && r <= 0x120: // 0x00 to 0x20
		return byte(r - 0x100), true
	case r >= 0x121 && r <= 0x142: // 0x7f to 0xa0
		return byte(r - 0x121 + 0x7f), true
	case r == 0x143:
		return 0xad, true
	}
	return 0, false
}
