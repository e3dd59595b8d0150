package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"

	"github.com/anchorhold/anchorhold/systemd/config/yaml"
)

// fill sets v, which must be settable, from a node. checkShape has accepted the document, so
// an error here repeats a check.
func fill(n *yaml.Node, v reflect.Value) *Error {
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
func readItself(n *yaml.Node, v reflect.Value) *Error {
	if n.Kind == yaml.Mapping || n.Kind == yaml.Sequence {
		return wrongType(n, "a single value")
	}
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Text)); err != nil {
		return n.Errorf("%s", strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return nil
}

// pairs are the keys of a mapping with their values.
func pairs(n *yaml.Node, f func(key string, value *yaml.Node) *Error) *Error {
	if n.Kind != yaml.Mapping {
		return wrongType(n, "a mapping")
	}
	for i := range n.Pairs {
		pair := &n.Pairs[i]
		if pair.Key.Kind != yaml.Text {
			return pair.Key.Errorf("a key must be plain text")
		}
		if err := f(pair.Key.Text, &pair.Value); err != nil {
			return err
		}
	}
	return nil
}

func fillStruct(n *yaml.Node, v reflect.Value) *Error {
	fields := map[string]field{}
	addFields(fields, v.Type(), nil)
	return pairs(n, func(key string, value *yaml.Node) *Error {
		f, known := fields[key]
		if !known {
			return n.Errorf("unknown key %.64q", key)
		}
		return fill(value, v.FieldByIndex(f.index))
	})
}

func fillMap(n *yaml.Node, v reflect.Value) *Error {
	t := v.Type()
	m := reflect.MakeMap(t)
	err := pairs(n, func(key string, value *yaml.Node) *Error {
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

func fillSlice(n *yaml.Node, v reflect.Value) *Error {
	if n.Kind != yaml.Sequence {
		return wrongType(n, "a list")
	}
	list := reflect.MakeSlice(v.Type(), len(n.Items), len(n.Items))
	for i := range n.Items {
		if err := fill(&n.Items[i], list.Index(i)); err != nil {
			return err
		}
	}
	v.Set(list)
	return nil
}

// fillAny sets an empty interface to what the value is by itself.
func fillAny(n *yaml.Node, v reflect.Value) *Error {
	var t reflect.Type
	switch n.Kind {
	case yaml.Mapping:
		t = reflect.TypeFor[map[string]any]()
	case yaml.Sequence:
		t = reflect.TypeFor[[]any]()
	case yaml.Text:
		t = reflect.TypeFor[string]()
	case yaml.Bool:
		t = reflect.TypeFor[bool]()
	case yaml.Int, yaml.Float:
		t = reflect.TypeOf(n.Number())
	default:
		return n.Errorf("such a value is not supported")
	}
	inner := reflect.New(t).Elem()
	if err := fill(n, inner); err != nil {
		return err
	}
	v.Set(inner)
	return nil
}

func fillScalar(n *yaml.Node, v reflect.Value) *Error {
	switch {
	case n.Kind == yaml.Text && v.Kind() == reflect.String:
		v.SetString(n.Text)
		return nil
	case n.Kind == yaml.Bool && v.Kind() == reflect.Bool:
		v.SetBool(n.Bool())
		return nil
	}
	switch number := n.Number().(type) {
	case int64:
		return fillNumber(n, v, number)
	case uint64:
		return fillNumber(n, v, number)
	case float64:
		return fillNumber(n, v, number)
	}
	return wrongType(n, fmt.Sprintf("a value of type %s", v.Type()))
}

// fillNumber sets a number, which is in range.
func fillNumber[N int64 | uint64 | float64](n *yaml.Node, v reflect.Value, number N) *Error {
	whole := N(int64(number)) == number || N(uint64(number)) == number
	switch {
	case v.CanInt() && whole && !v.OverflowInt(int64(number)) && (number < 0) == (int64(number) < 0):
		v.SetInt(int64(number))
	case v.CanUint() && whole && number >= 0 && !v.OverflowUint(uint64(number)):
		v.SetUint(uint64(number))
	case v.CanFloat() && !v.OverflowFloat(float64(number)):
		v.SetFloat(float64(number))
	default:
		return n.Errorf("%s is out of range", n.Text)
	}
	return nil
}
