package model

import "math"

// Cells of tails: tailCells to each unit, up to tailEnd, beyond which GELU is 0 or the value itself
// within 1e-14.
const (
	tailCells = 16
	tailEnd   = 8
)

// tails are Taylor's coefficients of 1 - Phi, the upper tail of the normal distribution, around the
// middle of each cell: math.Erf took half of the time of an encoder.
type tails [tailCells*tailEnd + 1][6]float64

func newTails() *tails {
	t := new(tails)
	for i := range t {
		c := float64(i) / tailCells
		density := math.Exp(-c*c/2) / math.Sqrt(2*math.Pi)
		// The derivatives of the density are Hermite's polynomials times it, with alternating signs.
		t[i] = [...]float64{math.Erfc(c/math.Sqrt2) / 2, -density, density * c / 2, -density * (c*c - 1) / 6,
			density * (c*c*c - 3*c) / 24, -density * (c*c*c*c - 6*c*c + 3) / 120}
	}
	return t
}

// gelu replaces x by x times the normal distribution function of x, as the models were trained;
// llama.cpp takes its tanh form. Conversions keep products and sums apart on every processor.
func (t *tails) gelu(x []float32) {
	for i, f := range x {
		v := float64(f)
		a := math.Abs(v)
		if !(a < tailEnd) { // nor is what is not a number
			if f < 0 {
				x[i] = 0
			}
			continue
		}
		cell := int(a*tailCells + 0.5)
		c, d := &t[cell], a-float64(cell)/tailCells
		q := float64(c[5]*d) + c[4]
		q = float64(q*d) + c[3]
		q = float64(q*d) + c[2]
		q = float64(q*d) + c[1]
		q = float64(q*d) + c[0]
		if v > 0 {
			q = 1 - q
		}
		x[i] = float32(v * q)
	}
}
