package quantize

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/runtime/layers"
)

// TestANarrowCalibrationIsTold, by how much and where: the same network with ranges of rows
// like the test's, of rows that are smaller, and of few rows.
func TestANarrowCalibrationIsTold(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	n := network(r, layers.Shape{C: 10, H: 1, W: 1}, dense(20, true), dense(12, false), dense(4, false))
	normal := func(size float64) func(int) float64 {
		return func(int) float64 { return size * (2*r.Float64() - 1) }
	}
	test := draw(r, 500, 10, normal(1))
	for name, c := range map[string]struct {
		calibration *Rows
		test        *Rows
		low, high   float64 // of the input, for the test rows or else held out
		warnings    int
		refused     bool
	}{
		"as the test's":        {draw(r, 2000, 10, normal(1)), test, 0, 0.01, 0, false},
		"a little smaller":     {draw(r, 2000, 10, normal(0.95)), test, 0.03, 0.07, 1, false},
		"of half the size":     {draw(r, 2000, 10, normal(0.5)), test, 0.45, 0.55, 1, true},
		"without test rows":    {draw(r, 2000, 10, normal(0.5)), nil, 0, 0.01, 0, false},
		"few rows, no test":    {draw(r, 6, 10, func(i int) float64 { return math.Pow(10, float64(i)) * r.Float64() }), nil, 0.04, 1, 1, false},
		"one row, no test":     {draw(r, 1, 10, normal(1)), nil, 1, 1, 1, false},
		"larger than the test": {draw(r, 2000, 10, normal(3)), test, 0, 0, 0, false},
	} {
		d, p, err := Convert(n, c.calibration)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		ranges, err := MeasureRanges(n, d, p, c.calibration, c.test)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		share := ranges.HeldOut
		if c.test != nil {
			share = ranges.Test.Input
		}
		if share < c.low || share > c.high || len(ranges.Warnings()) != c.warnings || ranges.Calibration.Input != 0 || len(ranges.Calibration.Layers) != 2 {
			t.Errorf("%s: %+v, %q", name, ranges, ranges.Warnings())
		}
		if reason, _ := refusal.ReasonOf(ranges.Check()); (reason == ReasonNarrow) != c.refused {
			t.Errorf("%s: %v", name, ranges.Check())
		}
		report, err := Compare(n, d, p, test, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: calibration %v, held out %.4f, test %v; %.3f have the same answer", name, ranges.Calibration, ranges.HeldOut, ranges.Test, report.Agreed)
		if text := ranges.Calibration.String(); !strings.HasPrefix(text, "input 0.00 %, layer 1 ") {
			t.Error(text)
		}
	}
}

// TestClippedHiddenValuesAreCounted: sums of two outputs, halved and quartered, rounded half
// up; beyond 127 they are clipped, and below -127 where no ReLU makes them 0.
func TestClippedHiddenValuesAreCounted(t *testing.T) {
	multiplier := []uint32{1 << (intnet.Shift - 1), 1 << (intnet.Shift - 2)}
	for _, c := range []struct {
		first, second []int32
		relu, linear  int
	}{
		{[]int32{253, 254, -254, 0}, []int32{508, 509, -509, 0}, 0, 0},    // 127, 127, -127
		{[]int32{255, 256, 257, 0}, []int32{510, 511, 1 << 30, 0}, 6, 6},  // 128 and more
		{[]int32{-255, -256, 1, 2}, []int32{-510, -511, 1, 2}, 0, 2},      // -127 and -128
		{[]int32{-1 << 31, 1<<31 - 1, 0, 0}, []int32{0, 0, 0, 300}, 1, 2}, // the ends
	} {
		acc := append(slices.Clone(c.first), c.second...)
		p := &intnet.LayerParameters{Multiplier: multiplier}
		g := intnet.Geometry{Layer: intnet.Layer{Kind: intnet.Dense, Out: 2}, To: intnet.Shape{C: 2, H: 4, W: 1}}
		with := g
		with.ReLU = true
		if relu, linear := saturated(acc, p, with), saturated(acc, p, g); relu != c.relu || linear != c.linear {
			t.Errorf("%v: %d with ReLU and %d without, want %d and %d", acc, relu, linear, c.relu, c.linear)
		}
	}
}

func TestRowsOfAnotherWidthAreNotMeasured(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	n := network(r, layers.Shape{C: 3, H: 1, W: 1}, dense(2, false))
	rows := draw(r, 50, 3, func(int) float64 { return r.NormFloat64() })
	d, p, err := Convert(n, rows)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := MeasureRanges(n, d, p, rows, &Rows{Width: 2, Values: make([]float64, 4)}); err == nil {
		t.Error("measured")
	}
}
