package circuits

import (
	"github.com/consensys/gnark/frontend"

	"github.com/anchorhold/anchorhold/crypto/zk/gadget"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
)

// plan says how one layer's products are checked.
type plan struct {
	bound
	// slides means that a convolution is checked by slide, not by products.
	slides bool
	// free means that sums are witnesses without a range, one for each row: an equation for
	// each output determines them, so that they cannot be anything but the sums.
	free  bool
	bytes int // witnesses of one sum
}

// planOf chooses the cheaper of two plans for a convolution. Circuits of the first version of
// architectures stay as they are.
func (c Inference) planOf(g intnet.Geometry) plan {
	if g.Pools() {
		return plan{}
	}
	b := boundOf(g)
	p := plan{bound: b, bytes: b.bytes()}
	if c.Architecture.First() || g.Kind != intnet.Conv {
		return p
	}
	p.slides = true
	// Of each group, a packed row costs one constraint for each of its weights and one for
	// each position; a sum one for each of its bytes and one for the top.
	per, positions := g.PerGroup(), c.Batch*g.Positions()
	p.rows = min(p.rows, per)
	groups := (per + p.rows - 1) / p.rows
	if per*(g.Fan+positions) <= groups*(g.Fan+positions)+per*positions*(p.bytes+1) {
		p.free, p.rows, p.bytes = true, 1, 1
	}
	return p
}

// slide is Freivalds' check of a convolution, for a challenge r that was drawn after weights,
// values and sums. Positions get powers of r so that one step of the window is one factor:
// with a value at row y and column x of the padded image, which is L wide, as the coefficient
// of r^(yL+x), the values that weight k of the kernel meets at all positions are a part of
// that polynomial, shifted by the weight's place k' = yL+x in the window:
//
//	sum over k of w[k] * r^(K-k') * (part k of the polynomial) = r^K * sum over positions p of r^p' * sum[p]
//
// K is the last place in the window. So each value is multiplied once, whatever the size of
// the kernel, where a check position by position does so for each weight that it meets.
func (b *inferenceBuilder) slide(l int, g intnet.Geometry, p plan, values, sums [][]frontend.Variable, challenge frontend.Variable) {
	s := newSlider(g)
	powers := make([]frontend.Variable, len(values)*s.image)
	powers[0] = 1
	for i := range powers[1:] {
		powers[i+1] = b.api.Mul(powers[i], challenge)
	}
	// Each value times its power.
	scaled := make([][]frontend.Variable, len(values))
	for i := range values {
		for k, v := range values[i] {
			scaled[i] = append(scaled[i], b.api.Mul(v, powers[i*s.image+s.exponent(k)]))
		}
	}
	for group := range g.Groups {
		first := group * g.PerGroup()
		parts := make([]frontend.Variable, g.Fan)
		for k := range parts {
			var terms []frontend.Variable
			for i := range values {
				for position := range g.Positions() {
					if from := g.Source(first, position, k); from >= 0 {
						terms = append(terms, scaled[i][from])
					}
				}
			}
			parts[k] = b.api.Mul(gadget.Sum(b.api, terms), powers[s.reach-s.place(k)])
		}
		for o := first; o < first+g.PerGroup(); o += p.rows {
			rows := min(p.rows, first+g.PerGroup()-o)
			var left, right []frontend.Variable
			for k, part := range parts {
				var w []frontend.Variable
				for r := range rows {
					v := b.api.Sub(b.c.Layers[l].Weights[(o+r)*g.Fan+k], 128)
					w = append(w, b.api.Mul(v, gadget.Power(p.stride*r)))
				}
				left = append(left, b.api.Mul(gadget.Sum(b.api, w), part))
			}
			for i := range values {
				for position := range g.Positions() {
					var w []frontend.Variable
					for r := range rows {
						w = append(w, b.api.Mul(sums[i][(o+r)*g.Positions()+position], gadget.Power(p.stride*r)))
					}
					right = append(right, b.api.Mul(gadget.Sum(b.api, w), powers[i*s.image+s.reach+s.start(position)]))
				}
			}
			b.check.Equal("product", gadget.Sum(b.api, left), gadget.Sum(b.api, right))
		}
	}
}

// slider numbers the places of a padded image.
type slider struct {
	g     intnet.Geometry
	width int // of the padded image
	image int // places in it
	reach int // the last place in a window
}

func newSlider(g intnet.Geometry) slider {
	w := g.Window
	s := slider{g: g, width: g.From.W + w.Pad.Left + w.Pad.Right}
	s.image = (g.From.H + w.Pad.Top + w.Pad.Bottom) * s.width
	s.reach = s.place(w.Area() - 1)
	return s
}

// place is where weight k is in a window.
func (s slider) place(k int) int {
	w := s.g.Window
	return k/w.Kernel.W%w.Kernel.H*w.Dilation.H*s.width + k%w.Kernel.W*w.Dilation.W
}

// start is where the window of a position begins.
func (s slider) start(position int) int {
	w := s.g.Window
	return position/s.g.To.W*w.Stride.H*s.width + position%s.g.To.W*w.Stride.W
}

// exponent is where a value of the image is.
func (s slider) exponent(value int) int {
	g := s.g
	y, x := value/g.From.W%g.From.H, value%g.From.W
	return (y+g.Window.Pad.Top)*s.width + x + g.Window.Pad.Left
}
