package yaml

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// parser is a document that is being read. Its methods read from pos onwards.
type parser struct {
	text         string // ends lines with \n and has no NUL
	pos          int
	line, column int // of pos
	depth        int // of collections
	brackets     int // open flow collections
	braces       int // flow mappings among them
	nodes        int
}

// at returns the byte that is i after the next, or 0 after the end.
func (p *parser) at(i int) byte {
	if p.pos+i < len(p.text) {
		return p.text[p.pos+i]
	}
	return 0
}

// rune returns the next character, for a sentence about it.
func (p *parser) rune() rune {
	r, _ := utf8.DecodeRuneInString(p.text[p.pos:])
	return r
}

// advance goes on by n bytes.
func (p *parser) advance(n int) {
	for ; n > 0; n-- {
		c := p.text[p.pos]
		p.pos++
		switch {
		case c == '\n':
			p.line, p.column = p.line+1, 1
		case c&0xc0 != 0x80: // not inside a character
			p.column++
		}
	}
}

// nextLine goes to the beginning of the next line, or the document's end.
func (p *parser) nextLine() {
	rest, _, ended := strings.Cut(p.text[p.pos:], "\n")
	p.advance(len(rest))
	if ended {
		p.advance(1)
	}
}

// errorf is an error here.
func (p *parser) errorf(format string, args ...any) *Error {
	return &Error{p.line, p.column, fmt.Sprintf(format, args...)}
}

// node begins a node here.
func (p *parser) node(kind Kind) (Node, *Error) {
	if p.nodes++; p.nodes > MaxNodes {
		return Node{}, p.errorf("the document has more than %d keys, values and list items", MaxNodes)
	}
	return Node{Kind: kind, Line: p.line, Column: p.column}, nil
}

// collection begins a mapping or a sequence at a place; leave ends it.
func (p *parser) collection(kind Kind, line, column int) (Node, *Error) {
	if p.depth++; p.depth > MaxDepth {
		return Node{}, &Error{line, column, fmt.Sprintf("nested more than %d levels deep", MaxDepth)}
	}
	n, err := p.node(kind)
	n.Line, n.Column = line, column
	return n, err
}

func (p *parser) leave() { p.depth-- }

// blank says whether a byte separates words on a line.
func blank(c byte) bool { return c == ' ' || c == '\t' }

// ends says whether a byte ends an indicator: white space, or the end of the document.
func ends(c byte) bool { return blank(c) || c == '\n' || c == 0 }

// skipBlanks goes to the next word on the line.
func (p *parser) skipBlanks() {
	for blank(p.at(0)) {
		p.advance(1)
	}
}

// skipGap goes to the next content on this line or a later one, over blanks and comments.
func (p *parser) skipGap() *Error {
	for {
		for indenting := p.column == 1; blank(p.at(0)); p.advance(1) {
			if p.at(0) == '\t' && indenting {
				return p.errorf("a tab in the indentation; use spaces")
			}
			if p.at(0) == '\t' && p.brackets > 0 {
				return p.errorf("a tab inside brackets; use spaces")
			}
		}
		switch c := p.at(0); {
		case c == '\n', c == '#' && (p.column == 1 || blank(p.text[p.pos-1])):
			p.nextLine()
		default:
			return nil
		}
	}
}

// endLine wants nothing but a comment on the rest of the line.
func (p *parser) endLine(after string) *Error {
	p.skipBlanks()
	switch c := p.at(0); {
	case c == 0, c == '\n', c == '#' && blank(p.text[p.pos-1]):
		return nil
	case c == '#':
		return p.errorf("want a space before the # of a comment")
	default:
		return p.errorf("got more text after %s, want the end of the line", after)
	}
}

// marker returns the document marker that begins here: "---", "...", or "".
func (p *parser) marker() string {
	if p.column == 1 && ends(p.at(3)) {
		for _, m := range [...]string{"---", "..."} {
			if strings.HasPrefix(p.text[p.pos:], m) {
				return m
			}
		}
	}
	return ""
}

// done says whether the document's content ends here.
func (p *parser) done() bool { return p.at(0) == 0 || p.marker() != "" }

// document reads the whole text: section 9, with one bare or explicit document.
func (p *parser) document() (Node, *Error) {
	var none Node
	if err := p.skipGap(); err != nil {
		return none, err
	}
	if p.column == 1 && p.at(0) == '%' {
		return none, p.errorf("directives are not allowed; remove the line")
	}
	if p.marker() == "---" {
		p.advance(3)
		if err := p.endLine("---"); err != nil {
			return none, err
		}
		if err := p.skipGap(); err != nil {
			return none, err
		}
	}
	if p.done() {
		return none, &Error{Message: "the document is empty"}
	}
	root, err := p.block(-1, true)
	if err != nil {
		return none, err
	}
	if err := p.end(); err != nil {
		return none, err
	}
	return root, nil
}

// end wants nothing after the document.
func (p *parser) end() *Error {
	if err := p.skipGap(); err != nil {
		return err
	}
	if p.marker() == "..." {
		p.advance(3)
		if err := p.endLine("..."); err != nil {
			return err
		}
		if err := p.skipGap(); err != nil {
			return err
		}
	}
	switch {
	case p.at(0) == 0:
		return nil
	case p.marker() != "":
		return p.errorf("the file holds several documents; write one in each file")
	default:
		return p.errorf("got text after the end of the document; remove it or correct its indentation")
	}
}
