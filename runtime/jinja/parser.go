package jinja

import (
	"fmt"
	"slices"
	"strconv"
)

// statement is a compiled block, text or output of a template.
type statement struct {
	op    string // "text" "output" "if" "for" "set" "setattr" "setblock" "macro" "generation"
	text  string // literal, name to set, or name of a macro
	attr  string
	names []string    // loop variables, or parameters
	expr  *node       // output, iterated list, value to set
	when  *node       // which items of a loop are taken; nil for all
	arms  []arm       // if, elif and else in order; of a loop what is done without items
	body  []statement // of a loop, set block, macro or generation block
	given []*node     // defaults of parameters, nil where there is none
}

// arm is one branch of an if; the else has no condition.
type arm struct {
	when *node
	body []statement
}

// node is an expression. Which fields hold depends on op.
type node struct {
	op   string
	text string
	num  int64
	kids []*node
	keys []string // names of keyword arguments, in step with kids
}

// parser is recursive descent over lexemes. Names of filters, tests, methods
// and functions are checked here, so that a template fails at load and not in
// the middle of a conversation.
type parser struct {
	tokens []lexeme
	at     int
	depth  int
	blocks int             // that enclose the place
	macros map[string]bool // defined so far
}

func (p *parser) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d: %s", p.tokens[p.at].line, fmt.Sprintf(format, args...))
}

func (p *parser) enter() error {
	if p.depth++; p.depth > maxDepth {
		return p.errorf("nested more than %d levels deep", maxDepth)
	}
	return nil
}

// accept consumes the next lexeme if it is this symbol or name.
func (p *parser) accept(kind lexKind, text string) bool {
	if t := p.tokens[p.at]; t.kind != kind || t.text != text {
		return false
	}
	p.at++
	return true
}

func (p *parser) symbol(s string) bool { return p.accept(lexSymbol, s) }
func (p *parser) word(s string) bool   { return p.accept(lexName, s) }

func (p *parser) want(kind lexKind, text string) error {
	if !p.accept(kind, text) {
		return p.errorf("expected %q, found %q", text, p.tokens[p.at].text)
	}
	return nil
}

func (p *parser) name() (string, error) {
	t := p.tokens[p.at]
	if t.kind != lexName {
		return "", p.errorf("expected a name, found %q", t.text)
	}
	p.at++
	return t.text, nil
}

func (p *parser) close() error {
	if p.tokens[p.at].kind != lexClose {
		return p.errorf("%q is not supported here", p.tokens[p.at].text)
	}
	p.at++
	return nil
}

// statements reads until the end of the template or a block word that belongs
// to an enclosing statement, which it returns, consumed.
func (p *parser) statements() (list []statement, end string, err error) {
	if err := p.enter(); err != nil {
		return nil, "", err
	}
	defer func() { p.depth-- }()
	for {
		t := p.tokens[p.at]
		switch {
		case t.kind == lexEnd:
			return list, "", nil
		case t.kind == lexText:
			p.at++
			list = append(list, statement{op: "text", text: t.text})
			continue
		}
		p.at++ // lexOpen: nothing else stands between tags
		var s statement
		if t.text == "{{" {
			s.op = "output"
			if s.expr, err = p.expression(); err == nil {
				err = p.close()
			}
		} else {
			var word string
			if word, err = p.name(); err != nil {
				return nil, "", err
			}
			if slices.Contains([]string{"elif", "else", "endif", "endfor", "endset", "endmacro", "endgeneration"}, word) {
				return list, word, nil
			}
			s, err = p.block(word)
		}
		if err != nil {
			return nil, "", err
		}
		list = append(list, s)
	}
}

func (p *parser) block(word string) (statement, error) {
	p.blocks++
	defer func() { p.blocks-- }()
	switch word {
	case "macro":
		return p.macro()
	case "if":
		return p.ifBlock()
	case "for":
		return p.forBlock()
	case "set":
		return p.set()
	case "generation": // marks an answer for training; Hugging Face's own block
		s := statement{op: word}
		return s, p.body(&s, "endgeneration")
	}
	return statement{}, p.errorf("block %q is not supported", word)
}

func (p *parser) ifBlock() (statement, error) {
	s := statement{op: "if"}
	when, err := p.condition()
	if err != nil {
		return s, err
	}
	for {
		body, end, err := p.statements()
		if err != nil {
			return s, err
		}
		s.arms = append(s.arms, arm{when: when, body: body})
		hadElse := when == nil
		switch {
		case end == "endif":
			return s, p.close()
		case end == "elif" && !hadElse:
			when, err = p.condition()
		case end == "else" && !hadElse:
			when, err = nil, p.close()
		default:
			err = p.errorf("if without endif (found %q)", end)
		}
		if err != nil {
			return s, err
		}
	}
}

func (p *parser) condition() (*node, error) {
	n, err := p.or() // not expression: a choice stands in brackets here
	if err != nil {
		return nil, err
	}
	return n, p.close()
}

func (p *parser) forBlock() (statement, error) {
	s := statement{op: "for"}
	var err error
	for more := true; more; more = p.symbol(",") {
		name, err := p.name()
		if err != nil {
			return s, err
		}
		s.names = append(s.names, name)
	}
	if err = p.want(lexName, "in"); err != nil {
		return s, err
	}
	if s.expr, err = p.or(); err != nil { // not expression: "if" chooses items
		return s, err
	}
	if p.word("if") {
		if s.when, err = p.or(); err != nil {
			return s, err
		}
	}
	if err = p.close(); err != nil {
		return s, err
	}
	var end string
	if s.body, end, err = p.statements(); err != nil {
		return s, err
	}
	if end == "else" {
		if err = p.close(); err != nil {
			return s, err
		}
		var none arm
		if none.body, end, err = p.statements(); err != nil {
			return s, err
		}
		s.arms = []arm{none}
	}
	if end != "endfor" {
		return s, p.errorf("for without endfor (found %q)", end)
	}
	return s, p.close()
}

func (p *parser) set() (statement, error) {
	s := statement{op: "set"}
	var err error
	if s.text, err = p.name(); err != nil {
		return s, err
	}
	if p.symbol(".") {
		s.op = "setattr"
		if s.attr, err = p.name(); err != nil {
			return s, err
		}
	}
	if s.op == "set" && p.tokens[p.at].kind == lexClose {
		s.op = "setblock"
		return s, p.body(&s, "endset")
	}
	if err = p.want(lexSymbol, "="); err != nil {
		return s, err
	}
	if s.expr, err = p.expression(); err != nil {
		return s, err
	}
	return s, p.close()
}

// body reads the body of a statement up to the word that ends it.
func (p *parser) body(s *statement, word string) error {
	err := p.close()
	if err != nil {
		return err
	}
	var end string
	if s.body, end, err = p.statements(); err != nil {
		return err
	}
	if end != word {
		return p.errorf("%s is missing (found %q)", word, end)
	}
	return p.close()
}

// macro reads a macro. Inside other blocks, the reference gives it what is set there: refused.
func (p *parser) macro() (statement, error) {
	s := statement{op: "macro"}
	if p.blocks > 1 {
		return s, p.errorf("a macro inside another block is not supported")
	}
	var err error
	if s.text, err = p.name(); err != nil {
		return s, err
	}
	if slices.Contains(globals[:], s.text) || s.text == "loop" || s.text == "caller" {
		return s, p.errorf("a macro called %q is not supported", s.text)
	}
	if err = p.want(lexSymbol, "("); err != nil {
		return s, err
	}
	for !p.symbol(")") {
		name, err := p.name()
		if err != nil {
			return s, err
		}
		var given *node
		if p.symbol("=") {
			if given, err = p.expression(); err != nil {
				return s, err
			}
		}
		s.names, s.given = append(s.names, name), append(s.given, given)
		if !p.symbol(",") && p.tokens[p.at].text != ")" {
			return s, p.errorf("expected \")\", found %q", p.tokens[p.at].text)
		}
	}
	if p.macros == nil {
		p.macros = map[string]bool{}
	}
	p.macros[s.text] = true
	return s, p.body(&s, "endmacro")
}

func (p *parser) number() (*node, error) {
	n, err := strconv.ParseInt(p.tokens[p.at].text, 10, 32)
	if err != nil {
		return nil, p.errorf("number %s is too large", p.tokens[p.at].text)
	}
	p.at++
	return &node{op: "number", num: n}, nil
}
