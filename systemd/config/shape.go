package config

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/systemd/config/yaml"
)

// checkShape compares a document with the type that it is to fill. Decoders commonly
// round 3.5 to an integer, read "3" as 3, skip a key that is a number, and read a key
// without a value as zero; in a configuration each of these is a mistake that nobody
// would see. It reports all of them, up to maxProblems.
func checkShape(n *yaml.Node, t reflect.Type) error {
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

func (s *shape) check(n *yaml.Node, t reflect.Type) {
	for t.Kind() == reflect.Pointer && !decodesItself(t) {
		t = t.Elem()
	}
	if n.Kind == yaml.Null {
		s.add(n.Errorf("the key has no value; give it one or remove the key"))
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
		s.eachPair(n, func(pair *yaml.Pair) { s.check(&pair.Value, t.Elem()) })
	case reflect.Slice, reflect.Array:
		if n.Kind != yaml.Sequence {
			s.add(wrongType(n, "a list"))
			return
		}
		for i := range n.Items {
			s.check(&n.Items[i], t.Elem())
		}
	case reflect.Interface:
	default:
		s.add(checkScalar(n, t))
	}
}

func (s *shape) checkStruct(n *yaml.Node, t reflect.Type) {
	fields := map[string]field{}
	names := addFields(fields, t, nil)
	s.eachPair(n, func(pair *yaml.Pair) {
		f, known := fields[pair.Key.Text]
		if !known {
			s.add(pair.Key.Errorf("unknown key %.64q; known keys are %s", pair.Key.Text, strings.Join(names, ", ")))
			return
		}
		s.check(&pair.Value, f.kind)
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
func (s *shape) eachPair(n *yaml.Node, f func(*yaml.Pair)) {
	if n.Kind != yaml.Mapping {
		s.add(wrongType(n, "a mapping"))
		return
	}
	for i := range n.Pairs {
		pair := &n.Pairs[i]
		if pair.Key.Kind != yaml.Text {
			s.add(pair.Key.Errorf("a key must be plain text"))
			continue
		}
		f(pair)
	}
}

func checkScalar(n *yaml.Node, t reflect.Type) *Error {
	switch {
	case t.Kind() == reflect.String:
		if n.Kind != yaml.Text {
			return wrongType(n, "text; put it in quotes")
		}
	case t.Kind() == reflect.Bool:
		if n.Kind != yaml.Bool {
			return wrongType(n, "true or false")
		}
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Uintptr:
		if n.Kind != yaml.Int {
			return wrongType(n, "a whole number, in decimal or as 0x...")
		}
		if overflows(n, t) {
			return n.Errorf("%s is out of range", n.Text)
		}
	case t.Kind() == reflect.Float32, t.Kind() == reflect.Float64:
		if n.Kind != yaml.Int && n.Kind != yaml.Float {
			return wrongType(n, "a finite number")
		}
	default:
		return n.Errorf("values of type %s are not supported", t)
	}
	return nil
}

func overflows(n *yaml.Node, t reflect.Type) bool {
	zero := reflect.Zero(t)
	switch v := n.Number().(type) {
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

func wrongType(n *yaml.Node, want string) *Error {
	return n.Errorf("got %s, want %s", kindOf(n), want)
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.Mapping:
		return "a mapping"
	case yaml.Sequence:
		return "a list"
	case yaml.Text:
		return fmt.Sprintf("%.64q", n.Text)
	default:
		return n.Text
	}
}

// decodesItself reports whether a type reads its own text.
func decodesItself(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}
