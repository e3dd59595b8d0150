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
	case *generator:
		size = len(v.list)
	case view:
		size = len(v.list)
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
	case "dict":
		return r.dict(n)
	case "macro":
		return r.expand(n)
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
		if _, _, ok := members(left); ok && slices.Contains(dictMethods[:], n.text) {
			return nil, fmt.Errorf("%s of a mapping, which is a method of it, is not supported without a call", n.text)
		}
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
		return r.slice(left, rest[0], rest[1], rest[2])
	case "filter":
		return r.filter(n.text, left, rest, n.keys)
	case "method":
		return r.method(n.text, left, rest)
	}
	return r.operate(n.op, left, rest[0])
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
	if n.text == "range" {
		return r.numbers(args)
	}
	if len(args) != 1 {
		return nil, fmt.Errorf("%s takes one argument", n.text)
	}
	if n.text == "strftime_now" {
		return date(args[0], r.Now())
	}
	text, err := toString(args[0])
	if err != nil {
		return nil, err
	}
	return nil, &RaisedError{Message: text}
}

// dict makes a mapping.
func (r *rendering) dict(n *node) (any, error) {
	all, err := r.evalAll(n.kids)
	if err != nil {
		return nil, err
	}
	o := &Object{}
	for i := 0; i < len(all); i += 2 {
		key, ok := all[i].(string)
		if !ok {
			return nil, fmt.Errorf("a mapping with %s as a key is not supported", kindName(all[i]))
		}
		o.Set(key, all[i+1])
	}
	return o, nil
}

// expand calls a macro. It sees its arguments and what the template's top level has set, and
// returns its text.
func (r *rendering) expand(n *node) (any, error) {
	args, err := r.evalAll(n.kids)
	if err != nil {
		return nil, err
	}
	m, ok := r.lookup(n.text).(macro)
	if !ok {
		return nil, fmt.Errorf("%s is not a macro", n.text)
	}
	if r.calls++; r.calls > maxDepth {
		return nil, fmt.Errorf("macros call each other more than %d times deep", maxDepth)
	}
	scopes := r.scopes
	defer func() { r.scopes, r.calls = scopes, r.calls-1 }()
	scope, named := map[string]any{}, 0
	for i, arg := range args {
		at := i
		if key := n.keys[i]; key != "" {
			if at = slices.Index(m.of.names, key); at < 0 {
				return nil, fmt.Errorf("macro %s takes no %s", n.text, key)
			}
		}
		if at >= len(m.of.names) {
			return nil, fmt.Errorf("macro %s takes %d arguments, got %d", n.text, len(m.of.names), len(args))
		}
		if _, twice := scope[m.of.names[at]]; twice {
			return nil, fmt.Errorf("macro %s got %s twice", n.text, m.of.names[at])
		}
		scope[m.of.names[at]] = arg
		named++
	}
	r.scopes = []map[string]any{scopes[0], scopes[1], scope}
	for i, name := range m.of.names {
		if _, ok := scope[name]; ok {
			continue
		}
		scope[name] = undefined{name}
		if m.of.given[i] != nil {
			if scope[name], err = r.eval(m.of.given[i]); err != nil {
				return nil, err
			}
		}
	}
	return r.captured(m.of.body)
}

func attribute(of any, name string) (any, error) {
	if _, values, ok := members(of); ok {
		if v, ok := values[name]; ok {
			return v, nil
		}
		return undefined{name}, nil
	}
	switch of := of.(type) {
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
		if _, values, ok := members(of); ok && slices.Contains(dictMethods[:], name) {
			if _, has := values[name]; !has {
				return nil, fmt.Errorf("%s of a mapping, which is a method of it, is not supported without a call", name)
			}
		}
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

// What no slice does. With literals it is refused when a template is compiled.
var (
	errTextBySteps = errors.New("a slice of a text by steps is not supported")
	errNoStep      = errors.New("a slice by steps of 0")
)

// slice returns part of a list or a text; a bound that is none is its end.
func (r *rendering) slice(of, from, to, step any) (any, error) {
	list, isList := of.([]any)
	text, isText := of.(string)
	if !isList && !isText {
		return nil, fmt.Errorf("cannot slice %s", kindName(of))
	}
	numbers := [3]*int64{}
	for i, v := range []any{from, to, step} {
		if n, ok := v.(int64); ok {
			numbers[i] = &n
		} else if v != nil {
			return nil, fmt.Errorf("cannot slice with %s", kindName(v))
		}
	}
	if isText {
		if step != nil && *numbers[2] != 1 {
			return nil, errTextBySteps
		}
		part := slicedText(text, numbers[0], numbers[1])
		if part == text {
			return text, nil
		}
		return r.Guard(text, part)
	}
	return sliced(list, numbers[0], numbers[1], numbers[2])
}

// slicedText is Python's text[from:to], in characters.
func slicedText(text string, from, to *int64) string {
	n := int64(utf8.RuneCountInString(text))
	place := func(v *int64, otherwise int64) int64 {
		if v == nil {
			return otherwise
		}
		if *v < 0 {
			return max(*v+n, 0)
		}
		return min(*v, n)
	}
	begin, end := place(from, 0), place(to, n)
	if begin >= end {
		return ""
	}
	at, first := int64(0), len(text)
	for i := range text {
		if at == begin {
			first = i
		}
		if at == end {
			return text[first:i]
		}
		at++
	}
	return text[first:]
}

// sliced is Python's list[from:to:step].
func sliced(list []any, from, to, step *int64) ([]any, error) {
	by, n := int64(1), int64(len(list))
	if step != nil {
		by = *step
	}
	if by == 0 {
		return nil, errNoStep
	}
	// The places before the first and behind the last item, from which steps go.
	low, high := int64(0), n
	if by < 0 {
		low, high = -1, n-1
	}
	clamp := func(v *int64, otherwise int64) int64 {
		if v == nil {
			return otherwise
		}
		i := *v
		if i < 0 {
			i += n
		}
		return min(max(i, low), high)
	}
	begin, end := clamp(from, low), clamp(to, high)
	if by < 0 {
		begin, end = clamp(from, high), clamp(to, low)
	}
	out := []any{}
	for i := begin; by > 0 && i < end || by < 0 && i > end; i += by {
		out = append(out, list[i])
	}
	return out, nil
}

func (r *rendering) operate(op string, a, b any) (any, error) {
	switch op {
	case "==", "!=":
		same, err := r.equal(a, b)
		return same == (op == "=="), err
	case "in", "notin":
		has, err := r.contains(a, b)
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
	case "*":
		if product := x * y; x == 0 || product/x == y {
			return product, nil
		}
		return nil, errors.New("a product is too large")
	case "//":
		if y == 0 {
			return nil, errors.New("division by zero")
		}
		return (x - ((x%y)+y)%y) / y, nil // rounded down
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
func (r *rendering) filter(name string, v any, args []any, keys []string) (any, error) {
	switch name {
	case "default":
		if _, missing := v.(undefined); len(args) > 0 && (missing || len(args) == 2 && truth(args[1]) && !truth(v)) {
			return args[0], nil
		}
		if len(args) == 1 || len(args) == 2 {
			return v, nil
		}
	case "tojson":
		var indent any
		for i, arg := range args {
			switch {
			case keys[i] == "indent":
				indent = arg
			case keys[i] != "ensure_ascii" || arg != false: // not even by position, where the reference has another order than Jinja
				return nil, errors.New("tojson is supported with the keywords indent, and ensure_ascii of false")
			}
		}
		return toJSON(v, indent)
	case "items", "list", "first", "last", "selectattr", "rejectattr", "select", "reject", "map", "join":
		return r.ofList(name, v, args, keys)
	case "replace":
		text, err := toString(v)
		if err != nil {
			return nil, err
		}
		return r.method(name, text, args)
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
		case view:
			return int64(len(v.list)), nil
		}
		if keys, _, ok := members(v); ok {
			return int64(len(keys)), nil
		}
		return nil, fmt.Errorf("cannot take the length of %s", kindName(v))
	}
	text, err := toString(v)
	if err != nil || name == "string" {
		return text, err
	}
	if name == "trim" {
		name = "strip"
	}
	return r.method(name, text, nil)
}

// method applies one of the known methods of strings and mappings.
func (r *rendering) method(name string, of any, args []any) (any, error) {
	if keys, values, ok := members(of); ok {
		return ofMapping(name, keys, values, args)
	}
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
			after := strip(name, s, words[0])
			if strings.Trim(words[0], Space) == "" || len(after) == len(s) { // white space joins nothing
				return after, nil
			}
			return r.Guard(s, after)
		case "split":
			return r.split(s, words[0])
		}
	case 2:
		if name == "replace" {
			return r.replace(s, words[0], words[1])
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

func (r *rendering) split(s, sep string) (any, error) {
	if sep == "" {
		return nil, errors.New("split needs a separator that is not empty")
	}
	parts := strings.Split(s, sep)
	out := make([]any, len(parts))
	for i, part := range parts {
		out[i] = part
		if len(parts) > 1 {
			var err error
			if out[i], err = r.Guard(s, part); err != nil {
				return nil, err
			}
			s = "" // was seen
		}
	}
	return out, nil
}

func (r *rendering) replace(s, old, with string) (any, error) {
	if old == "" {
		return nil, errors.New("replace needs a text to replace that is not empty")
	}
	n := strings.Count(s, old)
	if n == 0 {
		return s, nil
	}
	if len(s)+n*(len(with)-len(old)) > MaxOutputBytes {
		return nil, fmt.Errorf("the template produces more than %d bytes", MaxOutputBytes)
	}
	return r.Guard(s, strings.ReplaceAll(s, old, with))
}
