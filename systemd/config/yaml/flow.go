package yaml

// flowNode reads a flow collection or a scalar of one line. The lines of a collection are indented
// deeper than parent. direct says that it is the value of a key, or in no flow collection at all.
func (p *parser) flowNode(parent int, direct bool) (Node, *Error) {
	switch p.at(0) {
	case '[':
		return p.flowSequence(parent)
	case '{':
		return p.flowMapping(parent)
	case '"':
		return p.doubleQuoted()
	case '\'':
		return p.singleQuoted()
	default:
		return p.plain(direct)
	}
}

// flowGap goes to the next word in an open collection.
func (p *parser) flowGap(open *Node, parent int) *Error {
	line := p.line
	if err := p.skipGap(); err != nil {
		return err
	}
	closes := p.at(0) == ']' || p.at(0) == '}'
	switch indent := p.column - 1; {
	case p.done():
		return open.Errorf("the bracket is never closed")
	case p.line != line && (indent < parent || indent == parent && !closes):
		return p.errorf("the line is inside brackets opened on line %d; close them, or indent the line more than the key before them", open.Line)
	}
	return nil
}

// flowSequence reads [a, b]: section 7.4.1, without pairs as items.
func (p *parser) flowSequence(parent int) (Node, *Error) {
	s, err := p.collection(Sequence, p.line, p.column)
	p.brackets++
	defer func() { p.leave(); p.brackets-- }()
	for err == nil {
		p.advance(1) // the bracket, or a comma
		if err = p.flowGap(&s, parent); err != nil {
			break
		}
		if p.at(0) == ']' {
			p.advance(1)
			return s, nil
		}
		var item Node
		if item, err = p.flowNode(parent, p.braces == 0); err != nil {
			break
		}
		s.Items = append(s.Items, item)
		if err = p.flowGap(&s, parent); err != nil {
			break
		}
		switch p.at(0) {
		case ',':
		case ']':
			p.advance(1)
			return s, nil
		case ':':
			err = p.errorf("got a key in a list; put braces around it: [{key: value}]")
		default:
			err = p.errorf("got more text after a list item, want a comma or ]")
		}
	}
	return s, err
}

// flowMapping reads {a: b, c: d}: section 7.4.2.
func (p *parser) flowMapping(parent int) (Node, *Error) {
	m, err := p.collection(Mapping, p.line, p.column)
	p.brackets++
	p.braces++
	defer func() { p.leave(); p.brackets--; p.braces-- }()
	seen := keys{}
	for err == nil {
		p.advance(1) // the brace, or a comma
		if err = p.flowGap(&m, parent); err != nil {
			break
		}
		if p.at(0) == '}' {
			p.advance(1)
			return m, nil
		}
		var pair Pair
		if pair, err = p.flowPair(&m, parent, seen); err != nil {
			break
		}
		m.Pairs = append(m.Pairs, pair)
		switch p.at(0) {
		case ',':
		case '}':
			p.advance(1)
			return m, nil
		default:
			err = p.errorf("got more text after a value, want a comma or }")
		}
	}
	return m, err
}

// flowPair reads a key and its value up to the comma or brace after them.
func (p *parser) flowPair(m *Node, parent int, seen keys) (pair Pair, err *Error) {
	if pair.Key, err = p.flowNode(parent, false); err != nil {
		return pair, err
	}
	p.skipBlanks()
	if p.at(0) != ':' || pair.Key.plain && !ends(p.at(1)) && !flowIndicator(p.at(1)) {
		return pair, pair.Key.Errorf("got a key without a value in braces, want a colon and a space after the key")
	}
	if err = seen.add(&pair.Key, p); err != nil {
		return pair, err
	}
	p.advance(1)
	if err = p.flowGap(m, parent); err != nil {
		return pair, err
	}
	if c := p.at(0); c == ',' || c == '}' {
		pair.Value, err = p.node(Null)
		pair.Value.Line, pair.Value.Column = pair.Key.Line, pair.Key.Column
		return pair, err
	}
	if pair.Value, err = p.flowNode(parent, p.line == pair.Key.Line); err != nil {
		return pair, err
	}
	return pair, p.flowGap(m, parent)
}

// flowIndicator says whether a byte ends a plain scalar in a flow collection.
func flowIndicator(c byte) bool {
	return c == ',' || c == '[' || c == ']' || c == '{' || c == '}'
}
