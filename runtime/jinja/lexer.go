package jinja

import (
	"fmt"
	"strings"
)

// lexeme is a piece of a template: text between tags, or a token inside one.
type lexeme struct {
	kind lexKind
	text string // of a string literal: unquoted
	line int
}

type lexKind uint8

const (
	lexText   lexKind = iota
	lexOpen           // {{ or {%
	lexClose          // }} or %}
	lexName           // identifier or keyword
	lexString         // literal
	lexNumber         // non-negative integer
	lexSymbol         // operator or bracket
	lexEnd            // end of the template
)

// lexer cuts a template into lexemes.
type lexer struct {
	rest      string
	line      int
	lineStart bool // only the template's start or a line end precedes
	out       []lexeme
}

func lex(source string) ([]lexeme, error) {
	lines := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(source)
	l := &lexer{rest: strings.TrimSuffix(lines, "\n"), line: 1, lineStart: true}
	for l.rest != "" {
		if err := l.segment(); err != nil {
			return nil, err
		}
	}
	l.emit(lexEnd, "")
	return l.out, nil
}

func (l *lexer) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d: %s", l.line, fmt.Sprintf(format, args...))
}

func (l *lexer) emit(kind lexKind, text string) {
	l.out = append(l.out, lexeme{kind: kind, text: text, line: l.line})
}

// skip moves over n bytes and counts their lines.
func (l *lexer) skip(n int) {
	l.line += strings.Count(l.rest[:n], "\n")
	l.rest = l.rest[n:]
}

// segment reads the text up to the next tag, and the tag.
func (l *lexer) segment() error {
	at := nextTag(l.rest)
	text, tag := l.rest[:at], ""
	if at < len(l.rest) {
		tag = l.rest[at : at+2]
	}
	marker := byte(0)
	if at+2 < len(l.rest) && tag != "" {
		marker = l.rest[at+2]
	}
	l.emitText(text, tag, marker)
	l.skip(at + len(tag))
	if marker == '-' || marker == '+' {
		l.skip(1)
	}
	switch tag {
	case "{#":
		end := strings.Index(l.rest, "#}")
		if end < 0 {
			return l.errorf("unterminated comment")
		}
		sign := byte(0)
		if end > 0 {
			sign = l.rest[end-1]
		}
		l.skip(end + 2)
		l.afterTag(sign == '-', sign != '+')
	case "{{":
		return l.tag(tag, "}}")
	case "{%":
		return l.tag(tag, "%}")
	}
	return nil
}

// nextTag returns where the next tag begins, or len(s).
func nextTag(s string) int {
	for i := 0; i+1 < len(s); i++ {
		if s[i] == '{' && (s[i+1] == '{' || s[i+1] == '%' || s[i+1] == '#') {
			return i
		}
	}
	return len(s)
}

// emitText emits text, without the white space that the tag after it strips: all
// of it after "{%-", the line's indentation before a block.
func (l *lexer) emitText(text, tag string, marker byte) {
	switch {
	case marker == '-':
		text = strings.TrimRight(text, Space)
	case (tag == "{%" || tag == "{#") && marker != '+':
		line := strings.LastIndexByte(text, '\n') + 1
		if (line > 0 || l.lineStart) && strings.Trim(text[line:], Space) == "" {
			text = text[:line]
		}
	}
	if text != "" {
		l.emit(lexText, text)
	}
}

// afterTag drops what white-space control strips after a tag: all of it, or the end of
// the line.
func (l *lexer) afterTag(trim, line bool) {
	l.lineStart = false
	switch {
	case trim:
		l.skip(len(l.rest) - len(strings.TrimLeft(l.rest, Space)))
	case line && strings.HasPrefix(l.rest, "\n"):
		l.skip(1)
		l.lineStart = true
	}
}

// tag reads the inside of a tag up to its end.
func (l *lexer) tag(open, end string) error {
	l.emit(lexOpen, open)
	for depth := 0; ; {
		l.skip(len(l.rest) - len(strings.TrimLeft(l.rest, " \t\r\n\v\f")))
		if l.rest == "" {
			return l.errorf("%s without a matching %s", open, end)
		}
		trim, keep := strings.HasPrefix(l.rest, "-"+end), open == "{%" && strings.HasPrefix(l.rest, "+"+end)
		if depth == 0 && (trim || keep || strings.HasPrefix(l.rest, end)) {
			l.emit(lexClose, end)
			l.skip(len(end))
			if trim || keep {
				l.skip(1)
			}
			l.afterTag(trim, open == "{%" && !keep)
			return nil
		}
		switch l.rest[0] { // within brackets, }} ends two mappings
		case '{', '[', '(':
			depth++
		case '}', ']', ')':
			depth = max(0, depth-1)
		}
		if err := l.token(); err != nil {
			return err
		}
	}
}

func (l *lexer) token() error {
	ch := l.rest[0]
	switch {
	case ch == '\'' || ch == '"':
		return l.literal(ch)
	case ch >= '0' && ch <= '9':
		l.take(lexNumber, func(b byte) bool { return b >= '0' && b <= '9' })
		return nil
	case nameByte(ch):
		l.take(lexName, func(b byte) bool { return nameByte(b) || b >= '0' && b <= '9' })
		return nil
	}
	for _, op := range []string{"==", "!=", "<=", ">=", "//", "**"} {
		if strings.HasPrefix(l.rest, op) {
			l.emit(lexSymbol, op)
			l.skip(2)
			return nil
		}
	}
	if strings.IndexByte("()[]{}.,:|+-~*/%<>=", ch) < 0 {
		return l.errorf("unexpected character %q", ch)
	}
	l.emit(lexSymbol, string(ch))
	l.skip(1)
	return nil
}

func nameByte(b byte) bool {
	return b == '_' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

func (l *lexer) take(kind lexKind, is func(byte) bool) {
	n := 0
	for n < len(l.rest) && is(l.rest[n]) {
		n++
	}
	l.emit(kind, l.rest[:n])
	l.skip(n)
}

// literal reads a quoted string with its escapes.
func (l *lexer) literal(quote byte) error {
	var b strings.Builder
	for i := 1; i < len(l.rest); i++ {
		switch ch := l.rest[i]; ch {
		case quote:
			l.emit(lexString, b.String())
			l.skip(i + 1)
			return nil
		case '\\':
			if i++; i == len(l.rest) {
				return l.errorf("unterminated string")
			}
			switch ch := l.rest[i]; ch {
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			case 'r':
				b.WriteByte('\r')
			case '\\', '\'', '"':
				b.WriteByte(ch)
			default:
				return l.errorf("escape \\%c is not supported", ch)
			}
		default:
			b.WriteByte(ch)
		}
	}
	return l.errorf("unterminated string")
}
