package circuits

import (
	"fmt"
	"math/bits"

	"github.com/consensys/gnark/frontend"

	"github.com/anchorhold/anchorhold/crypto/zk/gadget"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// MaxBatch is the largest number of inferences that one proof is about.
const MaxBatch = 64

// Inference is the circuit of some inferences of one architecture.
type Inference struct {
	Architecture intnet.Architecture
	Batch        int
}

// Check compares the numbers with their limits.
func (c Inference) Check() error {
	if c.Batch < 1 || c.Batch > MaxBatch {
		return fmt.Errorf("circuits: got a batch of %d inferences, want 1 to %d", c.Batch, MaxBatch)
	}
	return c.Architecture.Check()
}

// excessBytes is the length of how far a value lies beyond its clamp. Accumulators of
// checked networks have 32 bits with their sign, multipliers 24, and 24 are shifted out.
const excessBytes = 4

// bound says how one layer's products are checked. A sum of fan products of a byte's
// range is below reach; it is witnessed as a number below 2^sumBits from which
// 2^(sumBits-1) is taken. rows of them stand in one field element, stride bits apart.
//
// Two rows of sums that agree as field elements agree one by one: sums differ by less
// than 2^sumBits, which is below half the stride, and rows of them stay below the
// modulus.
type bound struct {
	sumBits, stride, rows int
}

func boundOf(g intnet.Geometry) bound {
	reach := uint64(g.Fan*g.Times) << 14 // 128 * 128
	b := bound{sumBits: bits.Len64(reach) + 1}
	b.stride = b.sumBits + 1
	b.rows = min(g.Out, 1+(252-b.sumBits)/b.stride)
	return b
}

func (b bound) bytes() int { return (b.sumBits + 7) / 8 }

// inferenceCircuit is the circuit in gnark's form. The order of its public fields is
// that of statement.PublicInputs.
type inferenceCircuit struct {
	Weights   frontend.Variable `gnark:",public"`
	Items     []itemCircuit
	Statement frontend.Variable `gnark:",public"`
	Layers    []layerWitness
	// Lookups are how often each byte is checked.
	Lookups [256]frontend.Variable

	spec Inference
	skip func(name string) bool // assertions that a test leaves out
}

// itemCircuit is one inference.
type itemCircuit struct {
	Input   frontend.Variable   `gnark:",public"`
	Outputs []frontend.Variable `gnark:",public"`
	Salt    frontend.Variable
	Values  []frontend.Variable // the input, 128 added
	Layers  []activations
}

// layerWitness are one layer's constants.
type layerWitness struct {
	Weights    []frontend.Variable    // 128 added
	Bias       [][4]frontend.Variable // bytes of the bias, 2^31 added
	Multiplier [][3]frontend.Variable
	Negative   [][3]frontend.Variable // multipliers of sums below zero
}

// activations are what one layer computes of one input.
type activations struct {
	Sums [][]frontend.Variable // bytes of each sum of products, or the sum itself (planOf)
	// Of LeakyReLU: on which side of zero an accumulator is, and how far from it.
	Below  []frontend.Variable
	Amount [][4]frontend.Variable
	// Of hidden layers: remainder and result of the shift; how far and on which side
	// of the clamp the shifted number is. A pool of largest values has only the
	// value, one of sums nothing: they are linear in what enters.
	Remainder [][3]frontend.Variable
	Value     []frontend.Variable
	Excess    [][excessBytes]frontend.Variable
	Negative  []frontend.Variable
}

// newInferenceCircuit allocates a circuit without values.
func newInferenceCircuit(spec Inference) *inferenceCircuit {
	c := &inferenceCircuit{spec: spec, Items: make([]itemCircuit, spec.Batch)}
	all := spec.Architecture.Geometries()
	for _, g := range all {
		c.Layers = append(c.Layers, layerWitness{Weights: make([]frontend.Variable, g.Weights()), Bias: make([][4]frontend.Variable, g.Biases()),
			Multiplier: make([][3]frontend.Variable, g.Multipliers()), Negative: make([][3]frontend.Variable, g.Negatives())})
	}
	for i := range c.Items {
		item := &c.Items[i]
		item.Values = make([]frontend.Variable, spec.Architecture.Input.Size())
		item.Outputs = make([]frontend.Variable, all[len(all)-1].To.Size())
		for _, g := range all {
			item.Layers = append(item.Layers, newActivations(g, spec.planOf(g)))
		}
	}
	return c
}

func newActivations(g intnet.Geometry, p plan) (a activations) {
	n := g.To.Size()
	if !g.Pools() {
		a.Sums = make([][]frontend.Variable, n)
		for k := range a.Sums {
			a.Sums[k] = make([]frontend.Variable, p.bytes)
		}
	}
	if g.Leaky {
		a.Below, a.Amount = make([]frontend.Variable, n), make([][4]frontend.Variable, n)
	}
	if g.Rescales() || g.Kind == intnet.MaxPool {
		a.Value = make([]frontend.Variable, n)
	}
	if g.Rescales() {
		a.Remainder = make([][3]frontend.Variable, n)
		a.Excess, a.Negative = make([][excessBytes]frontend.Variable, n), make([]frontend.Variable, n)
	}
	return a
}

// Define is called by gnark's compiler.
func (c *inferenceCircuit) Define(api frontend.API) error {
	b := &inferenceBuilder{api: api, check: gadget.NewChecker(api, c.Lookups[:], c.skip), c: c}
	b.check.Bind("statement", c.Statement)
	if err := b.commitments(); err != nil {
		return err
	}
	values := make([][]frontend.Variable, len(c.Items))
	for i, item := range c.Items {
		values[i] = make([]frontend.Variable, len(item.Values))
		for k, v := range item.Values {
			values[i][c.spec.Architecture.Place(k)] = api.Sub(v, 128)
		}
	}
	for l, g := range c.spec.Architecture.Geometries() {
		values = b.layer(l, g, values)
	}
	for i, item := range c.Items {
		for k, y := range item.Outputs {
			b.check.Equal("output", y, values[i][k])
		}
	}
	return b.check.Finish()
}

type inferenceBuilder struct {
	api   frontend.API
	check *gadget.Checker
	c     *inferenceCircuit
	// bias, multiplier and negative are the numbers of each layer and output.
	bias, multiplier, negative [][]frontend.Variable
}

// commitments checks every constant's and input's range, and the two commitments.
func (b *inferenceBuilder) commitments() error {
	var all []frontend.Variable
	for _, l := range b.c.Layers {
		var bias, raw, multiplier, negative []frontend.Variable
		for i := range l.Bias {
			v := b.check.Whole("bias", l.Bias[i][:])
			raw, bias = append(raw, v), append(bias, b.api.Sub(v, gadget.Power(31)))
		}
		for i := range l.Multiplier {
			multiplier = append(multiplier, b.check.Whole("multiplier", l.Multiplier[i][:]))
		}
		for i := range l.Negative {
			negative = append(negative, b.check.Whole("multiplier", l.Negative[i][:]))
		}
		for _, w := range l.Weights {
			b.check.Byte("weight", w)
		}
		b.check.Commit(l.Weights...)
		b.bias, b.multiplier, b.negative = append(b.bias, bias), append(b.multiplier, multiplier), append(b.negative, negative)
		all = gadget.Pack(b.api, all, raw, 32, statement.Int32sPerElement)
		all = gadget.Pack(b.api, all, multiplier, 32, statement.Int32sPerElement)
		all = gadget.Pack(b.api, all, negative, 32, statement.Int32sPerElement)
		all = gadget.Pack(b.api, all, l.Weights, 8, statement.BytesPerElement)
	}
	h, err := gadget.Hash(b.api, statement.DomainWeights, all)
	if err != nil {
		return err
	}
	b.check.Equal("weights-commitment", h, b.c.Weights)
	for _, item := range b.c.Items {
		for _, v := range item.Values {
			b.check.Byte("input", v)
		}
		b.check.Commit(item.Values...)
		h, err := gadget.Hash(b.api, statement.DomainInput, gadget.Pack(b.api, []frontend.Variable{item.Salt}, item.Values, 8, statement.BytesPerElement))
		if err != nil {
			return err
		}
		b.check.Equal("input-commitment", h, item.Input)
	}
	return nil
}

// layer computes one layer of all items.
func (b *inferenceBuilder) layer(l int, g intnet.Geometry, values [][]frontend.Variable) [][]frontend.Variable {
	if g.Kind == intnet.MaxPool {
		return b.largest(l, g, values)
	}
	sums := b.sums(l, g, values)
	next := make([][]frontend.Variable, len(values))
	for i, item := range b.c.Items {
		next[i] = make([]frontend.Variable, g.To.Size())
		for k := range next[i] {
			acc := sums[i][k]
			if !g.Pools() {
				acc = b.api.Add(acc, b.bias[l][k/g.Positions()])
			}
			if next[i][k] = acc; g.Rescales() {
				next[i][k] = b.rescale(g, acc, b.multiplierOf(l, g, acc, item.Layers[l], k), item.Layers[l], k)
			}
		}
	}
	return next
}

// sums are the accumulators of one layer, without biases.
func (b *inferenceBuilder) sums(l int, g intnet.Geometry, values [][]frontend.Variable) [][]frontend.Variable {
	sums := make([][]frontend.Variable, len(values))
	p := b.c.spec.planOf(g)
	for i, item := range b.c.Items {
		sums[i] = make([]frontend.Variable, g.To.Size())
		for k := range sums[i] {
			switch {
			case g.Pools():
				sums[i][k] = b.mean(g, values[i], k)
			case p.free:
				b.check.Commit(item.Layers[l].Sums[k][0])
				sums[i][k] = item.Layers[l].Sums[k][0]
			default:
				sums[i][k] = b.api.Sub(b.check.Below("sum", item.Layers[l].Sums[k], p.sumBits), gadget.Power(p.sumBits-1))
			}
		}
	}
	switch {
	case g.Pools():
	case p.slides:
		b.check.Defer(func(challenge frontend.Variable) { b.slide(l, g, p, values, sums, challenge) })
	default:
		b.products(l, g, values, sums)
	}
	return sums
}

// mean is the accumulator of an average or a sum, which is linear.
func (b *inferenceBuilder) mean(g intnet.Geometry, values []frontend.Variable, output int) frontend.Variable {
	var terms []frontend.Variable
	o, position := output/g.Positions(), output%g.Positions()
	for k := range g.Fan {
		if from := g.Source(o, position, k); from >= 0 {
			terms = append(terms, b.api.Mul(values[from], g.Share(position)))
		}
	}
	return gadget.Sum(b.api, terms)
}

// largest asserts that each value is the largest of its window: none in the window is above
// it, and it is one of them.
func (b *inferenceBuilder) largest(l int, g intnet.Geometry, values [][]frontend.Variable) [][]frontend.Variable {
	next := make([][]frontend.Variable, len(values))
	for i, item := range b.c.Items {
		next[i] = item.Layers[l].Value
		b.check.Commit(next[i]...)
		for k, top := range next[i] {
			var product frontend.Variable = 1
			var last frontend.Variable
			for w := range g.Fan {
				from := g.Source(k/g.Positions(), k%g.Positions(), w)
				if from < 0 {
					continue
				}
				if last != nil {
					product = b.api.Mul(product, last)
				}
				last = b.api.Sub(top, values[i][from])
				b.check.Byte("largest", last)
			}
			b.check.Product("largest-of-them", product, last, 0)
		}
	}
	return next
}

// multiplierOf is by what an accumulator is multiplied. For LeakyReLU it depends on the
// accumulator's side of zero, which the amount shows: it is the accumulator or its negative,
// and not below zero. Zero itself may be on either side.
func (b *inferenceBuilder) multiplierOf(l int, g intnet.Geometry, acc frontend.Variable, a activations, k int) frontend.Variable {
	if g.Kind == intnet.AveragePool {
		return b.multiplier[l][0]
	}
	o := k / g.Positions()
	if !g.Leaky {
		return b.multiplier[l][o]
	}
	b.check.Bit("zero-side", a.Below[k])
	amount := b.check.Whole("amount", a.Amount[k][:])
	b.check.Product("zero-amount", acc, b.api.Sub(1, b.api.Mul(a.Below[k], 2)), amount)
	return b.api.Add(b.multiplier[l][o], b.api.Mul(a.Below[k], b.api.Sub(b.negative[l][o], b.multiplier[l][o])))
}

// products asserts that sums are the sums of products of weights and values: of some
// outputs at a time, stride bits apart, either position by position or, where that is
// cheaper, for a random combination of all positions of all items.
func (b *inferenceBuilder) products(l int, g intnet.Geometry, values, sums [][]frontend.Variable) {
	limit := boundOf(g)
	var packed [][]frontend.Variable // [group][k]
	for first := 0; first < g.Out; first += limit.rows {
		column := make([]frontend.Variable, g.Fan)
		for k := range column {
			var terms []frontend.Variable
			for r := range min(limit.rows, g.Out-first) {
				w := b.api.Sub(b.c.Layers[l].Weights[(first+r)*g.Fan+k], 128)
				terms = append(terms, b.api.Mul(w, gadget.Power(limit.stride*r)))
			}
			column[k] = gadget.Sum(b.api, terms)
		}
		packed = append(packed, column)
	}
	rows := func(item, group, position int) frontend.Variable {
		var terms []frontend.Variable
		first := group * limit.rows
		for r := range min(limit.rows, g.Out-first) {
			terms = append(terms, b.api.Mul(sums[item][(first+r)*g.Positions()+position], gadget.Power(limit.stride*r)))
		}
		return gadget.Sum(b.api, terms)
	}
	columns := len(values) * g.Positions()
	if direct, combined := g.Fan*len(packed)*columns, g.Fan*(columns+len(packed))+columns*(len(packed)+1); direct <= combined {
		for i := range values {
			for position := range g.Positions() {
				for group := range packed {
					b.check.Equal("product", b.dot(g, packed[group], values[i], position), rows(i, group, position))
				}
			}
		}
		return
	}
	b.check.Defer(func(challenge frontend.Variable) { b.combined(g, packed, values, rows, challenge) })
}

// dot is the sum of products at one position.
func (b *inferenceBuilder) dot(g intnet.Geometry, column, values []frontend.Variable, position int) frontend.Variable {
	var terms []frontend.Variable
	for k, w := range column {
		if from := g.Source(0, position, k); from >= 0 {
			terms = append(terms, b.api.Mul(w, values[from]))
		}
	}
	return gadget.Sum(b.api, terms)
}

// combined is Freivalds' check: for powers s of a challenge that was drawn after
// weights, values and sums, W*(sum of s*x) = sum of s*(W*x).
func (b *inferenceBuilder) combined(g intnet.Geometry, packed [][]frontend.Variable, values [][]frontend.Variable, rows func(item, group, position int) frontend.Variable, challenge frontend.Variable) {
	inputs := make([][]frontend.Variable, g.Fan)
	outputs := make([][]frontend.Variable, len(packed))
	power := frontend.Variable(1)
	for i := range values {
		for position := range g.Positions() {
			for k := range inputs {
				if from := g.Source(0, position, k); from >= 0 {
					inputs[k] = append(inputs[k], b.api.Mul(power, values[i][from]))
				}
			}
			for group := range packed {
				outputs[group] = append(outputs[group], b.api.Mul(power, rows(i, group, position)))
			}
			power = b.api.Mul(power, challenge)
		}
	}
	combination := make([]frontend.Variable, g.Fan)
	for k := range combination {
		combination[k] = gadget.Sum(b.api, inputs[k])
	}
	for group, column := range packed {
		terms := make([]frontend.Variable, g.Fan)
		for k, w := range column {
			terms[k] = b.api.Mul(w, combination[k])
		}
		b.check.Equal("product", gadget.Sum(b.api, terms), gadget.Sum(b.api, outputs[group]))
	}
}

// rescale asserts that a value is an accumulator times a multiplier, shifted with
// rounding and clamped.
//
// acc*m + 2^23 = shifted*2^24 + remainder has one solution with a remainder below
// 2^24. shifted = value + excess, or value - excess where it is negative; excess is
// below 2^32, so that nothing comes near the modulus, and zero but where the value is
// at the clamp on that side.
func (b *inferenceBuilder) rescale(g intnet.Geometry, acc, multiplier frontend.Variable, a activations, k int) frontend.Variable {
	api := b.api
	remainder := b.check.Whole("remainder", a.Remainder[k][:])
	excess := b.check.Whole("excess", a.Excess[k][:])
	value, negative := a.Value[k], a.Negative[k]
	b.check.Commit(value)
	b.check.Bit("side", negative)
	low := 0
	if !g.ReLU {
		low = -intnet.Top
	}
	// From low to 127: two bytes that share a witness.
	if g.ReLU {
		b.check.Byte("value-low", value)
		b.check.Byte("value-high", api.Mul(value, 2))
	} else {
		b.check.Byte("value-low", api.Add(value, intnet.Top))
		b.check.Byte("value-high", api.Add(value, 128))
	}
	signed := api.Mul(excess, api.Sub(1, api.Mul(negative, 2)))
	shifted := api.Add(value, signed)
	product := api.Sub(api.Add(api.Mul(shifted, gadget.Power(intnet.Shift)), remainder), gadget.Power(intnet.Shift-1))
	b.check.Product("rescale", acc, multiplier, product)
	// The clamp on the side of the excess: 127, or low where it is negative.
	edge := api.Sub(intnet.Top, api.Mul(negative, intnet.Top-low))
	b.check.Product("clamp", excess, api.Sub(value, edge), 0)
	return value
}
