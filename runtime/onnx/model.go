package onnx

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"google.golang.org/protobuf/encoding/protowire"
)

// Model is an ONNX file as it was written.
type Model struct {
	IRVersion int64
	Producer  string
	Opsets    map[string]int64 // version of each operator set, by domain
	Graph     Graph
}

// Graph is a model's graph.
type Graph struct {
	Name         string
	Nodes        []Node
	Initializers map[string]*Tensor
	Inputs       []Value // without those that are initializers
	Outputs      []string
}

// Node is one use of an operator.
type Node struct {
	Name, Op, Domain string
	Inputs, Outputs  []string
	Attributes       map[string]Attribute
}

// Attribute is a node's attribute. Type says which field holds it. Graphs, types and lists of
// tensors are not read; attributes with them have only a Type.
type Attribute struct {
	Type    AttributeType
	Float   float32
	Int     int64
	String  string
	Tensor  *Tensor
	Floats  []float64
	Ints    []int64
	Strings []string
}

// AttributeType is ONNX's AttributeProto.AttributeType.
type AttributeType int64

// The attribute types that are read.
const (
	AttributeFloat   AttributeType = 1
	AttributeInt     AttributeType = 2
	AttributeString  AttributeType = 3
	AttributeTensor  AttributeType = 4
	AttributeFloats  AttributeType = 6
	AttributeInts    AttributeType = 7
	AttributeStrings AttributeType = 8

	maxAttributeType = 14 // TYPE_PROTOS
)

// Value is a named input with its shape. A dimension that is not fixed is 0.
type Value struct {
	Name string
	Type DataType
	Dims []int64
}

// External reads length bytes at offset of the weights file named location. A negative length
// means up to the end of the file.
type External func(location string, offset, length int64) ([]byte, error)

// parser counts what a file may still hold.
type parser struct {
	left     int
	external External
}

// ParseFile reads the model at path, and the weights that it keeps in files beside it.
func ParseFile(path string) (*Model, error) {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("onnx: %w", err)
	}
	defer root.Close()
	read := func(name string, offset, length int64) ([]byte, error) {
		f, err := root.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() || info.Size() > MaxModelBytes {
			return nil, tooLarge("%s: want a regular file of at most %d bytes", name, MaxModelBytes)
		}
		if length < 0 {
			length = info.Size() - offset
		}
		if offset < 0 || length < 0 || offset > info.Size()-length {
			return nil, refusal.New(ReasonWeights, "%s: %d bytes at offset %d are outside the file", name, length, offset)
		}
		b := make([]byte, length)
		_, err = io.ReadFull(io.NewSectionReader(f, offset, length), b)
		return b, err
	}
	b, err := read(filepath.Base(path), 0, -1)
	if err != nil {
		return nil, fmt.Errorf("onnx: %w", err)
	}
	return Parse(b, read)
}

// Parse reads a model. external provides weights that are kept in other files; if it is nil, a
// model with such weights is refused.
func Parse(b []byte, external External) (*Model, error) {
	if len(b) > MaxModelBytes {
		return nil, fmt.Errorf("onnx: %w", tooLarge("the file has %d bytes, the limit is %d", len(b), MaxModelBytes))
	}
	p := &parser{left: MaxElements, external: external}
	m, err := p.model(message{name: "model", rest: b})
	if err != nil {
		if _, named := refusal.ReasonOf(err); !named {
			err = refusal.New(ReasonMalformed, "%w", err)
		}
		return nil, fmt.Errorf("onnx: %w", err)
	}
	return m, nil
}

// Reasons of this package.
const (
	// ReasonMalformed: the bytes are not an ONNX file, or contradict themselves.
	ReasonMalformed refusal.Reason = "onnx-malformed"
	// ReasonTooLarge: a limit of the reader is exceeded.
	ReasonTooLarge refusal.Reason = "onnx-too-large"
	// ReasonFeature: the file uses a part of ONNX, other than nodes and tensors, that is not
	// read.
	ReasonFeature refusal.Reason = "onnx-feature"
	// ReasonWeights: weights outside the file are missing, or not where the file says.
	ReasonWeights refusal.Reason = "onnx-weights"
)

func tooLarge(format string, args ...any) error {
	return refusal.New(ReasonTooLarge, format, args...)
}

func (p *parser) model(msg message) (*Model, error) {
	m := &Model{Opsets: map[string]int64{}}
	found := false
	err := msg.each(func(msg *message, v field) (err error) {
		switch v.num {
		case 1: // ir_version
			m.IRVersion, err = msg.int64(v)
		case 2: // producer_name
			m.Producer, err = msg.string(v)
		case 7: // graph
			if err := msg.once(v); err != nil {
				return err
			}
			found = true
			return p.graph(v, &m.Graph)
		case 8: // opset_import
			return addOpset(m.Opsets, v)
		case 3, 4, 5, 6, 14: // producer_version, domain, model_version, doc_string, metadata_props
		case 20: // training_info
			return refusal.New(ReasonFeature, "training information is not supported; export the model for inference")
		case 25: // functions
			return refusal.New(ReasonFeature, "the model's own functions are not supported; inline them (onnx.inliner.inline_local_functions)")
		default:
			return unknown(v)
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case !found || m.IRVersion < 3 || len(m.Opsets) == 0:
		return nil, errors.New("not an ONNX model: want an IR version of at least 3, operator sets and a graph")
	}
	return m, nil
}

// addOpset reads one OperatorSetIdProto. The domain ai.onnx is the one without a name. A
// domain may be imported more than once; its nodes are bound to the highest version (ONNX's
// onnx.proto, ModelProto.opset_import).
func addOpset(set map[string]int64, v field) error {
	msg, err := v.message("operator set")
	if err != nil {
		return err
	}
	domain, version := "", int64(0)
	err = msg.each(func(msg *message, v field) (err error) {
		switch v.num {
		case 1:
			domain, err = msg.string(v)
		case 2:
			version, err = msg.int64(v)
		default:
			return unknown(v)
		}
		return err
	})
	if domain == "ai.onnx" {
		domain = ""
	}
	if _, known := set[domain]; err == nil && !known && len(set) == MaxListed {
		err = tooLarge("more than %d operator sets", MaxListed)
	}
	set[domain] = max(set[domain], version)
	return err
}

func (p *parser) graph(v field, g *Graph) error {
	msg, err := v.message("graph")
	if err != nil {
		return err
	}
	g.Initializers = map[string]*Tensor{}
	err = msg.each(func(msg *message, v field) (err error) {
		switch v.num {
		case 1: // node
			if len(g.Nodes) == MaxNodes {
				return tooLarge("more than %d nodes", MaxNodes)
			}
			n, err := p.node(v)
			g.Nodes = append(g.Nodes, n)
			return err
		case 2: // name
			g.Name, err = msg.string(v)
		case 5: // initializer
			return p.initializer(v, g)
		case 11: // input
			in, err := parseValue(v)
			if len(g.Inputs) == MaxInitializers+MaxListed {
				return tooLarge("more than %d inputs", MaxInitializers+MaxListed)
			}
			g.Inputs = append(g.Inputs, in)
			return err
		case 12: // output
			out, err := parseValue(v)
			if len(g.Outputs) == MaxListed {
				return tooLarge("more than %d outputs", MaxListed)
			}
			g.Outputs = append(g.Outputs, out.Name)
			return err
		case 10, 13, 16: // doc_string, value_info, metadata_props
		case 14, 15: // quantization_annotation, sparse_initializer
			return refusal.New(ReasonFeature, "quantized and sparse initializers are not supported; export the model in float32")
		default:
			return unknown(v)
		}
		return err
	})
	kept := g.Inputs[:0]
	for _, in := range g.Inputs {
		if g.Initializers[in.Name] == nil {
			kept = append(kept, in)
		}
	}
	g.Inputs = kept
	return err
}

func (p *parser) initializer(v field, g *Graph) error {
	t, name, err := p.tensor(v)
	switch {
	case err != nil:
		return err
	case name == "" || g.Initializers[name] != nil:
		return fmt.Errorf("initializer %q has no name or appears twice", name)
	case len(g.Initializers) == MaxInitializers:
		return tooLarge("more than %d initializers", MaxInitializers)
	}
	g.Initializers[name] = t
	return nil
}

func (p *parser) node(v field) (Node, error) {
	n := Node{Attributes: map[string]Attribute{}}
	msg, err := v.message("node")
	if err != nil {
		return n, err
	}
	err = msg.each(func(msg *message, v field) (err error) {
		switch v.num {
		case 1:
			n.Inputs, err = addName(n.Inputs, v)
		case 2:
			n.Outputs, err = addName(n.Outputs, v)
		case 3:
			n.Name, err = msg.string(v)
		case 4:
			n.Op, err = msg.string(v)
		case 5:
			return p.attribute(v, n.Attributes)
		case 7:
			n.Domain, err = msg.string(v)
		case 6, 9: // doc_string, metadata_props
		default:
			return unknown(v)
		}
		return err
	})
	if n.Domain == "ai.onnx" {
		n.Domain = ""
	}
	if err == nil && n.Op == "" {
		err = fmt.Errorf("node %q names no operator", n.Name)
	}
	if err != nil {
		return n, fmt.Errorf("operator %s (node %q): %w", n.Op, n.Name, err)
	}
	return n, nil
}

// attributeFields are the types of an AttributeProto's fields of values.
var attributeFields = map[protowire.Number]AttributeType{2: AttributeFloat, 3: AttributeInt, 4: AttributeString, 5: AttributeTensor, 6: 5,
	7: AttributeFloats, 8: AttributeInts, 9: AttributeStrings, 10: 9, 11: 10, 14: 13, 15: 14, 22: 11, 23: 12}

func (p *parser) attribute(v field, set map[string]Attribute) error {
	msg, err := v.message("attribute")
	if err != nil {
		return err
	}
	var a Attribute
	name, fields := "", uint64(0)
	err = msg.each(func(msg *message, v field) (err error) {
		if typ := attributeFields[v.num]; typ != 0 {
			fields |= 1 << typ
		}
		switch v.num {
		case 1:
			name, err = msg.string(v)
		case 2:
			a.Float, err = msg.float32(v)
		case 3:
			a.Int, err = msg.int64(v)
		case 4:
			a.String, err = msg.string(v)
		case 5:
			if err = msg.once(v); err == nil {
				a.Tensor, _, err = p.tensor(v)
			}
		case 7:
			a.Floats, err = p.floats(a.Floats, v, protowire.Fixed32Type)
		case 8:
			a.Ints, err = p.ints(a.Ints, v)
		case 9:
			a.Strings, err = addString(a.Strings, v)
		case 20:
			var t int64
			t, err = msg.int64(v)
			a.Type = AttributeType(t)
		case 13: // doc_string
		case 6, 10, 11, 14, 15, 22, 23: // graphs, types and tensors that no operator here has
		default: // references to attributes of functions
			return fmt.Errorf("attribute %q: %w", name, unknown(v))
		}
		return err
	})
	if _, twice := set[name]; err == nil && (name == "" || twice || len(set) == MaxListed) {
		err = fmt.Errorf("attribute %q has no name, appears twice, or is one too many", name)
	}
	if err == nil && (a.Type < 1 || a.Type > maxAttributeType || fields&^(1<<a.Type) != 0) {
		err = fmt.Errorf("attribute %q is declared as type %d but has values of another type", name, a.Type)
	}
	set[name] = a
	return err
}

func addString(list []string, v field) ([]string, error) {
	if len(list) == MaxStrings {
		return nil, tooLarge("more than %d strings", MaxStrings)
	}
	s, err := v.name()
	return append(list, s), err
}

// parseValue reads a ValueInfoProto. Types that are no tensors have Type 0.
func parseValue(v field) (Value, error) {
	var out Value
	msg, err := v.message("value")
	if err != nil {
		return out, err
	}
	err = msg.each(func(msg *message, v field) (err error) {
		switch v.num {
		case 1:
			out.Name, err = msg.string(v)
		case 2:
			if err = msg.once(v); err == nil {
				err = parseType(v, &out)
			}
		case 3, 4: // doc_string, metadata_props
		default:
			return unknown(v)
		}
		return err
	})
	return out, err
}

func parseType(v field, out *Value) error {
	msg, err := v.message("type")
	if err != nil {
		return err
	}
	return msg.each(func(msg *message, v field) error {
		switch v.num {
		case 1: // tensor_type
			if err := msg.once(v); err != nil {
				return err
			}
			return parseTensorType(v, out)
		case 4, 5, 6, 8, 9: // sequence, map, denotation, sparse tensor, optional: outputs only
			return nil
		}
		return unknown(v)
	})
}

func parseTensorType(v field, out *Value) error {
	msg, err := v.message("tensor type")
	if err != nil {
		return err
	}
	return msg.each(func(msg *message, v field) error {
		switch v.num {
		case 1:
			t, err := msg.int64(v)
			out.Type = DataType(t)
			return err
		case 2:
			if err := msg.once(v); err != nil {
				return err
			}
			shape, err := v.message("shape")
			if err != nil {
				return err
			}
			return shape.each(func(_ *message, v field) error {
				if v.num != 1 || len(out.Dims) == MaxDims {
					return tooLarge("a shape has an unknown field, or more than %d dimensions", MaxDims)
				}
				d, err := parseDim(v)
				out.Dims = append(out.Dims, d)
				return err
			})
		}
		return unknown(v)
	})
}

// parseDim reads a dimension; one that is named or left open is 0.
func parseDim(v field) (size int64, err error) {
	msg, err := v.message("dimension")
	if err != nil {
		return 0, err
	}
	err = msg.each(func(msg *message, v field) (err error) {
		switch v.num {
		case 1:
			size, err = msg.int64(v)
			if err == nil && size < 1 {
				err = fmt.Errorf("dimension %d must be positive", size)
			}
		case 2, 3: // dim_param, denotation
		default:
			return unknown(v)
		}
		return err
	})
	return size, err
}
