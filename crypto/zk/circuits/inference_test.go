package circuits

import (
	"math/rand/v2"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark/constraint"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/frontend/cs/r1cs"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/poseidon2"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

func denseLayer(out int, relu bool) intnet.Layer {
	return intnet.Layer{Kind: intnet.Dense, Out: out, ReLU: relu}
}

// randomNetwork has random constants, of which some lie at the limits.
func randomNetwork(t testing.TB, a intnet.Architecture, seed uint64) *intnet.Network {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 9))
	n := &intnet.Network{Architecture: a}
	for _, g := range a.Geometries() {
		p := intnet.LayerParameters{Weights: make([]int8, g.Weights()), Bias: make([]int32, g.Biases())}
		for i := range p.Weights {
			p.Weights[i] = int8(r.IntN(255) - 127)
		}
		for i := range p.Bias {
			p.Bias[i] = int32(r.IntN(20001) - 10000)
		}
		for range g.Multipliers() {
			p.Multiplier = append(p.Multiplier, 1+uint32(r.IntN(60000)))
		}
		for range g.Negatives() {
			p.Negative = append(p.Negative, 1+uint32(r.IntN(20000)))
		}
		n.Parameters.Layers = append(n.Parameters.Layers, p)
	}
	if err := n.Check(); err != nil {
		t.Fatal(err)
	}
	return n
}

func randomItems(a intnet.Architecture, count int, seed uint64) []Item {
	r := rand.New(rand.NewPCG(seed, 2))
	items := make([]Item, count)
	for i := range items {
		items[i].Input = make([]int8, a.Input.Size())
		for k := range items[i].Input {
			items[i].Input[k] = int8(r.IntN(256) - 128)
		}
		for k := range items[i].Salt {
			items[i].Salt[k] = byte(r.Uint32())
		}
	}
	return items
}

func compile(t testing.TB, spec Inference) constraint.ConstraintSystem {
	t.Helper()
	cs, err := frontend.Compile(ecc.BN254.ScalarField(), r1cs.NewBuilder, newInferenceCircuit(spec))
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

func solve(t testing.TB, cs constraint.ConstraintSystem, c frontend.Circuit) error {
	t.Helper()
	w, err := frontend.NewWitness(c, ecc.BN254.ScalarField())
	if err != nil {
		t.Fatal(err)
	}
	return cs.IsSolved(w)
}

// The circuit and the reference agree on random networks of every shape.
func TestCircuitsComputeWhatNetworksDo(t *testing.T) {
	seeds := uint64(1)
	if longtest.All() {
		seeds = 3
	}
	for name, c := range map[string]struct {
		a     intnet.Architecture
		batch int
		large bool
	}{
		"one layer":        {intnet.Architecture{Input: intnet.Shape{C: 5, H: 1, W: 1}, Layers: []intnet.Layer{denseLayer(3, false)}}, 1, false},
		"two layers":       {intnet.Architecture{Input: intnet.Shape{C: 7, H: 1, W: 1}, Layers: []intnet.Layer{denseLayer(12, true), denseLayer(3, false)}}, 1, false},
		"without ReLU":     {intnet.Architecture{Input: intnet.Shape{C: 7, H: 1, W: 1}, Layers: []intnet.Layer{denseLayer(5, false), denseLayer(4, true), denseLayer(2, false)}}, 2, false},
		"a large batch":    {intnet.Architecture{Input: intnet.Shape{C: 33, H: 1, W: 1}, Layers: []intnet.Layer{denseLayer(24, true), denseLayer(3, false)}}, 8, true},
		"convolution":      {intnet.Architecture{Input: intnet.Shape{C: 2, H: 6, W: 5}, Layers: []intnet.Layer{intnet.Convolution(3, 3, 2, 1, true), denseLayer(3, false)}}, 1, false},
		"many channels":    {intnet.Architecture{Input: intnet.Shape{C: 1, H: 8, W: 8}, Layers: []intnet.Layer{intnet.Convolution(40, 2, 1, 0, false), intnet.Convolution(2, 7, 1, 0, false)}}, 1, true},
		"pools":            {pools.Architecture, 2, false},
		"sums":             {sums.Architecture, 2, false},
		"LeakyReLU":        {leaky.Architecture, 1, false},
		"sliding":          {sliding.Architecture, 2, false},
		"sliding rows":     {slidingRows.Architecture, 1, false},
		"a single product": {intnet.Architecture{Input: intnet.Shape{C: 1, H: 1, W: 1}, Layers: []intnet.Layer{denseLayer(1, false)}}, 1, false},
	} {
		spec := Inference{c.a, c.batch}
		if err := spec.Check(); err != nil {
			t.Fatal(name, err)
		}
		if c.large && !longtest.All() {
			continue
		}
		cs := compile(t, spec)
		for seed := range seeds {
			n := randomNetwork(t, c.a, seed)
			digest := poseidon2.FromUint64(seed)
			w, err := spec.assign(Assignment{Network: n, Items: randomItems(c.a, c.batch, seed), Statement: digest})
			if err != nil {
				t.Fatal(name, err)
			}
			if err := solve(t, cs, w); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			w.Items[0].Outputs[0] = w.Items[0].Outputs[0].(int32) + 1
			if solve(t, cs, w) == nil {
				t.Errorf("%s: another output was accepted", name)
			}
		}
		t.Logf("%s: %d constraints", name, cs.GetNbConstraints())
	}
}
