package jinja

import (
	"fmt"
	"slices"
	"strings"
)

// sequence is what a loop goes through; of a mapping its keys.
func sequence(v any, what string) ([]any, error) {
	switch v := v.(type) {
	case []any:
		return v, nil
	case view:
		return v.list, nil
	case *generator:
		if v.used {
			return nil, fmt.Errorf("cannot %s a generator a second time", what)
		}
		v.used = true
		return v.list, nil
	}
	keys, _, ok := members(v)
	if !ok {
		return nil, fmt.Errorf("cannot %s %s", what, kindName(v))
	}
	list := make([]any, len(keys))
	for i, key := range keys {
		list[i] = key
	}
	return list, nil
}

// pairs are the items of a mapping.
func pairs(keys []string, values map[string]any) []any {
	list := make([]any, len(keys))
	for i, key := range keys {
		list[i] = []any{key, values[key]}
	}
	return list
}

// ofMapping applies one of the known methods of mappings.
func ofMapping(name string, keys []string, values map[string]any, args []any) (any, error) {
	switch {
	case name == "get" && len(args) > 0 && len(args) < 3:
		key, ok := args[0].(string)
		if !ok {
			return nil, fmt.Errorf("cannot look for %s in a mapping", kindName(args[0]))
		}
		if v, ok := values[key]; ok {
			return v, nil
		}
		return append(args, nil)[1], nil
	case len(args) > 0:
	case name == "items":
		return view{list: pairs(keys, values)}, nil
	case name == "keys":
		list, err := sequence(&Object{keys: keys, values: values}, "list")
		return view{list: list}, err
	case name == "values":
		list := make([]any, len(keys))
		for i, key := range keys {
			list[i] = values[key]
		}
		return view{list: list}, nil
	}
	return nil, fmt.Errorf("cannot call %s on a mapping with %d arguments", name, len(args))
}

// ofList applies one of the filters of lists.
func (r *rendering) ofList(name string, v any, args []any, keys []string) (any, error) {
	if name == "items" && len(args) == 0 {
		if _, missing := v.(undefined); missing {
			return &generator{}, nil
		}
		if keys, values, ok := members(v); ok {
			return &generator{list: pairs(keys, values)}, nil
		}
		return nil, fmt.Errorf("cannot take the items of %s", kindName(v))
	}
	list, err := sequence(v, "go through")
	if err != nil {
		return nil, err
	}
	switch {
	case name == "list" && len(args) == 0:
		return slices.Clone(list), nil
	case name == "first" && len(args) == 0 && len(list) > 0:
		return list[0], nil
	case name == "last" && len(args) == 0 && len(list) > 0:
		if _, isList := v.([]any); isList { // of others the reference takes no last one
			return list[len(list)-1], nil
		}
	case (name == "first" || name == "last") && len(args) == 0 && len(list) == 0:
		return undefined{"item of an empty list"}, nil
	case name == "map" && len(args) == 1 && keys[0] == "attribute":
		return attributes(list, args[0])
	case name == "selectattr" || name == "rejectattr":
		return r.selected(list, args, name == "selectattr")
	case name == "select" || name == "reject":
		return r.passing(list, args, name == "select")
	case name == "join" && len(args) <= 1:
		return join(list, append(args, "")[0])
	}
	return nil, fmt.Errorf("filter %s is not supported with these arguments", name)
}

// attributes are one attribute of each item.
func attributes(list []any, name any) (any, error) {
	key, ok := name.(string)
	if !ok || strings.Contains(key, ".") {
		return nil, fmt.Errorf("an attribute named by %s is not supported", kindName(name))
	}
	out := make([]any, len(list))
	for i, item := range list {
		var err error
		if out[i], err = attribute(item, key); err != nil {
			return nil, err
		}
	}
	return &generator{list: out}, nil
}

// selected are the items whose attribute is true, or passes a test; or the others.
func (r *rendering) selected(list []any, args []any, want bool) (any, error) {
	words := make([]string, 0, 2)
	for _, arg := range args[:min(len(args), 2)] {
		if word, ok := arg.(string); ok && (len(words) > 0 || !strings.Contains(word, ".")) {
			words = append(words, word)
		}
	}
	if len(args) == 0 || len(args) > 3 || len(words) != min(len(args), 2) {
		return nil, fmt.Errorf("selectattr and rejectattr are not supported with these arguments")
	}
	test := func(v any) (bool, error) { return truth(v), nil }
	if len(args) > 1 {
		var err error
		if test, err = r.testOf(words[1], args[2:]); err != nil {
			return nil, err
		}
	}
	out := &generator{}
	for _, item := range list {
		v, err := attribute(item, words[0])
		if err != nil {
			return nil, err
		}
		passed, err := test(v)
		if err != nil {
			return nil, err
		}
		if passed == want {
			out.list = append(out.list, item)
		}
	}
	return out, nil
}

// passing are the items that are true, or pass a test; or the others.
func (r *rendering) passing(list []any, args []any, want bool) (any, error) {
	test := func(v any) (bool, error) { return truth(v), nil }
	if len(args) > 0 {
		name, ok := args[0].(string)
		if !ok {
			return nil, fmt.Errorf("a test named by %s", kindName(args[0]))
		}
		var err error
		if test, err = r.testOf(name, args[1:]); err != nil {
			return nil, err
		}
	}
	out := &generator{}
	for _, item := range list {
		passed, err := test(item)
		if err != nil {
			return nil, err
		}
		if passed == want {
			out.list = append(out.list, item)
		}
	}
	return out, nil
}

// join puts the texts of items together.
func join(list []any, between any) (any, error) {
	sep, err := toString(between)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for i, item := range list {
		text, err := toString(item)
		if err != nil {
			return nil, err
		}
		if b.Len()+len(sep)+len(text) > MaxOutputBytes {
			return nil, fmt.Errorf("the template produces more than %d bytes", MaxOutputBytes)
		}
		if i > 0 {
			b.WriteString(sep)
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

// testOf is a test by name, with its argument if it takes one.
func (r *rendering) testOf(name string, args []any) (func(v any) (bool, error), error) {
	switch {
	case len(args) == 0 && slices.Contains(knownTests[:], name):
		return func(v any) (bool, error) { return is(v, name), nil }, nil
	case len(args) == 1 && slices.Contains(argumentTests[:], name):
		return func(v any) (bool, error) {
			switch name {
			case "in":
				return r.contains(v, args[0])
			case "ne", "!=":
				same, err := r.equal(v, args[0])
				return !same, err
			}
			return r.equal(v, args[0])
		}, nil
	}
	return nil, fmt.Errorf("test %q is not supported with %d arguments", name, len(args))
}

// maxNumbers is the longest list that range makes.
const maxNumbers = 1 << 16

// numbers is the function range.
func (r *rendering) numbers(args []any) (any, error) {
	bounds := [3]int64{0, 0, 1}
	if len(args) < 1 || len(args) > 3 {
		return nil, fmt.Errorf("range takes one to three numbers")
	}
	for i, arg := range args {
		n, ok := arg.(int64)
		if !ok {
			return nil, fmt.Errorf("range of %s", kindName(arg))
		}
		if len(args) == 1 {
			i = 1
		}
		bounds[i] = n
	}
	if bounds[2] == 0 {
		return nil, fmt.Errorf("range by steps of 0")
	}
	list := []any{}
	for n := bounds[0]; bounds[2] > 0 && n < bounds[1] || bounds[2] < 0 && n > bounds[1]; n += bounds[2] {
		if len(list) == maxNumbers {
			return nil, fmt.Errorf("range of more than %d numbers", maxNumbers)
		}
		list = append(list, n)
	}
	return view{list, true}, nil
}
