package yaml

import "strings"

// dash says whether a list item begins here.
func (p *parser) dash() bool { return p.at(0) == '-' && ends(p.at(1)) && p.marker() == "" }

// colon says whether a block mapping's colon is here.
func (p *parser) colon() bool { return p.at(0) == ':' && ends(p.at(1)) }

// block reads a node that begins here, in a collection whose keys or dashes are indented by
// parent (-1 at the root). Only where it may begin a line can it be a block collection.
func (p *parser) block(parent int, begins bool) (Node, *Error) {
	switch c := p.at(0); {
	case c == '|' || c == '>':
		return p.blockScalar(parent)
	case p.dash() && !begins:
		return Node{}, p.errorf("a list cannot start on the line of its key; start it on the next line, or write it as [a, b]")
	case p.dash():
		return p.blockSequence()
	}
	n, err := p.flowNode(parent, true)
	if err != nil {
		return n, err
	}
	p.skipBlanks()
	switch {
	case !p.colon():
		return n, p.endLine("a value")
	case !begins:
		return n, p.errorf("got a second colon on the line; put the value in quotes, or start a mapping on the next line")
	default:
		return p.blockMapping(n)
	}
}

// blockMapping reads a mapping from the colon of its first key on: section 8.2.2.
func (p *parser) blockMapping(key Node) (Node, *Error) {
	indent := key.Column - 1
	m, err := p.indented(Mapping, key.Line, key.Column)
	defer p.leave()
	seen := keys{}
	for err == nil {
		if err = seen.add(&key, p); err != nil {
			break
		}
		p.advance(1) // the colon
		var value Node
		if value, err = p.blockValue(indent, &key); err != nil {
			break
		}
		m.Pairs = append(m.Pairs, Pair{key, value})
		var more bool
		if more, err = p.goesOn(indent, "keys"); err != nil || !more {
			break
		}
		key, err = p.blockKey()
	}
	return m, err
}

// indented begins a collection whose place is its indentation.
func (p *parser) indented(kind Kind, line, column int) (Node, *Error) {
	n, err := p.collection(kind, line, column)
	if err == nil && column > maxIndent {
		err = n.Errorf("indented by more than %d; use two spaces for each level", maxIndent)
	}
	return n, err
}

// goesOn goes to the next line with content and says whether it is at the same indentation.
func (p *parser) goesOn(indent int, what string) (bool, *Error) {
	if err := p.skipGap(); err != nil {
		return false, err
	}
	if p.done() || p.column-1 < indent {
		return false, nil
	}
	if p.column-1 > indent {
		return false, p.errorf("indented by %d, want %d like the %s above; use | or > for text of several lines", p.column-1, indent, what)
	}
	return true, nil
}

// blockKey reads a further key of a block mapping up to its colon.
func (p *parser) blockKey() (Node, *Error) {
	if p.dash() {
		return Node{}, p.errorf("got a list item, want a key")
	}
	key, err := p.flowNode(-1, true)
	if err != nil {
		return key, err
	}
	p.skipBlanks()
	if !p.colon() {
		return key, key.Errorf("got a line without a key, want a key with a colon and a space after it")
	}
	return key, nil
}

// blockValue reads what belongs to a key after its colon, or to a dash, which is a node of kind
// Sequence: nothing, the rest of the line, or lines that are indented deeper. A list may be
// indented like its key.
func (p *parser) blockValue(parent int, key *Node) (Node, *Error) {
	line := p.line
	if err := p.skipGap(); err != nil {
		return Node{}, err
	}
	indent, fresh := p.column-1, p.line != line
	asKey := key.Kind != Sequence && indent == parent && p.dash()
	if p.done() || fresh && indent <= parent && !asKey {
		n, err := p.node(Null)
		n.Line, n.Column = key.Line, key.Column
		return n, err
	}
	return p.block(parent, fresh || key.Kind == Sequence)
}

// blockSequence reads a list from its first dash on: section 8.2.1.
func (p *parser) blockSequence() (Node, *Error) {
	indent := p.column - 1
	s, err := p.indented(Sequence, p.line, p.column)
	defer p.leave()
	for err == nil {
		dash := Node{Kind: Sequence, Line: p.line, Column: p.column}
		p.advance(1)
		for p.at(0) == ' ' {
			p.advance(1)
		}
		if p.at(0) == '\t' {
			return s, p.errorf("a tab after the dash; use a space")
		}
		var item Node
		if item, err = p.blockValue(indent, &dash); err != nil {
			break
		}
		s.Items = append(s.Items, item)
		var more bool
		if more, err = p.goesOn(indent, "list items"); err != nil || !more || !p.dash() {
			break
		}
	}
	return s, err
}

// keys finds those that appear twice.
type keys map[string]int

// add notes a key, which must be a scalar on the line of its colon, where p is.
func (k keys) add(key *Node, p *parser) *Error {
	switch {
	case strings.HasSuffix(strings.TrimRight(p.text[:p.pos], " "), "\t"):
		return p.errorf("a tab before the colon; remove it")
	case key.Kind == Mapping || key.Kind == Sequence || key.Line != p.line:
		return key.Errorf("got a collection as a key; a key must be plain text")
	case key.plain && strings.Contains(key.Text, "<<"):
		return key.Errorf("merge keys are not allowed; write the values out, or put a key with << in quotes")
	case len(key.Text) > maxKey:
		return key.Errorf("the key is longer than %d bytes", maxKey)
	}
	if first := k[key.Text]; first != 0 {
		return key.Errorf("the key %.64q is already on line %d; remove one of the two", key.Text, first)
	}
	k[key.Text] = key.Line
	return nil
}
