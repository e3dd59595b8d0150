package jinja

import (
	"slices"
	"time"
)

// The names that expressions may use. A name that is missing here is refused at
// load.
var (
	knownFilters = [...]string{"trim", "upper", "lower", "length", "count", "string", "default", "tojson", "items", "list", "first", "last",
		"selectattr", "rejectattr", "select", "reject", "map", "join", "replace"}
	knownTests     = [...]string{"defined", "undefined", "none", "string", "mapping", "iterable", "true", "false", "sequence", "number", "integer", "boolean"}
	knownMethods   = [...]string{"strip", "lstrip", "rstrip", "startswith", "endswith", "upper", "lower", "split", "replace", "items", "keys", "values", "get"}
	knownFunctions = [...]string{"raise_exception", "namespace", "range", "strftime_now"}
	// argumentTests are tests that selectattr and rejectattr know with an argument.
	argumentTests = [...]string{"equalto", "eq", "==", "ne", "!=", "in"}
	loopFields    = [...]string{"first", "last", "index", "index0", "revindex", "revindex0", "length", "previtem", "nextitem"}
	// dictMethods are methods of Python's dict: as attributes they go before keys of their name.
	dictMethods = [...]string{"items", "keys", "values", "get", "pop", "update", "copy", "clear", "setdefault", "popitem", "fromkeys"}
	// globals have a value in the reference, which prints, is true and is defined.
	globals     = [...]string{"range", "dict", "lipsum", "cycler", "joiner", "namespace", "raise_exception", "strftime_now", "self"}
	comparisons = [...]string{"==", "!=", "<", ">", "<=", ">="}
)

// expression parses: or ["if" or ["else" expression]].
func (p *parser) expression() (*node, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	value, err := p.or()
	if err != nil || !p.word("if") {
		return value, err
	}
	when, err := p.or()
	if err != nil {
		return nil, err
	}
	n := &node{op: "choose", kids: []*node{when, value}}
	if p.word("else") {
		other, err := p.expression()
		if err != nil {
			return nil, err
		}
		n.kids = append(n.kids, other)
	}
	return n, nil
}

// binary parses a left-associative level of operators.
func (p *parser) binary(next func() (*node, error), operator func() string) (*node, error) {
	left, err := next()
	for err == nil {
		op := operator()
		if op == "" {
			return left, nil
		}
		var right *node
		if right, err = next(); err == nil {
			left = &node{op: op, kids: []*node{left, right}}
		}
	}
	return nil, err
}

func (p *parser) or() (*node, error) {
	return p.binary(p.and, func() string {
		if p.word("or") {
			return "or"
		}
		return ""
	})
}

func (p *parser) and() (*node, error) {
	return p.binary(p.not, func() string {
		if p.word("and") {
			return "and"
		}
		return ""
	})
}

func (p *parser) not() (*node, error) {
	if !p.word("not") {
		return p.compare()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	n, err := p.not()
	return &node{op: "not", kids: []*node{n}}, err
}

func (p *parser) compare() (*node, error) {
	seen := false
	n, err := p.binary(p.sum, func() string {
		op := ""
		if p.word("in") {
			op = "in"
		} else if t := p.tokens[p.at]; t.kind == lexName && t.text == "not" && p.tokens[p.at+1].kind == lexName && p.tokens[p.at+1].text == "in" {
			p.at += 2
			op = "notin"
		}
		for _, c := range comparisons {
			if op == "" && p.symbol(c) {
				op = c
			}
		}
		if op != "" && seen {
			return "chain"
		}
		seen = seen || op != ""
		return op
	})
	if err == nil && n.op == "chain" {
		return nil, p.errorf("chained comparisons are not supported")
	}
	return n, err
}

func (p *parser) sum() (*node, error) { return p.binary(p.concat, p.oneOf("+", "-")) }

func (p *parser) concat() (*node, error) { return p.binary(p.product, p.oneOf("~")) }

func (p *parser) product() (*node, error) { return p.binary(p.unary, p.oneOf("*", "//", "%")) }

func (p *parser) oneOf(symbols ...string) func() string {
	return func() string {
		for _, s := range symbols {
			if p.symbol(s) {
				return s
			}
		}
		return ""
	}
}

func (p *parser) unary() (*node, error) {
	if !p.symbol("-") {
		return p.postfix()
	}
	if p.tokens[p.at].kind != lexNumber {
		return nil, p.errorf("a minus sign is supported only before a number")
	}
	n, err := p.number()
	if err == nil {
		n.num = -n.num
	}
	return n, err
}

// postfix parses a value with attributes, indexes and method calls, and then filters and
// tests, behind which there are none of these.
func (p *parser) postfix() (*node, error) {
	n, err := p.primary()
	for filtered := false; err == nil; {
		switch {
		case !filtered && p.symbol("."):
			n, err = p.attribute(n)
			continue
		case !filtered && p.symbol("["):
			n, err = p.index(n)
			continue
		}
		filtered = true
		switch {
		case p.symbol("|"):
			n, err = p.filter(n)
		case p.word("is"):
			n, err = p.test(n)
		default:
			return n, nil
		}
	}
	return nil, err
}

func (p *parser) attribute(of *node) (*node, error) {
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	if p.symbol("(") {
		if !slices.Contains(knownMethods[:], name) {
			return nil, p.errorf("method %q is not supported", name)
		}
		return p.arguments(&node{op: "method", text: name, kids: []*node{of}})
	}
	if of.op == "name" && of.text == "loop" && !slices.Contains(loopFields[:], name) {
		return nil, p.errorf("loop.%s is not supported", name)
	}
	return &node{op: "attribute", text: name, kids: []*node{of}}, nil
}

func (p *parser) index(of *node) (*node, error) {
	n := &node{op: "index", kids: []*node{of, nil, nil}}
	var err error
	if !p.symbol(":") {
		if n.kids[1], err = p.expression(); err != nil {
			return nil, err
		}
		if p.symbol("]") {
			n.kids = n.kids[:2]
			return n, nil
		}
		if err = p.want(lexSymbol, ":"); err != nil {
			return nil, err
		}
	}
	n.op = "slice"
	n.kids = append(n.kids, nil) // the step
	for at := 2; at < 4 && !p.ahead("]"); at++ {
		if at == 3 {
			if err = p.want(lexSymbol, ":"); err != nil {
				return nil, err
			}
		}
		if !p.ahead(":") && !p.ahead("]") {
			if n.kids[at], err = p.expression(); err != nil {
				return nil, err
			}
		}
	}
	if step := n.kids[3]; step != nil && step.op == "number" {
		if step.num == 0 {
			return nil, p.errorf("%v", errNoStep)
		}
		if step.num != 1 && of.op == "string" {
			return nil, p.errorf("%v", errTextBySteps)
		}
	}
	return n, p.want(lexSymbol, "]")
}

// ahead says whether the next lexeme is this symbol.
func (p *parser) ahead(s string) bool {
	t := p.tokens[p.at]
	return t.kind == lexSymbol && t.text == s
}

func (p *parser) filter(of *node) (*node, error) {
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	if !slices.Contains(knownFilters[:], name) {
		return nil, p.errorf("filter %q is not supported", name)
	}
	n := &node{op: "filter", text: name, kids: []*node{of}}
	if p.symbol("(") {
		return p.arguments(n, filterKeys[name]...)
	}
	return n, nil
}

// filterKeys are the keyword arguments of filters.
var filterKeys = map[string][]string{"tojson": {"indent", "ensure_ascii"}, "map": {"attribute"}}

func (p *parser) test(of *node) (*node, error) {
	negated := p.word("not")
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	if !slices.Contains(knownTests[:], name) {
		return nil, p.errorf("test %q is not supported", name)
	}
	// The reference takes any other word here for an argument, "if" and "in" as well.
	if t := p.tokens[p.at]; t.kind == lexName && t.text != "else" && t.text != "or" && t.text != "and" {
		return nil, p.errorf("test %q followed by %q is not supported; put the test in parentheses", name, t.text)
	}
	n := &node{op: "is", text: name, kids: []*node{of}}
	if negated {
		n = &node{op: "not", kids: []*node{n}}
	}
	return n, nil
}

// anyKey stands for every keyword.
const anyKey = "*"

// arguments parses up to the closing bracket and appends to the call's kids. Keywords are those
// that the call knows; with anyKey, each is.
func (p *parser) arguments(call *node, keywords ...string) (*node, error) {
	every := slices.Contains(keywords, anyKey)
	for !p.symbol(")") {
		key := ""
		if t := p.tokens[p.at]; t.kind == lexName && p.tokens[p.at+1].kind == lexSymbol && p.tokens[p.at+1].text == "=" {
			if !every && !slices.Contains(keywords, t.text) {
				return nil, p.errorf("keyword argument %q is not supported", t.text)
			}
			key = t.text
			p.at += 2
		} else if call.text == "namespace" && call.op == "call" {
			return nil, p.errorf("%s takes only keyword arguments", call.text)
		} else if len(call.keys) > 0 && call.keys[len(call.keys)-1] != "" {
			return nil, p.errorf("an argument after keyword arguments is not supported")
		}
		value, err := p.expression()
		if err != nil {
			return nil, err
		}
		call.kids, call.keys = append(call.kids, value), append(call.keys, key)
		if !p.symbol(",") {
			return call, p.want(lexSymbol, ")")
		}
	}
	return call, nil
}

func (p *parser) primary() (*node, error) {
	t := p.tokens[p.at]
	switch {
	case t.kind == lexString:
		p.at++
		return &node{op: "string", text: t.text}, nil
	case t.kind == lexNumber:
		return p.number()
	case t.kind == lexName:
		p.at++
		return p.nameOrCall(t.text)
	case p.symbol("("):
		n, err := p.expression()
		if err != nil {
			return nil, err
		}
		return n, p.want(lexSymbol, ")")
	case p.symbol("["):
		return p.list()
	case p.symbol("{"):
		return p.dict()
	}
	return nil, p.errorf("%q is not supported here", t.text)
}

func (p *parser) nameOrCall(name string) (*node, error) {
	switch name {
	case "true", "True":
		return &node{op: "true"}, nil
	case "false", "False":
		return &node{op: "false"}, nil
	case "none", "None":
		return &node{op: "none"}, nil
	}
	if !p.symbol("(") {
		if slices.Contains(globals[:], name) && p.askedFor() {
			return &node{op: "string", text: name}, nil // some value, which is defined
		}
		if slices.Contains(globals[:], name) {
			return nil, p.errorf("%q as a value is not supported", name)
		}
		return &node{op: "name", text: name}, nil
	}
	switch {
	case p.macros[name]:
		return p.arguments(&node{op: "macro", text: name}, anyKey)
	case name == "namespace":
		return p.arguments(&node{op: "call", text: name}, anyKey)
	case slices.Contains(knownFunctions[:], name):
		call, err := p.arguments(&node{op: "call", text: name})
		if err == nil && name == "strftime_now" && len(call.kids) == 1 && call.kids[0].op == "string" {
			if _, wrong := formatted(call.kids[0].text, time.Time{}); wrong != nil {
				return nil, p.errorf("%v", wrong)
			}
		}
		return call, err
	}
	return nil, p.errorf("function %q is not supported", name)
}

// askedFor says whether all that is asked of a name is whether it is defined.
func (p *parser) askedFor() bool {
	at := p.at
	for _, word := range []string{"is", "not"} {
		if p.tokens[at].kind == lexName && p.tokens[at].text == word {
			at++
		} else if word == "is" {
			return false
		}
	}
	return p.tokens[at].kind == lexName && (p.tokens[at].text == "defined" || p.tokens[at].text == "undefined")
}

// dict parses a mapping up to its end: keys and values in turn.
func (p *parser) dict() (*node, error) {
	n := &node{op: "dict"}
	for !p.symbol("}") {
		key, err := p.expression()
		if err != nil {
			return nil, err
		}
		if err := p.want(lexSymbol, ":"); err != nil {
			return nil, err
		}
		value, err := p.expression()
		if err != nil {
			return nil, err
		}
		n.kids = append(n.kids, key, value)
		if !p.symbol(",") {
			return n, p.want(lexSymbol, "}")
		}
	}
	return n, nil
}

func (p *parser) list() (*node, error) {
	n := &node{op: "list"}
	for !p.symbol("]") {
		item, err := p.expression()
		if err != nil {
			return nil, err
		}
		n.kids = append(n.kids, item)
		if !p.symbol(",") {
			return n, p.want(lexSymbol, "]")
		}
	}
	return n, nil
}
