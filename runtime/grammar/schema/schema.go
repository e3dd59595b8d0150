// Package schema makes grammars of JSON schemas: every text of the grammar is JSON that the
// schema admits. Not every value that it admits is a text of the grammar: between properties and
// items there is little white space, numbers have a bounded number of digits, and an object with
// named properties has no others unless they are required.
//
// A keyword that the package does not implement is refused by name, never ignored, but for those
// that only annotate. Schemas come from clients: their depth, and the size of what they become,
// are limited.
//
// The agent's API calls it for response_format and for the arguments of tools.
package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/anchorhold/anchorhold/runtime/grammar"
	"github.com/anchorhold/anchorhold/runtime/jinja"
)

// ErrSchema means that a schema is refused.
var ErrSchema = errors.New("schema refused")

// Part is a part of a text: literal text, then a value of a schema if there is one.
type Part struct {
	Text   string
	Schema []byte
	// Object refuses a schema that admits anything but objects.
	Object bool
}

// Any is the schema of any object, as in the response format json_object.
const Any = `{"type":"object"}`

// Compile makes the grammar of texts that are one of the alternatives, each a sequence of parts.
func Compile(alternatives ...[]Part) (*grammar.Grammar, error) {
	c := &compiler{b: grammar.NewBuilder()}
	return c.finish(c.parts(alternatives))
}

// CompileCalls makes the grammar of texts that are calls, each one of the alternatives: one, or
// any number on lines of their own. With a marker, which every call begins with, the calls may
// follow any text that does not contain it, or be missing.
func CompileCalls(marker string, several bool, alternatives ...[]Part) (*grammar.Grammar, error) {
	c := &compiler{b: grammar.NewBuilder()}
	call := c.parts(alternatives)
	e := call
	if several {
		e = c.b.Seq(call, c.b.Repeat(c.b.Seq(c.b.Text("\n"), call), 0, -1))
	}
	if marker != "" {
		e = c.b.Seq(c.b.Without(marker), c.b.Opt(e))
	}
	return c.finish(e)
}

// CheckObject says whether a schema of objects can be enforced, but for its size beside others and
// for rules that never end, which compiling finds.
func CheckObject(raw []byte) error {
	c := &compiler{b: grammar.NewBuilder()}
	c.document(Part{Schema: raw, Object: true})
	return c.b.Err()
}

func (c *compiler) parts(alternatives [][]Part) grammar.Expr {
	var list []grammar.Expr
	for _, parts := range alternatives {
		var e grammar.Expr
		for _, p := range parts {
			e = c.b.Seq(e, c.b.Text(p.Text))
			if p.Schema != nil {
				e = c.b.Seq(e, c.document(p))
			}
		}
		list = append(list, e)
	}
	return c.b.Alt(list...)
}

func (c *compiler) finish(e grammar.Expr) (*grammar.Grammar, error) {
	g, err := c.b.Finish(e)
	if err != nil && !errors.Is(err, ErrSchema) {
		err = fmt.Errorf("%w: %w", ErrSchema, err)
	}
	return g, err
}

// compiler makes one grammar of several documents.
type compiler struct {
	b                                 *grammar.Builder
	space, char, text, number, anyone grammar.Expr // made when they are needed

	root any                     // of the document
	refs map[string]grammar.Expr // its rules
}

func (c *compiler) refuse(format string, args ...any) grammar.Expr {
	c.b.Fail(fmt.Errorf("%w: %w", ErrSchema, fmt.Errorf(format, args...)))
	return nil
}

func (c *compiler) document(p Part) grammar.Expr {
	root, err := jinja.ParseJSON(p.Schema)
	if err != nil {
		return c.refuse("%w", err)
	}
	c.root, c.refs = root, map[string]grammar.Expr{}
	e := c.value(root)
	if p.Object && !c.ofObjects(root) {
		return c.refuse("the schema must be of type object")
	}
	return e
}

// ofObjects says whether a schema admits nothing but objects, as its type or that of what it refers
// to says.
func (c *compiler) ofObjects(s any) bool {
	for range 8 { // of references
		o, _ := s.(*jinja.Object)
		if o == nil {
			return false
		}
		name, ok := o.Get("$ref").(string)
		if !ok {
			return o.Get("type") == "object" || o.Get("properties") != nil && !slices.ContainsFunc(o.Keys(), func(k string) bool {
				return !slices.Contains(annotations, k) && !slices.Contains(keywords["object"], k)
			})
		}
		s = c.resolve(name)
	}
	return false
}

// annotations say nothing about which values are valid.
var annotations = []string{"title", "description", "default", "example", "examples", "deprecated", "readOnly", "writeOnly", "$schema", "$id", "$comment",
	"$defs", "definitions"}

// keywords are those of each type.
var keywords = map[string][]string{
	"object":  {"properties", "required", "additionalProperties"},
	"array":   {"items", "prefixItems", "minItems", "maxItems", "uniqueItems"},
	"string":  {"minLength", "maxLength", "pattern", "format"},
	"integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
	"number":  {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
	"boolean": nil, "null": nil,
}

// types in the order in which they are looked for.
var types = []string{"object", "array", "string", "number", "integer", "boolean", "null"}

// value makes the expression of a schema.
func (c *compiler) value(s any) grammar.Expr {
	if c.b.Err() != nil {
		return nil
	}
	if s == true {
		return c.any()
	}
	o, ok := s.(*jinja.Object)
	if !ok {
		return c.refuse("a schema must be an object or true")
	}
	var asserted []string
	for _, k := range o.Keys() {
		if !slices.Contains(annotations, k) {
			asserted = append(asserted, k)
		}
	}
	alone := func(k string, beside ...string) bool {
		for _, other := range asserted {
			if other != k && !slices.Contains(beside, other) {
				c.refuse("%s beside %q is not supported", k, other)
				return false
			}
		}
		return true
	}
	for _, k := range []string{"$ref", "const", "enum", "anyOf", "oneOf", "allOf"} {
		if !slices.Contains(asserted, k) {
			continue
		}
		if !alone(k, map[string][]string{"const": {"type"}, "enum": {"type"}}[k]...) {
			return nil
		}
		return c.combined(o, k)
	}
	return c.typed(o, asserted)
}

// combined makes the expression of a keyword that stands alone.
func (c *compiler) combined(o *jinja.Object, keyword string) grammar.Expr {
	v := o.Get(keyword)
	list, _ := v.([]any)
	switch keyword {
	case "$ref":
		return c.ref(v)
	case "const":
		return c.values(o, []any{v})
	case "enum":
		return c.values(o, list)
	}
	if len(list) == 0 {
		return c.refuse("%s must be a list of schemas", keyword)
	}
	if keyword == "allOf" && len(list) > 1 {
		return c.refuse("allOf of more than one schema is not supported")
	}
	if keyword == "oneOf" && !c.disjoint(list) {
		return c.refuse("oneOf is supported for schemas of different types, or of objects with a required property of different constants; use anyOf")
	}
	var all []grammar.Expr
	for _, s := range list {
		all = append(all, c.value(s))
	}
	return c.b.Alt(all...)
}

// ref makes the expression of a schema elsewhere in the document, once.
func (c *compiler) ref(v any) grammar.Expr {
	name, _ := v.(string)
	if e, ok := c.refs[name]; ok {
		return e
	}
	to := c.resolve(name)
	if to == nil {
		return c.refuse("$ref %.100q is not in the document", name)
	}
	rule := c.b.Declare(name)
	c.refs[name] = rule
	c.b.Define(rule, c.value(to))
	return rule
}

// resolve follows a JSON pointer.
func (c *compiler) resolve(name string) any {
	path, ok := strings.CutPrefix(name, "#")
	if !ok || path != "" && path[0] != '/' {
		return nil
	}
	at := c.root
	for _, step := range strings.Split(path, "/")[1:] {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		switch v := at.(type) {
		case *jinja.Object:
			at = v.Get(step)
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(v) {
				return nil
			}
			at = v[i]
		default:
			return nil
		}
	}
	return at
}

// disjoint says whether no value can be of two of the schemas.
func (c *compiler) disjoint(list []any) bool {
	objects := make([]*jinja.Object, len(list))
	kinds := map[any]bool{}
	different := true
	for i, s := range list {
		for range 8 { // of references
			objects[i], _ = s.(*jinja.Object)
			if objects[i] == nil || objects[i].Get("$ref") == nil {
				break
			}
			name, _ := objects[i].Get("$ref").(string)
			s = c.resolve(name)
		}
		if objects[i] == nil {
			return false
		}
		kind, ok := objects[i].Get("type").(string)
		if kind == "integer" {
			kind = "number"
		}
		different = different && ok && !kinds[kind]
		kinds[kind] = true
	}
	if different {
		return true
	}
	properties, _ := objects[0].Get("properties").(*jinja.Object)
	if properties == nil {
		return false
	}
	return slices.ContainsFunc(properties.Keys(), func(name string) bool { return tells(objects, name) })
}

// tells says whether objects differ by the constant of a required property.
func tells(objects []*jinja.Object, name string) bool {
	seen := map[string]bool{}
	for _, o := range objects {
		required, _ := o.Get("required").([]any)
		properties, _ := o.Get("properties").(*jinja.Object)
		if properties == nil || !slices.Contains(required, any(name)) || o.Get("type") != "object" {
			return false
		}
		p, _ := properties.Get(name).(*jinja.Object)
		if p == nil {
			return false
		}
		constant, ok := p.Get("const").(string)
		if list, _ := p.Get("enum").([]any); !ok && len(list) == 1 {
			constant, ok = list[0].(string)
		}
		if !ok || seen[constant] {
			return false
		}
		seen[constant] = true
	}
	return true
}

// values are the constants of an enumeration that are of its type, if it has one.
func (c *compiler) values(o *jinja.Object, list []any) grammar.Expr {
	names, ok := typeNames(o.Get("type"))
	if !ok {
		return c.refuse("type must be the name of a type or a list of them")
	}
	var all []grammar.Expr
	for _, v := range list {
		if len(names) > 0 && !slices.ContainsFunc(names, func(n string) bool { return is(v, n) }) {
			continue
		}
		text, err := encode(v)
		if err != nil {
			return c.refuse("%w", err)
		}
		all = append(all, c.b.Text(text))
	}
	if len(all) == 0 {
		return c.refuse("an enumeration without a value of its type")
	}
	return c.b.Alt(all...)
}

func is(v any, kind string) bool {
	switch v := v.(type) {
	case nil:
		return kind == "null"
	case bool:
		return kind == "boolean"
	case string:
		return kind == "string"
	case int64:
		return kind == "integer" || kind == "number"
	case float64:
		return kind == "number" || kind == "integer" && v == math.Trunc(v)
	case []any:
		return kind == "array"
	}
	return kind == "object"
}

// encode writes a constant as JSON.
func encode(v any) (string, error) {
	switch v := v.(type) {
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			var err error
			if parts[i], err = encode(e); err != nil {
				return "", err
			}
		}
		return "[" + strings.Join(parts, ", ") + "]", nil
	case *jinja.Object:
		parts := make([]string, len(v.Keys()))
		for i, k := range v.Keys() {
			e, err := encode(v.Get(k))
			if err != nil {
				return "", err
			}
			parts[i] = quote(k) + ": " + e
		}
		return "{" + strings.Join(parts, ", ") + "}", nil
	case string:
		return quote(v), nil
	}
	raw, err := json.Marshal(v)
	return string(raw), err
}

// quote is a string as JSON, with nothing escaped for HTML.
func quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always can
	return strings.TrimSuffix(b.String(), "\n")
}

func typeNames(v any) (names []string, ok bool) {
	switch v := v.(type) {
	case nil:
		return nil, true
	case string:
		names = []string{v}
	case []any:
		for _, e := range v {
			name, _ := e.(string)
			names = append(names, name)
		}
	}
	for i, n := range names {
		if _, known := keywords[n]; !known || slices.Contains(names[:i], n) {
			return nil, false
		}
	}
	return names, len(names) > 0
}

// typed makes the expression of a schema by its types, or by those that its keywords are of.
func (c *compiler) typed(o *jinja.Object, asserted []string) grammar.Expr {
	names, ok := typeNames(o.Get("type"))
	if !ok {
		return c.refuse("type must be the name of a type or a list of them")
	}
	for _, k := range asserted {
		at := slices.IndexFunc(types, func(n string) bool { return slices.Contains(keywords[n], k) })
		if k != "type" && at < 0 {
			return c.refuse("keyword %.60q is not supported", k)
		}
		if o.Get("type") == nil && !slices.Contains(names, types[at]) {
			names = append(names, types[at])
		}
	}
	if len(names) == 0 {
		return c.any()
	}
	var all []grammar.Expr
	for _, n := range names {
		all = append(all, c.ofType(o, n))
	}
	return c.b.Alt(all...)
}

func (c *compiler) ofType(o *jinja.Object, name string) grammar.Expr {
	switch name {
	case "object":
		return c.object(o)
	case "array":
		return c.array(o)
	case "string":
		return c.string(o)
	case "integer", "number":
		return c.numeric(o, name)
	case "boolean":
		return c.b.Alt(c.b.Text("true"), c.b.Text("false"))
	}
	return c.b.Text("null")
}
