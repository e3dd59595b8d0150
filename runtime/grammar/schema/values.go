package schema

import (
	"math"
	"slices"

	"github.com/anchorhold/anchorhold/runtime/grammar"
	"github.com/anchorhold/anchorhold/runtime/jinja"
)

// white is what may be between tokens of JSON: not without end, or a model might not end it.
func (c *compiler) white() grammar.Expr {
	if c.space == nil {
		indent := c.b.Repeat(c.b.Class(grammar.Range{From: ' ', To: ' '}, grammar.Range{From: '\t', To: '\t'}), 0, 20)
		c.space = c.b.Alt(nil, c.b.Text(" "), c.b.Seq(c.b.Text("\n"), indent))
	}
	return c.space
}

// any is any value.
func (c *compiler) any() grammar.Expr {
	if c.anyone == nil {
		c.anyone = c.b.Declare("any value")
		empty := &jinja.Object{}
		var all []grammar.Expr
		for _, n := range types {
			if n != "integer" {
				all = append(all, c.ofType(empty, n))
			}
		}
		c.b.Define(c.anyone, all...)
	}
	return c.anyone
}

// list is values between brackets with commas, the rest of them after the first.
func (c *compiler) list(begin, end string, inner grammar.Expr) grammar.Expr {
	return c.b.Seq(c.b.Text(begin), c.white(), inner, c.white(), c.b.Text(end))
}

func (c *compiler) comma() grammar.Expr { return c.b.Seq(c.b.Text(","), c.white()) }

// property is one of the named properties of an object.
type property struct {
	pair     grammar.Expr
	required bool
}

func (c *compiler) object(o *jinja.Object) grammar.Expr {
	named, ok := o.Get("properties").(*jinja.Object)
	if !ok && o.Get("properties") != nil {
		return c.refuse("properties must be an object")
	}
	if named == nil {
		named = &jinja.Object{}
	}
	more := o.Get("additionalProperties")
	if more == nil {
		more = true
	}
	required, ok := o.Get("required").([]any)
	if !ok && o.Get("required") != nil {
		return c.refuse("required must be a list of names")
	}
	var list []property
	add := func(name string, s any) {
		pair := c.b.Seq(c.b.Text(quote(name)), c.white(), c.b.Text(":"), c.white(), c.value(s))
		list = append(list, property{pair, slices.Contains(required, any(name))})
	}
	for _, name := range named.Keys() {
		if named.Get(name) == false {
			continue // it must not be there
		}
		add(name, named.Get(name))
	}
	for i, r := range required {
		name, ok := r.(string)
		switch {
		case !ok:
			return c.refuse("required must be a list of names")
		case slices.Contains(named.Keys(), name) && named.Get(name) != false || slices.Contains(required[:i], r):
		case more == false || named.Get(name) == false:
			return c.refuse("required names %.60q, which must not be there", name)
		default:
			add(name, more)
		}
	}
	if len(list) > 0 || more == false {
		return c.list("{", "}", c.properties(list))
	}
	pair := c.b.Seq(c.plainText(), c.white(), c.b.Text(":"), c.white(), c.value(more))
	return c.list("{", "}", c.b.Opt(c.b.Seq(pair, c.b.Repeat(c.b.Seq(c.comma(), pair), 0, -1))))
}

// properties is the named properties in their order, optional ones or not, with commas between.
func (c *compiler) properties(list []property) grammar.Expr {
	var first, later grammar.Expr // what follows if nothing was there, or something was
	for _, p := range slices.Backward(list) {
		next, begin := c.b.Seq(c.comma(), p.pair, later), c.b.Seq(p.pair, later)
		if !p.required {
			next, begin = c.b.Alt(next, later), c.b.Alt(begin, first)
		}
		first, later = c.shared(begin), c.shared(next)
	}
	return first
}

// shared is an expression as one rule, so that who uses it twice does not copy it.
func (c *compiler) shared(e grammar.Expr) grammar.Expr {
	if len(e) <= 1 {
		return e
	}
	rule := c.b.Declare("")
	c.b.Define(rule, e)
	return rule
}

// count reads a bound, which must be a whole number.
func (c *compiler) count(o *jinja.Object, name string, absent int) int {
	switch v := o.Get(name).(type) {
	case nil:
		return absent
	case int64:
		if v >= 0 && v <= math.MaxInt32 {
			return int(v)
		}
	}
	c.refuse("%s must be a whole number of at least 0", name)
	return 0
}

func (c *compiler) array(o *jinja.Object) grammar.Expr {
	least, most := c.count(o, "minItems", 0), c.count(o, "maxItems", -1)
	if most >= 0 && most < least {
		return c.refuse("maxItems is below minItems")
	}
	if unique := o.Get("uniqueItems"); unique != nil && unique != false {
		return c.refuse("uniqueItems is not supported")
	}
	prefix, ok := o.Get("prefixItems").([]any)
	if !ok && o.Get("prefixItems") != nil {
		return c.refuse("prefixItems must be a list of schemas")
	}
	items := o.Get("items")
	if items == nil && len(prefix) == 0 || items == nil && least > len(prefix) {
		items = true
	}
	if most >= 0 {
		prefix = prefix[:min(len(prefix), most)]
	}
	var inner grammar.Expr
	for i, s := range prefix {
		if i > 0 {
			inner = c.b.Append(inner, c.comma())
		}
		inner = c.b.Append(inner, c.value(s))
	}
	least = max(0, least-len(prefix))
	if most >= 0 {
		most -= len(prefix)
	}
	if items == nil || items == false {
		if least > 0 {
			return c.refuse("minItems is above the number of items that there may be")
		}
		most = 0
	}
	if most == 0 {
		return c.list("[", "]", inner)
	}
	item := c.shared(c.value(items))
	if len(prefix) > 0 {
		inner = c.b.Seq(inner, c.b.Repeat(c.b.Seq(c.comma(), item), least, most))
		return c.list("[", "]", inner)
	}
	rest := c.b.Seq(item, c.b.Repeat(c.b.Seq(c.comma(), item), max(0, least-1), max(-1, most-1)))
	if least == 0 {
		rest = c.b.Opt(rest)
	}
	return c.list("[", "]", rest)
}

// character is one character of a string: itself, or an escape. Half a surrogate pair is none.
func (c *compiler) character() grammar.Expr {
	if c.char == nil {
		hex := func(ranges ...grammar.Range) grammar.Expr { return c.b.Class(ranges...) }
		digit := hex(grammar.Range{From: '0', To: '9'}, grammar.Range{From: 'a', To: 'f'}, grammar.Range{From: 'A', To: 'F'})
		unit := c.b.Alt(
			c.b.Seq(hex(grammar.Range{From: '0', To: '9'}, grammar.Range{From: 'a', To: 'c'}, grammar.Range{From: 'e', To: 'f'},
				grammar.Range{From: 'A', To: 'C'}, grammar.Range{From: 'E', To: 'F'}), digit, digit, digit),
			c.b.Seq(hex(grammar.Range{From: 'd', To: 'd'}, grammar.Range{From: 'D', To: 'D'}), hex(grammar.Range{From: '0', To: '7'}), digit, digit))
		var short []grammar.Range
		for _, r := range `"\/bfnrt` {
			short = append(short, grammar.Range{From: r, To: r})
		}
		c.char = c.b.Alt(c.b.Class(grammar.Complement(escaped)...), c.b.Seq(c.b.Text(`\`), c.b.Alt(c.b.Class(short...), c.b.Seq(c.b.Text("u"), unit))))
	}
	return c.char
}

// escaped are the characters that JSON does not have in a string as they are.
var escaped = []grammar.Range{{From: 0, To: 0x1f}, {From: '"', To: '"'}, {From: '\\', To: '\\'}}

func (c *compiler) plainText() grammar.Expr {
	if c.text == nil {
		c.text = c.shared(c.quoted(c.b.Repeat(c.character(), 0, -1)))
	}
	return c.text
}

func (c *compiler) quoted(inner grammar.Expr) grammar.Expr {
	return c.b.Seq(c.b.Text(`"`), inner, c.b.Text(`"`))
}

// formats are those that are checked. A day may be one that its month does not have.
var formats = map[string]string{
	"date":      `^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$`,
	"time":      `^([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`,
	"date-time": `^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`,
	"uuid":      `^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`,
}

func (c *compiler) string(o *jinja.Object) grammar.Expr {
	least, most := c.count(o, "minLength", 0), c.count(o, "maxLength", -1)
	pattern, isText := o.Get("pattern").(string)
	if o.Get("pattern") != nil && !isText {
		return c.refuse("pattern must be a string")
	}
	if format := o.Get("format"); format != nil {
		name, _ := format.(string)
		known, ok := formats[name]
		if !ok || isText {
			return c.refuse("format %.40q is not supported, or not beside a pattern", name)
		}
		pattern, isText = known, true
	}
	switch {
	case isText && (least > 0 || most >= 0):
		return c.refuse("minLength and maxLength beside a pattern or format are not supported")
	case isText:
		return c.quoted(c.pattern(pattern))
	case most >= 0 && most < least:
		return c.refuse("maxLength is below minLength")
	case least == 0 && most < 0:
		return c.plainText()
	}
	return c.quoted(c.b.Repeat(c.character(), least, most))
}
