package jinja

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// undefined is the value of a name that is not there. It is false, prints as
// nothing, and refuses everything else.
type undefined struct{ name string }

// Object is a mapping that keeps the order of its keys, as Python's dict does.
type Object struct {
	keys   []string
	values map[string]any
}

// Set gives a key a value, at the end if it is new.
func (o *Object) Set(key string, value any) {
	if _, ok := o.values[key]; !ok {
		o.keys = append(o.keys, key)
	}
	if o.values == nil {
		o.values = map[string]any{}
	}
	o.values[key] = value
}

// Keys returns the keys in their order. The list must not be changed.
func (o *Object) Keys() []string { return o.keys }

// Get returns a key's value, or nil.
func (o *Object) Get(key string) any { return o.values[key] }

// members returns what is in a mapping; the keys of a Go map in their alphabetical order.
func members(v any) (keys []string, values map[string]any, ok bool) {
	switch v := v.(type) {
	case map[string]any:
		return slices.Sorted(maps.Keys(v)), v, true
	case *Object:
		return v.keys, v.values, true
	}
	return nil, nil, false
}

// generator is what selectattr, rejectattr and map make: something to go through once, and true.
type generator struct {
	list []any
	used bool
}

// view is what range and the methods of mappings make: no list, but something to go through.
type view struct {
	list    []any
	indexed bool // as a range is
}

// macro is a macro of the template.
type macro struct{ of *statement }

// namespace is the one value that a template may change.
type namespace map[string]any

// loopState answers loop.first and its like.
type loopState struct {
	index, length int64
	items         *[]any
}

func (l loopState) field(name string) (any, error) {
	switch name {
	case "first":
		return l.index == 0, nil
	case "last":
		return l.index == l.length-1, nil
	case "index":
		return l.index + 1, nil
	case "index0":
		return l.index, nil
	case "revindex":
		return l.length - l.index, nil
	case "revindex0":
		return l.length - l.index - 1, nil
	case "length":
		return l.length, nil
	case "previtem":
		return l.item(l.index-1, name), nil
	case "nextitem":
		return l.item(l.index+1, name), nil
	}
	return nil, fmt.Errorf("loop.%s is not supported", name)
}

// item is one of those that the loop goes through, or undefined.
func (l loopState) item(at int64, name string) any {
	if at < 0 || at >= l.length {
		return undefined{name}
	}
	return (*l.items)[at]
}

// truth is Python's notion of true.
func truth(v any) bool {
	switch v := v.(type) {
	case string:
		return v != ""
	case int64:
		return v != 0
	case bool:
		return v
	case []any:
		return len(v) > 0
	case float64:
		return v != 0
	case map[string]any:
		return len(v) > 0
	case *Object:
		return len(v.keys) > 0
	case view:
		return len(v.list) > 0
	case namespace, loopState, *generator, macro:
		return true
	}
	return false
}

func kindName(v any) string {
	switch v := v.(type) {
	case nil:
		return "none"
	case undefined:
		return "the undefined " + strconv.Quote(v.name)
	case string:
		return "a string"
	case int64, bool:
		return "a number"
	case []any:
		return "a list"
	case map[string]any, *Object:
		return "a mapping"
	case float64:
		return "a fraction"
	case *generator:
		return "a generator"
	case view:
		return "a view"
	case macro:
		return "a macro"
	}
	return "a namespace"
}

// toString is what Python's str makes of a value, for those that print alike
// in every implementation.
func toString(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "None", nil
	case undefined:
		return "", nil
	case string:
		return v, nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case bool:
		if v {
			return "True", nil
		}
		return "False", nil
	case float64:
		return fraction(v), nil
	}
	return "", fmt.Errorf("cannot print %s", kindName(v))
}

// equal is Python's ==, in which True is 1. It charges for what it compares: lists that hold one list several times have
// exponentially many members.
func (r *rendering) equal(a, b any) (bool, error) { return r.equalAt(a, b, 0) }

func (r *rendering) equalAt(a, b any, depth int) (bool, error) {
	if depth > maxDepth {
		return false, fmt.Errorf("values nested more than %d levels deep are compared", maxDepth)
	}
	compared := 0 // bytes
	if s, ok := a.(string); ok {
		if t, ok := b.(string); ok && len(s) == len(t) {
			compared = len(s)
		}
	}
	if err := r.spend(compared); err != nil {
		return false, err
	}
	if x, ok := number(a); ok {
		y, ok := number(b)
		return ok && x == y, nil
	}
	switch a := a.(type) {
	case string:
		s, ok := b.(string)
		return ok && a == s, nil
	case nil:
		return b == nil, nil
	case undefined:
		_, ok := b.(undefined)
		return ok, nil
	case []any:
		other, ok := b.([]any)
		same, err := ok && len(a) == len(other), error(nil)
		for i := 0; i < len(a) && same && err == nil; i++ {
			same, err = r.equalAt(a[i], other[i], depth+1)
		}
		return same, err
	case float64:
		x, ok := b.(float64)
		return ok && x == a, nil
	}
	keys, x, okX := members(a)
	_, y, okY := members(b)
	same, err := okX && okY && len(x) == len(y), error(nil)
	for i := 0; i < len(keys) && same && err == nil; i++ {
		var other any
		if other, same = y[keys[i]]; same {
			same, err = r.equalAt(x[keys[i]], other, depth+1)
		}
	}
	return same, err
}

func number(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

// contains is Python's in.
func (r *rendering) contains(item, in any) (bool, error) {
	switch in := in.(type) {
	case string:
		if s, ok := item.(string); ok {
			return strings.Contains(in, s), r.spend(len(in))
		}
	case []any:
		for _, x := range in {
			if same, err := r.equal(item, x); same || err != nil {
				return same, err
			}
		}
		return false, nil
	}
	if _, values, ok := members(in); ok {
		if s, ok := item.(string); ok {
			_, has := values[s]
			return has, nil
		}
	}
	if _, missing := in.(undefined); missing {
		return false, nil
	}
	return false, fmt.Errorf("cannot look for %s in %s", kindName(item), kindName(in))
}

// is answers the tests of expression.go.
func is(v any, test string) bool {
	switch test {
	case "defined":
		_, missing := v.(undefined)
		return !missing
	case "undefined":
		_, missing := v.(undefined)
		return missing
	case "none":
		return v == nil
	case "true":
		return v == true
	case "false":
		return v == false
	}
	_, isInteger := v.(int64)
	_, isBoolean := v.(bool)
	_, isFraction := v.(float64)
	switch test {
	case "integer":
		return isInteger
	case "boolean":
		return isBoolean
	case "number":
		return isInteger || isBoolean || isFraction
	}
	switch v := v.(type) {
	case undefined: // what is not there is an empty list to these tests alone
		return test == "iterable" || test == "sequence"
	case loopState, *generator:
		return test == "iterable"
	case view:
		return test == "iterable" || test == "sequence" && v.indexed
	case string:
		return test == "string" || test == "iterable" || test == "sequence"
	case []any:
		return test == "iterable" || test == "sequence"
	case map[string]any, *Object:
		return test == "mapping" || test == "iterable" || test == "sequence"
	}
	return false
}
