package tokenize

import (
	"unicode"
	"unicode/utf8"
)

// rule finds the next match in s: after skip bytes, take bytes long. Without
// one it returns len(s) and zero. Each is a hand-written form of one regular
// expression that files name only through tokenizer.ggml.pre, and looks at each
// character a bounded number of times.
type rule func(s string) (skip, take int)

// words calls yield with each word of text, in order, until it wants no more.
func (p *preTokenizer) words(text string, yield func(word string) (more bool)) {
	split(p.rules, text, yield)
}

func split(rules []rule, text string, yield func(string) bool) (more bool) {
	if text == "" {
		return true
	}
	if len(rules) == 0 {
		return yield(text)
	}
	for text != "" {
		skip, take := rules[0](text)
		if !split(rules[1:], text[:skip], yield) || !split(rules[1:], text[skip:skip+take], yield) {
			return false
		}
		text = text[skip+take:]
	}
	return true
}

// runLength returns how many bytes at the start of s satisfy is.
func runLength(s string, is func(rune) bool) int {
	for i, r := range s {
		if !is(r) {
			return i
		}
	}
	return len(s)
}

// find returns where the first character that satisfies is begins, or len(s).
func find(s string, is func(rune) bool) int {
	return runLength(s, func(r rune) bool { return !is(r) })
}

// matchOne matches one character of the class.
func matchOne(is func(rune) bool) rule {
	return func(s string) (skip, take int) {
		skip = find(s, is)
		_, take = utf8.DecodeRuneInString(s[skip:])
		return skip, take
	}
}

// matchRun matches as many characters of the class as there are.
func matchRun(is func(rune) bool) rule {
	return func(s string) (skip, take int) {
		skip = find(s, is)
		return skip, runLength(s[skip:], is)
	}
}

// matchSpaced matches a run of the class with one white space before it, if
// there is one: \s?\p{X}+
func matchSpaced(is func(rune) bool) rule {
	return func(s string) (skip, take int) {
		skip = find(s, is)
		take = runLength(s[skip:], is)
		if take > 0 {
			if r, n := utf8.DecodeLastRuneInString(s[:skip]); unicode.IsSpace(r) {
				skip, take = skip-n, take+n
			}
		}
		return skip, take
	}
}

// matchThreeDigits matches [0-9][0-9][0-9].
func matchThreeDigits(s string) (skip, take int) {
	run := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			run = 0
			continue
		}
		if run++; run == 3 {
			return i - 2, 3
		}
	}
	return len(s), 0
}

func isNewline(r rune) bool { return r == '\r' || r == '\n' }

// isEastAsian is [一-龥ࠀ-一가-퟿] without white space, which llama.cpp takes for that of ASCII here.
func isEastAsian(r rune) bool {
	return (r >= 0x4e00 && r <= 0x9fa5 || r >= 0x0800 && r <= 0x4e00 || r >= 0xac00 && r <= 0xd7ff) && !unicode.IsSpace(r)
}

func defaultPunctuation(r rune) bool {
	switch r {
	case '$', '+', '<', '=', '>', '^', '~', '|':
		return true
	}
	return unicode.IsPunct(r)
}

// isOther is [^\s\p{L}\p{N}].
func isOther(r rune) bool {
	return !unicode.IsSpace(r) && !unicode.IsLetter(r) && !unicode.IsNumber(r)
}

// matchGPT2 matches at the start of s, always:
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func matchGPT2(s string) (skip, take int) {
	if n := contraction(s, false); n > 0 {
		return 0, n
	}
	space := 0
	if s[0] == ' ' && len(s) > 1 {
		space = 1
	}
	for _, is := range [...]func(rune) bool{unicode.IsLetter, unicode.IsNumber, isOther} {
		if n := runLength(s[space:], is); n > 0 {
			return 0, space + n
		}
	}
	return 0, spaces(s)
}

// modern matches at the start of s, always, unless a part is changed:
//
//	(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}
//	| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
type modern struct {
	digits int
	// word matches what begins a word, in place of the first two alternatives.
	word func(s string) int
	// other is the class of the fourth alternative, and tail that behind it; nil for none.
	other, tail func(rune) bool
}

func (m modern) match(s string) (skip, take int) {
	if n := m.word(s); n > 0 {
		return 0, n
	}
	if n := upTo(m.digits, s, unicode.IsNumber); n > 0 {
		return 0, n
	}
	space := 0
	if s[0] == ' ' {
		space = 1
	}
	if n := runLength(s[space:], m.other); n > 0 {
		n += space
		if m.tail != nil {
			n += runLength(s[n:], m.tail)
		}
		return 0, n
	}
	if n := throughNewline(s); n > 0 {
		return 0, n
	}
	return 0, spaces(s)
}

func contractionOrLetters(s string) int {
	if n := contraction(s, true); n > 0 {
		return n
	}
	return lettersAfterOne(s)
}

// contraction matches 's 't 'm 'd 're 've 'll, without regard to case if fold.
func contraction(s string, fold bool) int {
	if len(s) < 2 || s[0] != '\'' {
		return 0
	}
	low := func(b byte) byte {
		if fold && b >= 'A' && b <= 'Z' {
			return b + 'a' - 'A'
		}
		return b
	}
	switch a := low(s[1]); a {
	case 's', 't', 'm', 'd':
		return 2
	case 'r', 'v', 'l':
		if len(s) > 2 {
			if b := low(s[2]); (a == 'l') == (b == 'l') && (b == 'l' || b == 'e') {
				return 3
			}
		}
	}
	return 0
}

// lettersAfterOne matches [^\r\n\p{L}\p{N}]?\p{L}+.
func lettersAfterOne(s string) int {
	r, n := utf8.DecodeRuneInString(s)
	if unicode.IsLetter(r) {
		return runLength(s, unicode.IsLetter)
	}
	if isNewline(r) || unicode.IsNumber(r) {
		return 0
	}
	letters := runLength(s[n:], unicode.IsLetter)
	if letters == 0 {
		return 0
	}
	return n + letters
}

// upTo returns the bytes of at most limit characters of the class.
func upTo(limit int, s string, is func(rune) bool) int {
	count := 0
	for i, r := range s {
		if count == limit || !is(r) {
			return i
		}
		count++
	}
	return len(s)
}

// throughNewline matches \s*[\r\n]+: white space up to its last line end.
func throughNewline(s string) int {
	end := 0
	for i, r := range s[:runLength(s, unicode.IsSpace)] {
		if isNewline(r) {
			end = i + 1
		}
	}
	return end
}

// spaces matches \s+(?!\S)|\s+: white space, but for its last character if text
// follows, which then takes that character along.
func spaces(s string) int {
	n := runLength(s, unicode.IsSpace)
	if n == len(s) {
		return n
	}
	if _, last := utf8.DecodeLastRuneInString(s[:n]); n > last {
		return n - last
	}
	return n
}
