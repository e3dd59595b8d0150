package config

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// checkShape compares a document with the type that it is to fill. The YAML
// library would round 3.5 into an integer, read "3" as 3, take 010 for eight,
// skip a key that is a number, and read a key without a value as zero; in a
// configuration each of these is a mistake that nobody would see. It finds all of them, up to
// maxProblems.
func checkShape(n ast.Node, t reflect.Type) error {
	var s shape
	s.check(n, t)
	return errors.Join(s.problems...)
}

// maxProblems bounds what is said about one document.
const maxProblems = 16

// shape is what was found wrong so far.
type shape struct{ problems []error }

func (s *shape) add(err *Error) {
	if err != nil && len(s.problems) < maxProblems {
		s.problems = append(s.problems, err)
	}
}

func (s *shape) check(n ast.Node, t reflect.Type) {
	for t.Kind() == reflect.Pointer && !decodesItself(t) {
		t = t.Elem()
	}
	if _, null := n.(*ast.NullNode); null {
		s.add(at(n.GetToken(), "the key has no value; give it one or remove the key"))
		return
	}
	if decodesItself(t) {
		s.add(readItself(n, reflect.New(t).Elem()))
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		s.checkStruct(n, t)
	case reflect.Map:
		s.eachPair(n, func(_ string, pair *ast.MappingValueNode) { s.check(pair.Value, t.Elem()) })
	case reflect.Slice, reflect.Array:
		sequence, ok := n.(*ast.SequenceNode)
		if !ok {
			s.add(wrongType(n, "a list"))
			return
		}
		for _, item := range sequence.Values {
			s.check(item, t.Elem())
		}
	case reflect.Interface:
	default:
		s.add(checkScalar(n, t))
	}
}

func (s *shape) checkStruct(n ast.Node, t reflect.Type) {
	fields := map[string]field{}
	names := addFields(fields, t, nil)
	s.eachPair(n, func(key string, pair *ast.MappingValueNode) {
		f, known := fields[key]
		if !known {
			s.add(at(pair.Key.GetToken(), "unknown key %.64q; known keys are %s", key, strings.Join(names, ", ")))
			return
		}
		s.check(pair.Value, f.kind)
	})
}

// field is a field of a struct, or of a struct inline in it.
type field struct {
	kind  reflect.Type
	index []int
}

// addFields notes the keys of a struct at an index, those of inline structs among them, and
// returns them in their order.
func addFields(fields map[string]field, t reflect.Type, index []int) (names []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, option, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case !f.IsExported() || name == "-":
			continue
		case option == "inline":
			names = append(names, addFields(fields, f.Type, append(slices.Clone(index), i))...)
			continue
		case name == "":
			name = strings.ToLower(f.Name)
		}
		fields[name] = field{f.Type, append(slices.Clone(index), i)}
		names = append(names, name)
	}
	return names
}

// eachPair calls f for every key of a mapping, which must be text.
func (s *shape) eachPair(n ast.Node, f func(key string, pair *ast.MappingValueNode)) {
	mapping, ok := n.(*ast.MappingNode)
	if !ok {
		s.add(wrongType(n, "a mapping"))
		return
	}
	for _, pair := range mapping.Values {
		key, ok := pair.Key.(*ast.StringNode)
		if !ok {
			s.add(at(pair.Key.GetToken(), "a key must be plain text"))
			continue
		}
		f(key.Value, pair)
	}
}

func checkScalar(n ast.Node, t reflect.Type) *Error {
	_, isInteger := n.(*ast.IntegerNode)
	_, isFloat := n.(*ast.FloatNode)
	switch {
	case t.Kind() == reflect.String:
		switch n.(type) {
		case *ast.StringNode, *ast.LiteralNode:
			return nil
		}
		return wrongType(n, "text; put it in quotes")
	case t.Kind() == reflect.Bool:
		if _, ok := n.(*ast.BoolNode); !ok {
			return wrongType(n, "true or false")
		}
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Uintptr:
		text := strings.TrimLeft(n.GetToken().Value, "+-")
		if !isInteger || strings.Contains(text, "_") || len(text) > 1 && text[0] == '0' && text[1] != 'x' {
			return wrongType(n, "a whole number, in decimal or as 0x...")
		}
		if overflows(n.(*ast.IntegerNode), t) {
			return at(n.GetToken(), "%s is out of range", n.GetToken().Value)
		}
	case t.Kind() == reflect.Float32, t.Kind() == reflect.Float64:
		if !isInteger && !isFloat {
			return wrongType(n, "a finite number")
		}
	default:
		return at(n.GetToken(), "values of type %s are not supported", t)
	}
	return nil
}

func overflows(n *ast.IntegerNode, t reflect.Type) bool {
	zero := reflect.Zero(t)
	switch v := n.Value.(type) {
	case int64:
		if zero.CanInt() {
			return zero.OverflowInt(v)
		}
		return v < 0 || zero.OverflowUint(uint64(v))
	case uint64:
		if zero.CanInt() {
			return v > math.MaxInt64 || zero.OverflowInt(int64(v))
		}
		return zero.OverflowUint(v)
	}
	return true
}

func wrongType(n ast.Node, want string) *Error {
	t := n.GetToken()
	if mapping, ok := n.(*ast.MappingNode); ok && len(mapping.Values) > 0 {
		t = mapping.Values[0].Key.GetToken() // the mapping's own token is its colon
	}
	return at(t, "got %s, want %s", kindOf(n), want)
}

func kindOf(n ast.Node) string {
	switch n := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	default:
		return fmt.Sprintf("%.64q", n.GetToken().Value)
	}
}

// decodesItself reports whether a type reads its own text.
func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[bytesUnmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}
