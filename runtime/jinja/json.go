package jinja

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// toJSON writes a value as Python's json.dumps does with ensure_ascii=False, which is what
// Hugging Face's apply_chat_template puts in place of Jinja's own filter: keys in their order and
// no characters escaped for HTML.
func toJSON(v, indent any) (string, error) {
	w := jsonWriter{}
	if indent != nil {
		n, ok := indent.(int64)
		if !ok || n < 0 || n > 16 {
			return "", fmt.Errorf("tojson with an indent of %s is not supported", kindName(indent))
		}
		w.indented, w.by = true, strings.Repeat(" ", int(n))
	}
	err := w.value(v, 0)
	return w.b.String(), err
}

type jsonWriter struct {
	b        strings.Builder
	indented bool
	by       string
}

func (w *jsonWriter) value(v any, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("tojson of values nested more than %d levels deep", maxDepth)
	}
	if w.b.Len() > MaxOutputBytes {
		return fmt.Errorf("the template produces more than %d bytes", MaxOutputBytes)
	}
	switch v := v.(type) {
	case nil:
		w.b.WriteString("null")
	case bool:
		w.b.WriteString(strconv.FormatBool(v))
	case int64:
		w.b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		w.b.WriteString(fraction(v))
	case string:
		w.text(v)
	case []any:
		return w.list('[', ']', len(v), depth, func(i int) error { return w.value(v[i], depth+1) })
	default:
		keys, values, ok := members(v)
		if !ok {
			return fmt.Errorf("cannot write %s as JSON", kindName(v))
		}
		return w.list('{', '}', len(keys), depth, func(i int) error {
			w.text(keys[i])
			w.b.WriteString(": ")
			return w.value(values[keys[i]], depth+1)
		})
	}
	return nil
}

// list writes members between brackets.
func (w *jsonWriter) list(open, end byte, n, depth int, member func(i int) error) error {
	w.b.WriteByte(open)
	for i := range n {
		switch {
		case w.indented && i > 0:
			w.b.WriteString(",\n" + strings.Repeat(w.by, depth+1))
		case w.indented:
			w.b.WriteString("\n" + strings.Repeat(w.by, depth+1))
		case i > 0:
			w.b.WriteString(", ")
		}
		if err := member(i); err != nil {
			return err
		}
	}
	if w.indented && n > 0 {
		w.b.WriteString("\n" + strings.Repeat(w.by, depth))
	}
	w.b.WriteByte(end)
	return nil
}

func (w *jsonWriter) text(s string) {
	w.b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			w.b.WriteByte('\\')
			w.b.WriteByte(c)
		case c >= ' ':
			w.b.WriteByte(c)
		default:
			if at := strings.IndexByte("\b\f\n\r\t", c); at >= 0 {
				w.b.WriteByte('\\')
				w.b.WriteByte("bfnrt"[at])
			} else {
				fmt.Fprintf(&w.b, `\u%04x`, c)
			}
		}
	}
	w.b.WriteByte('"')
}

// fraction is Python's repr of a floating-point number, and NaN and infinities as json.dumps
// writes them.
func fraction(v float64) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 0):
		return map[bool]string{true: "Infinity", false: "-Infinity"}[v > 0]
	}
	if a := math.Abs(v); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(v, 'e', -1, 64) // with two digits of the exponent at least
	}
	text := strconv.FormatFloat(v, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// ParseJSON reads JSON into values that templates take: objects keep the order of their keys, and
// whole numbers stay whole.
func ParseJSON(data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := parseValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	return v, nil
}

func parseValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("JSON nested more than %d levels deep", maxDepth)
	}
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case json.Number:
		if strings.ContainsAny(t.String(), ".eE") {
			f, err := t.Float64()
			if err != nil {
				return nil, fmt.Errorf("%.40s is beyond the numbers of 64 bits", t)
			}
			return f, nil
		}
		n, err := strconv.ParseInt(t.String(), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%.40s is beyond the whole numbers of 64 bits", t)
		}
		return n, nil
	case json.Delim:
		if t == '[' {
			list := []any{}
			for d.More() {
				v, err := parseValue(d, depth+1)
				if err != nil {
					return nil, err
				}
				list = append(list, v)
			}
			_, err := d.Token()
			return list, err
		}
		o := &Object{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := parseValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			o.Set(key.(string), v) // the decoder takes nothing else for a key
		}
		_, err := d.Token()
		return o, err
	}
	return token, nil
}
