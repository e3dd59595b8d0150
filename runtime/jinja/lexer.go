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
	rest string
	line int
	out  []lexeme
}

func lex(source string) ([]lexeme, error) {
	l := &lexer{rest: strings.ReplaceAll(source, "\r\n", "\n"), line: 1}
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
			return l.errorf("comment without end")
		}
		trim := end > 0 && l.rest[end-1] == '-'
		l.skip(end + 2)
		l.afterTag(trim, true)
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
		text = strings.TrimRight(text, " \t\r\n\v\f")
	case (tag == "{%" || tag == "{#") && marker != '+':
		trimmed := strings.TrimRight(text, " \t")
		atLineStart := strings.HasSuffix(trimmed, "\n") || (trimmed == "" && l.lineStart())
		if atLineStart {
			text = trimmed
		}
	}
	if text != "" {
		l.emit(lexText, text)
	}
}

// lineStart reports whether only the template's start or a line end precedes.
func (l *lexer) lineStart() bool {
	return len(l.out) == 0 || l.out[len(l.out)-1].kind == lexClose && l.out[len(l.out)-1].text == "%}\n"
}

// afterTag drops what white-space control strips after a tag, and reports
// whether that ended a line.
func (l *lexer) afterTag(trim, block bool) bool {
	switch {
	case trim:
		l.skip(len(l.rest) - len(strings.TrimLeft(l.rest, " \t\r\n\v\f")))
	case block && strings.HasPrefix(l.rest, "\n"):
		l.skip(1)
		return true
	}
	return false
}

// tag reads the inside of a tag up to its end.
func (l *lexer) tag(open, end string) error {
	l.emit(lexOpen, open)
	for {
		l.skip(len(l.rest) - len(strings.TrimLeft(l.rest, " \t\r\n\v\f")))
		if l.rest == "" {
			return l.errorf("%s without %s", open, end)
		}
		trim := strings.HasPrefix(l.rest, "-"+end)
		if trim || strings.HasPrefix(l.rest, end) {
			at := len(l.out)
			l.emit(lexClose, end)
			l.skip(len(end))
			if trim {
				l.skip(1)
			}
			if l.afterTag(trim, open == "{%") {
				l.out[at].text += "\n"
			}
			return nil
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
				return l.errorf("string without end")
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
	return l.errorf("string without end")
}
