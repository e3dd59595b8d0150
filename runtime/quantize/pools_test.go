package quantize

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/runtime/layers"
)

func pool(kind layers.Kind, channels, kernel, stride, pad int) layers.Layer {
	return layers.Layer{Kind: kind, Out: channels, Window: intnet.Square(kernel, stride, pad)}
}

// Networks of each kind of layer keep their scores, and have the integer layers that they should.
func TestPoolsAndActivationsKeepTheirScores(t *testing.T) {
	relu6 := convolution(8, 3, 1, 1, true)
	relu6.Limit = 0.5
	tanh := convolution(8, 3, 1, 1, false)
	tanh.Limit = 0.5
	leaky := convolution(8, 3, 1, 1, false)
	leaky.Slope = slices.Repeat([]float64{0.2}, 8)
	steep := convolution(8, 3, 1, 1, false)
	steep.Slope = slices.Repeat([]float64{3}, 8)
	deep := convolution(8, 3, 1, 1, true)
	deep.Groups = 8
	include := pool(layers.AveragePool, 8, 3, 2, 1)
	include.Counted = include.Window.Pad
	first := pool(layers.AveragePool, 1, 2, 2, 0)
	for name, c := range map[string]struct {
		list  []layers.Layer
		kinds []intnet.Kind
	}{
		"largest":          {[]layers.Layer{convolution(8, 3, 1, 1, true), pool(layers.MaxPool, 8, 2, 2, 0), dense(4, false)}, []intnet.Kind{intnet.Conv, intnet.MaxPool, intnet.Dense}},
		"sums":             {[]layers.Layer{convolution(8, 3, 1, 1, true), pool(layers.AveragePool, 8, 2, 2, 0), dense(4, false)}, []intnet.Kind{intnet.Conv, intnet.SumPool, intnet.Dense}},
		"average, largest": {[]layers.Layer{convolution(8, 3, 1, 1, true), pool(layers.AveragePool, 8, 3, 2, 1), pool(layers.MaxPool, 8, 2, 2, 0), dense(4, false)}, []intnet.Kind{intnet.Conv, intnet.AveragePool, intnet.MaxPool, intnet.Dense}},
		"padding counts":   {[]layers.Layer{convolution(8, 3, 1, 1, true), include, dense(4, false)}, []intnet.Kind{intnet.Conv, intnet.SumPool, intnet.Dense}},
		"average last":     {[]layers.Layer{convolution(4, 3, 1, 1, false), pool(layers.AveragePool, 4, 8, 1, 0)}, []intnet.Kind{intnet.Conv, intnet.AveragePool}},
		"pools first":      {[]layers.Layer{first, pool(layers.MaxPool, 1, 2, 1, 0), convolution(8, 3, 1, 1, true), dense(4, false)}, []intnet.Kind{intnet.AveragePool, intnet.MaxPool, intnet.Conv, intnet.Dense}},
		"ReLU6":            {[]layers.Layer{relu6, dense(4, false)}, nil},
		"Hardtanh":         {[]layers.Layer{tanh, dense(4, false)}, nil},
		"LeakyReLU":        {[]layers.Layer{leaky, dense(4, false)}, nil},
		"a steep slope":    {[]layers.Layer{steep, pool(layers.MaxPool, 8, 2, 2, 0), dense(4, false)}, nil},
		"each channel":     {[]layers.Layer{convolution(8, 3, 1, 1, true), deep, dense(4, false)}, nil},
	} {
		r := rand.New(rand.NewPCG(3, 3))
		n := network(r, layers.Shape{C: 1, H: 8, W: 8}, c.list...)
		value := func(int) float64 { return 3 + 2*r.NormFloat64() }
		d, p, err := Convert(n, draw(r, 300, 64, value))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i, k := range c.kinds {
			if got := d.Architecture.Layers[i].Kind; got != k {
				t.Errorf("%s: layer %d is of kind %d, want %d", name, i+1, got, k)
			}
		}
		report, err := Compare(n, d, p, draw(r, 300, 64, value), nil)
		if err != nil || report.ScoreError > 0.03 {
			t.Errorf("%s: %+v, %v", name, report, err)
			continue
		}
		t.Logf("%s: scores are off by %.4f of their deviation", name, report.ScoreError)
	}
}

// No integer is behind a limit that the smallest step of a layer's values is beyond.
func TestALimitBelowTheSmallestStepIsRefused(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	l := dense(4, true)
	l.Limit = 1e-4
	n := network(r, layers.Shape{C: 8, H: 1, W: 1}, l, dense(2, false))
	_, _, err := Convert(n, draw(r, 50, 8, func(int) float64 { return r.NormFloat64() * 1000 }))
	if reason, _ := refusal.ReasonOf(err); reason != layers.ReasonWeights {
		t.Error(err)
	}
}

// Sums that could overflow the next layer are rounded to means in front of it.
func TestSumsThatDoNotFitAreAveraged(t *testing.T) {
	a := intnet.Architecture{Input: intnet.Shape{C: 4000, H: 15, W: 15}, Layers: []intnet.Layer{{Kind: intnet.AveragePool, Window: intnet.Square(15, 1, 0)}, {Kind: intnet.Dense, Out: 2}}}
	sums(&a, 0)
	if a.Layers[0].Kind != intnet.AveragePool {
		t.Error("sums of 4000 * 225 values were taken")
	}
	a.Input.C = 200
	if sums(&a, 0); a.Layers[0].Kind != intnet.SumPool {
		t.Error("sums of 200 * 225 values were not taken")
	}
}
