// Package jinja renders chat templates: the part of the Jinja template language that models'
// templates use.
//
// A template either means what the reference implementation makes of it, or is refused when it is
// compiled, with the construct and its line. Rendering ends within a fixed number of steps and
// bytes, and a template reaches nothing but the values it was given. Blocks drop the newline after
// them and the indentation before them, which is how model tools configure Jinja.
//
// The package trusts neither the template nor the values. It supports if, for (over pairs, with a
// condition, with else), set, generation (whose marks go), macros at the template's top level, the usual operators, slices,
// namespace, raise_exception, range, strftime_now, loop's first, last, index, index0, revindex,
// revindex0, length, previtem and nextitem, and the filters, tests and methods listed in expression.go. It refuses
// imports, chained comparisons, and names that have a value of their own in the reference, such as
// range without a call. The filter tojson writes what Hugging Face's apply_chat_template does: keys
// in their order, no character escaped that JSON does not require.
//
// What depends on values is found when they are there and ends the rendering: a slice by steps of what
// turns out to be a text, for example, or a format that a template puts together for strftime_now. With literals
// both are refused like the rest.
//
// What takes parts out of a text (replace, split, slices) could make a control token of the text of a user where
// the rest comes together: such texts go through [Options].Guard.
//
// Package tokenize calls it ([Compile], [Template]).
package jinja

import (
	"context"
	"fmt"
	"strings"
	"time"
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

// Options are what a rendering needs beside variables. The zero value asks the system's clock and guards
// nothing.
type Options struct {
	// Now is the clock that strftime_now asks.
	Now func() time.Time
	// Guard gets each text from which a template took parts, and what it made of it: the rest put
	// together, or one piece; of a text in several pieces, the text itself comes with the first alone.
	// What it returns takes the place of what was made.
	Guard func(before, after string) (string, error)
}

// Render evaluates the template over variables, whose values may be string, int64, bool, nil,
// and []any and map[string]any of these. A missing name is undefined. Render returns an error
// when ctx ends.
func (t *Template) Render(ctx context.Context, variables map[string]any) (string, error) {
	return t.RenderWith(ctx, variables, Options{})
}

// RenderWith is Render with options.
func (t *Template) RenderWith(ctx context.Context, variables map[string]any, o Options) (string, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Guard == nil {
		o.Guard = func(_, after string) (string, error) { return after, nil }
	}
	r := &rendering{ended: func() error { return context.Cause(ctx) }, scopes: []map[string]any{variables, {}}, Options: o}
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
	calls  int // of macros, one inside the other
	Options
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
	switch s.op {
	case "if":
		return r.branch(s)
	case "macro":
		r.scopes[len(r.scopes)-1][s.text] = macro{s}
		return nil
	case "generation":
		text, err := r.apart(s.body)
		if err != nil {
			return err
		}
		return r.write(text)
	case "setblock":
		text, err := r.apart(s.body)
		r.scopes[len(r.scopes)-1][s.text] = text
		return err
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

// apart renders statements like captured, and what they set is gone behind them.
func (r *rendering) apart(list []statement) (string, error) {
	r.scopes = append(r.scopes, map[string]any{})
	text, err := r.captured(list)
	r.scopes = r.scopes[:len(r.scopes)-1]
	return text, err
}

// captured renders statements apart from what is written.
func (r *rendering) captured(list []statement) (string, error) {
	before := r.out
	r.out = strings.Builder{}
	err := r.run(list)
	text := r.out.String()
	r.out = before
	return text, err
}

// loop runs a loop's body once for each item, in a scope of its own that is new
// each time: what a body sets is gone in the next round, as in Jinja.
func (r *rendering) loop(s *statement, over any) error {
	items, err := sequence(over, "loop over")
	if err != nil {
		return err
	}
	depth := len(r.scopes)
	defer func() { r.scopes = r.scopes[:depth] }()
	if s.when != nil {
		if items, err = r.chosen(s, items); err != nil {
			return err
		}
	}
	if len(items) == 0 && len(s.arms) > 0 {
		return r.run(s.arms[0].body)
	}
	for i, item := range items {
		scope := map[string]any{"loop": loopState{int64(i), int64(len(items)), &items}}
		if err := assign(scope, s.names, item); err != nil {
			return err
		}
		r.scopes = append(r.scopes[:depth], scope)
		if err := r.run(s.body); err != nil {
			return err
		}
	}
	return nil
}

// chosen are the items for which a loop's condition holds.
func (r *rendering) chosen(s *statement, items []any) (list []any, err error) {
	depth := len(r.scopes)
	defer func() { r.scopes = r.scopes[:depth] }()
	for _, item := range items {
		scope := map[string]any{}
		if err := assign(scope, s.names, item); err != nil {
			return nil, err
		}
		r.scopes = append(r.scopes[:depth], scope)
		take, err := r.eval(s.when)
		if err != nil {
			return nil, err
		}
		if truth(take) {
			list = append(list, item)
		}
	}
	return list, nil
}

// assign gives the names of a loop an item, or its parts.
func assign(scope map[string]any, names []string, item any) error {
	if len(names) == 1 {
		scope[names[0]] = item
		return nil
	}
	parts, ok := item.([]any)
	if !ok || len(parts) != len(names) {
		return fmt.Errorf("cannot take %s apart into %d names", kindName(item), len(names))
	}
	for i, name := range names {
		scope[name] = parts[i]
	}
	return nil
}
