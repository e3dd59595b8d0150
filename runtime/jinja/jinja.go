// Package jinja renders chat templates: the part of the Jinja template language that models'
// templates use.
//
// A template either means what the reference implementation makes of it, or is refused when it is
// compiled, with the construct and its line. Rendering ends within a fixed number of steps and
// bytes, and a template reaches nothing but the values it was given. Blocks drop the newline after
// them and the indentation before them, which is how model tools configure Jinja.
//
// The package trusts neither the template nor the values. It supports if, for, set, the usual
// operators, namespace, raise_exception, loop's first, last, index, index0, revindex, revindex0
// and length, and the filters, tests and methods listed in expression.go. It refuses macros,
// imports, dictionaries, chained comparisons, loops over pairs, and names that have a value of
// their own in the reference, such as range. The filter tojson compiles, and fails only when it is
// reached: templates use it for tools, which are never given.
//
// Package tokenize calls it ([Compile], [Template]).
package jinja

import (
	"context"
	"fmt"
	"strings"
)

// Limits on a template and on one rendering of it.
const (
	MaxSourceBytes = 64 << 10
	MaxOutputBytes = 16 << 20 // and any string on the way to it
	maxDepth       = 64       // nesting of blocks and expressions
	maxSteps       = 4 << 20  // evaluated nodes, plus one per 64 bytes of text they make
)

// Template is a compiled template, immutable and safe for concurrent use.
type Template struct{ body []statement }

// RaisedError is a refusal by the template itself, through raise_exception, for example of two
// user turns in a row.
type RaisedError struct{ Message string }

// Error returns the template's own words.
func (e *RaisedError) Error() string { return "the template refuses: " + e.Message }

// Compile parses a template.
func Compile(source string) (*Template, error) {
	if len(source) > MaxSourceBytes {
		return nil, fmt.Errorf("the template has %d bytes, the limit is %d", len(source), MaxSourceBytes)
	}
	tokens, err := lex(source)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	body, end, err := p.statements()
	if err == nil && end != "" {
		err = p.errorf("%s without a matching start", end)
	}
	if err != nil {
		return nil, err
	}
	return &Template{body: body}, nil
}

// Render evaluates the template over variables, whose values may be string, int64, bool, nil,
// and []any and map[string]any of these. A missing name is undefined. Render returns an error
// when ctx ends.
func (t *Template) Render(ctx context.Context, variables map[string]any) (string, error) {
	r := &rendering{ended: func() error { return context.Cause(ctx) }, scopes: []map[string]any{variables, {}}}
	if err := r.run(t.body); err != nil {
		return "", err
	}
	return r.out.String(), nil
}

// rendering is the state of one Render call.
type rendering struct {
	ended  func() error     // why the call is to end, or nil
	looked int              // how many steps there were when that was asked
	scopes []map[string]any // the last is written to
	out    strings.Builder
	steps  int
}

// spend charges the cost of one node that made size bytes of text.
func (r *rendering) spend(size int) error {
	if size > MaxOutputBytes {
		return fmt.Errorf("the template produces more than %d bytes", MaxOutputBytes)
	}
	if r.steps += 1 + size/64; r.steps > maxSteps {
		return fmt.Errorf("the template takes more than %d steps", maxSteps)
	}
	const often = 1024
	if r.steps-r.looked >= often {
		r.looked = r.steps
		return r.ended()
	}
	return nil
}

func (r *rendering) lookup(name string) any {
	for i := len(r.scopes) - 1; i >= 0; i-- {
		if v, ok := r.scopes[i][name]; ok {
			return v
		}
	}
	return undefined{name}
}

func (r *rendering) run(list []statement) error {
	for i := range list {
		if err := r.statement(&list[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *rendering) statement(s *statement) error {
	if s.op == "text" {
		return r.write(s.text)
	}
	if s.op == "if" {
		return r.branch(s)
	}
	v, err := r.eval(s.expr)
	if err != nil {
		return err
	}
	switch s.op {
	case "output":
		text, err := toString(v)
		if err != nil {
			return err
		}
		return r.write(text)
	case "set":
		r.scopes[len(r.scopes)-1][s.text] = v
		return nil
	case "setattr":
		ns, ok := r.lookup(s.text).(namespace)
		if !ok {
			return fmt.Errorf("%s is not a namespace", s.text)
		}
		ns[s.attr] = v
		return nil
	}
	return r.loop(s, v)
}

func (r *rendering) write(text string) error {
	if err := r.spend(len(text)); err != nil {
		return err
	}
	if r.out.Len()+len(text) > MaxOutputBytes {
		return fmt.Errorf("the template produces more than %d bytes", MaxOutputBytes)
	}
	r.out.WriteString(text)
	return nil
}

func (r *rendering) branch(s *statement) error {
	for i := range s.arms {
		if s.arms[i].when != nil {
			v, err := r.eval(s.arms[i].when)
			if err != nil {
				return err
			}
			if !truth(v) {
				continue
			}
		}
		return r.run(s.arms[i].body)
	}
	return nil
}

// loop runs a loop's body once for each item, in a scope of its own that is new
// each time: what a body sets is gone in the next round, as in Jinja.
func (r *rendering) loop(s *statement, over any) error {
	items, ok := over.([]any)
	if !ok {
		return fmt.Errorf("cannot loop over %s", kindName(over))
	}
	depth := len(r.scopes)
	defer func() { r.scopes = r.scopes[:depth] }()
	for i, item := range items {
		r.scopes = append(r.scopes[:depth], map[string]any{s.text: item, "loop": loopState{int64(i), int64(len(items))}})
		if err := r.run(s.body); err != nil {
			return err
		}
	}
	return nil
}
