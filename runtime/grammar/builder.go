package grammar

import (
	"fmt"
	"slices"
	"unicode/utf8"
)

// Builder makes a grammar from expressions. It remembers its first error, which Finish returns;
// expressions made after one have no meaning.
type Builder struct {
	rules  [][]Expr
	names  map[int32]string
	sets   []set
	known  map[set]int32
	ranges map[string]Expr // of characters
	size   int
	made   int // elements of all expressions, of which others may be made
	err    error
}

// Expr is a sequence that a text may be part of. The zero value is the empty text.
type Expr []element

// Range is a range of characters, both ends included.
type Range struct{ From, To rune }

// NewBuilder makes an empty builder.
func NewBuilder() *Builder {
	return &Builder{names: map[int32]string{}, known: map[set]int32{}, ranges: map[string]Expr{}}
}

// Fail makes Finish return an error, if it is the first.
func (b *Builder) Fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// Err is the first error.
func (b *Builder) Err() error { return b.err }

// Finish makes the grammar of texts that e describes.
func (b *Builder) Finish(e Expr) (*Grammar, error) {
	root := b.Declare("root")
	b.Define(root, e)
	return b.finish(root[0].arg)
}

// Declare makes a rule, which Define defines. Its name is for messages.
func (b *Builder) Declare(name string) Expr {
	b.rules = append(b.rules, nil)
	id := int32(len(b.rules) - 1)
	b.grow(1)
	if name != "" {
		b.names[id] = name
	}
	return Expr{{opCall, id}}
}

// Define gives a declared rule its alternatives.
func (b *Builder) Define(rule Expr, alternatives ...Expr) {
	id := rule[0].arg
	for _, e := range alternatives {
		b.grow(len(e) + 1)
	}
	if b.err == nil {
		b.rules[id] = append(b.rules[id], alternatives...)
	}
}

func (b *Builder) name(id int32) string {
	for ; id >= 0; id-- { // an unnamed rule is part of the named one before it
		if name, ok := b.names[id]; ok {
			return name
		}
	}
	return "root"
}

func (b *Builder) grow(n int) {
	if b.size += n; b.size > maxElements {
		b.Fail(fmt.Errorf("%w: it has more than %d elements", ErrGrammar, maxElements))
	}
}

// room says whether an expression of n elements may be made. A short text asks for many long ones,
// none of which is defined before all are there.
func (b *Builder) room(n int) bool {
	if b.made += n; n > maxElements || b.made > maxMade {
		b.grow(maxElements + 1)
	}
	return b.err == nil
}

// Seq is one after another.
func (b *Builder) Seq(list ...Expr) Expr {
	n := 0
	for _, e := range list {
		n += len(e)
	}
	if !b.room(n) {
		return nil
	}
	return slices.Concat(list...)
}

// Append is e behind a sequence that Append made, which is used no more: a long sequence is not
// copied for each of its parts.
func (b *Builder) Append(sequence, e Expr) Expr {
	if len(sequence)+len(e) > maxElements {
		b.grow(maxElements + 1)
	}
	if !b.room(len(e)) {
		return nil
	}
	return append(sequence, e...)
}

// Alt is one of several.
func (b *Builder) Alt(list ...Expr) Expr {
	if len(list) == 1 {
		return list[0]
	}
	rule := b.Declare("")
	b.Define(rule, list...)
	return rule
}

// Opt is e or nothing.
func (b *Builder) Opt(e Expr) Expr { return b.Alt(e, nil) }

// Repeat is e so many times; a negative most is any number.
func (b *Builder) Repeat(e Expr, least, most int) Expr {
	if least > maxElements || most > maxElements || b.err != nil {
		b.grow(maxElements + 1)
		return nil
	}
	if len(e) > 1 && (least > 1 || most > 1) {
		e = b.Seq(b.rule(e))
	}
	if !b.room(least * len(e)) {
		return nil
	}
	var out Expr
	for range least {
		out = append(out, e...)
	}
	if most < 0 {
		rule := b.Declare("")
		b.Define(rule, b.Seq(e, rule), nil)
		return append(out, rule...)
	}
	var rest Expr
	for range most - least { // e (e (e)?)?
		rest = b.Opt(b.Seq(e, rest))
		if b.err != nil {
			return nil
		}
	}
	return append(out, rest...)
}

func (b *Builder) rule(e Expr) Expr {
	rule := b.Declare("")
	b.Define(rule, e)
	return rule
}

// Text is this text.
func (b *Builder) Text(text string) Expr {
	if !b.room(len(text)) {
		return nil
	}
	out := make(Expr, len(text))
	for i := range len(text) {
		var s set
		s.add(text[i], text[i])
		out[i] = b.set(s)
	}
	return out
}

func (b *Builder) set(s set) element {
	id, ok := b.known[s]
	if !ok {
		id = int32(len(b.sets))
		b.sets = append(b.sets, s)
		b.known[s] = id
		b.grow(1)
	}
	return element{opSet, id}
}

// Class is one character of these ranges, in UTF-8. Halves of surrogate pairs are none.
func (b *Builder) Class(ranges ...Range) Expr {
	if b.grow(len(ranges)); b.err != nil {
		return nil
	}
	key := fmt.Sprint(ranges)
	if e, ok := b.ranges[key]; ok {
		return e
	}
	var ascii set
	var list []Expr
	for _, r := range normal(ranges) {
		if r.From < utf8.RuneSelf {
			ascii.add(byte(r.From), byte(min(r.To, utf8.RuneSelf-1)))
		}
		for _, seq := range sequences(max(r.From, utf8.RuneSelf), r.To) {
			if b.grow(len(seq)); b.err != nil {
				return nil
			}
			e := make(Expr, len(seq))
			for i, s := range seq {
				e[i] = b.set(s)
			}
			list = append(list, e)
		}
	}
	if ascii.size() > 0 {
		list = append(list, Expr{b.set(ascii)})
	}
	if len(list) == 0 {
		b.Fail(fmt.Errorf("%w: a class of no characters", ErrGrammar))
		return nil
	}
	e := b.Alt(list...)
	b.ranges[key] = e
	return e
}

// Without is any text that does not contain a marker, which is of ASCII: a rule for each number
// of the marker's characters that the text ends with.
func (b *Builder) Without(marker string) Expr {
	rules := make([]Expr, len(marker))
	for i := range rules {
		rules[i] = b.Declare("")
	}
	var known []Range
	for i := range len(marker) {
		known = append(known, Range{rune(marker[i]), rune(marker[i])})
	}
	for i, rule := range rules {
		list := []Expr{nil, b.Seq(b.Class(Complement(known)...), rules[0])}
		for _, c := range normal(known) {
			for r := c.From; r <= c.To; r++ {
				if next := longest(marker, marker[:i]+string(r)); next < len(marker) {
					list = append(list, b.Seq(b.Class(Range{r, r}), rules[next]))
				}
			}
		}
		b.Define(rule, list...)
	}
	return rules[0]
}

// longest is the length of the longest end of text that the marker begins with.
func longest(marker, text string) int {
	for n := min(len(marker), len(text)); ; n-- {
		if text[len(text)-n:] == marker[:n] {
			return n
		}
	}
}

// Complement is the characters that are in none of the ranges.
func Complement(ranges []Range) []Range {
	var out []Range
	next := rune(0)
	for _, r := range normal(ranges) {
		if r.From > next {
			out = append(out, Range{next, r.From - 1})
		}
		next = r.To + 1
	}
	if next <= utf8.MaxRune {
		out = append(out, Range{next, utf8.MaxRune})
	}
	return out
}

// normal sorts ranges and joins those that touch.
func normal(ranges []Range) []Range {
	list := slices.Clone(ranges)
	slices.SortFunc(list, func(a, b Range) int { return int(a.From - b.From) })
	var out []Range
	for _, r := range list {
		r.To = min(r.To, utf8.MaxRune)
		switch {
		case r.From > r.To:
		case len(out) > 0 && r.From <= out[len(out)-1].To+1:
			out[len(out)-1].To = max(out[len(out)-1].To, r.To)
		default:
			out = append(out, r)
		}
	}
	return out
}

// sequences are the sequences of sets of bytes that the characters of a range beyond ASCII
// have in UTF-8.
func sequences(from, to rune) (out [][]set) {
	for _, span := range []Range{{0x80, 0x7ff}, {0x800, 0xd7ff}, {0xe000, 0xffff}, {0x10000, utf8.MaxRune}} {
		if lo, hi := max(from, span.From), min(to, span.To); lo <= hi {
			out = split(out, utf8.AppendRune(nil, lo), utf8.AppendRune(nil, hi), nil)
		}
	}
	return out
}

// split adds the sequences between two of the same length, behind what they have in common.
func split(out [][]set, lo, hi []byte, prefix []set) [][]set {
	with := func(from, to byte) []set {
		var s set
		s.add(from, to)
		return append(slices.Clone(prefix), s)
	}
	if len(lo) == 1 {
		return append(out, with(lo[0], hi[0]))
	}
	if lo[0] == hi[0] {
		return split(out, lo[1:], hi[1:], with(lo[0], lo[0]))
	}
	first, last := lo[0], hi[0]
	least, most := slices.Repeat([]byte{0x80}, len(lo)-1), slices.Repeat([]byte{0xbf}, len(lo)-1)
	if !slices.Equal(lo[1:], least) {
		out = split(out, lo[1:], most, with(first, first))
		first++
	}
	if !slices.Equal(hi[1:], most) {
		out = split(out, least, hi[1:], with(last, last))
		last--
	}
	if first <= last {
		out = split(out, least, most, with(first, last))
	}
	return out
}
