package circuits

import (
	"math/big"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
)

// attacksOnPools change what pools and LeakyReLU compute.
func attacksOnPools() []attack {
	return []attack{
		{"a value above the largest", "largest-of-them", pools, func(f forger) {
			f.Items[0].Layers[0].Value[3] = shift(f.Items[0].Layers[0].Value[3], 1)
			f.from(1)
		}},
		{"another of the values", "largest", pools, func(f forger) {
			f.rebuildItems(func(in []int8) { in[0], in[2] = 100, 40 }) // two pixels of the first channel
			if f.top(0, 0, 0).Int64() != 100 || f.entering(0, 0, 1).Int64() != 40 {
				panic("the attack knows another order of values")
			}
			f.Items[0].Layers[0].Value[0] = 40
			f.from(1)
		}},
		{"a mean rounded down, with a remainder of 2^24 and more", "remainder", pools, func(f forger) {
			f.rebuildItems(func(in []int8) {
				for k := range in {
					in[k] = 100
				}
			})
			f.setValue(0, 1, 0, add(f.shifted(0, 1, 0), -1), add(f.shifted(0, 1, 0), -1), add(f.remainder(0, 1, 0), 1<<intnet.Shift))
			f.from(2)
		}},
		{"another mean", "rescale", pools, func(f forger) {
			f.Items[0].Layers[1].Value[1] = shift(f.Items[0].Layers[1].Value[1], 1)
			f.from(2)
		}},
		{"another sum of what a pool summed up", "product", sums, func(f forger) {
			f.setSum(0, 1, 1, add(f.sum(0, 1, 1), 1000)) // enough for another value once it is rescaled
			f.scale(0, 1)
			f.from(2)
		}},
		{"the slope above zero, below it", "amount", leaky, func(f forger) {
			// -5000 and a little, times a quarter in place of a 64th.
			a := f.Items[0].Layers[0]
			acc := add(f.sum(0, 0, 2), 0)
			acc.Add(acc, f.bias(0, 2))
			a.Below[2] = 0
			setNumber(a.Amount[2][:], acc)
			f.rescaled(0, 0, 2, acc, f.multiplier(0, 2))
			f.from(1)
		}},
		{"another amount", "zero-amount", leaky, func(f forger) {
			a := f.Items[0].Layers[0]
			acc := f.sum(0, 0, 2)
			acc.Add(acc, f.bias(0, 2))
			a.Below[2] = 0
			setNumber(a.Amount[2][:], big64(7))
			f.rescaled(0, 0, 2, acc, f.multiplier(0, 2))
			f.from(1)
		}},
		{"between both slopes", "zero-side", leaky, func(f forger) {
			// With a side of one half the amount is zero, and the slope the mean of both.
			a := f.Items[0].Layers[0]
			acc := f.sum(0, 0, 2)
			acc.Add(acc, f.bias(0, 2))
			a.Below[2] = inField(1, 2)
			setNumber(a.Amount[2][:], big64(0))
			m := f.multiplier(0, 2)
			m.Add(m, f.negative(0, 2)).Rsh(m, 1)
			f.rescaled(0, 0, 2, acc, m)
			f.from(1)
		}},
	}
}

// attacksOnConvolutions change the sums of those that the second version of architectures has.
func attacksOnConvolutions() []attack {
	return []attack{
		{"another sum in a group", "product", sliding, func(f forger) {
			f.setSum(0, 0, 17, add(f.sum(0, 0, 17), -1))
			f.scale(0, 0)
		}},
		{"sums of two positions in a group exchanged", "product", sliding, func(f forger) {
			s, k := f.Items[0].Layers[0].Sums, 1
			for f.sum(0, 0, k).Cmp(f.sum(0, 0, 0)) == 0 {
				k++
			}
			s[0], s[k] = s[k], s[0]
			f.scale(0, 0)
		}},
		{"another sum of one of many channels", "product", slidingRows, func(f forger) {
			f.setSum(0, 0, 5, add(f.sum(0, 0, 5), 1))
			f.scale(0, 0)
		}},
		{"sums a+2^stride and a-1 of two channels", "sum", slidingRows, func(f forger) {
			_, p := f.geometry(0)
			lowest := &f.Items[0].Layers[0].Sums[0][0]
			f.setSum(0, 0, 2, add(f.sum(0, 0, 2), -1)) // two positions, so the first of the second channel
			*lowest = new(big.Int).Add(number(*lowest), new(big.Int).Lsh(big64(1), uint(p.stride)))
			f.scale(0, 0)
		}},
	}
}

// rescaled witnesses the honest value of an accumulator and a multiplier.
func (f forger) rescaled(item, l, k int, acc, multiplier *big.Int) {
	rounded := new(big.Int).Mul(acc, multiplier)
	rounded.Add(rounded, big.NewInt(1<<(intnet.Shift-1)))
	shifted := new(big.Int).Rsh(rounded, intnet.Shift)
	value := shifted
	if low := big64(-intnet.Top); shifted.Cmp(low) < 0 {
		value = low
	}
	f.setValue(item, l, k, shifted, value, new(big.Int).And(rounded, big.NewInt(1<<intnet.Shift-1)))
}

// rebuildItems begins again, with another input.
func (f forger) rebuildItems(change func(in []int8)) {
	items := victimItems(f.spec)
	change(items[0].Input)
	again := forge(inTable{}, f.spec, victim(f.spec), items)
	*f.inferenceCircuit, *f.honest = *again.inferenceCircuit, *again.honest
}

// The plans that the tests of convolutions are about are those that are chosen.
func TestPlansOfConvolutions(t *testing.T) {
	for name, c := range map[string]struct {
		spec         Inference
		slides, free bool
	}{"first version": {combined, false, false}, "groups": {sliding, true, true}, "few positions": {slidingRows, true, false}} {
		p := c.spec.planOf(c.spec.Architecture.Geometries()[0])
		if p.slides != c.slides || p.free != c.free {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// every has each kind of layer that the second version of architectures adds, small.
var every = Inference{intnet.Architecture{Input: intnet.Shape{C: 1, H: 4, W: 6}, ChannelsLast: true, Layers: []intnet.Layer{
	{Kind: intnet.Conv, Out: 2, Groups: 1, Leaky: true, Window: intnet.Window{Kernel: intnet.Size{H: 3, W: 1}, Stride: intnet.Size{H: 1, W: 1}, Dilation: intnet.Size{H: 1, W: 1}, Pad: intnet.Edges{Bottom: 2}}},
	{Kind: intnet.MaxPool, Window: intnet.Square(2, 2, 0)},
	{Kind: intnet.Conv, Out: 2, Groups: 2, ReLU: true, Window: intnet.Square(2, 1, 1)},
	{Kind: intnet.AveragePool, Window: intnet.Square(2, 2, 1)},
	{Kind: intnet.SumPool, Window: intnet.Square(2, 1, 0)},
	{Kind: intnet.Dense, Out: 2}}}, 1}

// A proof of a network with every kind of layer verifies, and none of other outputs, of whatever
// a layer could have computed in place of what it did.
func TestAProofOfEveryKindOfLayer(t *testing.T) {
	if err := every.Check(); err != nil {
		t.Fatal(err)
	}
	circuit, err := CompileInference(every)
	k := setup(t, circuit, err)
	n, items := randomNetwork(t, every.Architecture, 1), randomItems(every.Architecture, 1, 1)
	// Factors by which most values are inside their range.
	for i, g := range every.Architecture.Geometries() {
		p := &n.Parameters.Layers[i]
		for o := range p.Multiplier {
			p.Multiplier[o] = 1 << 17
			if g.Pools() {
				p.Multiplier[o] = 1 << 22
			}
		}
		for o := range p.Negative {
			p.Negative[o] = 1 << 16
		}
	}
	s := inferenceStatement(t, k.circuit, n, items)
	proof, err := ProveInference(k.circuit, every, k.proving, Assignment{Network: n, Items: items, Statement: statementElement(t, s)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.both(t, proof, publicInputs(t, s)); err != nil {
		t.Fatal(err)
	}
	honest := s.Inference.Items[0].Outputs
	for name, change := range map[string]func(a *intnet.Architecture){
		"the largest as means":     func(a *intnet.Architecture) { a.Layers[1].Kind = intnet.AveragePool },
		"means as the largest":     func(a *intnet.Architecture) { a.Layers[3].Kind = intnet.MaxPool },
		"padding counted":          func(a *intnet.Architecture) { a.Layers[3].Counted = a.Layers[3].Window.Pad },
		"ReLU in place of a slope": func(a *intnet.Architecture) { a.Layers[0].Leaky, a.Layers[0].ReLU = false, true },
		"without ReLU":             func(a *intnet.Architecture) { a.Layers[2].ReLU = false },
		"padding at the other end": func(a *intnet.Architecture) { a.Layers[0].Window.Pad = intnet.Edges{Top: 2} },
	} {
		other := &intnet.Network{Architecture: every.Architecture, Parameters: intnet.Parameters{Layers: slices.Clone(n.Parameters.Layers)}}
		other.Architecture.Layers = slices.Clone(every.Architecture.Layers)
		change(&other.Architecture)
		for i, g := range other.Geometries() {
			p := &other.Parameters.Layers[i]
			p.Multiplier = append(slices.Clone(p.Multiplier), 1<<22)[:g.Multipliers()]
			p.Negative = p.Negative[:g.Negatives()]
		}
		outputs, err := other.Forward(items[0].Input)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Equal(outputs, honest) {
			t.Errorf("%s: the outputs are the same, so that nothing is tested", name)
		}
		s.Inference.Items[0].Outputs = outputs
		if k.both(t, proof, publicInputs(t, s)) == nil {
			t.Errorf("%s: the proof verifies for %v", name, outputs)
		}
		if _, err := ProveInference(k.circuit, every, k.proving, Assignment{Network: other, Items: items, Statement: statementElement(t, s)}, nil); err == nil {
			t.Errorf("%s: proven with the keys of another architecture", name)
		}
	}
}
