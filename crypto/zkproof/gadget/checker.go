package gadget

import (
	"errors"
	"math/big"

	"github.com/consensys/gnark/frontend"
)

// tableSize is what bytes are looked up in: one table for every check of a circuit.
const tableSize = 256

// Checker collects byte checks and answers them with one argument at the end.
//
// It is logarithmic derivatives (ePrint 2022/1530): for a challenge x that is drawn
// after all checked numbers v and the table's multiplicities m,
//
//	sum over v of 1/(x-v) = sum over t < 256 of m[t]/(x-t)
//
// holds only if every v is in the table, but with a probability of the number of
// checks in 2^254. It costs one constraint for each check and 256 for the table.
type Checker struct {
	api     frontend.API
	without string // the assertion that a test leaves out
	queries []frontend.Variable
	wires   []frontend.Variable // that the queries are made of, and others to commit to
	waiting []func(challenge frontend.Variable)
}

// NewChecker begins. without names an assertion that tests leave out; it is empty
// otherwise.
func NewChecker(api frontend.API, without string) *Checker {
	return &Checker{api: api, without: without}
}

// Equal asserts a == b.
func (c *Checker) Equal(name string, a, b frontend.Variable) {
	if name != c.without {
		c.api.AssertIsEqual(a, b)
	}
}

// Zero asserts a*b == 0.
func (c *Checker) Zero(name string, a, b frontend.Variable) {
	if name != c.without {
		c.api.AssertIsEqual(c.api.Mul(a, b), 0)
	}
}

// Bit asserts that v is 0 or 1.
func (c *Checker) Bit(name string, v frontend.Variable) {
	c.Zero(name, v, c.api.Sub(1, v))
}

// Byte asserts that v, a linear function of witnesses that are committed to, is from
// 0 to 255.
func (c *Checker) Byte(name string, v frontend.Variable) {
	if name != c.without {
		c.queries = append(c.queries, v)
	}
}

// Commit has witnesses covered by the commitment from which challenges come.
func (c *Checker) Commit(v ...frontend.Variable) { c.wires = append(c.wires, v...) }

// Bytes asserts that each of some witnesses is a byte, and returns the number that
// they are, lowest first.
func (c *Checker) Bytes(name string, v []frontend.Variable) frontend.Variable {
	c.Commit(v...)
	sum := frontend.Variable(0)
	for i, b := range v {
		c.Byte(name, b)
		sum = c.api.Add(sum, c.api.Mul(b, Power(8*i)))
	}
	return sum
}

// Below asserts that witnesses are the bytes of a number below 2^bits, lowest first,
// and returns it. There are (bits+7)/8 of them.
func (c *Checker) Below(name string, v []frontend.Variable, bits int) frontend.Variable {
	sum := c.Bytes(name, v)
	switch top := v[len(v)-1]; bits % 8 {
	case 0:
	case 1:
		c.Bit(name, top)
	default:
		// A byte that is one still after it was shifted to the byte's end.
		c.Byte(name, c.api.Mul(top, 1<<(8-bits%8)))
	}
	return sum
}

// Defer runs f with the challenge, when everything was committed to.
func (c *Checker) Defer(f func(challenge frontend.Variable)) { c.waiting = append(c.waiting, f) }

// Power is 2^n.
func Power(n int) *big.Int { return new(big.Int).Lsh(big.NewInt(1), uint(n)) }

// Finish makes the one commitment and answers all checks. multiplicities are 256
// witnesses: how often each byte was checked.
func (c *Checker) Finish(multiplicities []frontend.Variable) error {
	committer, ok := c.api.Compiler().(frontend.Committer)
	if !ok {
		return errors.New("gadget: this builder has no commitments")
	}
	challenge, err := committer.Commit(append(c.wires, multiplicities...)...)
	if err != nil {
		return err
	}
	left := frontend.Variable(0)
	inverses := make([]frontend.Variable, len(c.queries))
	for i, v := range c.queries {
		inverses[i] = c.api.Sub(challenge, v)
	}
	if batch, ok := c.api.(frontend.BatchInverter); ok {
		inverses = batch.BatchInvert(inverses)
	} else {
		for i, v := range inverses {
			inverses[i] = c.api.Inverse(v)
		}
	}
	left = sum(c.api, inverses)
	quotients := make([]frontend.Variable, tableSize)
	for t, m := range multiplicities {
		quotients[t] = c.api.DivUnchecked(m, c.api.Sub(challenge, t))
	}
	c.Equal("lookup", left, sum(c.api, quotients))
	for _, f := range c.waiting {
		f(challenge)
	}
	return nil
}

// sum adds in one linear expression.
func sum(api frontend.API, v []frontend.Variable) frontend.Variable {
	switch len(v) {
	case 0:
		return 0
	case 1:
		return v[0]
	}
	return api.Add(v[0], v[1], v[2:]...)
}

// Sum adds in one linear expression.
func Sum(api frontend.API, v []frontend.Variable) frontend.Variable { return sum(api, v) }
