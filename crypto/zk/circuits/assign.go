package circuits

import (
	"fmt"
	"math/big"

	"github.com/consensys/gnark/frontend"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/poseidon2"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// Item is one inference that is proven.
type Item struct {
	Salt  statement.Salt
	Input []int8
}

// Assignment is everything that a proof of inferences is made from.
type Assignment struct {
	Network *intnet.Network
	Items   []Item
	// Statement is the digest that the proof is bound to.
	Statement poseidon2.Element
}

// lookups counts byte checks, and writes numbers as bytes.
type lookups struct{ count [256]uint64 }

func (l *lookups) byte(v int) frontend.Variable {
	l.count[v]++
	return v
}

// bytes writes a number as checked bytes, lowest first.
func (l *lookups) bytes(dst []frontend.Variable, v uint64) {
	for i := range dst {
		dst[i] = l.byte(int(v >> (8 * i) & 255))
	}
}

// below is bytes of a number below 2^bits, with the check of the highest.
func (l *lookups) below(dst []frontend.Variable, v uint64, bits int) {
	l.bytes(dst, v)
	if rest := bits % 8; rest != 0 {
		l.byte(int(v>>(8*(len(dst)-1))&255) << (8 - rest))
	}
}

func (l *lookups) table() (t [256]frontend.Variable) {
	for i, n := range l.count {
		t[i] = n
	}
	return t
}

func element(e poseidon2.Element) *big.Int {
	b := e.Bytes()
	return new(big.Int).SetBytes(b[:])
}

// assign computes every witness of the circuit. The outputs that it states are those
// of the network.
func (c Inference) assign(a Assignment) (*inferenceCircuit, error) {
	if err := a.Network.Check(); err != nil {
		return nil, err
	}
	mine, err := c.Architecture.Digest()
	if err != nil {
		return nil, err
	}
	if theirs, err := a.Network.Architecture.Digest(); err != nil || mine != theirs || len(a.Items) != c.Batch {
		return nil, fmt.Errorf("circuits: the %d inferences are of a different architecture, or there are not %d of them", len(a.Items), c.Batch)
	}
	out := newInferenceCircuit(c)
	w, err := statement.WeightsCommitment(a.Network).Element()
	if err != nil {
		return nil, err
	}
	out.Weights, out.Statement = element(w), element(a.Statement)
	var used lookups
	for l := range out.Layers {
		assignConstants(&out.Layers[l], a.Network.Parameters.Layers[l], &used)
	}
	for i := range out.Items {
		if err := c.assignItem(&out.Items[i], a.Network, a.Items[i], &used); err != nil {
			return nil, err
		}
	}
	out.Lookups = used.table()
	return out, nil
}

func assignConstants(dst *layerWitness, p intnet.LayerParameters, used *lookups) {
	for i, b := range p.Bias {
		used.bytes(dst.Bias[i][:], uint64(uint32(b)^1<<31))
	}
	for i, m := range p.Multiplier {
		used.bytes(dst.Multiplier[i][:], uint64(m))
	}
	for i, m := range p.Negative {
		used.bytes(dst.Negative[i][:], uint64(m))
	}
	for i, w := range p.Weights {
		dst.Weights[i] = used.byte(int(w) + 128)
	}
}

func (c Inference) assignItem(dst *itemCircuit, n *intnet.Network, item Item, used *lookups) error {
	t, err := n.Trace(item.Input)
	if err != nil {
		return err
	}
	input, err := statement.InputCommitment(item.Salt, item.Input).Element()
	if err != nil {
		return err
	}
	dst.Input, dst.Salt = element(input), element(item.Salt.Element())
	for k, v := range item.Input {
		dst.Values[k] = used.byte(int(v) + 128)
	}
	for k, y := range t.Outputs() {
		dst.Outputs[k] = y
	}
	for l, g := range n.Geometries() {
		p, a := n.Parameters.Layers[l], &dst.Layers[l]
		for k, acc := range t.Acc[l] {
			if g.Kind == intnet.MaxPool {
				assignLargest(a, g, k, t.In[l], acc, used)
				continue
			}
			channel := k / g.Positions()
			if !g.Pools() {
				c.planOf(g).assign(a.Sums[k], int64(acc)-int64(p.Bias[channel]), used)
			}
			if g.Leaky {
				below, amount := 0, int64(acc)
				if acc < 0 {
					below, amount = 1, -amount
				}
				a.Below[k] = below
				used.bytes(a.Amount[k][:], uint64(amount))
			}
			if g.Rescales() {
				assignRescale(a, k, g, int64(acc)*int64(p.MultiplierOf(g, channel, acc)), t.In[l+1][k], used)
			}
		}
	}
	return nil
}

// assign writes a sum of products.
func (p plan) assign(dst []frontend.Variable, sum int64, used *lookups) {
	if p.free {
		dst[0] = sum
		return
	}
	used.below(dst, uint64(sum+1<<(p.sumBits-1)), p.sumBits)
}

func assignLargest(dst *activations, g intnet.Geometry, k int, values []int32, top int32, used *lookups) {
	dst.Value[k] = int(top)
	for w := range g.Fan {
		if from := g.Source(k/g.Positions(), k%g.Positions(), w); from >= 0 {
			used.byte(int(top - values[from]))
		}
	}
}

func assignRescale(dst *activations, k int, g intnet.Geometry, product int64, value int32, used *lookups) {
	rounded := product + 1<<(intnet.Shift-1)
	shifted := rounded >> intnet.Shift
	used.bytes(dst.Remainder[k][:], uint64(rounded-shifted<<intnet.Shift))
	excess, negative := shifted-int64(value), 0
	if excess < 0 {
		excess, negative = -excess, 1
	}
	used.bytes(dst.Excess[k][:], uint64(excess))
	dst.Value[k], dst.Negative[k] = int(value), negative
	if g.ReLU {
		used.byte(int(value))
		used.byte(2 * int(value))
	} else {
		used.byte(int(value) + intnet.Top)
		used.byte(int(value) + 128)
	}
}
