package hcl

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of the runtime data's JSON.
const (
	maxDepth     = 6
	maxValues    = 128
	maxNameBytes = 64
)

// object is a JSON object. Its values are nil, bool, string, json.Number, []any and object.
type object map[string]any

// decodeObject decodes one object of JSON and nothing behind it. A name that appears twice in an
// object, however it is escaped, is an error: two readers could take two values. It does so with
// a tenth of the allocations of json.Decoder's tokens.
func decodeObject(text []byte) (object, error) {
	if !utf8.Valid(text) || !json.Valid(text) {
		return nil, errors.New("not JSON")
	}
	w := walker{rest: string(text)}
	w.space()
	if w.rest[0] != '{' {
		return nil, errors.New("not an object")
	}
	v, err := w.value(0)
	if err != nil {
		return nil, err
	}
	return v.(object), nil
}

// walker takes values off the front of a text that is one whole value of JSON: it looks for what
// the grammar allows and nothing else, and counts.
type walker struct {
	rest   string
	values int
}

func (w *walker) space() { w.rest = strings.TrimLeft(w.rest, " \t\r\n") }

// next takes a mark if it comes next, and the space around it.
func (w *walker) next(mark byte) bool {
	w.space()
	if w.rest[0] != mark {
		return false
	}
	w.rest = w.rest[1:]
	w.space()
	return true
}

func (w *walker) value(depth int) (any, error) {
	if w.values++; w.values > maxValues {
		return nil, fmt.Errorf("more than %d values", maxValues)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	w.space()
	switch w.rest[0] {
	case '{':
		return w.object(depth)
	case '[':
		return w.array(depth)
	case '"':
		return w.text()
	}
	end := strings.IndexAny(w.rest, ",]} \t\r\n")
	word := w.rest[:end] // an object's end comes after every other value
	w.rest = w.rest[end:]
	switch word {
	case "null":
		return nil, nil
	case "true", "false":
		return word == "true", nil
	}
	return json.Number(word), nil
}

func (w *walker) object(depth int) (object, error) {
	o := object{}
	w.next('{')
	for w.rest[0] != '}' {
		name, err := w.text()
		if err != nil {
			return nil, err
		}
		if len(name) > maxNameBytes || !printable(name) {
			return nil, errors.New("a name is too long or not printable ASCII")
		}
		if _, twice := o[name]; twice {
			return nil, fmt.Errorf("%q appears twice", name)
		}
		w.next(':')
		if o[name], err = w.value(depth + 1); err != nil {
			return nil, err
		}
		if !w.next(',') {
			break
		}
	}
	w.rest = w.rest[1:]
	return o, nil
}

func (w *walker) array(depth int) ([]any, error) {
	list := []any{}
	w.next('[')
	for w.rest[0] != ']' {
		v, err := w.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		if !w.next(',') {
			break
		}
	}
	w.rest = w.rest[1:]
	return list, nil
}

// text takes a string.
func (w *walker) text() (string, error) {
	end, escaped := 1, false
	for ; w.rest[end] != '"'; end++ {
		if w.rest[end] == '\\' {
			escaped = true
			end++
		}
	}
	quoted := w.rest[:end+1]
	w.rest = w.rest[end+1:]
	if !escaped {
		return quoted[1:end], nil
	}
	var s string
	err := json.Unmarshal([]byte(quoted), &s)
	return s, err
}

// printable says whether a text is printable ASCII, which goes into logs and pages unchanged.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
