package grammar

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds parentheses within parentheses.
const maxDepth = 64

// Parse reads a grammar in GBNF, as llama.cpp has it: rules of literals, classes of characters,
// the dot, references, groups, alternatives, and *, +, ?, {n}, {n,}, {n,m}. The rule root is the
// text. References to tokens are not supported.
func Parse(text string) (*Grammar, error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("%w: it is not UTF-8", ErrGrammar)
	}
	p := &parser{b: NewBuilder(), rest: text, rules: map[string]Expr{}}
	for p.space(true); p.rest != ""; p.space(true) {
		if err := p.rule(); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrGrammar, 1+strings.Count(text[:len(text)-len(p.rest)], "\n"), err)
		}
	}
	root, ok := p.rules["root"]
	if !ok {
		return nil, fmt.Errorf("%w: it has no rule root", ErrGrammar)
	}
	return p.b.finish(root[0].arg)
}

type parser struct {
	b     *Builder
	rest  string
	rules map[string]Expr
	depth int
}

// space goes past blanks and comments, and line ends if they mean nothing here.
func (p *parser) space(lines bool) {
	for p.rest != "" {
		switch c := p.rest[0]; {
		case c == '#':
			end := strings.IndexAny(p.rest, "\r\n")
			if end < 0 {
				end = len(p.rest)
			}
			p.rest = p.rest[end:]
		case c == ' ' || c == '\t' || lines && (c == '\n' || c == '\r'):
			p.rest = p.rest[1:]
		default:
			return
		}
	}
}

func (p *parser) skip(text string) bool {
	rest, ok := strings.CutPrefix(p.rest, text)
	p.rest = rest
	return ok
}

func (p *parser) name() string {
	end := 0
	for end < len(p.rest) && (isWord(p.rest[end]) || p.rest[end] == '-') {
		end++
	}
	name := p.rest[:end]
	p.rest = p.rest[end:]
	return name
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

func (p *parser) reference(name string) Expr {
	e, ok := p.rules[name]
	if !ok {
		e = p.b.Declare(name)
		p.rules[name] = e
	}
	return e
}

func (p *parser) rule() error {
	name := p.name()
	p.space(false)
	if name == "" || !p.skip("::=") {
		return fmt.Errorf("want a rule's name and ::=, got %.20q", p.rest)
	}
	rule := p.reference(name)
	if p.b.rules[rule[0].arg] != nil {
		return fmt.Errorf("rule %.40q is defined twice", name)
	}
	p.space(true)
	list, err := p.alternatives(false)
	if err != nil {
		return err
	}
	p.b.Define(rule, list...)
	if p.rest != "" && p.rest[0] != '\n' && p.rest[0] != '\r' {
		return fmt.Errorf("want the rule's end, got %.20q", p.rest)
	}
	return p.b.Err()
}

func (p *parser) alternatives(nested bool) (list []Expr, err error) {
	for {
		e, err := p.sequence(nested)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
		if !p.skip("|") {
			return list, nil
		}
		p.space(true)
	}
}

func (p *parser) sequence(nested bool) (out Expr, err error) {
	for p.rest != "" && !strings.ContainsRune("|)\r\n", rune(p.rest[0])) {
		e, err := p.item()
		if err != nil {
			return nil, err
		}
		p.space(nested)
		if e, err = p.repeated(e); err != nil {
			return nil, err
		}
		p.space(nested)
		if out = p.b.Append(out, e); p.b.Err() != nil {
			return nil, p.b.Err()
		}
	}
	return out, nil
}

func (p *parser) item() (Expr, error) {
	switch c := p.rest[0]; {
	case c == '"':
		return p.literal()
	case c == '[':
		return p.class()
	case c == '.':
		p.rest = p.rest[1:]
		return p.b.Class(Range{0, utf8.MaxRune}), nil
	case c == '(':
		if p.depth++; p.depth > maxDepth {
			return nil, fmt.Errorf("parentheses are nested more than %d deep", maxDepth)
		}
		p.rest = p.rest[1:]
		p.space(true)
		list, err := p.alternatives(true)
		if err == nil && !p.skip(")") {
			err = fmt.Errorf("want ), got %.20q", p.rest)
		}
		p.depth--
		return p.b.Alt(list...), err
	case isWord(c):
		return p.reference(p.name()), nil
	case c == '<' || c == '!':
		return nil, fmt.Errorf("references to tokens are not supported: %.20q", p.rest)
	}
	return nil, fmt.Errorf("got %.20q", p.rest)
}

func (p *parser) literal() (Expr, error) {
	p.rest = p.rest[1:]
	var text strings.Builder
	for !p.skip(`"`) {
		r, err := p.char()
		if err != nil {
			return nil, err
		}
		text.WriteRune(r)
	}
	return p.b.Text(text.String()), nil
}

func (p *parser) class() (Expr, error) {
	p.rest = p.rest[1:]
	not := p.skip("^")
	var list []Range
	for !p.skip("]") {
		from, err := p.char()
		if err != nil {
			return nil, err
		}
		to := from
		if len(p.rest) > 1 && p.rest[0] == '-' && p.rest[1] != ']' {
			p.rest = p.rest[1:]
			if to, err = p.char(); err != nil {
				return nil, err
			}
		}
		if to < from {
			return nil, fmt.Errorf("a range from %q down to %q", from, to)
		}
		if list = append(list, Range{from, to}); len(list) > maxElements {
			return nil, fmt.Errorf("a class has more than %d ranges", maxElements)
		}
	}
	if not {
		list = Complement(list)
	}
	return p.b.Class(list...), p.b.Err()
}

// char reads a character of a literal or a class.
func (p *parser) char() (rune, error) {
	r, size := utf8.DecodeRuneInString(p.rest)
	if size == 0 || r == '\n' {
		return 0, fmt.Errorf("a literal or class does not end")
	}
	p.rest = p.rest[size:]
	if r != '\\' || p.rest == "" {
		return r, nil
	}
	c := p.rest[0]
	p.rest = p.rest[1:]
	if at := strings.IndexByte(`nrt\"[]`, c); at >= 0 {
		return rune("\n\r\t\\\"[]"[at]), nil
	}
	if at := strings.IndexByte("xuU", c); at >= 0 {
		digits := []int{2, 4, 8}[at]
		if len(p.rest) >= digits {
			n, err := strconv.ParseUint(p.rest[:digits], 16, 32)
			if err == nil && n <= utf8.MaxRune && utf8.ValidRune(rune(n)) {
				p.rest = p.rest[digits:]
				return rune(n), nil
			}
		}
	}
	return 0, fmt.Errorf(`unknown escape \%c`, c)
}

func (p *parser) repeated(e Expr) (Expr, error) {
	for {
		switch {
		case p.skip("*"):
			e = p.b.Repeat(e, 0, -1)
		case p.skip("+"):
			e = p.b.Repeat(e, 1, -1)
		case p.skip("?"):
			e = p.b.Opt(e)
		case p.skip("{"):
			least, most, err := p.bounds()
			if err != nil {
				return nil, err
			}
			e = p.b.Repeat(e, least, most)
		default:
			return e, nil
		}
		if p.b.Err() != nil {
			return nil, p.b.Err()
		}
	}
}

// bounds reads n}, n,} or n,m}.
func (p *parser) bounds() (least, most int, err error) {
	text, rest, ok := strings.Cut(p.rest, "}")
	if !ok || len(text) > 20 {
		return 0, 0, fmt.Errorf("want n}, n,} or n,m}, got %.20q", p.rest)
	}
	p.rest = rest
	from, to, two := strings.Cut(strings.ReplaceAll(text, " ", ""), ",")
	if from == "" && two { // llama.cpp has {,m}
		from = "0"
	}
	n, err1 := strconv.ParseUint(from, 10, 31)
	switch {
	case err1 != nil:
		return 0, 0, fmt.Errorf("want a number of repetitions, got %q", text)
	case !two:
		return int(n), int(n), nil
	case to == "":
		return int(n), -1, nil
	}
	m, err2 := strconv.ParseUint(to, 10, 31)
	if err2 != nil || m < n {
		return 0, 0, fmt.Errorf("want numbers of repetitions in order, got %q", text)
	}
	return int(n), int(m), nil
}
