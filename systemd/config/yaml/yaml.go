// Package yaml reads the part of YAML 1.2 that configuration needs, and refuses the rest.
//
// It takes block and flow collections, plain and quoted scalars, literal and folded block
// scalars, comments, and one document with or without its markers. It refuses anchors, aliases,
// merge keys, tags, directives, complex keys, further documents, duplicate keys, plain and quoted
// scalars of several lines, numbers that programs read differently (010, 1_000), and tabs as
// indentation, each with a sentence that says where it is and what to write instead. Two rules
// are behind that list: every YAML parser finds the same structure and text in a document that
// is accepted, and a forgotten quote or colon never joins two lines into one value.
//
// Time and memory are linear in the document, whose size, depth and number of values are bounded.
// Package config fills values from the nodes.
package yaml

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of a document.
const (
	// MaxBytes bounds a document's size.
	MaxBytes = 1 << 20
	// MaxDepth bounds how deep mappings and lists are nested.
	MaxDepth = 32
	// MaxNodes bounds the number of keys, values and list items together.
	MaxNodes = 1 << 16
	// maxIndent bounds the indentation of keys and list items.
	maxIndent = 8 * MaxDepth
	// maxKey bounds a key in bytes (YAML 1.2.2, section 7.4.2, says characters).
	maxKey = 1024
)

// Kind says what a node is.
type Kind uint8

// The kinds. A plain scalar has the kind that its text has in YAML (section 10.3); a quoted or
// block scalar is always Text.
const (
	Null      Kind = iota + 1
	Bool           // true, True, TRUE, false, False, FALSE
	Int            // decimal, or hexadecimal as 0x1f
	Float          // with a decimal point
	NonFinite      // .inf and .nan
	Text
	Sequence
	Mapping
)

// Node is a value with its place in the document.
type Node struct {
	Kind Kind
	// Line and Column count from 1, columns in characters.
	Line, Column int
	// Text is what a scalar says: its content when it is Text, else what the document has.
	Text string
	// Items are the values of a Sequence.
	Items []Node
	// Pairs are the keys and values of a Mapping, in the document's order. No two keys
	// have the same text.
	Pairs []Pair

	plain bool // a scalar without quotes
}

// Pair is a key of a mapping with its value. The key is a scalar on one line.
type Pair struct{ Key, Value Node }

// Error is what is wrong with a document, and where.
type Error struct {
	// Line and Column count from 1; 0 when the place is not known.
	Line, Column int
	// Message is one sentence.
	Message string
}

// Error names the place first.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// Errorf is an error at the node's place.
func (n *Node) Errorf(format string, args ...any) *Error {
	return &Error{n.Line, n.Column, fmt.Sprintf(format, args...)}
}

// Parse reads a document. What it refuses is an *Error.
func Parse(data []byte) (*Node, error) {
	text, err := lines(data)
	if err != nil {
		return nil, err
	}
	p := &parser{text: text, line: 1, column: 1}
	root, err := p.document()
	if err != nil {
		return nil, err
	}
	return &root, nil
}

// lines returns the text with its lines ended by line feeds, if it is text that a reader sees
// as it is: UTF-8 without control characters.
func lines(data []byte) (string, *Error) {
	if len(data) > MaxBytes {
		return "", &Error{Message: fmt.Sprintf("the document is larger than %d bytes", MaxBytes)}
	}
	if !utf8.Valid(data) {
		return "", &Error{Message: "the document is not UTF-8 text"}
	}
	text := strings.ReplaceAll(string(data), "\r\n", "\n")
	line, column := 1, 0
	for _, r := range text {
		column++
		switch {
		case r == '\n':
			line, column = line+1, 0
		case r == '\r':
			return "", &Error{line, column, "a carriage return without a line feed; end lines with a line feed"}
		case r == 0x2028 || r == 0x2029:
			return "", &Error{line, column, fmt.Sprintf("versions of YAML differ on whether the character %U ends a line; remove it, or escape it in double quotes", r)}
		case r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 || r == 0xfeff:
			return "", &Error{line, column, fmt.Sprintf("the control character %U is not allowed; remove it, or escape it in double quotes", r)}
		}
	}
	return text, nil
}
