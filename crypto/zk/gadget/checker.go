package gadget

import (
	"errors"
	"math/big"

	"github.com/consensys/gnark/frontend"
)

// Bytes is the number of entries of the table that bytes are looked up in.
const Bytes = 256

// ErrFinished means that a checker was used after it was finished, or was finished twice.
var ErrFinished = errors.New("gadget: the checker has already made its one commitment")

// Checker makes the assertions of a circuit. Range checks are collected and answered
// with one argument at the end.
//
// The argument is logarithmic derivatives (ePrint 2022/1530): for a challenge x that is
// drawn after all checked numbers v, the table's entries t and their multiplicities m,
//
//	sum over v of 1/(x-v) = sum over t of m[t]/(x-t)
//
// holds only if every v is in the table, but with a probability of about the number of
// checks in 2^254. It costs one constraint for each check and one for each entry. Every
// v must be a linear function of witnesses that were given to Commit, for whoever knows
// x could choose the rest.
type Checker struct {
	api     frontend.API
	system  *rankOne               // nil for PLONK
	skip    func(name string) bool // assertions that a test leaves out
	bytes   *Table
	tables  []*Table
	wires   []frontend.Variable // that the challenge comes from
	waiting []func(challenge frontend.Variable)
	done    bool
}

// Table is what numbers are looked up in.
type Table struct {
	name    string              // of the assertion that answers its checks
	entries []frontend.Variable // constants, or linear in committed witnesses
	counts  []frontend.Variable
	queries []frontend.Variable
}

// NewChecker begins. counts are Bytes witnesses: how often each byte is checked. skip
// names assertions to leave out, which only tests do; it is nil otherwise.
func NewChecker(api frontend.API, counts []frontend.Variable, skip func(name string) bool) *Checker {
	c := &Checker{api: api, system: newRankOne(api), skip: skip}
	c.bytes = &Table{name: "lookup", counts: counts}
	for t := range counts {
		c.bytes.entries = append(c.bytes.entries, t)
	}
	c.Commit(counts...)
	c.tables = append(c.tables, c.bytes)
	return c
}

func (c *Checker) skipped(name string) bool { return c.skip != nil && c.skip(name) }

// Equal asserts a == b.
func (c *Checker) Equal(name string, a, b frontend.Variable) {
	if !c.skipped(name) {
		c.api.AssertIsEqual(a, b)
	}
}

// Product asserts a*b == product.
func (c *Checker) Product(name string, a, b, product frontend.Variable) {
	switch {
	case c.skipped(name):
	case c.system != nil:
		c.system.equal(a, b, product)
	default:
		c.api.AssertIsEqual(c.api.Mul(a, b), product)
	}
}

// Bit asserts that v is 0 or 1.
func (c *Checker) Bit(name string, v frontend.Variable) {
	if !c.skipped(name) {
		c.api.AssertIsBoolean(v)
	}
}

// Bind makes a public input take part in one constraint. In Groth16, an input that takes part in
// none could be exchanged in a finished proof.
func (c *Checker) Bind(name string, v frontend.Variable) {
	if !c.skipped(name) {
		c.api.Mul(v, v)
	}
}

// Commit adds witnesses to the commitment from which the challenge comes.
func (c *Checker) Commit(v ...frontend.Variable) { c.wires = append(c.wires, v...) }

// Byte asserts that v is from 0 to 255.
func (c *Checker) Byte(name string, v frontend.Variable) { c.In(name, c.bytes, v) }

// In asserts that v is in a table of this checker.
func (c *Checker) In(name string, t *Table, v frontend.Variable) {
	if !c.skipped(name) {
		t.queries = append(t.queries, v)
	}
}

// Steps makes a table of the numbers from 0 to top, where top is the sum of steps,
// which are witnessed bits. counts are the multiplicities of the len(steps)+1 entries:
// of several that are equal any may count. Its assertions are called name-step and
// name-lookup.
func (c *Checker) Steps(name string, steps, counts []frontend.Variable) (t *Table, top frontend.Variable) {
	c.Commit(steps...)
	c.Commit(counts...)
	t = &Table{name: name + "-lookup", counts: counts, entries: make([]frontend.Variable, len(counts))}
	top = frontend.Variable(0)
	t.entries[0] = top
	for i, s := range steps {
		c.Bit(name+"-step", s)
		top = c.api.Add(top, s)
		t.entries[i+1] = top
	}
	c.tables = append(c.tables, t)
	return t, top
}

// Whole asserts that each of the witnesses is a byte, and returns the number that they form,
// lowest first.
func (c *Checker) Whole(name string, v []frontend.Variable) frontend.Variable {
	c.Commit(v...)
	terms := make([]frontend.Variable, len(v))
	for i, b := range v {
		c.Byte(name, b)
		terms[i] = c.api.Mul(b, Power(8*i))
	}
	return Sum(c.api, terms)
}

// Below asserts that witnesses are the bytes of a number below 2^bits, lowest first,
// and returns it. There are (bits+7)/8 of them. The assertion about the highest byte is
// called name-top.
func (c *Checker) Below(name string, v []frontend.Variable, bits int) frontend.Variable {
	sum := c.Whole(name, v)
	// A byte that is one still after it was shifted to the byte's end.
	if rest := bits % 8; rest != 0 {
		c.Byte(name+"-top", c.api.Mul(v[len(v)-1], 1<<(8-rest)))
	}
	return sum
}

// Defer runs f with the challenge, once everything is committed to.
func (c *Checker) Defer(f func(challenge frontend.Variable)) { c.waiting = append(c.waiting, f) }

// Finish makes the one commitment, and answers all range checks. The assertion about
// bytes is called lookup.
func (c *Checker) Finish() error {
	if c.done {
		return ErrFinished
	}
	c.done = true
	committer, ok := c.api.Compiler().(frontend.Committer)
	if !ok {
		return errors.New("gadget: this builder does not support commitments")
	}
	challenge, err := committer.Commit(c.wires...)
	if err != nil {
		return err
	}
	for _, t := range c.tables {
		quotients := make([]frontend.Variable, len(t.entries))
		for i, entry := range t.entries {
			quotients[i] = c.api.DivUnchecked(t.counts[i], c.api.Sub(challenge, entry))
		}
		c.Equal(t.name, Sum(c.api, c.inverses(challenge, t.queries)), Sum(c.api, quotients))
	}
	for _, f := range c.waiting {
		f(challenge)
	}
	return nil
}

// inverses are 1/(challenge-v) of some numbers.
func (c *Checker) inverses(challenge frontend.Variable, v []frontend.Variable) []frontend.Variable {
	out := make([]frontend.Variable, len(v))
	for i := range v {
		out[i] = c.api.Sub(challenge, v[i])
	}
	if c.system != nil {
		return c.system.invert(out)
	}
	if batch, ok := c.api.(frontend.BatchInverter); ok {
		return batch.BatchInvert(out)
	}
	for i := range out {
		out[i] = c.api.Inverse(out[i])
	}
	return out
}

// Power is 2^n.
func Power(n int) *big.Int { return new(big.Int).Lsh(big.NewInt(1), uint(n)) }

// Sum adds in one linear expression.
func Sum(api frontend.API, v []frontend.Variable) frontend.Variable {
	switch len(v) {
	case 0:
		return 0
	case 1:
		return v[0]
	}
	return api.Add(v[0], v[1], v[2:]...)
}
