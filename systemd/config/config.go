// Package config decodes YAML strictly, for daemons whose configuration decides
// who gets keys.
//
// An unknown key, a duplicate key, a value of another type, a second document, an anchor
// or an alias is an error that names line and column in one sentence. Every field of a
// decoded value comes from the file or has its zero value. Limits on size and nesting are
// checked before the YAML parser sees the text. Daemons and policies call [Decode]; this
// package alone imports the YAML module.
package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits of a document.
const (
	MaxBytes = 1 << 20
	maxDepth = 32
	maxLead  = 8 * maxDepth
	// maxMarks bounds lines, commas, colons and brackets together: the parser takes a
	// kilobyte of memory for each.
	maxMarks = 1 << 16
)

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

func at(t *token.Token, format string, args ...any) *Error {
	e := &Error{Message: fmt.Sprintf(format, args...)}
	if t != nil && t.Position != nil {
		e.Line, e.Column = t.Position.Line, t.Position.Column
	}
	return e
}

// Decode reads one YAML document into a pointer to a struct.
func Decode(data []byte, into any) error {
	if len(data) > MaxBytes {
		return &Error{Message: fmt.Sprintf("the document is larger than %d bytes", MaxBytes)}
	}
	if err := checkText(data); err != nil {
		return err
	}
	target := reflect.TypeOf(into)
	if target == nil || target.Kind() != reflect.Pointer || reflect.ValueOf(into).IsNil() {
		return fmt.Errorf("decode into %T: not a pointer to a struct", into)
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return explain(err)
	}
	if err := checkDocument(file); err != nil {
		return err
	}
	if err := checkShape(file.Docs[0].Body, target.Elem()); err != nil {
		return err
	}
	if err := fill(file.Docs[0].Body, reflect.ValueOf(into).Elem()); err != nil {
		return err
	}
	return nil
}

// checkText refuses what would cost the parser its stack or the reader his
// eyes, before anything is parsed: it is one pass without recursion.
func checkText(data []byte) *Error {
	if !utf8.Valid(data) {
		return &Error{Message: "the document is not UTF-8 text"}
	}
	line, column, depth, marks := 1, 0, 0, 0
	lead := 0 // characters at the line's start that can each open a level
	for _, r := range string(data) {
		column++
		if strings.ContainsRune("\n,:[]{}", r) {
			if marks++; marks > maxMarks {
				return &Error{line, column, fmt.Sprintf("more than %d lines, commas, colons and brackets", maxMarks)}
			}
		}
		switch {
		case r == '\n':
			line, column, lead = line+1, 0, 0
			continue
		case r < ' ' && r != '\t' && r != '\r' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0xfeff:
			return &Error{line, column, fmt.Sprintf("control character %U is not allowed", r)}
		case r == '[' || r == '{':
			depth++
		case r == ']' || r == '}':
			depth = max(depth-1, 0)
		case lead == column-1 && strings.ContainsRune(" -?:\t", r):
			lead++
		}
		if depth > maxDepth || lead > maxLead {
			return &Error{line, column, fmt.Sprintf("nested more than %d levels deep", maxDepth)}
		}
	}
	return nil
}

// checkDocument refuses what the language allows and configuration must not use.
func checkDocument(file *ast.File) error {
	bodies := 0
	for _, doc := range file.Docs {
		if doc.Body != nil {
			bodies++
		}
	}
	if bodies == 0 {
		return &Error{Message: "the document is empty"}
	}
	if len(file.Docs) > 1 {
		return &Error{Message: fmt.Sprintf("the file holds %d documents; write one", len(file.Docs))}
	}
	v := &checker{}
	ast.Walk(v, file.Docs[0].Body)
	if v.err != nil {
		return v.err
	}
	return nil
}

type checker struct{ err *Error }

// Visit stops at the first construct that is refused.
func (c *checker) Visit(n ast.Node) ast.Visitor {
	if c.err != nil {
		return nil
	}
	switch n := n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		c.err = at(n.GetToken(), "anchors, aliases and merge keys are not allowed; write the value out")
	case *ast.TagNode:
		c.err = at(n.GetToken(), "tags are not allowed; write a plain value")
	default:
		if strings.Count(n.GetPath(), ".")+strings.Count(n.GetPath(), "[") > maxDepth {
			c.err = at(n.GetToken(), "nested more than %d levels deep", maxDepth)
		}
	}
	if c.err != nil {
		return nil
	}
	return c
}

// placed is an error of the library, which knows where.
type placed interface {
	error
	GetToken() *token.Token
	GetMessage() string
}

// explain makes one sentence with a place of the library's errors.
func explain(err error) error {
	if own, ok := errors.AsType[*Error](err); ok {
		return own
	}
	if lib, ok := errors.AsType[placed](err); ok {
		return at(lib.GetToken(), "%s", oneLine(lib.GetMessage()))
	}
	return &Error{Message: oneLine(err.Error())}
}

func oneLine(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	return first
}
