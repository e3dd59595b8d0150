package oip

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/anchorhold/anchorhold/agent/localapi/rawjson"
	"github.com/anchorhold/anchorhold/runtime/classifier"
)

// request is what a client sends. Its parts are those of the body: a batch of numbers as
// text is the largest thing there is, and exists once.
type request struct {
	id     string
	inputs [][]byte
}

// parse reads a body. Members that it does not know are ignored, as the protocol wants.
func parse(body []byte) (q request, err error) {
	if !rawjson.Valid(body) {
		return q, badInput("the body is not an inference request in JSON")
	}
	members, err := rawjson.Members(body)
	if errors.Is(err, rawjson.ErrMany) {
		return q, badInput("the body has %v", err)
	}
	if err != nil {
		return q, badInput("the body is not an inference request in JSON: it is not an object")
	}
	if raw, ok := members["id"]; ok {
		if len(raw) > maxField {
			return q, badInput("id is too long")
		}
		if err := json.Unmarshal(raw, &q.id); err != nil {
			return q, badInput("id must be a string")
		}
	}
	if raw, ok := members["inputs"]; ok {
		// More than one is refused by its number; they need not all be gone through.
		if err := rawjson.Elements(raw, func(in []byte) error {
			if len(q.inputs) < maxInputs {
				q.inputs = append(q.inputs, in)
			}
			return nil
		}); err != nil {
			return q, badInput("inputs must be a list")
		}
	}
	return q, nil
}

// maxInputs bounds what is counted of a request's inputs, of which one is wanted.
const maxInputs = 16

// input is one tensor of a request.
type input struct {
	Name     string
	Datatype string
	Shape    []int64
	data     []byte
}

func parseInput(raw []byte) (in input, err error) {
	members, err := rawjson.Members(raw)
	if err != nil {
		return in, badInput("an input must be an object")
	}
	for name, into := range map[string]any{"name": &in.Name, "datatype": &in.Datatype, "shape": &in.Shape} {
		if v, ok := members[name]; ok && len(v) > maxField {
			return in, badInput("%s is too long", name)
		} else if ok && json.Unmarshal(v, into) != nil {
			return in, badInput("%s has the wrong type", name)
		}
	}
	in.data = members["data"]
	return in, nil
}

// maxField bounds what describes a tensor.
const maxField = 1 << 10

// rows quantizes the request's one input, and counts the values that were clipped.
func (q *request) rows(d *classifier.Description) (_ [][]int8, clipped int, _ error) {
	size := d.Architecture.Input.Size()
	if len(q.inputs) != 1 {
		return nil, 0, badInput("expected one input, named %q; got %d", inputName, len(q.inputs))
	}
	in, err := parseInput(q.inputs[0])
	if err != nil {
		return nil, 0, err
	}
	if in.Name != inputName {
		return nil, 0, badInput("the input must be named %q, got %q", inputName, in.Name)
	}
	values := int64(1)
	for _, n := range in.Shape {
		// Both factors are bounded, so that the product cannot overflow.
		if n < 1 || n > MaxBatch*int64(size) || values > MaxBatch*int64(size) || len(in.Shape) > maxNesting {
			return nil, 0, badInput("shape %d must be at most %d inputs of %d values each", in.Shape, MaxBatch, size)
		}
		values *= n
	}
	// A value takes two characters at least: what is allocated was paid for with the body.
	if values%int64(size) != 0 || values/int64(size) > MaxBatch || len(in.Shape) == 0 || values > int64(len(in.data)+1)/2 {
		return nil, 0, badInput("shape %d must be at most %d inputs of %d values each, and the data must have as many", in.Shape, MaxBatch, size)
	}
	flat := make([]int8, 0, values)
	switch in.Datatype {
	case "FP32":
		flat, clipped, err = quantize[float32](d, in.data, size, flat, 32)
	case "FP64":
		flat, clipped, err = quantize[float64](d, in.data, size, flat, 64)
	case "INT8":
		flat, err = integers(in.data, flat)
	default:
		return nil, 0, badInput("datatype must be FP32 or FP64, which are quantized, or INT8, which is taken as it is; got %.32q", in.Datatype)
	}
	if err != nil {
		return nil, 0, badInput("data: %v", err)
	}
	if int64(len(flat)) != values {
		return nil, 0, badInput("data has %d values, but the shape says %d", len(flat), values)
	}
	var rows [][]int8
	for at := 0; at < len(flat); at += size {
		rows = append(rows, flat[at:at+size:at+size])
	}
	return rows, clipped, nil
}

// quantize reads numbers and quantizes them row by row: of the numbers one row exists.
func quantize[F classifier.Float](d *classifier.Description, data []byte, size int, out []int8, bits int) (_ []int8, clipped int, _ error) {
	row := make([]F, 0, size)
	err := rawjson.Numbers(data, maxNesting, func(text []byte) error {
		v, err := strconv.ParseFloat(string(text), bits)
		if err != nil {
			return fmt.Errorf("%.32q is outside the range of its type", text)
		}
		if row = append(row, F(v)); len(row) < size {
			return nil
		}
		at := len(out)
		if at+size > cap(out) {
			return fmt.Errorf("more than the %d values that the shape says", cap(out))
		}
		out = out[:at+size]
		n, err := classifier.Quantize(&d.Quantizer, row, out[at:])
		row, clipped = row[:0], clipped+n
		return err
	})
	if err == nil && len(row) > 0 {
		err = fmt.Errorf("the last row has %d values instead of %d", len(row), size)
	}
	return out, clipped, err
}

// integers reads values that are quantized already.
func integers(data []byte, out []int8) ([]int8, error) {
	err := rawjson.Numbers(data, maxNesting, func(text []byte) error {
		v, err := strconv.ParseInt(string(text), 10, 8)
		if err != nil {
			return fmt.Errorf("%.32q is not an INT8", text)
		}
		if len(out) == cap(out) {
			return fmt.Errorf("more than the %d values that the shape says", cap(out))
		}
		out = append(out, int8(v))
		return nil
	})
	return out, err
}
