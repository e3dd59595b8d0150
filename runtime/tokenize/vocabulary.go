package tokenize

import (
	"fmt"
	"hash/maphash"
	"math/bits"
	"slices"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/runtime/gguf"
)

// vocabulary holds all tokens' bytes in one blob, and an open-addressing table
// from bytes to id: a Go map of strings would cost ten times as much.
type vocabulary struct {
	blob  []byte
	start []uint32 // of each token in blob; one more than there are tokens
	kind  []tokenKind
	slots []int32 // id+1 of a normal token, 0 for empty; three quarters full
	seed  maphash.Seed
}

// loadVocabulary reads the tokens of byte-level BPE, or of SentencePiece. A word may be the whole
// text </s>, or is always part of it.
func loadVocabulary(f *gguf.File, sentencePiece, whole bool) (vocabulary, error) {
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
	v := vocabulary{
		start: make([]uint32, 1, texts.Len()+1),
		kind:  make([]tokenKind, texts.Len()),
		slots: make([]int32, texts.Len()+texts.Len()/3+1),
		seed:  maphash.MakeSeed(),
	}
	for i := range texts.Len() {
		v.kind[i] = kindNormal
		if hasKinds {
			if kinds[i] < int64(kindNormal) || kinds[i] > int64(kindByte) {
				return vocabulary{}, fmt.Errorf("token %d has unknown type %d", i, kinds[i])
			}
			v.kind[i] = tokenKind(kinds[i])
		}
		text := texts.At(i)
		if len(text) > maxTokenBytes {
			return vocabulary{}, fmt.Errorf("token %d has %d bytes, the limit is %d", i, len(text), maxTokenBytes)
		}
		if isEnd(string(text), v.kind[i], whole) {
			v.kind[i] = kindControl
		}
		var err error
		if v.blob, err = appendToken(v.blob, text, v.kind[i], sentencePiece); err != nil {
			return vocabulary{}, fmt.Errorf("token %d %w", i, err)
		}
		v.start = append(v.start, uint32(len(v.blob)))
	}
	v.blob = slices.Clip(v.blob)
	return v, v.index()
}

// appendToken appends the bytes that a token of a file stands for.
func appendToken(dst, text []byte, kind tokenKind, sentencePiece bool) ([]byte, error) {
	switch {
	case sentencePiece:
		text, err := tokenText(text, kind)
		return append(dst, text...), err
	case kind == kindByte:
		return nil, fmt.Errorf("has type %d (byte), which byte-level BPE does not use", kindByte)
	case kind == kindNormal:
		return appendBytes(dst, text), nil
	}
	return append(dst, text...), nil
}

// tableSize returns a power of two that n entries fill to at most three quarters.
func tableSize(n int) int { return 1 << bits.Len(uint(n+n/3)) }

// index enters the normal tokens, which differ in their bytes: of two that do not, readers
// choose differently.
func (v *vocabulary) index() error {
	for id := range int32(v.size()) {
		b := v.bytes(id)
		if v.kind[id] != kindNormal || len(b) == 0 {
			continue
		}
		i := v.slot(b)
		if other := v.slots[i]; other != 0 {
			return fmt.Errorf("tokens %d and %d are both %q", other-1, id, b)
		}
		v.slots[i] = id + 1
	}
	return nil
}

// slot returns where b stands in the table, or the empty place where it would.
func (v *vocabulary) slot(b []byte) uint64 {
	return v.probe(maphash.Bytes(v.seed, b), string(b))
}

// probe looks for a text from where its hash points to.
func (v *vocabulary) probe(hash uint64, text string) uint64 {
	i, _ := bits.Mul64(hash, uint64(len(v.slots)))
	for v.slots[i] != 0 && string(v.bytes(v.slots[i]-1)) != text {
		if i++; i == uint64(len(v.slots)) {
			i = 0
		}
	}
	return i
}

// find returns the normal token with these bytes, or -1.
func (v *vocabulary) find(b []byte) int32 { return v.slots[v.slot(b)] - 1 }

// findText is find for text.
func (v *vocabulary) findText(s string) int32 {
	return v.slots[v.probe(maphash.String(v.seed, s), s)] - 1
}

func (v *vocabulary) size() int { return len(v.kind) }

func (v *vocabulary) bytes(id int32) []byte {
	a, b := v.start[id], v.start[id+1]
	return v.blob[a:b:b]
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
