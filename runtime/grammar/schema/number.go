package schema

import (
	"math"
	"strconv"
	"strings"

	"github.com/anchorhold/anchorhold/runtime/grammar"
	"github.com/anchorhold/anchorhold/runtime/jinja"
)

// largest is the largest integer that is written.
const largest = 999_999_999_999_999

func (c *compiler) digits(least, most int) grammar.Expr {
	return c.b.Repeat(c.b.Class(grammar.Range{From: '0', To: '9'}), least, most)
}

func (c *compiler) numeric(o *jinja.Object, kind string) grammar.Expr {
	low, high := c.bound(o, "minimum", "exclusiveMinimum", math.Ceil, 1), c.bound(o, "maximum", "exclusiveMaximum", math.Floor, -1)
	if c.b.Err() != nil {
		return nil
	}
	if kind == "integer" {
		return c.integers(low, high)
	}
	fromZero := o.Get("minimum") == int64(0) || o.Get("minimum") == float64(0)
	if o.Get("exclusiveMinimum") != nil || high < largest || low != -largest && !fromZero {
		return c.refuse("bounds of numbers other than minimum 0 are not supported; those of integers are")
	}
	if c.number == nil || low == 0 {
		whole := c.b.Alt(c.b.Text("0"), c.b.Seq(c.b.Class(grammar.Range{From: '1', To: '9'}), c.digits(0, 14)))
		sign := c.b.Alt(c.b.Text("-"), nil)
		if low == 0 {
			sign = nil
		}
		e := c.b.Class(grammar.Range{From: 'e', To: 'e'}, grammar.Range{From: 'E', To: 'E'})
		exponent := c.b.Seq(e, c.b.Alt(c.b.Text("-"), c.b.Text("+"), nil), c.b.Class(grammar.Range{From: '1', To: '9'}), c.digits(0, 1))
		number := c.shared(c.b.Seq(sign, whole, c.b.Opt(c.b.Seq(c.b.Text("."), c.digits(1, 15))), c.b.Opt(exponent)))
		if low == 0 {
			return number
		}
		c.number = number
	}
	return c.number
}

// bound reads the nearest of two bounds, as the integer that is still within both.
func (c *compiler) bound(o *jinja.Object, name, exclusive string, round func(float64) float64, inward float64) int64 {
	out := -inward * largest
	for _, n := range []string{name, exclusive} {
		var v float64
		switch b := o.Get(n).(type) {
		case nil:
			continue
		case int64:
			v = float64(b)
		case float64:
			v = b
		default:
			c.refuse("%s must be a number", n)
			return 0
		}
		at := round(v)
		if n == exclusive && at == v {
			at += inward
		}
		if inward*at > inward*out {
			out = at
		}
	}
	return int64(max(-largest-1, min(out, largest+1)))
}

// integers are those from low to high.
func (c *compiler) integers(low, high int64) grammar.Expr {
	if low > high || low > largest || high < -largest {
		return c.refuse("there is no integer of at most %d between the bounds", largest)
	}
	low, high = max(low, -largest), min(high, largest)
	var all []grammar.Expr
	if low < 0 {
		all = append(all, c.b.Seq(c.b.Text("-"), c.natural(max(1, -high), -low)))
	}
	if high >= 0 {
		all = append(all, c.natural(max(0, low), high))
	}
	return c.b.Alt(all...)
}

// natural are the numbers from low to high, neither negative, by their lengths.
func (c *compiler) natural(low, high int64) grammar.Expr {
	var all []grammar.Expr
	for n, from := 1, int64(0); from <= high; n++ {
		to := int64(math.Pow10(n)) - 1
		if lo, hi := max(low, from), min(high, to); lo <= hi {
			all = append(all, c.between(strconv.FormatInt(lo, 10), strconv.FormatInt(hi, 10)))
		}
		from = to + 1
	}
	return c.b.Alt(all...)
}

// between are the numbers between two of the same length.
func (c *compiler) between(low, high string) grammar.Expr {
	n := len(low)
	class := func(from, to byte) grammar.Expr { return c.b.Class(grammar.Range{From: rune(from), To: rune(to)}) }
	if n == 0 {
		return nil
	}
	if low[0] == high[0] {
		return c.b.Seq(class(low[0], low[0]), c.between(low[1:], high[1:]))
	}
	zeros, nines := strings.Repeat("0", n-1), strings.Repeat("9", n-1)
	first, last := low[0], high[0]
	var all []grammar.Expr
	if low[1:] != zeros {
		all = append(all, c.b.Seq(class(first, first), c.between(low[1:], nines)))
		first++
	}
	if high[1:] != nines {
		all = append(all, c.b.Seq(class(last, last), c.between(zeros, high[1:])))
		last--
	}
	if first <= last {
		all = append(all, c.b.Seq(class(first, last), c.digits(n-1, n-1)))
	}
	return c.b.Alt(all...)
}
