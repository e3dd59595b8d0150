package model

import (
	"math"
	"testing"
)

// TestGELUIsTheNormalDistributions: within float32's last places, the tail included.
func TestGELUIsTheNormalDistributions(t *testing.T) {
	tails, worst := newTails(), 0.0
	for f := float32(-9); f < 9; f += 1. / 1024 / 3 {
		x := []float32{f}
		tails.gelu(x)
		want := float64(f) * math.Erfc(-float64(f)/math.Sqrt2) / 2
		if off := math.Abs(float64(x[0]) - want); off > 1e-14 {
			worst = max(worst, off/math.Abs(want))
		}
	}
	if worst > 2e-7 {
		t.Errorf("off by a share of %g", worst)
	}
	t.Logf("largest relative difference %.2g", worst)
	for _, v := range []struct{ x, want float64 }{{0, 0}, {8, 8}, {-8, 0}, {math.Inf(1), math.Inf(1)}, {math.Inf(-1), 0}} {
		x := []float32{float32(v.x)}
		if tails.gelu(x); float64(x[0]) != v.want {
			t.Errorf("%g becomes %g, want %g", v.x, x[0], v.want)
		}
	}
	x := []float32{float32(math.NaN())}
	if tails.gelu(x); x[0] == x[0] {
		t.Errorf("not a number becomes %g", x[0])
	}
}
