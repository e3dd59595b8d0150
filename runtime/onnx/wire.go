package onnx

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Limits of a file.
const (
	MaxModelBytes   = 64 << 20 // the file, and each file of weights beside it
	MaxElements     = 16 << 20 // numbers of all tensors and attributes together
	MaxNodes        = 4096
	MaxInitializers = 4096
	MaxListed       = 256 // inputs or outputs of a node, attributes, imports, other lists
	MaxDims         = 8   // of a tensor
	MaxStrings      = 1 << 16
	MaxNameBytes    = 1024
)

// field is one field of a message, of one of the wire types that ONNX uses.
type field struct {
	num   protowire.Number
	typ   protowire.Type
	fixed uint64 // varint, fixed32 and fixed64
	bytes []byte // length-delimited
}

// message reads fields, front to back. Singular fields may come once.
type message struct {
	name string // for errors
	rest []byte
	seen uint64
}

// each calls f for every field. f names the fields that it knows; another one is an error.
func (m message) each(f func(*message, field) error) error {
	for len(m.rest) > 0 {
		v, err := m.next()
		if err == nil {
			err = f(&m, v)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

// damaged is the error of bytes that protowire does not read.
func damaged(n int) error { return fmt.Errorf("truncated or damaged: %w", protowire.ParseError(n)) }

func (m *message) next() (field, error) {
	num, typ, n := protowire.ConsumeTag(m.rest)
	if n < 0 {
		return field{}, damaged(n)
	}
	m.rest = m.rest[n:]
	v := field{num: num, typ: typ}
	switch typ {
	case protowire.VarintType:
		v.fixed, n = protowire.ConsumeVarint(m.rest)
	case protowire.Fixed32Type:
		var x uint32
		x, n = protowire.ConsumeFixed32(m.rest)
		v.fixed = uint64(x)
	case protowire.Fixed64Type:
		v.fixed, n = protowire.ConsumeFixed64(m.rest)
	case protowire.BytesType:
		v.bytes, n = protowire.ConsumeBytes(m.rest)
	default:
		return v, fmt.Errorf("field %d has wire type %d, which ONNX does not use", num, typ)
	}
	if n < 0 {
		return v, damaged(n)
	}
	m.rest = m.rest[n:]
	return v, nil
}

// once refuses a second value of a singular field.
func (m *message) once(v field) error {
	if v.num < 64 {
		bit := uint64(1) << v.num
		if m.seen&bit != 0 {
			return fmt.Errorf("field %d appears twice", v.num)
		}
		m.seen |= bit
	}
	return nil
}

var errWireType = errors.New("a field has the wrong wire type")

func unknown(v field) error {
	return fmt.Errorf("field %d is unknown", v.num)
}

// message is the field's value as a message of its own.
func (v field) message(name string) (message, error) {
	if v.typ != protowire.BytesType {
		return message{}, errWireType
	}
	return message{name: name, rest: v.bytes}, nil
}

func (m *message) int64(v field) (int64, error) {
	if v.typ != protowire.VarintType {
		return 0, errWireType
	}
	return int64(v.fixed), m.once(v)
}

func (m *message) float32(v field) (float32, error) {
	if v.typ != protowire.Fixed32Type {
		return 0, errWireType
	}
	return math.Float32frombits(uint32(v.fixed)), m.once(v)
}

// string reads a singular name.
func (m *message) string(v field) (string, error) {
	s, err := v.name()
	if err != nil {
		return "", err
	}
	return s, m.once(v)
}

// name reads a name of a repeated or singular field.
func (v field) name() (string, error) {
	if v.typ != protowire.BytesType {
		return "", errWireType
	}
	if len(v.bytes) > MaxNameBytes || !utf8.Valid(v.bytes) {
		return "", fmt.Errorf("field %d: got a name of %d bytes, want UTF-8 of at most %d bytes", v.num, len(v.bytes), MaxNameBytes)
	}
	return string(v.bytes), nil
}

// addName appends a name to a list that is kept short.
func addName(list []string, v field) ([]string, error) {
	if len(list) == MaxListed {
		return nil, tooLarge("field %d: more than %d entries", v.num, MaxListed)
	}
	s, err := v.name()
	return append(list, s), err
}

// ints appends the values of a repeated integer field, packed or not.
func (p *parser) ints(list []int64, v field) ([]int64, error) {
	if v.typ == protowire.VarintType {
		return append(list, int64(v.fixed)), p.spend(1)
	}
	if v.typ != protowire.BytesType {
		return nil, errWireType
	}
	for b := v.bytes; len(b) > 0; {
		x, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return nil, damaged(n)
		}
		if err := p.spend(1); err != nil {
			return nil, err
		}
		list, b = append(list, int64(x)), b[n:]
	}
	return list, nil
}

// floats appends the values of a repeated float or double field, packed or not.
func (p *parser) floats(list []float64, v field, single protowire.Type) ([]float64, error) {
	if v.typ == single {
		if err := p.spend(1); err != nil {
			return nil, err
		}
		if single == protowire.Fixed32Type {
			return append(list, float64(math.Float32frombits(uint32(v.fixed)))), nil
		}
		return append(list, math.Float64frombits(v.fixed)), nil
	}
	if v.typ != protowire.BytesType {
		return nil, errWireType
	}
	size := 8
	if single == protowire.Fixed32Type {
		size = 4
	}
	return p.rawFloats(list, v.bytes, size)
}

// spend counts n numbers against the limit of the file.
func (p *parser) spend(n int) error {
	if n > p.left {
		return tooLarge("the file holds more than %d numbers", MaxElements)
	}
	p.left -= n
	return nil
}
