// Package strictjson decodes JSON that others send.
//
// It guarantees that nothing is decoded of a text with more values, longer lists or deeper
// nesting than its reader allows: a megabyte of empty entries would hold some twenty times
// its own size. What is decoded is one value with known fields and nothing behind it. It
// trusts nothing of the text, and takes its size as bounded by whoever read it.
//
// Federation, the registry of proofs, the aggregator and the operator API read with it. The
// agent's local API, whose long strings should not be copied, has agent/localapi/rawjson.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxDepth bounds how deep arrays and objects lie in each other; no message has half of it.
const maxDepth = 32

// Limits bound a text before anything of it is decoded. The zero value allows one value that
// is neither a list nor an object.
type Limits struct {
	// Values in the whole text, an array or object that is empty counted twice.
	Values int
	// List bounds the elements of one array and the members of one object.
	List int
	// Named are limits of arrays that are longer, by the name of the member that they are,
	// exactly as it is written.
	Named map[string]int
}

// Decode decodes a text inside the limits into a value.
func Decode(raw []byte, most Limits, into any) error {
	if err := most.check(raw); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("trailing data after the JSON value")
	}
	return nil
}

// level is an array or object that has not ended.
type level struct{ begun, most int } // elements that began after the first; how many may be

// check counts. Of a text that is no JSON it may take any; the decoder refuses that before
// it makes anything.
func (l Limits) check(raw []byte) error {
	var open [maxDepth]level
	var text, name []byte // the last string, and the last one before a colon
	depth, values := 0, 1
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			begin := i + 1
			for i++; i < len(raw) && raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
			text = raw[begin:min(i, len(raw))]
			continue
		case ':':
			name = text
			continue
		case '[', '{':
			if depth == maxDepth {
				return fmt.Errorf("nested more than %d deep", maxDepth)
			}
			open[depth] = level{most: l.of(raw[i], name)}
			depth++
			name = nil
		case ',':
			if depth == 0 {
				continue
			}
			name = nil
			in := &open[depth-1]
			if in.begun++; in.begun >= in.most {
				return fmt.Errorf("a list has more than %d entries", in.most)
			}
		case ']', '}':
			depth = max(depth-1, 0)
			name = nil
			continue
		default:
			continue
		}
		if values++; values > l.Values {
			return fmt.Errorf("more than %d values", l.Values)
		}
	}
	return nil
}

// of is the limit of an array or object that is the member of a name.
func (l Limits) of(bracket byte, name []byte) int {
	if most, ok := l.Named[string(name)]; ok && bracket == '[' {
		return most
	}
	return l.List
}
