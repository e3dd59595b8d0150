package quantize

import (
	"math"
	"slices"

	"github.com/anchorhold/anchorhold/runtime/classifier"
	"github.com/anchorhold/anchorhold/runtime/layers"
)

// observed is what the calibration rows show.
type observed struct {
	inputs  []span   // of each input value, behind the network's own scale and offset
	outputs []sample // of each layer but the last
}

// span is the range of a value.
type span struct{ low, high float64 }

// observe runs the calibration rows through the network.
func observe(n *layers.Network, rows *Rows) (*observed, error) {
	seen := &observed{inputs: make([]span, rows.Width), outputs: make([]sample, len(n.Layers)-1)}
	for i := range seen.inputs {
		seen.inputs[i] = span{math.Inf(1), math.Inf(-1)}
	}
	used, place := min(rows.Len(), maxCalibration), architecture(n)
	for i := range used {
		_, err := n.Forward(rows.Row(i*rows.Len()/used), func(layer int, values []float64) {
			switch {
			case layer == 0:
				for i := range values {
					k, v := i, values[place.Place(i)] // in the input's order
					seen.inputs[k] = span{min(seen.inputs[k].low, v), max(seen.inputs[k].high, v)}
				}
			case layer < len(n.Layers):
				seen.outputs[layer-1].add(values, used)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return seen, nil
}

// maxSample bounds the values that are kept of a layer.
const maxSample = 1 << 15

// sample keeps the largest of a layer's values, and some of the others.
type sample struct {
	top    float64
	values []float64
	skip   int
}

// add takes one row's values, of so many rows in all.
func (s *sample) add(values []float64, rows int) {
	every := max(1, len(values)*rows/maxSample)
	for _, v := range values {
		s.top = max(s.top, math.Abs(v))
		if s.skip++; s.skip >= every && v != 0 {
			s.values, s.skip = append(s.values, v), 0
		}
	}
}

// unit is the step between integers that represents the layer's values with the least
// squared error: a little less than the largest value divided by 127, because few values
// are the largest.
func (s *sample) unit(relu bool) float64 {
	if s.top == 0 {
		return 1.0 / 127 // the layer is silent in all rows
	}
	best, least := 0.0, math.Inf(1)
	for percent := 100; percent >= 50; percent -= 5 {
		step := s.top * float64(percent) / 100 / 127
		sum := 0.0
		for _, v := range s.values {
			q := limit(v/step, 127)
			if relu {
				q = max(q, 0)
			}
			sum += (v - q*step) * (v - q*step)
		}
		if sum < least {
			best, least = step, sum
		}
	}
	return best
}

// inputRule says what an integer of the input means: integer * scale + offset. It has one
// entry, or one for each input value.
type inputRule struct{ scale, offset []float64 }

func (r *inputRule) at(i int) (scale, offset float64) {
	if len(r.scale) == 1 {
		i = 0
	}
	return r.scale[i], r.offset[i]
}

// uneven is how much larger than the median the largest range of a feature may be before
// each feature has a rule of its own.
const uneven = 4

// chooseInput decides the rule for the input from the ranges that were seen.
func chooseInput(n *layers.Network, seen []span) *inputRule {
	all := span{math.Inf(1), math.Inf(-1)}
	var widths []float64
	for _, s := range seen {
		all = span{min(all.low, s.low), max(all.high, s.high)}
		if s.high > s.low {
			widths = append(widths, s.high-s.low)
		}
	}
	first := &n.Layers[0]
	if first.Pools() || first.Window.Padded() {
		// The padding's zeros are zeros of the values, too; and what a pool makes of the values
		// has no offset.
		top := max(math.Abs(all.low), math.Abs(all.high))
		if top == 0 {
			top = 1
		}
		return &inputRule{[]float64{top / 127}, []float64{0}}
	}
	if len(widths) == 0 { // no feature varies in the calibration set
		widths = []float64{1}
		all.high = max(all.high, all.low+1)
	}
	slices.Sort(widths)
	median := widths[len(widths)/2]
	if first.Kind == layers.Conv || n.ChannelsLast || widths[len(widths)-1] <= uneven*median && all.high-all.low <= uneven*median {
		return &inputRule{[]float64{(all.high - all.low) / 255}, []float64{all.low + (all.high-all.low)*128/255}}
	}
	r := &inputRule{make([]float64, len(seen)), make([]float64, len(seen))}
	for i, s := range seen {
		if s.high == s.low { // what it will vary by is not known
			s = span{s.low - median/2, s.low + median/2}
		}
		r.scale[i] = (s.high - s.low) / 255
		r.offset[i] = s.low + 128*r.scale[i]
	}
	return r
}

// quantizer is the exact form of the rule, the network's own scale and offset included.
func (r *inputRule) quantizer(n *layers.Network) (classifier.Quantizer, error) {
	var q classifier.Quantizer
	for i := range n.Scale {
		scale, offset := r.at(i)
		f, err := feature(n.Scale[i]/scale, (n.Offset[i]-offset)/scale)
		if err != nil {
			return q, err
		}
		q.Features = append(q.Features, f)
	}
	if !slices.ContainsFunc(q.Features, func(f classifier.Feature) bool { return f != q.Features[0] }) {
		q.Features = q.Features[:1]
	}
	return q, nil
}

// feature is the rule x*scale + offset, also for a scale of zero.
func feature(scale, offset float64) (classifier.Feature, error) {
	if scale == 0 {
		return classifier.Feature{Shift: 1, Offset: 2 * int64(max(-128, min(127, math.RoundToEven(offset))))}, nil
	}
	return classifier.Affine(scale, offset)
}
