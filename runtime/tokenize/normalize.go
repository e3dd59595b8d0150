package tokenize

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// normalizer is what WordPiece does to the characters of a text before it looks for tokens: the
// BertNormalizer of Hugging Face's tokenizers, to which a text's tokens are equal. The uncased models
// were trained with both parts, the others with neither.
type normalizer struct {
	lower bool // capitals become small letters
	strip bool // accents go
}

// runes calls yield with the characters that a model was trained on: without control characters, with a
// space for white space of every kind and one on each side of a Chinese character. It ends when yield
// wants no more.
//
// BUG: of adjacent marks that take up room of their own (U+302E and other characters of the kind Mc),
// canonical order may exchange two where accents go; here they keep theirs.
func (n normalizer) runes(text string, yield func(r rune) (more bool)) {
	for _, r := range text {
		switch {
		case r < utf8.RuneSelf:
			if r != '\t' && r != '\n' && r != '\r' && (r < ' ' || r == 0x7f) {
				continue
			}
			if unicode.IsSpace(r) {
				r = ' '
			}
			if !n.letter(r, yield) {
				return
			}
			continue
		case r == utf8.RuneError || is(r, unicode.Cc, unicode.Cf, unicode.Co):
			continue
		case unicode.IsSpace(r):
			r = ' '
		}
		wide := chinese(r)
		if wide && !yield(' ') {
			return
		}
		if !n.plain(r, yield) || wide && !yield(' ') {
			return
		}
	}
}

// plain yields a character without its accents, if these go.
func (n normalizer) plain(r rune, yield func(rune) bool) bool {
	if !n.strip {
		return n.letter(r, yield)
	}
	const first, vowels, tails, last = 0xac00, 21, 28, 0xd7a3 // Hangul syllables: Unicode, section 3.12
	if r >= first && r <= last {
		at := r - first
		more := yield(0x1100+at/(vowels*tails)) && yield(0x1161+at/tails%vowels)
		if tail := at % tails; more && tail > 0 {
			return yield(0x11a7 + tail)
		}
		return more
	}
	rest := unaccented(r)
	if rest == "" {
		return mark(r) || n.letter(r, yield)
	}
	for _, r := range rest {
		if !n.letter(r, yield) {
			return false
		}
	}
	return true
}

// letter yields a character, as a small letter if capitals become such. One becomes two characters.
func (n normalizer) letter(r rune, yield func(rune) bool) bool {
	const dotted, dot = 0x130, 0x307
	switch {
	case !n.lower:
		return yield(r)
	case r == dotted:
		return yield('i') && yield(dot)
	}
	return yield(lower(r))
}

// unaccented looks a character up in accents; nothing if it is not there.
func unaccented(r rune) string {
	low, high := 0, len(accents)
	for low < high {
		middle := (low + high) / 2
		begin := strings.LastIndexByte(accents[low:middle], ' ') + 1 + low
		word, _, _ := strings.Cut(accents[begin:], " ")
		found, size := utf8.DecodeRuneInString(word)
		switch {
		case found == r:
			return word[size:]
		case found < r:
			low = begin + len(word) + 1
		default:
			high = begin
		}
	}
	return ""
}

// lower is the small letter of one: of all but U+0130 that is one letter again.
func lower(r rune) rune {
	if r < utf8.RuneSelf {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	return unicode.ToLower(r)
}

// chinese says whether a character is a word of its own. The ranges are those of Hugging Face's
// library, which differ from Unicode's blocks in the last but two.
func chinese(r rune) bool {
	return r >= 0x4e00 && r <= 0x9fff || r >= 0x3400 && r <= 0x4dbf || r >= 0x20000 && r <= 0x2a6df || r >= 0x2a700 && r <= 0x2b73f ||
		r >= 0x2b740 && r <= 0x2b81f || r >= 0x2b920 && r <= 0x2ceaf || r >= 0xf900 && r <= 0xfaff || r >= 0x2f800 && r <= 0x2fa1f
}

// punctuation says whether a character is a word of its own because of its kind.
func punctuation(r rune) bool {
	if r < utf8.RuneSelf {
		return r > ' ' && r < 0x7f && (r < '0' || r > '9' && r < 'A' || r > 'Z' && r < 'a' || r > 'z')
	}
	return unicode.IsPunct(r) && !newer(r) || r == 0x166d || r == 0x111c9
}

// mark says whether a character is a mark on another.
func mark(r rune) bool { return is(r, unicode.Mn) || r == 0x1734 }

// is says whether a character is of one of the kinds in Unicode 8, the version of Hugging Face's
// library. U+166D and U+111C9 were punctuation then, and U+1734 was a mark.
func is(r rune, kinds ...*unicode.RangeTable) bool { return unicode.In(r, kinds...) && !newer(r) }

// newer says whether a mark, a control or a punctuation character came after Unicode 8.
func newer(r rune) bool {
	for _, span := range newerSpans {
		if r <= span[1] {
			return r >= span[0]
		}
	}
	return false
}

// newerSpans hold the marks, control and punctuation characters that came after Unicode 8, and no
// older ones. Other characters in between do not matter.
var newerSpans = [...][2]rune{
	{0x61d, 0x61d}, {0x7fd, 0x7fd}, {0x890, 0x8e2}, {0x9fd, 0x9fe}, {0xa76, 0xa76}, {0xafa, 0xaff}, {0xb55, 0xb55}, {0xc04, 0xc3c},
	{0xc77, 0xc77}, {0xc84, 0xc84}, {0xd00, 0xd00}, {0xd3b, 0xd3c}, {0xd81, 0xd81}, {0xeba, 0xeba}, {0xece, 0xece}, {0x180f, 0x1886},
	{0x1abf, 0x1ace}, {0x1b7d, 0x1b7e}, {0x1df6, 0x1dfb}, {0x2e43, 0x2e5d}, {0xa82c, 0xa82c}, {0xa8c5, 0xa8c5}, {0xa8ff, 0xa8ff},
	{0xa9bd, 0xa9bd}, {0x10d24, 0x10f89}, {0x11070, 0x11074}, {0x110c2, 0x110cd}, {0x111c9, 0x111c9}, {0x111cf, 0x111cf},
	{0x1123e, 0x11241}, {0x1133b, 0x1133b}, {0x11438, 0x1145e}, {0x11660, 0x1166c}, {0x116b9, 0x116b9}, {0x1182f, 0x11fff},
	{0x12ff1, 0x13455}, {0x16e97, 0x16f4f}, {0x16fe2, 0x16fe4}, {0x1cf00, 0x1cf46}, {0x1e000, 0x1e4ef}, {0x1e944, 0x1e95f},
}
