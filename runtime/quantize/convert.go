package quantize

import (
	"fmt"
	"math"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/runtime/classifier"
	"github.com/anchorhold/anchorhold/runtime/layers"
)

// maxCalibration bounds the rows that are used; of more, they are taken at equal distances.
const maxCalibration = 4096

// Convert quantizes a network with ranges from calibration rows, which are inputs in the
// network's own form.
func Convert(n *layers.Network, calibration *Rows) (*classifier.Description, intnet.Parameters, error) {
	d, p, err := convert(n, calibration)
	if err != nil {
		return nil, intnet.Parameters{}, fmt.Errorf("quantize: %w", err)
	}
	return d, p, nil
}

// Check refuses a network that no calibration can turn into a classifier: one beyond the limits
// of integer networks, or with labels that a description cannot hold.
func Check(n *layers.Network) error {
	d := &classifier.Description{Architecture: architecture(n), Labels: n.Labels, IntegerLabels: n.IntegerLabels}
	if err := d.Architecture.Check(); err != nil {
		return refusal.New(layers.ReasonSize, "%w", err)
	}
	if err := d.CheckLabels(); err != nil {
		return refusal.New(layers.ReasonClasses, "%w", err)
	}
	return nil
}

func convert(n *layers.Network, calibration *Rows) (*classifier.Description, intnet.Parameters, error) {
	var none intnet.Parameters
	d := &classifier.Description{Architecture: architecture(n), Labels: n.Labels, IntegerLabels: n.IntegerLabels}
	if err := Check(n); err != nil {
		return nil, none, err
	}
	if calibration.Width != n.Input.Len() {
		return nil, none, fmt.Errorf("calibration rows have %d values, the model takes %d", calibration.Width, n.Input.Len())
	}
	seen, err := observe(n, calibration)
	if err != nil {
		return nil, none, err
	}
	input := chooseInput(n, seen.inputs)
	if d.Quantizer, err = input.quantizer(n); err != nil {
		return nil, none, err
	}
	var p intnet.Parameters
	list := d.Architecture.Geometries()
	unit := 0.0 // of the values between layers
	if first := &n.Layers[0]; first.Pools() {
		unit, _ = input.at(0) // such an input has no offset
	}
	for i, g := range list {
		if g.Pools() {
			l, next, err := average(g, unit, seen.outputs, i)
			if err == nil && g.Last {
				d.Scale, err = classifier.NewScale(next)
			}
			if err != nil {
				return nil, none, fmt.Errorf("layer %d: %w", i+1, err)
			}
			p.Layers, unit = append(p.Layers, l), next
			continue
		}
		real := effective(&n.Layers[i], g, unit, input, i == 0)
		if g.Last {
			l, scale, err := real.last(g)
			if err != nil {
				return nil, none, fmt.Errorf("layer %d: %w", i+1, err)
			}
			p.Layers, d.Scale = append(p.Layers, l), scale
			break
		}
		l, next, err := real.hidden(g, &n.Layers[i], seen.outputs[i].unit(g.ReLU))
		if err != nil {
			return nil, none, fmt.Errorf("layer %d: %w", i+1, err)
		}
		p.Layers, unit = append(p.Layers, l), next
	}
	if err := d.Check(); err != nil {
		return nil, none, err
	}
	return d, p, (&intnet.Network{Architecture: d.Architecture, Parameters: p}).Check()
}

func architecture(n *layers.Network) intnet.Architecture {
	a := intnet.Architecture{Input: intnet.Shape(n.Input), ChannelsLast: n.ChannelsLast}
	for _, l := range n.Layers {
		a.Layers = append(a.Layers, l.Integer())
	}
	for i := range a.Layers {
		sums(&a, i)
	}
	return a
}

// sums makes an average one that does not round, where the next layer can take its sums: they
// are exact, and a proof of them costs nothing. Half the room for accumulators stays for biases.
func sums(a *intnet.Architecture, i int) {
	if l := &a.Layers[i]; l.Kind != intnet.AveragePool || l.ReLU || i == len(a.Layers)-1 {
		return
	}
	next := a.Layers[i+1]
	if next.Kind != intnet.Dense && next.Kind != intnet.Conv {
		return
	}
	with := intnet.Architecture{Input: a.Input, Layers: slices.Clone(a.Layers)}
	with.Layers[i].Kind = intnet.SumPool
	if with.Check() == nil && room(with.Geometries()[i+1]) >= 1<<30 {
		a.Layers[i].Kind = intnet.SumPool
	}
}

// matrix is a layer in real numbers over the integers that enter it: an output is the sum
// of weights times integers, plus its bias.
type matrix struct {
	weights []float64
	bias    []float64
}

// effective takes the scale of the values that enter a layer into its weights, and the
// offset of an input into the bias. unit is that scale behind the first layer.
func effective(l *layers.Layer, g intnet.Geometry, unit float64, input *inputRule, first bool) matrix {
	m := matrix{weights: slices.Clone(l.Weights), bias: slices.Clone(l.Bias)}
	for o := range g.Out {
		row := m.weights[o*g.Fan : (o+1)*g.Fan]
		for k := range row {
			if !first {
				row[k] *= unit
				continue
			}
			at := 0 // a convolution's input has one rule
			if g.Kind == intnet.Dense {
				at = k
			}
			scale, offset := input.at(at)
			m.bias[o] += row[k] * offset
			row[k] *= scale
		}
	}
	return m
}

// room is how large a bias may be beside the largest sum of a layer.
func room(g intnet.Geometry) float64 { return math.MaxInt32 - float64(g.Fan)*127*128*float64(g.Times) }

var errRange = refusal.New(layers.ReasonWeights, "a weight, a bias or a value is too large or too small to be quantized")

// hidden quantizes a layer whose outputs are to be multiples of unit. Each output has a
// weight scale of its own. It returns the unit that was used: a larger one where an output
// would need a multiplier of one or more.
func (m *matrix) hidden(g intnet.Geometry, real *layers.Layer, unit float64) (intnet.LayerParameters, float64, error) {
	scales := make([]float64, g.Out)
	for o := range scales {
		scales[o] = max(largest(m.weights[o*g.Fan:(o+1)*g.Fan])/127, math.Abs(m.bias[o])/room(g))
		unit = max(unit, scales[o]*slope(real, o)*(1+1e-6))
	}
	if !(unit > 0) || math.IsInf(unit, 0) {
		return intnet.LayerParameters{}, 0, errRange
	}
	// The integers' own limit is the layer's, or below it where no calibration row came so far.
	if real.Limit != 0 && unit*intnet.Top > real.Limit*(1+1e-9) {
		return intnet.LayerParameters{}, 0, refusal.New(layers.ReasonWeights, "a weight is so large that the smallest step of a value is beyond the limit of %g behind it", real.Limit)
	}
	p := intnet.LayerParameters{Multiplier: make([]uint32, g.Out)}
	for o := range scales {
		// A weight scale far below the unit would leave the multiplier no digits.
		scales[o] = max(scales[o], math.Ldexp(unit, -16))
		p.Multiplier[o] = multiplier(scales[o] / unit)
		if g.Leaky {
			p.Negative = append(p.Negative, multiplier(scales[o]*real.Slope[o]/unit))
		}
	}
	m.round(&p, g, scales)
	return p, unit, nil
}

// slope is the largest factor of an output's activation, at least 1.
func slope(l *layers.Layer, o int) float64 {
	if l.Slope == nil {
		return 1
	}
	return max(1, l.Slope[o])
}

// multiplier is a factor as a network has it.
func multiplier(factor float64) uint32 {
	return uint32(max(1, min(math.RoundToEven(math.Ldexp(factor, intnet.Shift)), 1<<intnet.MultiplierBits-1)))
}

// average gives a pool its one multiplier, if it has one, and returns the unit of its values or,
// as last layer, of its sums.
func average(g intnet.Geometry, unit float64, seen []sample, i int) (p intnet.LayerParameters, next float64, err error) {
	if g.Kind == intnet.MaxPool {
		return p, unit, nil
	}
	each := unit / float64(g.Total) // of a sum
	if g.Last || g.Kind == intnet.SumPool {
		return p, each, nil
	}
	next = max(seen[i].unit(g.ReLU), each*(1+1e-6))
	if !(next > 0) || math.IsInf(next, 0) {
		return p, 0, errRange
	}
	p.Multiplier = []uint32{multiplier(each / next)}
	return p, next, nil
}

// last quantizes the last layer with one scale, which is what an output is worth.
func (m *matrix) last(g intnet.Geometry) (intnet.LayerParameters, classifier.Scale, error) {
	one := max(largest(m.weights)/127, largest(m.bias)/room(g))
	scale, err := classifier.NewScale(one)
	if err != nil {
		return intnet.LayerParameters{}, scale, errRange
	}
	var p intnet.LayerParameters
	m.round(&p, g, slices.Repeat([]float64{one}, g.Out))
	return p, scale, nil
}

// round writes weights and biases in units of each output's scale.
func (m *matrix) round(p *intnet.LayerParameters, g intnet.Geometry, scales []float64) {
	p.Weights, p.Bias = make([]int8, g.Weights()), make([]int32, g.Out)
	for o, scale := range scales {
		for k, w := range m.weights[o*g.Fan : (o+1)*g.Fan] {
			p.Weights[o*g.Fan+k] = int8(limit(w/scale, 127))
		}
		p.Bias[o] = int32(limit(m.bias[o]/scale, math.Floor(room(g))))
	}
}

// limit rounds to the nearest integer, at most top either way.
func limit(v, top float64) float64 { return max(-top, min(top, math.RoundToEven(v))) }

func largest(list []float64) (top float64) {
	for _, v := range list {
		top = max(top, math.Abs(v))
	}
	return top
}
