package circuits

import (
	"fmt"
	"maps"
	"math/big"
	"slices"
	"testing"

	"github.com/consensys/gnark/constraint"
	"github.com/consensys/gnark/frontend"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// An attack is one forged inference: a wrong witness whose only fault is what one
// assertion forbids.
type attack struct {
	name      string // of the attack
	assertion string // that alone stops it
	spec      Inference
	change    func(f forger)
}

func big64(v int64) *big.Int { return big.NewInt(v) }

func add(v *big.Int, n int64) *big.Int { return new(big.Int).Add(v, big64(n)) }

// Small networks that attacks are made on.
var (
	outputsOnly = Inference{mlp(3, 3), 1}
	hiddenReLU  = Inference{mlp(3, 3, 2), 1}
	hiddenPlain = Inference{intnet.Architecture{Input: intnet.Shape{C: 3, H: 1, W: 1}, Layers: []intnet.Layer{denseLayer(3, false), denseLayer(2, false)}}, 1}
	// 12 positions make the random combination cheaper.
	combined = Inference{intnet.Architecture{Input: intnet.Shape{C: 2, H: 5, W: 4}, Layers: []intnet.Layer{intnet.Convolution(12, 2, 1, 0, false)}}, 1}
	// Both pools, one of them of windows of different sizes, and channels last.
	pools = Inference{intnet.Architecture{Input: intnet.Shape{C: 2, H: 5, W: 4}, ChannelsLast: true, Layers: []intnet.Layer{
		{Kind: intnet.MaxPool, Window: intnet.Square(2, 1, 0)}, {Kind: intnet.AveragePool, Window: intnet.Square(2, 2, 1)}, denseLayer(2, false)}}, 1}
	sums = Inference{intnet.Architecture{Input: intnet.Shape{C: 2, H: 4, W: 4}, Layers: []intnet.Layer{
		{Kind: intnet.SumPool, Window: intnet.Square(3, 1, 1)}, {Kind: intnet.Conv, Out: 2, Groups: 1, Window: intnet.Square(2, 2, 0)}, {Kind: intnet.SumPool, Window: intnet.Square(2, 1, 0)}, denseLayer(2, false)}}, 1}
	leaky = Inference{intnet.Architecture{Input: intnet.Shape{C: 3, H: 1, W: 1}, Layers: []intnet.Layer{{Kind: intnet.Dense, Out: 3, Leaky: true}, denseLayer(2, false)}}, 1}
	// Convolutions in groups, whose sums are free, and one of many weights and few positions.
	sliding = Inference{intnet.Architecture{Input: intnet.Shape{C: 2, H: 5, W: 4}, Layers: []intnet.Layer{
		{Kind: intnet.Conv, Out: 4, Groups: 2, Window: intnet.Window{Kernel: intnet.Size{H: 3, W: 2}, Stride: intnet.Size{H: 2, W: 1}, Dilation: intnet.Size{H: 1, W: 2}, Pad: intnet.Edges{Top: 1, Right: 1}}}}}, 1}
	slidingRows = Inference{intnet.Architecture{Input: intnet.Shape{C: 5, H: 3, W: 4}, ChannelsLast: true, Layers: []intnet.Layer{
		{Kind: intnet.Conv, Out: 12, Groups: 1, Window: intnet.Window{Kernel: intnet.Size{H: 3, W: 3}, Stride: intnet.Size{H: 1, W: 1}, Dilation: intnet.Size{H: 1, W: 1}}}}}, 1}
)

// victim is a network whose hidden values are 100, 50 and clamped, before the attack.
func victim(spec Inference) *intnet.Network {
	n := &intnet.Network{Architecture: spec.Architecture}
	for l, g := range spec.Architecture.Geometries() {
		p := intnet.LayerParameters{Weights: make([]int8, g.Weights()), Bias: make([]int32, g.Biases())}
		for i := range p.Weights {
			p.Weights[i] = int8((i*7+l)%5 - 2)
		}
		for o := range g.Multipliers() {
			// A quarter of 400.75, 200.75 and -5000, about.
			p.Multiplier = append(p.Multiplier, 1<<22)
			if !g.Pools() {
				p.Bias[o] = []int32{403, 203, -5000}[o%3]
			}
		}
		for range g.Negatives() {
			p.Negative = append(p.Negative, 1<<18)
		}
		n.Parameters.Layers = append(n.Parameters.Layers, p)
	}
	return n
}

func victimItems(spec Inference) []Item {
	items := randomItems(spec.Architecture, spec.Batch, 3)
	for i := range items {
		for k := range items[i].Input {
			items[i].Input[k] = int8(k%3 - 1)
		}
	}
	return items
}

func shift(v frontend.Variable, n int64) frontend.Variable { return add(number(v), n) }

// attacks has at least one for every assertion of the circuit.
func attacks() []attack {
	return slices.Concat(attacksOnConstants(), attacksOnValues(), attacksOnPools(), attacksOnConvolutions())
}

// attacksOnConstants change weights, biases, multipliers and inputs.
func attacksOnConstants() []attack {
	return []attack{
		{"weight off by one", "weights-commitment", outputsOnly, func(f forger) {
			f.Layers[0].Weights[0] = shift(f.Layers[0].Weights[0], 1)
			f.from(0)
		}},
		{"bias off by one", "weights-commitment", outputsOnly, func(f forger) {
			setNumber(f.Layers[0].Bias[1][:], add(wholeOf(f.Layers[0].Bias[1][:]), 1))
			f.from(0)
		}},
		{"swapped layers", "weights-commitment", Inference{mlp(3, 3, 3, 3), 1}, func(f forger) {
			f.Layers[0], f.Layers[1] = f.Layers[1], f.Layers[0]
			f.from(0)
		}},
		{"stale model", "weights-commitment", hiddenReLU, func(f forger) {
			old := victim(hiddenReLU)
			old.Parameters.Layers[0].Bias[0] = 77
			old.Parameters.Layers[1].Weights[1] = 5
			f.Layers = forge(inTable{}, hiddenReLU, old, victimItems(hiddenReLU)).Layers
			f.from(0)
		}},
		{"another input", "input-commitment", outputsOnly, func(f forger) {
			f.Items[0].Values[1] = shift(f.Items[0].Values[1], 1)
			f.from(0)
		}},
		{"packed weights w+256 and w-1", "weight", outputsOnly, func(f forger) {
			f.Layers[0].Weights[0] = shift(f.Layers[0].Weights[0], 256)
			f.Layers[0].Weights[1] = shift(f.Layers[0].Weights[1], -1)
			f.from(0)
		}},
		{"packed weights w-512 and w+2", "weight", outputsOnly, func(f forger) {
			f.Layers[0].Weights[4] = shift(f.Layers[0].Weights[4], -512)
			f.Layers[0].Weights[5] = shift(f.Layers[0].Weights[5], 2)
			f.from(0)
		}},
		{"packed inputs x+256 and x-1", "input", outputsOnly, func(f forger) {
			f.Items[0].Values[0] = shift(f.Items[0].Values[0], 256)
			f.Items[0].Values[1] = shift(f.Items[0].Values[1], -1)
			f.from(0)
		}},
		{"packed biases b+2^32 and b-1", "bias", hiddenReLU, func(f forger) {
			setNumber(f.Layers[0].Bias[0][:], add(wholeOf(f.Layers[0].Bias[0][:]), 1<<32))
			setNumber(f.Layers[0].Bias[1][:], add(wholeOf(f.Layers[0].Bias[1][:]), -1))
			f.from(0)
		}},
		{"packed multipliers m+2^32 and m-1", "multiplier", hiddenReLU, func(f forger) {
			setNumber(f.Layers[0].Multiplier[0][:], add(wholeOf(f.Layers[0].Multiplier[0][:]), 1<<32))
			setNumber(f.Layers[0].Multiplier[1][:], add(wholeOf(f.Layers[0].Multiplier[1][:]), -1))
			f.from(0)
		}},
	}
}

// attacksOnValues change what is computed from them.
func attacksOnValues() []attack {
	return []attack{
		{"sums a+2^stride and a-1 of two rows", "sum", outputsOnly, func(f forger) {
			// The excess is in the lowest byte: the highest has a check of its own.
			lowest := &f.Items[0].Layers[0].Sums[0][0]
			f.setSum(0, 0, 1, add(f.sum(0, 0, 1), -1))
			*lowest = new(big.Int).Add(number(*lowest), new(big.Int).Lsh(big64(1), uint(boundOf(f.spec.Architecture.Geometries()[0]).stride)))
			f.scale(0, 0)
		}},
		{"the same, within whole bytes", "sum-top", outputsOnly, func(f forger) {
			g := boundOf(f.spec.Architecture.Geometries()[0])
			if 8*g.bytes() <= g.stride {
				panic("this attack needs a sum with room in its highest byte")
			}
			f.setSum(0, 0, 1, new(big.Int).Add(f.sum(0, 0, 1), new(big.Int).Lsh(big64(1), uint(g.stride))))
			f.setSum(0, 0, 2, add(f.sum(0, 0, 2), -1))
			f.scale(0, 0)
		}},
		{"another sum", "product", outputsOnly, func(f forger) {
			f.setSum(0, 0, 1, add(f.sum(0, 0, 1), 1))
			f.scale(0, 0)
		}},
		{"another sum of a convolution", "product", combined, func(f forger) {
			f.setSum(0, 0, 17, add(f.sum(0, 0, 17), -1))
			f.scale(0, 0)
		}},
		{"sums of two positions exchanged", "product", combined, func(f forger) {
			s, k := f.Items[0].Layers[0].Sums, 1
			for f.sum(0, 0, k).Cmp(f.sum(0, 0, 0)) == 0 {
				k++
			}
			s[0], s[k] = s[k], s[0]
			f.scale(0, 0)
		}},
		{"another output", "output", outputsOnly, func(f forger) { f.Items[0].Outputs[2] = shift(f.Items[0].Outputs[2], 1) }},
		{"output wrapped around 32 bits", "output", outputsOnly, func(f forger) { f.Items[0].Outputs[2] = shift(f.Items[0].Outputs[2], 1<<32) }},
		{"rounded down, with a remainder of 2^24 and more", "remainder", hiddenReLU, func(f forger) {
			f.setValue(0, 0, 0, add(f.shifted(0, 0, 0), -1), add(f.shifted(0, 0, 0), -1), add(f.remainder(0, 0, 0), 1<<intnet.Shift))
			f.from(1)
		}},
		{"rounded up, with a remainder below zero", "remainder", hiddenPlain, func(f forger) {
			f.setValue(0, 0, 1, add(f.shifted(0, 0, 1), 1), add(f.shifted(0, 0, 1), 1), add(f.remainder(0, 0, 1), -1<<intnet.Shift))
			f.from(1)
		}},
		{"another value", "rescale", hiddenReLU, func(f forger) {
			f.Items[0].Layers[0].Value[1] = shift(f.Items[0].Layers[0].Value[1], 1)
			f.from(1)
		}},
		{"clamped above, without need", "excess", hiddenReLU, func(f forger) {
			setNumber(f.Items[0].Layers[0].Excess[1][:], add(f.shifted(0, 0, 1), -intnet.Top))
			f.Items[0].Layers[0].Value[1] = intnet.Top
			f.from(1)
		}},
		{"on neither side of the clamp", "side", hiddenReLU, func(f forger) {
			// With a side of (127-v)/127 the clamp is at v, and the excess counts
			// (2v-127)/127 times: for v = 64, one 127th.
			s := f.shifted(0, 0, 0)
			a := &f.Items[0].Layers[0]
			a.Value[0], a.Negative[0] = 64, inField(127-64, 127)
			setNumber(a.Excess[0][:], new(big.Int).Mul(add(s, -64), big64(127)))
			f.from(1)
		}},
		{"split into value and excess inside the range", "clamp", hiddenReLU, func(f forger) {
			s := f.shifted(0, 0, 1)
			f.setValue(0, 0, 1, s, add(s, -1), f.remainder(0, 0, 1))
			f.from(1)
		}},
		{"clamped from above at another value", "clamp", hiddenPlain, func(f forger) {
			s := f.shifted(0, 0, 0)
			f.setValue(0, 0, 0, s, add(s, 1), f.remainder(0, 0, 0))
			f.from(1)
		}},
		{"a value of 128 and more", "value-high", hiddenReLU, func(f forger) { f.unclamped(600) }},
		{"a value of 128", "value-high", hiddenPlain, func(f forger) { f.unclamped(512) }},
		{"a value of -128", "value-low", hiddenPlain, func(f forger) { f.unclamped(-512) }},
		{"a value of one half", "value-low", hiddenReLU, func(f forger) {
			// Half a unit takes 2^23 from the remainder. Even weights make whole
			// numbers of it again.
			f.rebuild(func(n *intnet.Network) {
				n.Parameters.Layers[0].Bias[0] += int32(-f.sum(0, 0, 0).Int64()) - 3 // 400
				n.Parameters.Layers[1].Weights[0], n.Parameters.Layers[1].Weights[3] = 2, -2
			})
			s, r := f.shifted(0, 0, 0), f.remainder(0, 0, 0)
			f.setValue(0, 0, 0, s, s, r.Sub(r, big64(1<<(intnet.Shift-1))))
			f.Items[0].Layers[0].Value[0] = inField(2*s.Int64()+1, 2)
			f.from(1)
		}},
		{"a weight that is no byte", "lookup", outputsOnly, func(f forger) {
			f.Layers[0].Weights[0] = shift(f.Layers[0].Weights[0], 256)
			f.Layers[0].Weights[1] = shift(f.Layers[0].Weights[1], -1)
			f.from(0)
		}},
	}
}

// inTable stands for a test inside a table of attacks: forging honest witnesses cannot fail.
type inTable struct{ testing.TB }

func (inTable) Helper() {}

// rebuild begins again, with a network of other constants, to which is committed.
func (f forger) rebuild(change func(n *intnet.Network)) {
	n := victim(f.spec)
	change(n)
	again := forge(inTable{}, f.spec, n, victimItems(f.spec))
	*f.inferenceCircuit, *f.honest = *again.inferenceCircuit, *again.honest
}

// unclamped has the first value of a network be four times acc, without its clamp.
func (f forger) unclamped(acc int64) {
	sum := f.sum(0, 0, 0).Int64()
	f.rebuild(func(n *intnet.Network) { n.Parameters.Layers[0].Bias[0] = int32(acc - sum) })
	s := f.shifted(0, 0, 0)
	f.setValue(0, 0, 0, s, s, f.remainder(0, 0, 0))
	f.from(1)
}

// assertionsOf adds the names of a circuit's assertions to names, and returns its system.
func assertionsOf(t testing.TB, spec Inference, names map[string]bool) constraint.ConstraintSystem {
	t.Helper()
	c := newInferenceCircuit(spec)
	c.skip = func(name string) bool {
		names[name] = true
		return false
	}
	return compileWithout(t, c)
}

// Every attack is stopped, and by the assertion that it names: without that one it
// passes. Every assertion of the circuits stops at least one attack, so that none can be
// taken out, nor forgotten, unseen.
func TestEachAssertionStopsItsForgery(t *testing.T) {
	longtest.Arithmetic(t, "it compiles a circuit without each of its assertions")
	names, stopped := map[string]bool{}, map[string]bool{}
	systems := map[string]constraint.ConstraintSystem{}
	for _, spec := range []Inference{outputsOnly, hiddenReLU, hiddenPlain, combined, pools, leaky, sliding, slidingRows} {
		systems[fmt.Sprint(spec)] = assertionsOf(t, spec, names)
	}
	for _, a := range attacks() {
		full := systems[fmt.Sprint(a.spec)]
		if full == nil {
			full = compileWithout(t, newInferenceCircuit(a.spec))
		}
		f := forge(t, a.spec, victim(a.spec), victimItems(a.spec))
		a.change(f)
		if err := solve(t, full, f.honest); err != nil {
			t.Fatalf("%s: before the attack: %v", a.name, err)
		}
		f.recount(t)
		if solve(t, full, f.inferenceCircuit) == nil {
			t.Errorf("%s: accepted", a.name)
		}
		mutant := newInferenceCircuit(a.spec)
		mutant.skip = without(a.assertion)
		f.skip = mutant.skip
		f.recount(t)
		if err := solve(t, compileWithout(t, mutant), f.inferenceCircuit); err != nil {
			t.Errorf("%s: not stopped by %q alone: %v", a.name, a.assertion, err)
		}
		if samePublic(t, f.inferenceCircuit, f.honest) {
			t.Errorf("%s: the forged statement is the true one", a.name)
		}
		stopped[a.assertion] = true
	}
	stopped["statement"] = true // TestAProofIsBoundToItsStatement
	if want, got := slices.Sorted(maps.Keys(names)), slices.Sorted(maps.Keys(stopped)); !slices.Equal(want, got) {
		t.Errorf("assertions %v\nattacks on %v", want, got)
	}
}
