package jinja

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// eval evaluates an expression and charges for it.
func (r *rendering) eval(n *node) (any, error) {
	v, err := r.evalNode(n)
	if err != nil {
		return nil, err
	}
	size := 0
	switch v := v.(type) {
	case string:
		if n.op != "name" && n.op != "string" { // those make no new text
			size = len(v)
		}
	case []any:
		size = len(v)
	}
	return v, r.spend(size)
}

func (r *rendering) evalNode(n *node) (any, error) {
	switch n.op {
	case "string":
		return n.text, nil
	case "number":
		return n.num, nil
	case "true", "false":
		return n.op == "true", nil
	case "none":
		return nil, nil
	case "name":
		return r.lookup(n.text), nil
	case "call":
		return r.call(n)
	case "choose":
		return r.choose(n)
	case "list":
		return r.evalAll(n.kids)
	}
	left, err := r.eval(n.kids[0])
	if err != nil {
		return nil, err
	}
	switch n.op {
	case "and", "or":
		if truth(left) == (n.op == "or") {
			return left, nil
		}
		return r.eval(n.kids[1])
	case "not":
		return !truth(left), nil
	case "is":
		return is(left, n.text), nil
	case "attribute":
		return attribute(left, n.text)
	}
	rest, err := r.evalAll(n.kids[1:])
	if err != nil {
		return nil, err
	}
	switch n.op {
	case "index":
		return index(left, rest[0])
	case "slice":
		return slice(left, rest[0], rest[1])
	case "filter":
		return filter(n.text, left, rest)
	case "method":
		return method(n.text, left, rest)
	}
	return operate(n.op, left, rest[0])
}

// evalAll evaluates expressions in order; a missing one, as in a slice, is none.
func (r *rendering) evalAll(kids []*node) ([]any, error) {
	out := make([]any, len(kids))
	for i, kid := range kids {
		if kid == nil {
			continue
		}
		var err error
		if out[i], err = r.eval(kid); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (r *rendering) choose(n *node) (any, error) {
	when, err := r.eval(n.kids[0])
	if err != nil {
		return nil, err
	}
	switch {
	case truth(when):
		return r.eval(n.kids[1])
	case len(n.kids) == 3:
		return r.eval(n.kids[2])
	}
	return undefined{"value of an if without an else"}, nil
}

func (r *rendering) call(n *node) (any, error) {
	args, err := r.evalAll(n.kids)
	if err != nil {
		return nil, err
	}
	if n.text == "namespace" {
		ns := namespace{}
		for i, key := range n.keys {
			ns[key] = args[i]
		}
		return ns, nil
	}
	if len(args) != 1 {
		return nil, fmt.Errorf("%s takes one argument", n.text)
	}
	text, err := toString(args[0])
	if err != nil {
		return nil, err
	}
	return nil, &RaisedError{Message: text}
}

func attribute(of any, name string) (any, error) {
	switch of := of.(type) {
	case map[string]any:
		if v, ok := of[name]; ok {
			return v, nil
		}
		return undefined{name}, nil
	case namespace:
		if v, ok := of[name]; ok {
			return v, nil
		}
		return undefined{name}, nil
	case loopState:
		return of.field(name)
	case undefined:
		return nil, fmt.Errorf("cannot take %q of %s", name, kindName(of))
	}
	return undefined{name}, nil
}

func index(of, at any) (any, error) {
	if name, ok := at.(string); ok {
		return attribute(of, name)
	}
	i, isNumber := at.(int64)
	list, isList := of.([]any)
	if !isNumber || !isList {
		return nil, fmt.Errorf("cannot index %s with %s", kindName(of), kindName(at))
	}
	if i < 0 {
		i += int64(len(list))
	}
	if i < 0 || i >= int64(len(list)) {
		return undefined{"list item"}, nil
	}
	return list[i], nil
}

// slice returns part of a list; a bound that is none is the list's end.
func slice(of, from, to any) (any, error) {
	list, ok := of.([]any)
	if !ok {
		return nil, fmt.Errorf("cannot slice %s", kindName(of))
	}
	bounds := [2]int64{0, int64(len(list))}
	for i, v := range []any{from, to} {
		if v == nil {
			continue
		}
		n, ok := v.(int64)
		if !ok {
			return nil, fmt.Errorf("cannot slice with %s", kindName(v))
		}
		if n < 0 {
			n += int64(len(list))
		}
		bounds[i] = min(max(n, 0), int64(len(list)))
	}
	b := max(bounds[0], bounds[1])
	return list[bounds[0]:b:b], nil
}

func operate(op string, a, b any) (any, error) {
	switch op {
	case "==":
		return equal(a, b), nil
	case "!=":
		return !equal(a, b), nil
	case "in", "notin":
		has, err := contains(a, b)
		return has == (op == "in"), err
	case "~":
		x, err := toString(a)
		if err != nil {
			return nil, err
		}
		y, err := toString(b)
		return x + y, err
	case "+":
		if x, ok := a.(string); ok {
			if y, ok := b.(string); ok {
				return x + y, nil
			}
		}
		if x, ok := a.([]any); ok {
			if y, ok := b.([]any); ok {
				return slices.Concat(x, y), nil
			}
		}
	}
	return arithmetic(op, a, b)
}

func arithmetic(op string, a, b any) (any, error) {
	x, okX := number(a)
	y, okY := number(b)
	if !okX || !okY {
		return nil, fmt.Errorf("cannot apply %q to %s and %s", op, kindName(a), kindName(b))
	}
	switch op {
	case "+":
		return x + y, nil
	case "-":
		return x - y, nil
	case "%":
		if y == 0 {
			return nil, errors.New("division by zero")
		}
		return ((x % y) + y) % y, nil // Python's sign
	case "<":
		return x < y, nil
	case ">":
		return x > y, nil
	case "<=":
		return x <= y, nil
	}
	return x >= y, nil
}

// Space is the white space that Python's str.strip removes.
const Space = " \t\n\r\v\f\x1c\x1d\x1e\x1f\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"

// filter applies one of the known filters.
func filter(name string, v any, args []any) (any, error) {
	switch name {
	case "default":
		if _, missing := v.(undefined); missing && len(args) == 1 {
			return args[0], nil
		}
		if len(args) == 1 {
			return v, nil
		}
	}
	if len(args) != 0 {
		return nil, fmt.Errorf("filter %s is not supported with these arguments", name)
	}
	switch name {
	case "length", "count":
		switch v := v.(type) {
		case string:
			return int64(utf8.RuneCountInString(v)), nil
		case []any:
			return int64(len(v)), nil
		case map[string]any:
			return int64(len(v)), nil
		}
		return nil, fmt.Errorf("cannot take the length of %s", kindName(v))
	case "tojson":
		return nil, errors.New("filter tojson is not supported")
	}
	text, err := toString(v)
	if err != nil || name == "string" {
		return text, err
	}
	if name == "trim" {
		name = "strip"
	}
	return method(name, text, nil)
}

// method applies one of the known methods of strings.
func method(name string, of any, args []any) (any, error) {
	s, ok := of.(string)
	if !ok {
		return nil, fmt.Errorf("cannot call %s on %s", name, kindName(of))
	}
	words := make([]string, len(args))
	for i, arg := range args {
		if words[i], ok = arg.(string); !ok {
			return nil, fmt.Errorf("%s takes only strings", name)
		}
	}
	switch len(words) {
	case 0:
		switch name {
		case "upper", "lower":
			if strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII && r != utf8.RuneError }) {
				return nil, fmt.Errorf("%s is supported for ASCII characters only", name)
			}
			if name == "upper" {
				return Upper(s), nil
			}
			return Lower(s), nil
		case "strip", "lstrip", "rstrip":
			return strip(name, s, Space), nil
		}
	case 1:
		switch name {
		case "startswith":
			return strings.HasPrefix(s, words[0]), nil
		case "endswith":
			return strings.HasSuffix(s, words[0]), nil
		case "strip", "lstrip", "rstrip":
			return strip(name, s, words[0]), nil
		case "split":
			return splitText(s, words[0])
		}
	}
	return nil, fmt.Errorf("method %s is not supported with %d arguments", name, len(words))
}

// Upper returns a text with its lower-case ASCII letters in upper case. Other bytes stay, even
// those that are not UTF-8.
func Upper(s string) string { return shifted(s, 'a', 'A') }

// Lower returns a text with its upper-case ASCII letters in lower case, and everything else as
// [Upper] does.
func Lower(s string) string { return shifted(s, 'A', 'a') }

// shifted moves the 26 letters from one on to where those from to on stand.
func shifted(s string, from, to byte) string {
	b := []byte(s)
	for i, c := range b {
		if c-from < 26 {
			b[i] = c - from + to
		}
	}
	return string(b)
}

func strip(name, s, cutset string) string {
	switch name {
	case "lstrip":
		return strings.TrimLeft(s, cutset)
	case "rstrip":
		return strings.TrimRight(s, cutset)
	}
	return strings.Trim(s, cutset)
}

func splitText(s, sep string) (any, error) {
	if sep == "" {
		return nil, errors.New("split needs a separator that is not empty")
	}
	parts := strings.Split(s, sep)
	out := make([]any, len(parts))
	for i, part := range parts {
		out[i] = part
	}
	return out, nil
}
