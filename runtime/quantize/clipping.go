package quantize

import (
	"fmt"
	"math"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/runtime/classifier"
	"github.com/anchorhold/anchorhold/runtime/layers"
)

// ReasonNarrow means that test rows are outside the ranges of the calibration rows.
const ReasonNarrow refusal.Reason = "calibration-narrow"

// Shares of clipped values. Rounding to 255 steps costs answers far less than a hundredth
// of the values at the wrong end of their range; digits that were calibrated with rows of
// half their brightness have a sixth of their values there.
const (
	WarnClipped   = 0.01
	RefuseClipped = 0.10
)

// Clipping is the part of the values of some rows that is outside the ranges of the integers and
// is clamped to the nearest end.
type Clipping struct {
	Rows  int     `json:"rows"`
	Input float64 `json:"input"` // of the input's values
	// Layers is of the values behind each layer but the last. Behind an activation that limits
	// values itself, as ReLU6 does, it is 0.
	Layers []float64 `json:"layers"`
}

// worst is the largest share, and where it is.
func (c *Clipping) worst() (share float64, where string) {
	share, where = c.Input, "the input"
	for i, v := range c.Layers {
		if v > share {
			share, where = v, fmt.Sprintf("layer %d", i+1)
		}
	}
	return share, where
}

// Ranges says how well the ranges of a calibration fit.
type Ranges struct {
	Calibration Clipping  `json:"calibration"`
	Test        *Clipping `json:"test,omitempty"` // of rows that it did not see, if there are any
	// HeldOut is the part of the input values of every other calibration row that is outside the
	// ranges of the rest: about twice the part to expect for further rows like them.
	HeldOut float64 `json:"held_out_input"`
}

// MeasureRanges counts the clipped values of a network and a calibration after Convert. test may
// be nil.
func MeasureRanges(n *layers.Network, d *classifier.Description, p intnet.Parameters, calibration, test *Rows) (*Ranges, error) {
	out := &Ranges{}
	c, err := clip(n, d, p, calibration)
	if err != nil {
		return nil, err
	}
	out.Calibration = *c
	if test != nil {
		if out.Test, err = clip(n, d, p, test); err != nil {
			return nil, err
		}
	}
	out.HeldOut, err = heldOut(n, calibration)
	return out, err
}

// Most of what measuring takes: rows, and multiplications.
const (
	maxClipRows = 1024
	minClipRows = 32
	maxClipWork = 1 << 31
)

// clip runs rows, of many some at equal distances, through the integer network.
func clip(n *layers.Network, d *classifier.Description, p intnet.Parameters, rows *Rows) (*Clipping, error) {
	if rows.Width != d.Architecture.Input.Size() {
		return nil, fmt.Errorf("quantize: got rows of %d values, the model takes %d", rows.Width, d.Architecture.Input.Size())
	}
	net := &intnet.Network{Architecture: d.Architecture, Parameters: p}
	list, work := d.Architecture.Geometries(), 0
	for _, g := range list {
		work += g.Fan * g.To.Size()
	}
	used := min(rows.Len(), max(minClipRows, min(maxClipRows, maxClipWork/work)))
	in := make([]int8, rows.Width)
	input, hidden := 0, make([]int, len(list)-1)
	for i := range used {
		count, err := classifier.Quantize(&d.Quantizer, rows.Row(i*rows.Len()/used), in)
		if err != nil {
			return nil, fmt.Errorf("quantize: %w", err)
		}
		input += count
		t, err := net.Trace(in)
		if err != nil {
			return nil, fmt.Errorf("quantize: %w", err)
		}
		for k := range hidden {
			if n.Layers[k].Limit == 0 {
				hidden[k] += saturated(t.Acc[k], &p.Layers[k], list[k])
			}
		}
	}
	c := &Clipping{Rows: used, Input: float64(input) / float64(used*rows.Width), Layers: []float64{}}
	for k, count := range hidden {
		c.Layers = append(c.Layers, float64(count)/float64(used*list[k].To.Size()))
	}
	return c, nil
}

// saturated counts the sums of a layer that are rescaled to more than the largest integer,
// either way; below zero ReLU clips nothing that counts.
func saturated(acc []int32, p *intnet.LayerParameters, g intnet.Geometry) (count int) {
	if !g.Rescales() { // its values are those of the layer before, or sums of them
		return 0
	}
	for i, a := range acc {
		v := (int64(a)*int64(p.MultiplierOf(g, i/g.Positions(), a)) + 1<<(intnet.Shift-1)) >> intnet.Shift
		if v > intnet.Top || v < -intnet.Top && !g.ReLU {
			count++
		}
	}
	return count
}

// heldOut is the part of the values of odd rows outside the ranges of even ones.
func heldOut(n *layers.Network, rows *Rows) (float64, error) {
	if rows.Len() < 2 {
		return 1, nil
	}
	ranges := make([]span, rows.Width)
	for i := range ranges {
		ranges[i] = span{math.Inf(1), math.Inf(-1)}
	}
	for i := 0; i < rows.Len(); i += 2 {
		for k, v := range rows.Row(i) {
			v = v*n.Scale[k] + n.Offset[k]
			ranges[k] = span{min(ranges[k].low, v), max(ranges[k].high, v)}
		}
	}
	q, err := chooseInput(n, ranges).quantizer(n)
	if err != nil {
		return 0, err
	}
	out, clipped, values := make([]int8, rows.Width), 0, 0
	for i := 1; i < rows.Len(); i += 2 {
		count, err := classifier.Quantize(&q, rows.Row(i), out)
		if err != nil {
			return 0, fmt.Errorf("quantize: %w", err)
		}
		clipped, values = clipped+count, values+rows.Width
	}
	return float64(clipped) / float64(values), nil
}

// Warnings are messages that a publisher should read before publishing.
func (r *Ranges) Warnings() (list []string) {
	if c := r.Test; c != nil {
		if share, where := c.worst(); share > WarnClipped {
			list = append(list, fmt.Sprintf("%.1f %% of the values of %s are clipped for the test rows: they are outside the ranges of the calibration rows, which makes answers worse; calibrate with rows like those the model will get", 100*share, where))
		}
		return list
	}
	if share, where := r.Calibration.worst(); share > WarnClipped {
		list = append(list, fmt.Sprintf("%.1f %% of the values of %s are clipped for the calibration rows: a few values are far larger than all others; use fewer of those, or more rows, for better ranges", 100*share, where))
	}
	if r.HeldOut/2 > WarnClipped {
		list = append(list, fmt.Sprintf("the calibration rows are too few or too uneven: about %.1f %% of the input values of further rows like them will be clipped, which makes answers worse; use more rows, and --test to see the cost", 50*r.HeldOut))
	}
	return list
}

// Check refuses ranges that the test rows show to be far too narrow.
func (r *Ranges) Check() error {
	if r.Test == nil {
		return nil
	}
	if share, where := r.Test.worst(); share > RefuseClipped {
		return refusal.New(ReasonNarrow, "%.1f %% of the values of %s are clipped for the test rows, and more than %.0f %% is refused: calibrate with rows like those the model will get", 100*share, where, 100*RefuseClipped)
	}
	return nil
}

// String is the shares of the input and of each layer, in words.
func (c Clipping) String() string {
	parts := []string{fmt.Sprintf("input %.2f %%", 100*c.Input)}
	for i, v := range c.Layers {
		parts = append(parts, fmt.Sprintf("layer %d %.2f %%", i+1, 100*v))
	}
	return strings.Join(parts, ", ")
}
