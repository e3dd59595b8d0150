package schema

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/runtime/grammar"
)

// maxGroups bounds groups within groups.
const maxGroups = 32

// pattern makes the inside of a JSON string that a regular expression finds something in. What
// JavaScript, Python and RE2 read in the same way is supported; \d, \w and \s are of ASCII.
func (c *compiler) pattern(text string) grammar.Expr {
	p := &regex{c: c, rest: text}
	list, err := p.alternatives(true)
	if err == nil && p.rest != "" {
		err = errors.New("unmatched )")
	}
	if err != nil {
		return c.refuse("pattern %.100q: %w", text, err)
	}
	return c.b.Alt(list...)
}

type regex struct {
	c     *compiler
	rest  string
	depth int
}

func (p *regex) skip(text string) bool {
	rest, ok := strings.CutPrefix(p.rest, text)
	p.rest = rest
	return ok
}

// alternatives reads up to a closing parenthesis or the end. Those of the whole expression may be
// anchored; an end that is not may follow and precede anything.
func (p *regex) alternatives(whole bool) (list []grammar.Expr, err error) {
	anything := p.c.b.Repeat(p.c.character(), 0, -1)
	for {
		var out grammar.Expr
		if whole && !p.skip("^") {
			out = p.c.b.Append(nil, anything)
		}
		end := false
		for p.rest != "" && p.rest[0] != '|' && p.rest[0] != ')' {
			if end = whole && (p.rest == "$" || strings.HasPrefix(p.rest, "$|")); end {
				p.rest = p.rest[1:]
				break
			}
			e, err := p.item()
			if err != nil {
				return nil, err
			}
			if out = p.c.b.Append(out, e); p.c.b.Err() != nil {
				return nil, p.c.b.Err()
			}
		}
		if whole && !end {
			out = p.c.b.Append(out, anything)
		}
		list = append(list, out)
		if !p.skip("|") {
			return list, nil
		}
	}
}

func (p *regex) item() (e grammar.Expr, err error) {
	switch c := p.rest[0]; c {
	case '(':
		p.rest = p.rest[1:]
		if !p.skip("?:") && strings.HasPrefix(p.rest, "?") {
			return nil, fmt.Errorf("group (%.3s is not supported", p.rest)
		}
		if p.depth++; p.depth > maxGroups {
			return nil, fmt.Errorf("groups are nested more than %d deep", maxGroups)
		}
		list, err := p.alternatives(false)
		if err != nil {
			return nil, err
		}
		if !p.skip(")") {
			return nil, errors.New("unmatched (")
		}
		p.depth--
		e = p.c.b.Alt(list...)
	case '[':
		ranges, err := p.class()
		if err != nil {
			return nil, err
		}
		e = p.one(ranges)
	case '.':
		p.rest = p.rest[1:]
		e = p.one(grammar.Complement([]grammar.Range{{From: '\n', To: '\n'}, {From: '\r', To: '\r'}, {From: 0x2028, To: 0x2029}}))
	case '*', '+', '?', '{', '^', '$':
		return nil, fmt.Errorf("%c is not supported here", c)
	default:
		ranges, err := p.char(false)
		if err != nil {
			return nil, err
		}
		e = p.one(ranges)
	}
	return p.repeated(e)
}

func (p *regex) repeated(e grammar.Expr) (grammar.Expr, error) {
	b := p.c.b
	switch {
	case p.skip("*"):
		e = b.Repeat(e, 0, -1)
	case p.skip("+"):
		e = b.Repeat(e, 1, -1)
	case p.skip("?"):
		e = b.Opt(e)
	case p.skip("{"):
		text, rest, ok := strings.Cut(p.rest, "}")
		from, to, two := strings.Cut(text, ",")
		least, err := strconv.ParseUint(from, 10, 16)
		most := int64(least)
		if two && to == "" {
			most = -1
		} else if two && err == nil {
			most, err = strconv.ParseInt(to, 10, 32)
		}
		if !ok || err != nil || most >= 0 && most < int64(least) {
			return nil, fmt.Errorf("{%.20s is no repetition", p.rest)
		}
		p.rest = rest
		e = b.Repeat(e, int(least), int(most))
	default:
		return e, nil
	}
	p.skip("?") // as few as possible are of the same texts
	if p.rest != "" && strings.IndexByte("*+?{", p.rest[0]) >= 0 {
		return nil, fmt.Errorf("%c is not supported here", p.rest[0])
	}
	return e, b.Err()
}

// one is one character of a string of JSON.
func (p *regex) one(ranges []grammar.Range) grammar.Expr {
	b := p.c.b
	var all []grammar.Expr
	if plain := grammar.Complement(slices.Concat(grammar.Complement(ranges), escaped)); len(plain) > 0 {
		all = append(all, b.Class(plain...))
	}
	for i, r := range "\"\\\n\r\t\b\f" {
		if slices.ContainsFunc(ranges, func(x grammar.Range) bool { return x.From <= r && r <= x.To }) {
			all = append(all, b.Text(`\`+`"\nrtbf`[i:i+1]))
		}
	}
	if len(all) == 0 {
		b.Fail(fmt.Errorf("%w: a pattern with a class of no characters", ErrSchema))
	}
	return b.Alt(all...)
}

func (p *regex) class() (list []grammar.Range, err error) {
	p.rest = p.rest[1:]
	not := p.skip("^")
	for first := true; first || !p.skip("]"); first = false {
		if p.rest == "" || first && p.rest[0] == ']' || strings.HasPrefix(p.rest, "[:") || strings.HasPrefix(p.rest, "&&") || strings.HasPrefix(p.rest, "--") {
			return nil, errors.New("a class that does not end, is empty, or is of another notation")
		}
		from, err := p.char(true)
		if err != nil {
			return nil, err
		}
		if len(p.rest) > 1 && p.rest[0] == '-' && p.rest[1] != ']' {
			p.rest = p.rest[1:]
			to, err := p.char(true)
			if err != nil {
				return nil, err
			}
			if len(from) != 1 || len(to) != 1 || from[0].From != from[0].To || to[0].From != to[0].To || to[0].From < from[0].From {
				return nil, errors.New("a range that is none")
			}
			from[0].To = to[0].From
		}
		list = append(list, from...)
	}
	if not {
		list = grammar.Complement(list)
	}
	return list, nil
}

// Classes of escapes. Their complements are of ASCII too: readers differ about the rest.
var (
	digit = []grammar.Range{{From: '0', To: '9'}}
	word  = []grammar.Range{{From: '0', To: '9'}, {From: 'A', To: 'Z'}, {From: '_', To: '_'}, {From: 'a', To: 'z'}}
	blank = []grammar.Range{{From: '\t', To: '\n'}, {From: '\f', To: '\r'}, {From: ' ', To: ' '}}
)

func without(ranges []grammar.Range) []grammar.Range {
	return grammar.Complement(slices.Concat(ranges, []grammar.Range{{From: 0, To: 0x1f}, {From: 0x7f, To: utf8.MaxRune}}))
}

// char reads a character or an escape, in a class or not.
func (p *regex) char(inClass bool) ([]grammar.Range, error) {
	r, size := utf8.DecodeRuneInString(p.rest)
	p.rest = p.rest[size:]
	if r != '\\' {
		return []grammar.Range{{From: r, To: r}}, nil
	}
	if p.rest == "" {
		return nil, errors.New(`a \ at the end`)
	}
	c := p.rest[0]
	p.rest = p.rest[1:]
	if at := strings.IndexByte("nrtf", c); at >= 0 {
		r = rune("\n\r\t\f"[at])
		return []grammar.Range{{From: r, To: r}}, nil
	}
	if at := strings.IndexByte("dwsDWS", c); at >= 0 {
		return slices.Clone([][]grammar.Range{digit, word, blank, without(digit), without(word), without(blank)}[at]), nil
	}
	if at := strings.IndexByte("xu", c); at >= 0 {
		if n := []int{2, 4}[at]; len(p.rest) >= n {
			if v, err := strconv.ParseUint(p.rest[:n], 16, 32); err == nil && utf8.ValidRune(rune(v)) {
				p.rest = p.rest[n:]
				return []grammar.Range{{From: rune(v), To: rune(v)}}, nil
			}
		}
	}
	if c < utf8.RuneSelf && strings.IndexByte(`\^$.|?*+()[]{}/-"',:;=!@#%&~ <>`+"`", c) >= 0 {
		return []grammar.Range{{From: rune(c), To: rune(c)}}, nil
	}
	return nil, fmt.Errorf(`\%c is not supported`, c)
}
