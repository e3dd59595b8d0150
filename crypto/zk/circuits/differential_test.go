package circuits

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark/constraint"
	"github.com/consensys/gnark/frontend"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// randomArchitecture has up to three layers of any kind.
func randomArchitecture(r *rand.Rand) intnet.Architecture {
	for {
		a := intnet.Architecture{Input: intnet.Shape{C: 1 + r.IntN(20), H: 1, W: 1}}
		if r.IntN(3) > 0 {
			a.Input = intnet.Shape{C: 1 + r.IntN(3), H: 3 + r.IntN(5), W: 3 + r.IntN(5)}
		}
		a.ChannelsLast = r.IntN(4) == 0
		for range 1 + r.IntN(3) {
			l := denseLayer(1+r.IntN(14), r.IntN(2) == 0)
			if a.Input.H > 1 && r.IntN(3) > 0 {
				l = randomWindow(r, a.Input.C)
			}
			l.Leaky = !l.ReLU && l.Out > 0 && r.IntN(4) == 0
			a.Layers = append(a.Layers, l)
		}
		a.Layers[len(a.Layers)-1].ReLU, a.Layers[len(a.Layers)-1].Leaky = false, false
		if a.Check() == nil {
			return a
		}
	}
}

// randomWindow is a convolution or a pool.
func randomWindow(r *rand.Rand, channels int) intnet.Layer {
	k := 1 + r.IntN(3)
	l := intnet.Convolution(1+r.IntN(5), k, 1+r.IntN(2), r.IntN(k), r.IntN(2) == 0)
	if r.IntN(2) == 0 {
		l.Window.Kernel.H, l.Window.Stride.W, l.Window.Pad.Bottom = 2, 1+r.IntN(2), 0
		l.Window.Dilation.H += r.IntN(2)
	}
	switch r.IntN(4) {
	case 0:
		return intnet.Layer{Kind: intnet.MaxPool, Window: l.Window}
	case 1:
		if l.ReLU {
			return intnet.Layer{Kind: intnet.SumPool, Window: l.Window}
		}
		return intnet.Layer{Kind: intnet.AveragePool, Window: l.Window, ReLU: r.IntN(2) == 0}
	case 2:
		l.Groups, l.Out = channels, 2*channels
	}
	return l
}

// extreme gives a network constants at the edges of the arithmetic: weights and inputs at
// both ends, biases at the largest amounts, multipliers that give exact halves, and the
// least and the largest.
func extreme(r *rand.Rand, n *intnet.Network) {
	for i, g := range n.Geometries() {
		p := n.Parameters.Layers[i]
		limit := int32(math.MaxInt32 - g.Fan*127*128*g.Times)
		for k := range p.Weights {
			if r.IntN(3) == 0 {
				p.Weights[k] = []int8{-127, 127, 0}[r.IntN(3)]
			}
		}
		for k := range p.Bias {
			switch r.IntN(4) {
			case 0:
				p.Bias[k] = []int32{limit, -limit}[r.IntN(2)]
			case 1:
				p.Bias[k] = int32(r.IntN(5) - 2)
			}
		}
		for k := range p.Multiplier {
			// acc/2^j for small j is a half of a unit for every second or so.
			p.Multiplier[k] = []uint32{1, 2, 1<<24 - 1, 1 << 23, 1 << 23, 1 << 22, 1 << 17, 3 << 16, p.Multiplier[k]}[r.IntN(9)]
		}
		for k := range p.Negative {
			p.Negative[k] = []uint32{1, 1<<24 - 1, 1 << 22, p.Negative[k]}[r.IntN(4)]
		}
	}
}

// The circuit takes what intnet computes, of networks of every shape and with constants at
// every edge, and nothing else: not another output, nor another value between layers.
func TestTheCircuitIsTheReference(t *testing.T) {
	t.Run("few networks", func(t *testing.T) { circuitIsTheReference(t, 4, 10) })
	t.Run("many networks", func(t *testing.T) {
		longtest.Arithmetic(t, "it compares the circuits of 14 networks")
		circuitIsTheReference(t, 14, 100)
	})
}

// circuitIsTheReference wants at least so many values at each edge among its networks.
func circuitIsTheReference(t *testing.T, networks, edgesEach int) {
	r := rand.New(rand.NewPCG(1, 2))
	var halves, tops, bottoms int
	for range networks {
		spec := Inference{randomArchitecture(r), 1 + r.IntN(3)}
		cs := compile(t, spec)
		for seed := range uint64(6) {
			n := randomNetwork(t, spec.Architecture, seed)
			if seed > 0 {
				extreme(r, n)
			}
			items := randomItems(spec.Architecture, spec.Batch, seed)
			for k := range items[0].Input {
				if seed%2 == 1 {
					items[0].Input[k] = []int8{-128, 127}[r.IntN(2)]
				}
			}
			f := forge(t, spec, n, items)
			if err := solve(t, cs, f.inferenceCircuit); err != nil {
				t.Fatalf("%+v, network %d: %v", spec, seed, err)
			}
			for i, item := range items {
				trace, err := n.Trace(item.Input)
				if err != nil {
					t.Fatal(err)
				}
				if got, want := fmt.Sprint(f.Items[i].Outputs), fmt.Sprint(trace.Outputs()); got != want {
					t.Fatalf("outputs %s, not %s", got, want)
				}
				h, hi, lo := edges(n, trace)
				halves, tops, bottoms = halves+h, tops+hi, bottoms+lo
			}
			// One thing is wrong, and everything behind it follows from it.
			for range 3 {
				f := forge(t, spec, n, items)
				what := f.misstep(r)
				f.recount(t)
				if solve(t, cs, f.inferenceCircuit) == nil {
					t.Fatalf("%+v, network %d: accepted with %s", spec, seed, what)
				}
			}
		}
	}
	if min(halves, tops, bottoms) < edgesEach {
		t.Errorf("only %d exact halves, %d values clamped above, %d below", halves, tops, bottoms)
	}
}

// edges counts the exact halves and clamped values of an evaluation.
func edges(n *intnet.Network, trace *intnet.Trace) (halves, tops, bottoms int) {
	for l, g := range n.Geometries() {
		for k, acc := range trace.Acc[l] {
			if !g.Rescales() {
				continue
			}
			product := int64(acc) * int64(n.Parameters.Layers[l].MultiplierOf(g, k/g.Positions(), acc))
			if product&(1<<intnet.Shift-1) == 1<<(intnet.Shift-1) {
				halves++
			}
			switch v := (product + 1<<(intnet.Shift-1)) >> intnet.Shift; {
			case v > intnet.Top:
				tops++
			case v < -intnet.Top || v < 0 && g.ReLU:
				bottoms++
			}
		}
	}
	return halves, tops, bottoms
}

// misstep makes one number wrong by one and continues from it honestly.
func (f forger) misstep(r *rand.Rand) string {
	item := r.IntN(len(f.Items))
	l := r.IntN(len(f.Layers))
	if f.spec.Architecture.Layers[l].Kind == intnet.SumPool {
		l++ // of which nothing is witnessed; the last layer is another
	}
	g, _ := f.geometry(l)
	k := r.IntN(g.To.Size())
	by := int64(1 - 2*r.IntN(2))
	last := l == len(f.Layers)-1
	if last && r.IntN(2) == 0 {
		f.Items[item].Outputs[k] = add(number(f.Items[item].Outputs[k]), by)
		return fmt.Sprintf("output %d off by %d", k, by)
	}
	if g.Kind == intnet.MaxPool {
		f.Items[item].Layers[l].Value[k] = add(number(f.Items[item].Layers[l].Value[k]), by)
		f.from(l + 1)
		return fmt.Sprintf("largest value %d of layer %d off by %d", k, l, by)
	}
	if last && g.Pools() {
		f.Items[item].Outputs[k] = add(number(f.Items[item].Outputs[k]), by)
		return fmt.Sprintf("mean %d off by %d", k, by)
	}
	if !g.Pools() && (last || r.IntN(2) == 0) {
		f.setSum(item, l, k, add(f.sum(item, l, k), by))
		f.scale(item, l)
		f.from(l + 1)
		return fmt.Sprintf("sum %d of layer %d off by %d", k, l, by)
	}
	// Another rounding, with the remainder that it takes.
	s := add(f.shifted(item, l, k), by)
	f.setValue(item, l, k, s, add(number(f.Items[item].Layers[l].Value[k]), by), add(f.remainder(item, l, k), -by<<intnet.Shift))
	f.from(l + 1)
	return fmt.Sprintf("value %d of layer %d off by %d", k, l, by)
}

func (f forger) recount(t testing.TB) { copy(f.Lookups[:], recount(t, f.inferenceCircuit)[0]) }

// Accumulators that a model's check forbids are refused by it; and the circuit, which
// computes with whole numbers, never takes one that is wrapped to 32 bits.
func TestAccumulatorsDoNotWrap(t *testing.T) {
	spec := Inference{mlp(2, 1), 1}
	n := &intnet.Network{Architecture: spec.Architecture, Parameters: intnet.Parameters{Layers: []intnet.LayerParameters{{Weights: []int8{127, 127}, Bias: []int32{math.MaxInt32 - 2*127*128}}}}}
	items := []Item{{Input: []int8{127, 127}}}
	f := forge(t, spec, n, items)
	// A bias that Check refuses: the sum goes beyond 32 bits.
	over := *n
	over.Parameters.Layers = []intnet.LayerParameters{{Weights: []int8{127, 127}, Bias: []int32{math.MaxInt32}}}
	if over.Check() == nil {
		t.Fatal("a bias that overflows was accepted")
	}
	if _, err := spec.assign(Assignment{Network: &over, Items: items}); err == nil {
		t.Error("a network that overflows was assigned")
	}
	setNumber(f.Layers[0].Bias[0][:], big64(math.MaxInt32+1<<31))
	f.from(0)
	sum := number(f.Items[0].Outputs[0]).Int64()
	if sum <= math.MaxInt32 {
		t.Fatalf("%d is no overflow", sum)
	}
	mutant := newInferenceCircuit(spec)
	mutant.skip = without("weights-commitment")
	cs := compileWithout(t, mutant)
	f.skip = mutant.skip
	f.recount(t)
	if err := solve(t, cs, f.inferenceCircuit); err != nil {
		t.Fatal(err)
	}
	f.Items[0].Outputs[0] = int32(sum)
	if solve(t, cs, f.inferenceCircuit) == nil {
		t.Error("a wrapped accumulator was accepted")
	}
}

// The bounds that packing relies on hold for every size of a layer.
func TestRowsDoNotTouch(t *testing.T) {
	for fan := 1; int64(fan)*127*128 < 1<<31; fan += 1 + fan/50 {
		for _, out := range []int{1, 2, 7, 4096} {
			b := boundOf(intnet.Geometry{Layer: intnet.Layer{Kind: intnet.Dense, Out: out}, Fan: fan, Times: 1})
			reach := int64(fan) * 128 * 128
			// The most by which two rows of sums differ, as numbers.
			apart, most := new(big.Int), big64(reach+1<<(b.sumBits-1))
			for range b.rows {
				apart.Lsh(apart, uint(b.stride)).Add(apart, most)
			}
			switch {
			case reach >= 1<<(b.sumBits-1):
				t.Fatalf("a sum of %d products needs more than %d bits", fan, b.sumBits)
			case reach+1<<(b.sumBits-1) >= 1<<b.stride:
				t.Fatalf("%d products: the difference of two sums reaches the next row", fan)
			case apart.Cmp(modulus) >= 0:
				t.Fatalf("%d products: %d rows of %d bits reach the modulus", fan, b.rows, b.stride)
			case b.rows < 1 || b.rows > out:
				t.Fatalf("%d rows of %d", b.rows, out)
			}
		}
	}
}

// The challenge covers every witness but those that stand in no range check and in no
// random combination: salts, and the sides of clamps and of zero.
func TestTheChallengeCoversTheWitness(t *testing.T) {
	for _, spec := range []Inference{outputsOnly, hiddenReLU, hiddenPlain, combined, {mlp(5, 4, 3), 3}, pools, sums, leaky, sliding, slidingRows} {
		f := forge(t, spec, randomNetwork(t, spec.Architecture, 1), randomItems(spec.Architecture, spec.Batch, 1))
		for i := range f.Items {
			f.Items[i].Salt = free
			for _, l := range f.Items[i].Layers {
				for _, list := range [][]frontend.Variable{l.Negative, l.Below} {
					for k := range list {
						list[k] = free
					}
				}
			}
		}
		covered(t, compileWithout(t, newInferenceCircuit(spec)), f.inferenceCircuit)
	}
	for _, spec := range []Gradient{{7, 8}, {7, 16}} {
		f := forgeGradient(t, spec)
		f.Salt = free
		covered(t, compileWithout(t, newGradientCircuit(spec)), f.gradientCircuit)
	}
}

// free marks a witness that the challenge need not cover.
const free = 123456789

func covered(t *testing.T, cs interface {
	GetCommitments() constraint.Commitments
	GetNbPublicVariables() int
}, c frontend.Circuit) {
	t.Helper()
	w, err := frontend.NewWitness(c, modulus)
	if err != nil {
		t.Fatal(err)
	}
	commitments, ok := cs.GetCommitments().(constraint.Groth16Commitments)
	if !ok || len(commitments) != 1 {
		t.Fatalf("%d commitments", len(commitments))
	}
	in := map[int]bool{}
	for _, wire := range commitments[0].PrivateCommitted {
		in[wire] = true
	}
	all, ok := w.Vector().(fr.Vector)
	if !ok {
		t.Fatalf("a witness of %T", w.Vector())
	}
	// The system's first wire is the constant one.
	public, mark := cs.GetNbPublicVariables(), fr.NewElement(free)
	for i := public - 1; i < len(all); i++ {
		if in[i+1] == all[i].Equal(&mark) {
			t.Fatalf("witness %d: covered is %t", i+1-public, in[i+1])
		}
	}
}
