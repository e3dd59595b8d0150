package tokenize

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/runtime/gguf"
)

// rule finds the next match in s: after skip bytes, take bytes long. Without
// one it returns len(s) and zero. Each is a hand-written form of one regular
// expression that files name only through tokenizer.ggml.pre, and looks at each
// character a bounded number of times.
type rule func(s string) (skip, take int)

// preTokenizer cuts text into the words within which tokens merge. Its rules
// are applied one after the other, each to all pieces, matched or not, that the
// ones before it left.
type preTokenizer struct {
	rules  []rule
	direct bool // a word that is a token is taken whole
	addBOS bool // unless the file says otherwise
}

func newPreTokenizer(f *gguf.File) (preTokenizer, error) {
	name, ok := f.String("tokenizer.ggml.pre")
	if !ok {
		return preTokenizer{}, errors.New("the file does not name its pre-tokenizer (tokenizer.ggml.pre is missing)")
	}
	switch name {
	case "gpt-2", "gpt2":
		return preTokenizer{rules: []rule{matchGPT2}}, nil
	case "default":
		return preTokenizer{rules: []rule{matchRun(defaultPunctuation), matchGPT2, matchRun(unicode.IsNumber), matchThreeDigits}}, nil
	case "smollm", "starcoder", "refact":
		return preTokenizer{rules: []rule{matchOne(unicode.IsNumber), matchGPT2}}, nil
	case "llama-bpe", "llama3", "llama-v3":
		return preTokenizer{rules: []rule{matchModern(3)}, direct: true, addBOS: true}, nil
	case "qwen2", "deepseek-r1-qwen":
		return preTokenizer{rules: []rule{matchModern(1)}}, nil
	case "deepseek-coder":
		return preTokenizer{rules: []rule{
			matchOne(isNewline), matchSpaced(unicode.IsLetter), matchSpaced(unicode.IsPunct),
			matchRun(isEastAsian), matchOne(unicode.IsNumber),
		}}, nil
	}
	return preTokenizer{}, fmt.Errorf("pre-tokenizer %q is not supported; want gpt-2, default, smollm, starcoder, refact, llama-bpe, qwen2 or deepseek-coder", name)
}

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

func isEastAsian(r rune) bool {
	return r >= 0x4e00 && r <= 0x9fa5 || r >= 0x0800 && r <= 0x4e00 || r >= 0xac00 && r <= 0xd7ff
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

// matchModern matches at the start of s, always, with up to digits numbers together:
//
//	(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}
//	| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
func matchModern(digits int) rule {
	return func(s string) (skip, take int) {
		if n := contraction(s, true); n > 0 {
			return 0, n
		}
		if n := lettersAfterOne(s); n > 0 {
			return 0, n
		}
		if n := upTo(digits, s, unicode.IsNumber); n > 0 {
			return 0, n
		}
		space := 0
		if s[0] == ' ' {
			space = 1
		}
		if n := runLength(s[space:], isOther); n > 0 {
			n += space
			return 0, n + runLength(s[n:], isNewline)
		}
		if n := throughNewline(s); n > 0 {
			return 0, n
		}
		return 0, spaces(s)
	}
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
