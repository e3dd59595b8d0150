package circuits

import (
	"fmt"
	"math/big"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark/backend/witness"
	"github.com/consensys/gnark/constraint"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/frontend/cs/r1cs"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
)

var modulus = ecc.BN254.ScalarField()

// number is an assigned witness.
func number(v frontend.Variable) *big.Int {
	switch v := v.(type) {
	case int:
		return big.NewInt(int64(v))
	case int64:
		return big.NewInt(v)
	case int32:
		return big.NewInt(int64(v))
	case uint32:
		return big.NewInt(int64(v))
	case uint64:
		return new(big.Int).SetUint64(v)
	case *big.Int:
		return v
	case big.Int:
		return &v
	}
	panic(fmt.Sprintf("a witness of %T", v))
}

// setNumber writes v as bytes, lowest first. Whatever does not fit, and the sign, goes to
// the highest, which is then no byte.
func setNumber(dst []frontend.Variable, v *big.Int) {
	v = new(big.Int).Set(v)
	for i := range dst[:len(dst)-1] {
		dst[i] = new(big.Int).And(v, big.NewInt(255))
		v.Rsh(v, 8)
	}
	dst[len(dst)-1] = v
}

// wholeOf is the number that bytes make, proper or not.
func wholeOf(v []frontend.Variable) *big.Int {
	sum := new(big.Int)
	for i := len(v) - 1; i >= 0; i-- {
		sum.Lsh(sum, 8).Add(sum, number(v[i]))
	}
	return sum
}

// inField is num/den modulo the order of the field.
func inField(num, den int64) *big.Int {
	inverse := new(big.Int).ModInverse(big.NewInt(den), modulus)
	return inverse.Mul(inverse, big.NewInt(num)).Mod(inverse, modulus)
}

// evaluator runs a circuit on numbers, with the challenge 0 and without any assertion,
// to see what it looks up.
type evaluator struct {
	frontend.API
	tables []lookupTable
}

type lookupTable struct {
	counts, entries, queries []*big.Int
}

type evaluatorCompiler struct{ frontend.Compiler }

func (evaluatorCompiler) Field() *big.Int { return modulus }
func (evaluatorCompiler) Commit(...frontend.Variable) (frontend.Variable, error) {
	return new(big.Int), nil
}
func (e *evaluator) Compiler() frontend.Compiler { return evaluatorCompiler{} }

func (e *evaluator) fold(a, b frontend.Variable, more []frontend.Variable, f func(z, x, y *big.Int) *big.Int) frontend.Variable {
	z := f(new(big.Int), number(a), number(b))
	for _, v := range more {
		f(z, z, number(v))
	}
	return z.Mod(z, modulus)
}

func (e *evaluator) Add(a, b frontend.Variable, more ...frontend.Variable) frontend.Variable {
	return e.fold(a, b, more, (*big.Int).Add)
}
func (e *evaluator) Sub(a, b frontend.Variable, more ...frontend.Variable) frontend.Variable {
	return e.fold(a, b, more, (*big.Int).Sub)
}
func (e *evaluator) Mul(a, b frontend.Variable, more ...frontend.Variable) frontend.Variable {
	return e.fold(a, b, more, (*big.Int).Mul)
}
func (e *evaluator) AssertIsEqual(a, b frontend.Variable) {}
func (e *evaluator) AssertIsBoolean(frontend.Variable)    {}

// DivUnchecked is called once for each entry of a table, with its negative.
func (e *evaluator) DivUnchecked(a, b frontend.Variable) frontend.Variable {
	if len(e.tables) == 0 || e.tables[len(e.tables)-1].queries != nil {
		e.tables = append(e.tables, lookupTable{})
	}
	t := &e.tables[len(e.tables)-1]
	t.counts, t.entries = append(t.counts, number(a)), append(t.entries, number(b))
	return 0
}

// BatchInvert is called for each table, behind its entries, with its queries' negatives.
func (e *evaluator) BatchInvert(v []frontend.Variable) []frontend.Variable {
	t := &e.tables[len(e.tables)-1]
	t.queries = make([]*big.Int, len(v))
	for i := range v {
		t.queries[i] = number(v[i])
	}
	return v
}

// recount is how often each entry of each table is looked up by an assigned circuit.
// What is in no table is not counted.
func recount(t testing.TB, c frontend.Circuit) [][]frontend.Variable {
	t.Helper()
	e := &evaluator{}
	if err := c.Define(e); err != nil {
		t.Fatal(err)
	}
	var all [][]frontend.Variable
	for _, table := range e.tables {
		first := map[string]int{}
		for i, entry := range table.entries {
			if _, known := first[entry.String()]; !known {
				first[entry.String()] = i
			}
		}
		counts := make([]int, len(table.entries))
		for _, q := range table.queries {
			if i, known := first[q.String()]; known {
				counts[i]++
			}
		}
		list := make([]frontend.Variable, len(counts))
		for i := range list {
			list[i] = counts[i]
		}
		all = append(all, list)
	}
	return all
}

// without leaves out one assertion.
func without(name string) func(string) bool { return func(n string) bool { return n == name } }

// compileWithout compiles a circuit, of which tests left assertions out.
func compileWithout(t testing.TB, c frontend.Circuit) constraint.ConstraintSystem {
	t.Helper()
	cs, err := frontend.Compile(modulus, r1cs.NewBuilder, c, frontend.IgnoreUnconstrainedInputs())
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

func publicOf(t testing.TB, c frontend.Circuit) witness.Witness {
	t.Helper()
	w, err := Public(c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// samePublic says whether two assignments are about the same statement.
func samePublic(t testing.TB, a, b frontend.Circuit) bool {
	t.Helper()
	return fmt.Sprint(publicOf(t, a).Vector()) == fmt.Sprint(publicOf(t, b).Vector())
}

// forger changes an inference's witness and computes everything behind the change as an
// honest prover would, of whatever numbers it finds.
type forger struct {
	*inferenceCircuit
	honest *inferenceCircuit // before any change
}

// forge assigns a network and input.
func forge(t testing.TB, spec Inference, n *intnet.Network, items []Item) forger {
	t.Helper()
	var both [2]*inferenceCircuit
	for i := range both {
		var err error
		if both[i], err = spec.assign(Assignment{Network: n, Items: items}); err != nil {
			t.Fatal(err)
		}
	}
	return forger{both[0], both[1]}
}

// constants of one layer and output, as numbers.
func (f forger) bias(l, o int) *big.Int {
	return new(big.Int).Sub(wholeOf(f.Layers[l].Bias[o][:]), big.NewInt(1<<31))
}
func (f forger) multiplier(l, o int) *big.Int { return wholeOf(f.Layers[l].Multiplier[o][:]) }

func (f forger) negative(l, o int) *big.Int { return wholeOf(f.Layers[l].Negative[o][:]) }

func (f forger) geometry(l int) (intnet.Geometry, plan) {
	g := f.spec.Architecture.Geometries()[l]
	return g, f.spec.planOf(g)
}

// setSum witnesses a sum of products.
func (f forger) setSum(item, l, k int, v *big.Int) {
	_, p := f.geometry(l)
	if p.free {
		f.Items[item].Layers[l].Sums[k][0] = v
		return
	}
	setNumber(f.Items[item].Layers[l].Sums[k], new(big.Int).Add(v, new(big.Int).Lsh(big.NewInt(1), uint(p.sumBits-1))))
}

// sum is a witnessed sum of products, or what an average sums up.
func (f forger) sum(item, l, k int) *big.Int {
	g, p := f.geometry(l)
	switch {
	case g.Pools():
		sum := new(big.Int)
		for i := range g.Fan {
			if from := g.Source(k/g.Positions(), k%g.Positions(), i); from >= 0 {
				sum.Add(sum, f.entering(item, l, from))
			}
		}
		return inRange(sum.Mul(sum, big.NewInt(int64(g.Share(k%g.Positions())))))
	case p.free:
		return new(big.Int).Set(number(f.Items[item].Layers[l].Sums[k][0]))
	}
	return new(big.Int).Sub(wholeOf(f.Items[item].Layers[l].Sums[k]), new(big.Int).Lsh(big.NewInt(1), uint(p.sumBits-1)))
}

// entering is value i of those that enter a layer.
func (f forger) entering(item, l, i int) *big.Int {
	if l > 0 && f.spec.Architecture.Layers[l-1].Kind == intnet.SumPool {
		return f.sum(item, l-1, i)
	}
	if l > 0 {
		return number(f.Items[item].Layers[l-1].Value[i])
	}
	for k, v := range f.Items[item].Values {
		if f.spec.Architecture.Place(k) == i {
			return new(big.Int).Sub(number(v), big.NewInt(128))
		}
	}
	panic("there is no such value")
}

// inRange leaves whole numbers what they are; halves come back together.
func inRange(sum *big.Int) *big.Int {
	if sum.BitLen() > 128 {
		if sum.Mod(sum, modulus); sum.BitLen() > 128 {
			sum.Sub(sum, modulus)
		}
	}
	return sum
}

// from computes sums, values and outputs of layers l and later.
func (f forger) from(l int) {
	for item := range f.Items {
		for k := l; k < len(f.Layers); k++ {
			f.sums(item, k)
			f.scale(item, k)
		}
	}
}

// sums computes one layer's sums of products.
func (f forger) sums(item, l int) {
	g, _ := f.geometry(l)
	if g.Pools() {
		return
	}
	for k := range g.To.Size() {
		sum := new(big.Int)
		o := k / g.Positions()
		for i := range g.Fan {
			if from := g.Source(o, k%g.Positions(), i); from >= 0 {
				w := new(big.Int).Sub(number(f.Layers[l].Weights[o*g.Fan+i]), big.NewInt(128))
				sum.Add(sum, w.Mul(w, f.entering(item, l, from)))
			}
		}
		f.setSum(item, l, k, inRange(sum))
	}
}

// scale computes one layer's values, or the outputs, from its sums.
func (f forger) scale(item, l int) {
	g, _ := f.geometry(l)
	for k := range g.To.Size() {
		if g.Kind == intnet.MaxPool {
			f.Items[item].Layers[l].Value[k] = f.top(item, l, k)
			continue
		}
		if g.Kind == intnet.SumPool {
			continue
		}
		acc := f.sum(item, l, k)
		if !g.Pools() {
			acc.Add(acc, f.bias(l, k/g.Positions()))
		}
		if g.Last {
			f.Items[item].Outputs[k] = acc
			continue
		}
		low := int64(-intnet.Top)
		if g.ReLU {
			low = 0
		}
		rounded := acc.Mul(acc, f.times(item, l, k, acc))
		rounded.Add(rounded, big.NewInt(1<<(intnet.Shift-1)))
		shifted := new(big.Int).Rsh(rounded, intnet.Shift)
		value := shifted
		if shifted.Cmp(big.NewInt(low)) < 0 {
			value = big.NewInt(low)
		} else if shifted.Cmp(big.NewInt(intnet.Top)) > 0 {
			value = big.NewInt(intnet.Top)
		}
		f.setValue(item, l, k, shifted, value, new(big.Int).And(rounded, big.NewInt(1<<intnet.Shift-1)))
	}
}

// times is the multiplier of an accumulator. It witnesses on which side of zero that is.
func (f forger) times(item, l, k int, acc *big.Int) *big.Int {
	g, _ := f.geometry(l)
	o, a := k/g.Positions(), f.Items[item].Layers[l]
	switch {
	case g.Kind == intnet.AveragePool:
		return f.multiplier(l, 0)
	case !g.Leaky:
		return f.multiplier(l, o)
	}
	below := 0
	if acc.Sign() < 0 {
		below = 1
	}
	a.Below[k] = below
	setNumber(a.Amount[k][:], new(big.Int).Abs(acc))
	if below == 1 {
		return f.negative(l, o)
	}
	return f.multiplier(l, o)
}

// top is the largest value of a window.
func (f forger) top(item, l, k int) *big.Int {
	g, _ := f.geometry(l)
	top := big.NewInt(-1 << 40)
	for i := range g.Fan {
		if from := g.Source(k/g.Positions(), k%g.Positions(), i); from >= 0 {
			if v := f.entering(item, l, from); v.Cmp(top) > 0 {
				top = v
			}
		}
	}
	return top
}

// setValue witnesses a rescaled value, of which the shifted number may be any.
func (f forger) setValue(item, l, k int, shifted, value, remainder *big.Int) {
	a := &f.Items[item].Layers[l]
	setNumber(a.Remainder[k][:], remainder)
	excess, negative := new(big.Int).Sub(shifted, value), 0
	if excess.Sign() < 0 {
		excess.Neg(excess)
		negative = 1
	}
	setNumber(a.Excess[k][:], excess)
	a.Value[k], a.Negative[k] = value, negative
}

// shifted is the number that a value was clamped from.
func (f forger) shifted(item, l, k int) *big.Int {
	a := f.Items[item].Layers[l]
	excess := wholeOf(a.Excess[k][:])
	if number(a.Negative[k]).Sign() > 0 {
		excess.Neg(excess)
	}
	return excess.Add(excess, number(a.Value[k]))
}

func (f forger) remainder(item, l, k int) *big.Int {
	return wholeOf(f.Items[item].Layers[l].Remainder[k][:])
}
