// Package onnxtest writes small ONNX files, right or wrong, for tests of the packages that read
// them.
package onnxtest

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Message is a protobuf message; its methods append a field and return the result.
type Message []byte

func (m Message) tag(field, typ uint64) Message { return binary.AppendUvarint(m, field<<3|typ) }

// Bytes appends a length-delimited field.
func (m Message) Bytes(field uint64, b []byte) Message {
	return append(binary.AppendUvarint(m.tag(field, 2), uint64(len(b))), b...)
}

// String appends a string.
func (m Message) String(field uint64, s string) Message { return m.Bytes(field, []byte(s)) }

// Int appends a varint.
func (m Message) Int(field uint64, v int64) Message {
	return binary.AppendUvarint(m.tag(field, 0), uint64(v))
}

// Float appends four bytes.
func (m Message) Float(field uint64, v float32) Message {
	return binary.LittleEndian.AppendUint32(m.tag(field, 5), math.Float32bits(v))
}

// Double appends eight bytes.
func (m Message) Double(field uint64, v float64) Message {
	return binary.LittleEndian.AppendUint64(m.tag(field, 1), math.Float64bits(v))
}

// Raw is the little-endian bytes of values.
func Raw(v ...float32) (b []byte) {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// Floats is a float32 tensor as raw data.
func Floats(name string, dims []int64, v ...float32) Message {
	return Shaped(name, 1, dims).Bytes(9, Raw(v...))
}

// Typed is a float32 tensor as a packed field.
func Typed(name string, dims []int64, v ...float32) Message {
	return Shaped(name, 1, dims).Bytes(4, Raw(v...))
}

// Ints is an int64 tensor as a packed field.
func Ints(name string, dims []int64, v ...int64) Message {
	var b []byte
	for _, x := range v {
		b = binary.AppendUvarint(b, uint64(x))
	}
	return Shaped(name, 7, dims).Bytes(7, b)
}

// Texts is a list of strings.
func Texts(name string, v ...string) Message {
	t := Shaped(name, 8, []int64{int64(len(v))})
	for _, s := range v {
		t = t.String(6, s)
	}
	return t
}

// Shaped is a tensor without its data.
func Shaped(name string, typ int64, dims []int64) (t Message) {
	for _, d := range dims {
		t = t.Int(1, d)
	}
	return t.Int(2, typ).String(8, name)
}

// Attributes are a node's, by name: int, float32, string, []int64, []float32, []string, or a
// Message, for a tensor.
type Attributes map[string]any

// Node is a node called "the OP". An operator of another domain is named DOMAIN.OP; some of
// ai.onnx.ml's are known by their name alone.
func Node(op string, in, out []string, attrs Attributes) (n Message) {
	for _, s := range in {
		n = n.String(1, s)
	}
	for _, s := range out {
		n = n.String(2, s)
	}
	domain := ""
	if i := strings.LastIndexByte(op, '.'); i >= 0 {
		domain, op = op[:i], op[i+1:]
	}
	switch op {
	case "Scaler", "ZipMap", "ArrayFeatureExtractor", "Normalizer", "LinearClassifier":
		domain = "ai.onnx.ml"
	}
	n = n.String(3, "the "+op).String(4, op).String(7, domain)
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		n = n.Bytes(5, attribute(Message(nil).String(1, name), attrs[name]))
	}
	return n
}

func attribute(a Message, value any) Message {
	switch v := value.(type) {
	case int:
		return a.Int(3, int64(v)).Int(20, 2)
	case float32:
		return a.Float(2, v).Int(20, 1)
	case string:
		return a.String(4, v).Int(20, 3)
	case Message:
		return a.Bytes(5, v).Int(20, 4)
	case []int64:
		for _, x := range v {
			a = a.Int(8, x)
		}
		return a.Int(20, 7)
	case []float32:
		return a.Bytes(7, Raw(v...)).Int(20, 6)
	case []string:
		for _, x := range v {
			a = a.String(9, x)
		}
		return a.Int(20, 8)
	}
	panic(fmt.Sprintf("onnxtest: unsupported attribute type %T", value))
}

// Value is an input; dimensions of 0 are left open.
func Value(name string, typ int64, dims ...int64) Message {
	var shape Message
	for _, d := range dims {
		dim := Message(nil).String(2, "n")
		if d > 0 {
			dim = Message(nil).Int(1, d)
		}
		shape = shape.Bytes(1, dim)
	}
	return Message(nil).String(1, name).Bytes(2, Message(nil).Bytes(1, Message(nil).Int(1, typ).Bytes(2, shape)))
}

// Fixture is a graph to write.
type Fixture struct {
	Inputs, Nodes, Weights []Message
	Outputs                []string
	Opsets                 []Message // imports; nil for those of most tests
}

// Opset is an import of an operator set.
func Opset(domain string, version int64) Message {
	return Message(nil).String(1, domain).Int(2, version)
}

// Graph returns a Fixture of these parts.
func Graph(inputs, nodes, weights []Message, outputs []string) Fixture {
	return Fixture{Inputs: inputs, Nodes: nodes, Weights: weights, Outputs: outputs}
}

// Model is the file.
func (f Fixture) Model() []byte {
	var g Message
	for _, n := range f.Nodes {
		g = g.Bytes(1, n)
	}
	g = g.String(2, "fixture")
	for _, t := range f.Weights {
		g = g.Bytes(5, t)
	}
	for _, v := range f.Inputs {
		g = g.Bytes(11, v)
	}
	for _, name := range f.Outputs {
		g = g.Bytes(12, Message(nil).String(1, name))
	}
	sets := f.Opsets
	if sets == nil {
		sets = []Message{Opset("", 17), Opset("ai.onnx.ml", 1)}
	}
	m := Message(nil).Int(1, 8).String(2, "tests").Bytes(7, g)
	for _, set := range sets {
		m = m.Bytes(8, set)
	}
	return m
}

// Dense is a model of one layer, y = W x + b of 3 inputs and 2 outputs, W = [[1 2 3] [4 5 6]],
// b = 10 and 20, followed by other nodes. It has more constants, for them: names (no, yes),
// numbers (7, 9), flat (-1) and one (1).
func Dense(nodes ...Message) Fixture {
	return Fixture{
		Inputs: []Message{Value("x", 1, 0, 3)},
		Nodes:  append([]Message{Node("Gemm", []string{"x", "w", "b"}, []string{"y"}, Attributes{"transB": 1})}, nodes...),
		Weights: []Message{Floats("w", []int64{2, 3}, 1, 2, 3, 4, 5, 6), Typed("b", []int64{2}, 10, 20),
			Texts("names", "no", "yes"), Ints("numbers", []int64{2}, 7, 9), Ints("flat", []int64{1}, -1), Floats("one", nil, 1)},
		Outputs: []string{"y"},
	}
}
