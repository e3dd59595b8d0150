package yaml

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// plain reads a scalar without quotes, which ends with its line, before a comment, before a
// colon, and in brackets before a comma or bracket: section 7.3.3.
func (p *parser) plain(direct bool) (Node, *Error) {
	n, err := p.node(Text)
	if err == nil {
		err = p.plainStart()
	}
	if err != nil {
		return n, err
	}
	inFlow := p.brackets > 0
	start, end := p.pos, p.pos
	for {
		c := p.at(0)
		switch {
		case c == ':' && (ends(p.at(1)) || inFlow && flowIndicator(p.at(1))),
			c == '#' && p.pos > end,
			inFlow && flowIndicator(c),
			c == '\n', c == 0:
			n.Text, n.plain = p.text[start:end], true
			return n, p.resolve(&n, direct)
		}
		p.advance(1)
		if !blank(c) {
			end = p.pos
		}
	}
}

// plainStart refuses what cannot begin a plain scalar.
func (p *parser) plainStart() *Error {
	c := p.at(0)
	switch {
	case c == '&' || c == '*':
		return p.errorf("anchors and aliases are not allowed; write the value out, or put quotes around text that starts with %c", c)
	case c == '!':
		return p.errorf("tags are not allowed; write a plain value, or put quotes around text that starts with !")
	case c == '?' && ends(p.at(1)):
		return p.errorf("a key must be plain text on one line; remove the question mark")
	case c == ':' && ends(p.at(1)):
		return p.errorf("got a colon without a key before it")
	case c == '-' && ends(p.at(1)):
		return p.errorf("got a dash inside a value; start a list on a line of its own, or write it as [a, b]")
	case p.brackets > 0 && (c == ',' || c == ']' || c == '}'):
		return p.errorf("got %q, want a value; remove it, or put text in quotes", c)
	case strings.IndexByte(",[]{}#|>%@`?", c) >= 0, // old YAML reads [?x] as a key
		p.brackets > 0 && strings.IndexByte("-:", c) >= 0 && flowIndicator(p.at(1)),
		p.column == 1 && (strings.HasPrefix(p.text[p.pos:], "---") || strings.HasPrefix(p.text[p.pos:], "...")):
		return p.errorf("text that starts with %c needs quotes", c)
	}
	return nil
}

// resolve gives a plain scalar its kind, unless parsers differ about it.
func (p *parser) resolve(n *Node, direct bool) *Error {
	switch {
	case strings.IndexByte(n.Text, '\t') >= 0:
		return n.Errorf("a tab inside a value; use spaces, or \\t in double quotes")
	case !direct && strings.IndexByte(n.Text, ':') >= 0:
		return n.Errorf("got a colon without a space after it inside braces; add the space, or put %.64q in quotes", n.Text)
	}
	if n.Kind = kindOf(n.Text); n.Kind == 0 {
		return n.Errorf("programs read different numbers from %.64q; write a whole number in decimal or as 0x..., or put text in quotes", n.Text)
	}
	return nil
}

// stray is the error for a quote that does not end on its line, or has a tab.
func (p *parser) stray(n *Node) *Error {
	if p.at(0) == '\t' {
		return p.errorf("a tab inside quotes; write \\t in double quotes")
	}
	return n.Errorf("the quote is not closed on its line; write text of several lines with | or >")
}

// singleQuoted reads 'text', in which two quotes stand for one: section 7.3.2, on one line.
func (p *parser) singleQuoted() (Node, *Error) {
	n, err := p.node(Text)
	if err != nil {
		return n, err
	}
	var text strings.Builder
	for p.advance(1); ; p.advance(1) {
		switch c := p.at(0); {
		case c == 0, c == '\n', c == '\t':
			return n, p.stray(&n)
		case c == '\'' && p.at(1) == '\'':
			p.advance(1)
			text.WriteByte(c)
		case c == '\'':
			p.advance(1)
			n.Text = text.String()
			return n, nil
		default:
			text.WriteByte(c)
		}
	}
}

// doubleQuoted reads "text" with escapes: section 7.3.1, on one line.
func (p *parser) doubleQuoted() (Node, *Error) {
	n, err := p.node(Text)
	if err != nil {
		return n, err
	}
	var text strings.Builder
	p.advance(1)
	for {
		switch c := p.at(0); c {
		case 0, '\n', '\t':
			return n, p.stray(&n)
		case '"':
			p.advance(1)
			n.Text = text.String()
			return n, nil
		case '\\':
			r, err := p.escape()
			if err != nil {
				return n, err
			}
			text.WriteRune(r)
		default:
			text.WriteByte(c)
			p.advance(1)
		}
	}
}

// escape reads an escape sequence: section 5.7, and pairs of \u for characters above U+FFFF, as
// JSON has them.
func (p *parser) escape() (rune, *Error) {
	const names, values = "0abt\tnvfre \"/\\N_LP", "\x00\a\b\t\t\n\v\f\r\x1b \"/\\\u0085\u00a0\u2028\u2029"
	c := p.at(1)
	switch c {
	case 'x':
		return p.hex(2)
	case 'u':
		r, err := p.hex(4)
		if err != nil || !utf16.IsSurrogate(r) {
			return r, err
		}
		if p.at(0) == '\\' && p.at(1) == 'u' {
			low, err := p.hex(4)
			if pair := utf16.DecodeRune(r, low); err != nil || pair != utf8.RuneError {
				return pair, err
			}
		}
		return 0, p.errorf("the escape \\u%04x is half of a character; write both halves, or \\U and eight digits", r)
	case 'U':
		r, err := p.hex(8)
		if err == nil && !utf8.ValidRune(r) {
			err = p.errorf("the escape is not a character; the last is \\U0010ffff")
		}
		return r, err
	}
	i := strings.IndexByte(names, c)
	if i < 0 {
		return 0, p.errorf("the escape after the backslash is unknown; write \\\\ for a backslash, or use single quotes")
	}
	p.advance(2)
	return []rune(values)[i], nil
}

// hex reads an escape of so many hexadecimal digits.
func (p *parser) hex(digits int) (rune, *Error) {
	if p.pos+2+digits <= len(p.text) {
		if v, err := strconv.ParseUint(p.text[p.pos+2:p.pos+2+digits], 16, 32); err == nil {
			p.advance(2 + digits)
			return rune(v), nil
		}
	}
	return 0, p.errorf("want %d hexadecimal digits after \\%c", digits, p.at(1))
}
