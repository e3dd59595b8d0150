package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"strconv"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"google.golang.org/protobuf/encoding/protowire"
)

// DataType is ONNX's TensorProto.DataType.
type DataType int64

// The types of tensors that are read.
const (
	Float32 DataType = 1
	Int32   DataType = 6
	Int64   DataType = 7
	String  DataType = 8
	Bool    DataType = 9
	Float64 DataType = 11
)

// dataTypes are the names of ONNX's data types, by number.
var dataTypes = [...]string{"undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16", "float64", "uint32", "uint64",
	"complex64", "complex128", "bfloat16", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "uint4", "int4", "float4e2m1"}

// String is the type's name.
func (t DataType) String() string {
	if t < 0 || int(t) >= len(dataTypes) {
		return fmt.Sprintf("data type %d", int64(t))
	}
	return dataTypes[t]
}

// read says whether tensors of the type are read.
func (t DataType) read() bool {
	switch t {
	case Float32, Float64, Int32, Int64, String, Bool:
		return true
	}
	return false
}

// Tensor is a constant. Of its three lists, the one for its Type has the values, in row-major
// order. A tensor of any other type has no values, and its user refuses it.
type Tensor struct {
	Type    DataType
	Dims    []int64
	Floats  []float64 // Float32, Float64
	Ints    []int64   // Int32, Int64, Bool as 0 and 1
	Strings []string
}

// Len is the number of values that the shape has.
func (t *Tensor) Len() int {
	n := 1
	for _, d := range t.Dims {
		n *= int(d)
	}
	return n
}

// stored is a TensorProto's data before they are understood.
type stored struct {
	raw              []byte
	hasRaw, external bool
	unread           bool // has values of a type that is not read
	location         string
	offset, length   int64
}

// tensor reads a TensorProto and its name.
func (p *parser) tensor(v field) (*Tensor, string, error) {
	msg, err := v.message("tensor")
	if err != nil {
		return nil, "", err
	}
	t, s, name := &Tensor{}, stored{length: -1}, ""
	err = msg.each(func(msg *message, v field) (err error) {
		switch v.num {
		case 1:
			t.Dims, err = p.ints(t.Dims, v)
		case 2:
			var typ int64
			typ, err = msg.int64(v)
			t.Type = DataType(typ)
		case 4:
			t.Floats, err = p.floats(t.Floats, v, protowire.Fixed32Type)
		case 5, 7:
			t.Ints, err = p.ints(t.Ints, v)
		case 6:
			t.Strings, err = addString(t.Strings, v)
		case 8:
			name, err = msg.string(v)
		case 9:
			s.raw, s.hasRaw, err = v.bytes, true, msg.once(v)
		case 10:
			t.Floats, err = p.floats(t.Floats, v, protowire.Fixed64Type)
		case 13:
			err = s.addExternal(v)
		case 14:
			var where int64
			where, err = msg.int64(v)
			s.external = where == 1
			if where != 0 && where != 1 {
				err = fmt.Errorf("unknown data location %d", where)
			}
		case 12, 16: // doc_string, metadata_props
		case 11: // uint64_data, of types that are not read
			s.unread = true
		default: // segments
			return unknown(v)
		}
		return err
	})
	if err == nil {
		err = p.fill(t, s)
	}
	if err != nil {
		return nil, name, fmt.Errorf("tensor %q: %w", name, err)
	}
	return t, name, nil
}

// addExternal reads one entry of external_data.
func (s *stored) addExternal(v field) error {
	msg, err := v.message("external data")
	if err != nil {
		return err
	}
	key, value := "", ""
	err = msg.each(func(msg *message, v field) (err error) {
		switch v.num {
		case 1:
			key, err = msg.string(v)
		case 2:
			value, err = msg.string(v)
		default:
			return unknown(v)
		}
		return err
	})
	if err != nil {
		return err
	}
	switch key {
	case "location":
		s.location = value
	case "offset":
		s.offset, err = strconv.ParseInt(value, 10, 64)
	case "length":
		s.length, err = strconv.ParseInt(value, 10, 64)
	case "checksum": // SHA-1, of the exporter's own; the publisher's signature is what counts
	default:
		err = fmt.Errorf("external data: unknown key %q", key)
	}
	return err
}

// fill decodes raw or external data and compares the values with the shape.
func (p *parser) fill(t *Tensor, s stored) error {
	want, err := t.checkShape()
	if err != nil {
		return err
	}
	if !t.Type.read() {
		t.Floats, t.Ints, t.Strings = nil, nil, nil
		return nil
	}
	if s.unread {
		return fmt.Errorf("values of a type other than %v", t.Type)
	}
	if s.external {
		if s.hasRaw || len(t.Floats)+len(t.Ints)+len(t.Strings) > 0 {
			return errors.New("data is both in the file and in another one")
		}
		if s.raw, err = p.fetch(s, t.Type, want); err != nil {
			return err
		}
		s.hasRaw = true
	} else if s.location != "" {
		return errors.New("names a weights file that it does not use")
	}
	if s.hasRaw {
		if len(t.Floats)+len(t.Ints)+len(t.Strings) > 0 {
			return errors.New("data is given twice")
		}
		if err := p.decodeRaw(t, s.raw, want); err != nil {
			return err
		}
	}
	var have, all = 0, len(t.Floats) + len(t.Ints) + len(t.Strings)
	switch t.Type {
	case Float32, Float64:
		have = len(t.Floats)
	case Int32, Int64, Bool:
		have = len(t.Ints)
	case String:
		have = len(t.Strings)
	}
	if have != want || all != want {
		return fmt.Errorf("shape %v needs %d values of type %v; the file has %d, %d of them of that type", t.Dims, want, t.Type, all, have)
	}
	return nil
}

func (t *Tensor) checkShape() (int, error) {
	if len(t.Dims) > MaxDims {
		return 0, tooLarge("got %d dimensions, the limit is %d", len(t.Dims), MaxDims)
	}
	n := int64(1)
	for _, d := range t.Dims {
		if d < 0 || d > MaxElements {
			return 0, fmt.Errorf("shape %v is out of range", t.Dims)
		}
		if n *= d; n > MaxElements {
			return 0, tooLarge("shape %v has more than %d values", t.Dims, MaxElements)
		}
	}
	return int(n), nil
}

// fetch reads want values from the file beside the model. The name is a plain file name.
func (p *parser) fetch(s stored, typ DataType, want int) ([]byte, error) {
	if p.external == nil {
		return nil, refusal.New(ReasonWeights, "the weights are in %q; pass the model as a file in the same directory", s.location)
	}
	if s.location != filepath.Base(s.location) || !filepath.IsLocal(s.location) || s.location == "." {
		return nil, refusal.New(ReasonWeights, "weights in %q: they must be in a file in the model's directory", s.location)
	}
	size := int64(want) * int64(valueBytes(typ))
	if s.offset < 0 || s.length >= 0 && s.length != size || want > p.left {
		return nil, refusal.New(ReasonWeights, "weights in %q: got %d bytes at offset %d, want %d bytes", s.location, s.length, s.offset, size)
	}
	b, err := p.external(s.location, s.offset, size)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refusal.New(ReasonWeights, "the weights are in %q, which is not in the model's directory", s.location)
	}
	return b, err
}

// valueBytes is the size of a raw value; 0 where there are none.
func valueBytes(typ DataType) int {
	switch typ {
	case Float32, Int32:
		return 4
	case Float64, Int64:
		return 8
	case Bool:
		return 1
	}
	return 0
}

func (p *parser) decodeRaw(t *Tensor, raw []byte, want int) (err error) {
	size := valueBytes(t.Type)
	if size == 0 {
		return errors.New("strings cannot be raw data")
	}
	if len(raw) != want*size {
		return fmt.Errorf("shape %v needs %d bytes, the file has %d", t.Dims, want*size, len(raw))
	}
	if t.Type == Float32 || t.Type == Float64 {
		t.Floats, err = p.rawFloats(nil, raw, size)
		return err
	}
	if err := p.spend(want); err != nil {
		return err
	}
	t.Ints = make([]int64, want)
	for i := range t.Ints {
		if size == 1 {
			t.Ints[i] = int64(raw[i])
		} else if size == 4 {
			t.Ints[i] = int64(int32(binary.LittleEndian.Uint32(raw[4*i:])))
		} else {
			t.Ints[i] = int64(binary.LittleEndian.Uint64(raw[8*i:]))
		}
	}
	return nil
}

// rawFloats appends little-endian values of size bytes each.
func (p *parser) rawFloats(list []float64, raw []byte, size int) ([]float64, error) {
	n := len(raw) / size
	if len(raw)%size != 0 {
		return nil, fmt.Errorf("%d bytes are not a multiple of values of %d bytes", len(raw), size)
	}
	if err := p.spend(n); err != nil {
		return nil, err
	}
	if list == nil {
		list = make([]float64, 0, n)
	}
	for i := range n {
		if size == 4 {
			list = append(list, float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))))
		} else {
			list = append(list, math.Float64frombits(binary.LittleEndian.Uint64(raw[8*i:])))
		}
	}
	return list, nil
}
