package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// bytesUnmarshaler reads its own text, as the YAML library's interface of this name does.
type bytesUnmarshaler interface{ UnmarshalYAML([]byte) error }

// fill sets v, which can be set, to what a document says. checkShape has found nothing
// wrong with it, so that what is refused here is the same mistake seen twice.
func fill(n ast.Node, v reflect.Value) *Error {
	t := v.Type()
	switch {
	case decodesItself(t):
		return readItself(n, v)
	case t.Kind() == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		return fill(n, v.Elem())
	}
	switch t.Kind() {
	case reflect.Struct:
		return fillStruct(n, v)
	case reflect.Map:
		return fillMap(n, v)
	case reflect.Slice:
		return fillSlice(n, v)
	case reflect.Interface:
		return fillAny(n, v)
	default:
		return fillScalar(n, v)
	}
}

// readItself lets a type read one scalar.
func readItself(n ast.Node, v reflect.Value) *Error {
	scalar, ok := n.(ast.ScalarNode)
	if !ok {
		return wrongType(n, "a single value")
	}
	text := []byte(scalar.GetToken().Value)
	var err error
	switch u := v.Addr().Interface().(type) {
	case bytesUnmarshaler:
		err = u.UnmarshalYAML(text)
	case encoding.TextUnmarshaler:
		err = u.UnmarshalText(text)
	}
	if err != nil {
		return at(scalar.GetToken(), "%s", strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return nil
}

// pairs are the keys of a mapping with their values.
func pairs(n ast.Node, f func(key string, value ast.Node) *Error) *Error {
	mapping, ok := n.(*ast.MappingNode)
	if !ok {
		return wrongType(n, "a mapping")
	}
	for _, pair := range mapping.Values {
		key, ok := pair.Key.(*ast.StringNode)
		if !ok {
			return at(pair.Key.GetToken(), "a key must be plain text")
		}
		if err := f(key.Value, pair.Value); err != nil {
			return err
		}
	}
	return nil
}

func fillStruct(n ast.Node, v reflect.Value) *Error {
	fields := map[string]field{}
	addFields(fields, v.Type(), nil)
	return pairs(n, func(key string, value ast.Node) *Error {
		f, known := fields[key]
		if !known {
			return at(n.GetToken(), "unknown key %.64q", key)
		}
		return fill(value, v.FieldByIndex(f.index))
	})
}

func fillMap(n ast.Node, v reflect.Value) *Error {
	t := v.Type()
	m := reflect.MakeMap(t)
	err := pairs(n, func(key string, value ast.Node) *Error {
		item := reflect.New(t.Elem()).Elem()
		if err := fill(value, item); err != nil {
			return err
		}
		m.SetMapIndex(reflect.ValueOf(key).Convert(t.Key()), item)
		return nil
	})
	v.Set(m)
	return err
}

func fillSlice(n ast.Node, v reflect.Value) *Error {
	sequence, ok := n.(*ast.SequenceNode)
	if !ok {
		return wrongType(n, "a list")
	}
	list := reflect.MakeSlice(v.Type(), len(sequence.Values), len(sequence.Values))
	for i, item := range sequence.Values {
		if err := fill(item, list.Index(i)); err != nil {
			return err
		}
	}
	v.Set(list)
	return nil
}

// fillAny sets an empty interface to what the value is by itself.
func fillAny(n ast.Node, v reflect.Value) *Error {
	var inner reflect.Value
	switch n := n.(type) {
	case *ast.MappingNode:
		inner = reflect.New(reflect.TypeFor[map[string]any]()).Elem()
	case *ast.SequenceNode:
		inner = reflect.New(reflect.TypeFor[[]any]()).Elem()
	case *ast.StringNode, *ast.LiteralNode:
		inner = reflect.New(reflect.TypeFor[string]()).Elem()
	case *ast.BoolNode:
		inner = reflect.New(reflect.TypeFor[bool]()).Elem()
	case *ast.FloatNode:
		inner = reflect.New(reflect.TypeFor[float64]()).Elem()
	case *ast.IntegerNode:
		inner = reflect.New(reflect.TypeOf(n.Value)).Elem()
	default:
		return at(n.GetToken(), "such a value is not supported")
	}
	if err := fill(n, inner); err != nil {
		return err
	}
	v.Set(inner)
	return nil
}

func fillScalar(n ast.Node, v reflect.Value) *Error {
	switch n := n.(type) {
	case *ast.StringNode:
		if v.Kind() == reflect.String {
			v.SetString(n.Value)
			return nil
		}
	case *ast.LiteralNode:
		if v.Kind() == reflect.String {
			v.SetString(n.Value.Value)
			return nil
		}
	case *ast.BoolNode:
		if v.Kind() == reflect.Bool {
			v.SetBool(n.Value)
			return nil
		}
	case *ast.FloatNode:
		return fillNumber(n, v, n.Value)
	case *ast.IntegerNode:
		switch number := n.Value.(type) {
		case int64:
			return fillNumber(n, v, number)
		case uint64:
			return fillNumber(n, v, number)
		}
	}
	return wrongType(n, fmt.Sprintf("a value of type %s", v.Type()))
}

// fillNumber sets a number, which is in range.
func fillNumber[N int64 | uint64 | float64](n ast.Node, v reflect.Value, number N) *Error {
	whole := N(int64(number)) == number || N(uint64(number)) == number
	switch {
	case v.CanInt() && whole && !v.OverflowInt(int64(number)) && (number < 0) == (int64(number) < 0):
		v.SetInt(int64(number))
	case v.CanUint() && whole && number >= 0 && !v.OverflowUint(uint64(number)):
		v.SetUint(uint64(number))
	case v.CanFloat() && !v.OverflowFloat(float64(number)):
		v.SetFloat(float64(number))
	default:
		return at(n.GetToken(), "%s is out of range", n.GetToken().Value)
	}
	return nil
}
