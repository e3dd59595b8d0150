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
	for i, g := range list {
		real := effective(&n.Layers[i], g, unit, input, i == 0)
		if g.Last {
			l, scale, err := real.last(g)
			if err != nil {
				return nil, none, fmt.Errorf("layer %d: %w", i+1, err)
			}
			p.Layers, d.Scale = append(p.Layers, l), scale
			break
		}
		l, next, err := real.hidden(g, seen.outputs[i].unit(g.ReLU))
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
	a := intnet.Architecture{Input: intnet.Shape(n.Input)}
	for _, l := range n.Layers {
		if l.Kind == layers.Conv {
			a.Layers = append(a.Layers, intnet.Convolution(l.Out, l.Kernel, l.Stride, l.Pad, l.ReLU))
			continue
		}
		a.Layers = append(a.Layers, intnet.Layer{Kind: intnet.Kind(l.Kind), Out: l.Out, ReLU: l.ReLU})
	}
	return a
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
func room(g intnet.Geometry) float64 { return math.MaxInt32 - float64(g.Fan)*127*128 }

var errRange = refusal.New(layers.ReasonWeights, "a weight, a bias or a value is too large or too small to be quantized")

// hidden quantizes a layer whose outputs are to be multiples of unit. Each output has a
// weight scale of its own. It returns the unit that was used: a larger one where an output
// would need a multiplier of one or more.
func (m *matrix) hidden(g intnet.Geometry, unit float64) (intnet.LayerParameters, float64, error) {
	scales := make([]float64, g.Out)
	for o := range scales {
		scales[o] = max(largest(m.weights[o*g.Fan:(o+1)*g.Fan])/127, math.Abs(m.bias[o])/room(g))
		unit = max(unit, scales[o]*(1+1e-6))
	}
	if !(unit > 0) || math.IsInf(unit, 0) {
		return intnet.LayerParameters{}, 0, errRange
	}
	p := intnet.LayerParameters{Multiplier: make([]uint32, g.Out)}
	for o := range scales {
		// A weight scale far below the unit would leave the multiplier no digits.
		scales[o] = max(scales[o], math.Ldexp(unit, -16))
		p.Multiplier[o] = uint32(min(math.RoundToEven(math.Ldexp(scales[o]/unit, intnet.Shift)), 1<<intnet.MultiplierBits-1))
	}
	m.round(&p, g, scales)
	return p, unit, nil
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
