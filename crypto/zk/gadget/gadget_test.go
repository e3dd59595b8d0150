package gadget

import (
	"errors"
	"math/big"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark/constraint"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/frontend/cs/r1cs"
	"github.com/consensys/gnark/frontend/cs/scs"
	"github.com/consensys/gnark/logger"

	"github.com/anchorhold/anchorhold/crypto/zk/poseidon2"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

var modulus = ecc.BN254.ScalarField()

// rangesCircuit has one check of each kind.
type rangesCircuit struct {
	Byte, Bit, In, Free frontend.Variable
	Whole               [3]frontend.Variable
	Below               [2]frontend.Variable // of 11 bits
	Sum, Least          frontend.Variable    `gnark:",public"`
	Steps, StepCounts   []frontend.Variable
	Counts              [Bytes]frontend.Variable

	skip  func(string) bool
	twice bool
}

func (c *rangesCircuit) Define(api frontend.API) error {
	check := NewChecker(api, c.Counts[:], c.skip)
	check.Bind("bind", c.Sum)
	check.Bit("bit", c.Bit)
	check.Commit(c.Byte, c.In)
	check.Byte("byte", c.Byte)
	table, top := check.Steps("table", c.Steps, c.StepCounts)
	check.In("in", table, c.In)
	check.Equal("top", top, 5)
	check.Product("zero", c.Free, c.Bit, 0)
	check.Equal("whole-sum", check.Whole("whole", c.Whole[:]), c.Sum)
	check.Equal("below-sum", check.Below("below", c.Below[:], 11), c.Least)
	called := false
	check.Defer(func(challenge frontend.Variable) {
		called = true
		api.AssertIsDifferent(challenge, 0)
	})
	if err := check.Finish(); err != nil {
		return err
	}
	if !called {
		return errors.New("the deferred part was not run")
	}
	if c.twice {
		return check.Finish()
	}
	return nil
}

func ranges(steps int) *rangesCircuit {
	return &rangesCircuit{Steps: make([]frontend.Variable, steps), StepCounts: make([]frontend.Variable, steps+1)}
}

// honest is 5 in a table to 5, 0x030201 and 2047.
func honest(count map[int]int) *rangesCircuit {
	c := ranges(7)
	c.Byte, c.Bit, c.In, c.Free = 255, 1, 5, 0
	c.Whole = [3]frontend.Variable{1, 2, 3}
	c.Below = [2]frontend.Variable{255, 7}
	c.Sum, c.Least = 0x030201, 2047
	for i := range c.Steps {
		c.Steps[i] = 0
		if i < 5 {
			c.Steps[i] = 1
		}
	}
	for i := range c.StepCounts {
		c.StepCounts[i] = 0
	}
	c.StepCounts[5] = 1
	for i := range c.Counts {
		c.Counts[i] = count[i]
	}
	return c
}

// 255 twice, of Byte and Below; 7 and, shifted by five bits, 224.
var honestCounts = map[int]int{255: 2, 1: 1, 2: 1, 3: 1, 7: 1, 224: 1}

func compileFor(t testing.TB, c frontend.Circuit) constraint.ConstraintSystem {
	t.Helper()
	logger.Disable()
	cs, err := frontend.Compile(modulus, r1cs.NewBuilder, c, frontend.IgnoreUnconstrainedInputs())
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

func solved(t testing.TB, cs constraint.ConstraintSystem, c frontend.Circuit) bool {
	t.Helper()
	w, err := frontend.NewWitness(c, modulus)
	if err != nil {
		t.Fatal(err)
	}
	return cs.IsSolved(w) == nil
}

func TestChecksHoldAndRefuse(t *testing.T) {
	cs := compileFor(t, ranges(7))
	if !solved(t, cs, honest(honestCounts)) {
		t.Fatal("the honest witness is refused")
	}
	counts := func(changes ...int) map[int]int {
		m := map[int]int{}
		for k, v := range honestCounts {
			m[k] = v
		}
		for i := 0; i < len(changes); i += 2 {
			m[changes[i]] += changes[i+1]
		}
		return m
	}
	for name, c := range map[string]struct {
		skip   string // the assertion whose absence lets it pass
		counts map[int]int
		change func(c *rangesCircuit)
	}{
		"a bit of 2":              {"bit", counts(), func(c *rangesCircuit) { c.Bit = 2 }},
		"a product":               {"zero", counts(), func(c *rangesCircuit) { c.Free = 3 }},
		"a byte of 256":           {"byte", counts(255, -1), func(c *rangesCircuit) { c.Byte = 256 }},
		"a byte below zero":       {"byte", counts(255, -1), func(c *rangesCircuit) { c.Byte = -1 }},
		"beyond a table":          {"in", counts(), func(c *rangesCircuit) { c.In, c.StepCounts[5] = 6, 0 }},
		"another end":             {"top", counts(), func(c *rangesCircuit) { c.Steps[5] = 1 }},
		"a step of -1":            {"table-step", counts(), func(c *rangesCircuit) { c.Steps[5], c.Steps[6] = 1, -1 }},
		"looked up elsewhere":     {"table-lookup", counts(), func(c *rangesCircuit) { c.In = 7 }},
		"bytes of 256 and 1":      {"whole", counts(1, -1, 2, -1, 3, -1), func(c *rangesCircuit) { c.Whole = [3]frontend.Variable{0x201, 0, 3} }},
		"another number":          {"whole-sum", counts(), func(c *rangesCircuit) { c.Sum = 0x030202 }},
		"2048 of 11 bits":         {"below-top", counts(255, -1, 7, -1, 0, 1, 8, 1, 224, -1), func(c *rangesCircuit) { c.Below, c.Least = [2]frontend.Variable{0, 8}, 2048 }},
		"2048 in the lower byte":  {"below", counts(255, -1, 7, -1, 224, -1, 0, 1), func(c *rangesCircuit) { c.Below, c.Least = [2]frontend.Variable{2048, 0}, 2048 }},
		"another number of 11":    {"below-sum", counts(), func(c *rangesCircuit) { c.Least = 1 }},
		"multiplicities off by 1": {"lookup", counts(9, 1), func(*rangesCircuit) {}},
	} {
		w := honest(c.counts)
		c.change(w)
		if solved(t, cs, w) {
			t.Errorf("%s: accepted", name)
		}
		mutant := ranges(7)
		mutant.skip = func(n string) bool { return n == c.skip }
		if !solved(t, compileFor(t, mutant), w) {
			t.Errorf("%s: not stopped by %q alone", name, c.skip)
		}
	}
}

// Each of a table's checks costs one constraint, each entry one.
func TestCostOfAByte(t *testing.T) {
	cost := func(n int) int {
		return compileFor(t, &bytesCircuit{V: make([]frontend.Variable, n)}).GetNbConstraints()
	}
	if more := cost(1100) - cost(100); more > 1001 {
		t.Errorf("1,000 checks cost %d constraints", more)
	}
	if fixed := cost(100) - 100; fixed > Bytes+3 {
		t.Errorf("the table costs %d constraints", fixed)
	}
}

type bytesCircuit struct {
	V      []frontend.Variable
	Counts [Bytes]frontend.Variable
}

func (c *bytesCircuit) Define(api frontend.API) error {
	check := NewChecker(api, c.Counts[:], nil)
	check.Commit(c.V...)
	for _, v := range c.V {
		check.Byte("byte", v)
	}
	return check.Finish()
}

func TestOneCommitment(t *testing.T) {
	c := ranges(7)
	c.twice = true
	if _, err := frontend.Compile(modulus, r1cs.NewBuilder, c); !errors.Is(err, ErrFinished) {
		t.Errorf("a second commitment: %v", err)
	}
	if _, err := frontend.Compile(modulus, scs.NewBuilder, ranges(7)); err != nil {
		t.Errorf("for PLONK: %v", err)
	}
	if Sum(nil, nil) != 0 {
		t.Error("the sum of nothing")
	}
}

// spongeCircuit packs and hashes.
type spongeCircuit struct {
	In  []frontend.Variable
	Out frontend.Variable `gnark:",public"`
	raw bool              // elements, not bytes
}

func (c *spongeCircuit) Define(api frontend.API) error {
	in := c.In
	if !c.raw {
		in = Pack(api, nil, in, 8, statement.BytesPerElement)
	}
	h, err := Hash(api, statement.DomainInput, in)
	if err != nil {
		return err
	}
	api.AssertIsEqual(h, c.Out)
	return nil
}

func number(e poseidon2.Element) *big.Int {
	b := e.Bytes()
	return new(big.Int).SetBytes(b[:])
}

// Hash and Pack are those of package statement, at every length around a block.
func TestTheSpongeIsTheStatements(t *testing.T) {
	longtest.WithoutRace(t, "it solves the circuit of a sponge of seven lengths")
	for _, n := range []int{0, 1, 14, 15, 16, 30, 31} {
		elements := make([]poseidon2.Element, n)
		c, w := &spongeCircuit{In: make([]frontend.Variable, n), raw: true}, &spongeCircuit{raw: true}
		for i := range elements {
			e := fr.NewElement(uint64(i*i + 3))
			var err error
			if elements[i], err = poseidon2.Parse(e.Inverse(&e).Bytes()); err != nil {
				t.Fatal(err)
			}
			w.In = append(w.In, number(elements[i]))
		}
		h := statement.Hash(statement.DomainInput, elements)
		w.Out = number(h)
		cs := compileFor(t, c)
		if !solved(t, cs, w) {
			t.Errorf("%d elements: another hash", n)
		}
		h = statement.Hash(statement.DomainWeights, elements)
		w.Out = number(h)
		if solved(t, cs, w) {
			t.Errorf("%d elements: the hash of another domain", n)
		}
	}
	for _, n := range []int{1, 30, 31, 32, 500} {
		values := make([]int8, n)
		c, w := &spongeCircuit{In: make([]frontend.Variable, n)}, &spongeCircuit{}
		for i := range values {
			values[i] = int8(i*i - 100)
			w.In = append(w.In, int(values[i])+128)
		}
		h := statement.Hash(statement.DomainInput, statement.PackInt8(nil, values))
		w.Out = number(h)
		if !solved(t, compileFor(t, c), w) {
			t.Errorf("%d bytes: another hash", n)
		}
	}
}
