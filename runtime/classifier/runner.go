package classifier

import (
	"fmt"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/runtime/arena"
)

// Runner computes answers of one Model, one at a time, in memory of its own. It is used by
// one goroutine.
type Runner struct {
	model  *Model
	region *arena.Region
	values [2][]int64 // inputs and outputs of a layer, in turn
	patch  []int64    // inputs of one position of a convolution
	acc    []int32    // sums of one position, for whole groups of outputs
}

// NewRunner maps the memory that an inference needs.
func (m *Model) NewRunner() (*Runner, error) {
	values, fan, acc := 0, 0, 0
	for _, g := range m.description.Architecture.Geometries() {
		values = max(values, g.From.Size(), g.To.Size())
		acc = max(acc, sumsOf(g))
		if g.Kind == intnet.Conv {
			fan = max(fan, g.Fan)
		}
	}
	region, err := m.budget.Map("classifier values", int64(8*(2*values+fan)+4*acc))
	if err != nil {
		return nil, err
	}
	r := &Runner{model: m, region: region}
	b := region.Bytes()
	r.values[0] = view[int64](b, values)
	r.values[1] = view[int64](b[8*values:], values)
	r.patch = view[int64](b[16*values:], fan)
	r.acc = view[int32](b[16*values+8*fan:], acc)
	return r, nil
}

// Infer computes the outputs of one quantized input: the same as intnet.Network's Forward.
// in has the size of the model's input, out one place for each class. It allocates nothing.
func (r *Runner) Infer(in []int8, out []int32) error {
	m := r.model
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed || r.region == nil {
		return ErrClosed
	}
	if classes := m.layers[len(m.layers)-1].Out; len(in) != m.description.Architecture.Input.Size() || len(out) != classes {
		return fmt.Errorf("classifier: got %d inputs and %d outputs, the model has %d and %d",
			len(in), len(out), m.description.Architecture.Input.Size(), classes)
	}
	x, next := r.values[0], r.values[1]
	for i, v := range in {
		x[m.description.Architecture.Place(i)] = int64(v)
	}
	for i := range m.layers {
		l := &m.layers[i]
		positions := l.Positions()
		if l.Pools() {
			l.pool(x, next)
			if l.Last {
				for o := range out {
					out[o] = int32(next[o])
				}
			}
			x, next = next, x
			continue
		}
		for at := range positions {
			r.sums(l, at, x)
			if l.Last {
				for o, b := range l.bias {
					out[o] = r.acc[l.place[o]] + b
				}
				continue
			}
			l.rescale(r.acc, next, at, positions)
		}
		x, next = next, x
	}
	return m.intact()
}

// sums computes the accumulators, without bias, of one position.
func (r *Runner) sums(l *layer, position int, x []int64) {
	if l.Kind == intnet.Dense {
		kernel(l.packed, x[:l.Fan], r.acc)
		return
	}
	patch := r.patch[:l.Fan]
	w := &l.Window
	y0, x0 := position/l.To.W*w.Stride.H-w.Pad.Top, position%l.To.W*w.Stride.W-w.Pad.Left
	channels, each := l.From.C/l.Groups, len(l.packed)/l.Groups
	sums := sumsOf(l.Geometry) / l.Groups
	for group := range l.Groups {
		at := 0
		for c := group * channels; c < (group+1)*channels; c++ {
			for i := range w.Kernel.H {
				row := patch[at : at+w.Kernel.W]
				at += w.Kernel.W
				if y := y0 + i*w.Dilation.H; y < 0 || y >= l.From.H {
					clear(row)
				} else {
					gather(row, x[(c*l.From.H+y)*l.From.W:][:l.From.W], x0, w.Dilation.W)
				}
			}
		}
		kernel(l.packed[group*each:(group+1)*each], patch, r.acc[group*sums:])
	}
}

// gather copies every step-th value from x on; there are zeros beyond both ends.
func gather(dst, line []int64, x, step int) {
	for j := range dst {
		if p := uint(x + j*step); p < uint(len(line)) {
			dst[j] = line[p]
		} else {
			dst[j] = 0
		}
	}
}

// rescale turns the sums of one position into the values of the next layer.
func (l *layer) rescale(acc []int32, next []int64, position, positions int) {
	low := int64(-intnet.Top)
	if l.ReLU {
		low = 0
	}
	for o, b := range l.bias {
		sum := int64(acc[l.place[o]] + b)
		multiplier := l.multiplier[o]
		if l.Leaky && sum < 0 {
			multiplier = l.negative[o]
		}
		v := (sum*int64(multiplier) + 1<<(intnet.Shift-1)) >> intnet.Shift
		next[o*positions+position] = min(max(v, low), intnet.Top)
	}
}

// pool computes the values of a pool, or the sums of those that do not round.
func (l *layer) pool(x, next []int64) {
	w := &l.Window
	low := int64(-intnet.Top)
	if l.ReLU {
		low = 0
	}
	at := 0
	for c := range l.From.C {
		image := x[c*l.From.H*l.From.W:][:l.From.H*l.From.W]
		for position := range l.Positions() {
			y0, x0 := position/l.To.W*w.Stride.H-w.Pad.Top, position%l.To.W*w.Stride.W-w.Pad.Left
			sum, top := int64(0), int64(-128)
			for i := range w.Kernel.H {
				y := y0 + i*w.Dilation.H
				if y < 0 || y >= l.From.H {
					continue
				}
				line := image[y*l.From.W:][:l.From.W]
				for j := range w.Kernel.W {
					if p := uint(x0 + j*w.Dilation.W); p < uint(len(line)) {
						sum += line[p]
						top = max(top, line[p])
					}
				}
			}
			switch {
			case l.Kind == intnet.MaxPool:
				next[at] = top
			case l.Last || l.Kind == intnet.SumPool:
				next[at] = sum * int64(l.Share(position))
			default:
				v := (sum*int64(l.Share(position))*int64(l.multiplier[0]) + 1<<(intnet.Shift-1)) >> intnet.Shift
				next[at] = min(max(v, low), intnet.Top)
			}
			at++
		}
	}
}

// Close wipes the values and gives the memory back. It may be called more than once.
func (r *Runner) Close() error {
	region := r.region
	r.region, r.values, r.patch, r.acc = nil, [2][]int64{}, nil, nil
	return region.Release()
}

// Answer is the class with the highest output, or the first of equal ones.
func Answer(out []int32) int {
	best := 0
	for i, v := range out {
		if v > out[best] {
			best = i
		}
	}
	return best
}
