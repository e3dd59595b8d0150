package yaml

import "strings"

// Chomping: which line feeds at a block scalar's end belong to it.
const (
	clip  = 0   // the first
	strip = '-' // none
	keep  = '+' // all
)

// blockText is the text of a block scalar that is being read.
type blockText struct {
	strings.Builder
	folded bool
	indent int // of its lines; 0 before it is known
	empty  int // empty lines since the last that is not
	widest int // of the empty lines before the indentation is known
}

// blockScalar reads text of several lines after | or >: section 8.1. parent is the indentation of
// the key or dash that it belongs to.
func (p *parser) blockScalar(parent int) (Node, *Error) {
	n, err := p.node(Text)
	if err != nil {
		return n, err
	}
	if parent < 0 {
		return n, n.Errorf("got text, want a key with a colon and a space after it")
	}
	text := blockText{folded: p.at(0) == '>'}
	indent, chomp, err := p.blockHeader()
	if err != nil {
		return n, err
	}
	if indent > 0 {
		text.indent = parent + indent
	}
	for more := true; more; {
		if more, err = p.blockLine(&text, parent); err != nil {
			return n, err
		}
	}
	n.Text = text.String()
	switch {
	case n.Text == "":
		return n, n.Errorf("the block of text is empty; indent its lines deeper than its key, or write \"\"")
	case p.text[p.pos-1] != '\n':
		return n, p.errorf("the document ends inside a block of text; end its last line with a line feed")
	case chomp == strip && strings.HasSuffix(n.Text, " "):
		return n, n.Errorf("the last line of the text ends with a space, which only some parsers keep; remove it")
	case chomp == clip:
		n.Text += "\n"
	case chomp == keep:
		n.Text += strings.Repeat("\n", 1+text.empty)
	}
	return n, nil
}

// blockHeader reads | or > with its indicators, and the rest of the line.
func (p *parser) blockHeader() (indent int, chomp byte, err *Error) {
	for p.advance(1); ; p.advance(1) {
		switch c := p.at(0); {
		case (c == strip || c == keep) && chomp == clip:
			chomp = c
		case c >= '1' && c <= '9' && indent == 0:
			indent = int(c - '0')
		default:
			if !ends(c) {
				return 0, 0, p.errorf("got %q after | or >, want the end of the line; start the text on the next line", p.rune())
			}
			if err = p.endLine("| or >"); err == nil {
				p.nextLine()
			}
			return indent, chomp, err
		}
	}
}

// blockLine reads a line into the text, and says whether it belongs to it. The first line that is
// not empty decides the indentation, which is deeper than parent.
func (p *parser) blockLine(text *blockText, parent int) (bool, *Error) {
	line, _, ended := strings.Cut(p.text[p.pos:], "\n")
	content := strings.TrimLeft(line, " ")
	spaces := len(line) - len(content)
	if content == "" {
		switch {
		case !ended && spaces > 0:
			return false, p.errorf("the document ends with spaces after a block of text; remove them")
		case !ended:
			return false, nil
		case text.indent > 0 && spaces > text.indent:
			return false, p.errorf("the line has only spaces, but more than the %d that indent the block of text; remove them", text.indent)
		}
		text.empty++
		text.widest = max(text.widest, spaces)
		p.nextLine()
		return true, nil
	}
	if text.indent == 0 && spaces > parent {
		if text.indent = spaces; text.widest > spaces {
			return false, p.errorf("an empty line above has more spaces than this first line of the text; remove them")
		}
	}
	if text.indent == 0 || spaces < text.indent {
		return false, nil
	}
	p.advance(spaces)
	switch {
	case content[0] == '\t':
		return false, p.errorf("a line of the text starts with a tab; use spaces, or \\t in double quotes")
	case text.folded && spaces > text.indent:
		return false, p.errorf("a line of the text after > is indented deeper than the first; use | to keep lines as they are")
	}
	text.add(line[text.indent:])
	p.nextLine()
	return true, nil
}

// add appends a line that is not empty. Between lines > folds one line feed into a space, and
// drops the first of several.
func (t *blockText) add(line string) {
	switch {
	case t.Len() > 0 && !t.folded:
		t.WriteByte('\n')
	case t.Len() > 0 && t.empty == 0:
		t.WriteByte(' ')
	}
	for ; t.empty > 0; t.empty-- {
		t.WriteByte('\n')
	}
	t.WriteString(line)
}
