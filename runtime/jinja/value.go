package jinja

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
)

// undefined is the value of a name that is not there. It is false, prints as
// nothing, and refuses everything else.
type undefined struct{ name string }

// namespace is the one value that a template may change.
type namespace map[string]any

// loopState answers loop.first and its like.
type loopState struct{ index, length int64 }

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
	}
	return nil, fmt.Errorf("loop.%s is not supported", name)
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
	case map[string]any:
		return len(v) > 0
	case namespace, loopState:
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
	case map[string]any:
		return "a mapping"
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
	}
	return "", fmt.Errorf("cannot print %s", kindName(v))
}

// equal is Python's ==, in which True is 1.
func equal(a, b any) bool {
	if x, ok := number(a); ok {
		y, ok := number(b)
		return ok && x == y
	}
	switch a := a.(type) {
	case string:
		s, ok := b.(string)
		return ok && a == s
	case nil:
		return b == nil
	case undefined:
		_, ok := b.(undefined)
		return ok
	case []any:
		other, ok := b.([]any)
		if !ok || len(a) != len(other) {
			return false
		}
		for i := range a {
			if !equal(a[i], other[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		other, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, other, equal)
	}
	return false
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
func contains(item, in any) (bool, error) {
	switch in := in.(type) {
	case string:
		if s, ok := item.(string); ok {
			return strings.Contains(in, s), nil
		}
	case []any:
		for _, x := range in {
			if equal(item, x) {
				return true, nil
			}
		}
		return false, nil
	case map[string]any:
		if s, ok := item.(string); ok {
			_, has := in[s]
			return has, nil
		}
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
	switch v.(type) {
	case undefined, loopState: // what is not there is an empty list to this test alone
		return test == "iterable"
	case string:
		return test == "string" || test == "iterable"
	case []any:
		return test == "iterable"
	case map[string]any:
		return test == "mapping" || test == "iterable"
	}
	return false
}
