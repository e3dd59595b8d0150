package quantize

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/runtime/classifier"
	"github.com/anchorhold/anchorhold/runtime/layers"
)

// network draws weights for layers whose shapes are given.
func network(r *rand.Rand, in layers.Shape, list ...layers.Layer) *layers.Network {
	n := &layers.Network{Input: in, Scale: make([]float64, in.Len()), Offset: make([]float64, in.Len()), Layers: list}
	for i := range n.Scale {
		n.Scale[i] = 1
	}
	for i, from := range n.Shapes()[:len(list)] {
		l := &n.Layers[i]
		fan := from.Len()
		if l.Pools() {
			continue
		}
		if l.Kind == layers.Conv {
			fan = from.C / l.Groups * l.Window.Area()
		}
		for range l.Out * fan {
			l.Weights = append(l.Weights, r.NormFloat64()/math.Sqrt(float64(fan)))
		}
		for range l.Out {
			l.Bias = append(l.Bias, r.NormFloat64()/4)
		}
	}
	return n
}

func draw(r *rand.Rand, rows, width int, value func(int) float64) *Rows {
	out := &Rows{Width: width}
	for range rows {
		for i := range width {
			out.Values = append(out.Values, value(i))
		}
	}
	return out
}

func dense(out int, relu bool) layers.Layer {
	return layers.Layer{Kind: layers.Dense, Out: out, ReLU: relu}
}

func convolution(out, kernel, stride, pad int, relu bool) layers.Layer {
	return layers.Layer{Kind: layers.Conv, Out: out, Groups: 1, Window: intnet.Square(kernel, stride, pad), ReLU: relu}
}

// TestConvertedNetworksScoreAsTheyDid, whatever the sizes of features and weights: the
// scores are off by no more than what rounding explains.
func TestConvertedNetworksScoreAsTheyDid(t *testing.T) {
	flat := func(n int) layers.Shape { return layers.Shape{C: n, H: 1, W: 1} }
	two := []layers.Layer{dense(30, true), dense(5, false)}
	normal := func(r *rand.Rand, _ int) float64 { return r.NormFloat64() }
	for name, c := range map[string]struct {
		in    layers.Shape
		list  []layers.Layer
		value func(r *rand.Rand, feature int) float64
		rules int
	}{
		"one layer":     {flat(20), []layers.Layer{dense(5, false)}, normal, 1},
		"two layers":    {flat(20), two, normal, 1},
		"without relu":  {flat(20), []layers.Layer{dense(30, false), dense(20, true), dense(5, false)}, normal, 1},
		"far from zero": {flat(20), two, func(r *rand.Rand, _ int) float64 { return 1000 + r.NormFloat64() }, 1},
		"uneven features": {flat(20), two, func(r *rand.Rand, i int) float64 {
			return r.NormFloat64() * math.Pow(10, float64(i%7-3))
		}, 20},
		"a constant feature": {flat(3), []layers.Layer{dense(8, true), dense(2, false)}, func(r *rand.Rand, i int) float64 {
			if i == 1 {
				return 40 // most of the sums, and of their error
			}
			return r.NormFloat64()
		}, 3},
		"convolutions": {layers.Shape{C: 2, H: 8, W: 8}, []layers.Layer{convolution(6, 3, 2, 1, true),
			convolution(6, 2, 1, 0, true), dense(4, false)}, normal, 1},
		"convolution without padding": {layers.Shape{C: 1, H: 6, W: 6}, []layers.Layer{convolution(6, 3, 1, 0, true), dense(4, false)},
			func(r *rand.Rand, _ int) float64 { return 5 + r.Float64() }, 1},
	} {
		for seed := range uint64(8) {
			r := rand.New(rand.NewPCG(seed, 2))
			n := network(r, c.in, slices.Clone(c.list)...)
			value := func(i int) float64 { return c.value(r, i) }
			calibration, test := draw(r, 400, c.in.Len(), value), draw(r, 300, c.in.Len(), value)
			d, p, err := Convert(n, calibration)
			if err != nil {
				t.Errorf("%s, seed %d: %v", name, seed, err)
				continue
			}
			report, err := Compare(n, d, p, test, nil)
			if err != nil || report.Float != nil || len(d.Quantizer.Features) != c.rules {
				t.Errorf("%s, seed %d: %+v, %v, %d rules", name, seed, report, err, len(d.Quantizer.Features))
				continue
			}
			// One rounding that decides everything is off by sqrt(3) times its deviation at most.
			if want := explained(t, n, d, p, test); report.ScoreError > math.Sqrt(3)*want {
				t.Errorf("%s, seed %d: scores are off by %.4f of their deviation, rounding explains %.4f", name, seed, report.ScoreError, want)
			}
			again, q, err := Convert(n, calibration)
			if err != nil || !reflect.DeepEqual(d, again) || !reflect.DeepEqual(p, q) {
				t.Errorf("%s, seed %d: a second time it came out otherwise, %v", name, seed, err)
			}
		}
	}
}

// explained is the score error that follows from the steps to which inputs, weights and
// values were rounded, and from the ends at which they were cut off. Rounding to a step s
// has the variance s*s/12, and variances of independent errors add up.
func explained(t *testing.T, n *layers.Network, d *classifier.Description, p intnet.Parameters, test *Rows) float64 {
	t.Helper()
	// The input's steps and the values of its zeros, then the step behind each hidden layer.
	steps, zeros := make([]float64, test.Width), make([]float64, test.Width)
	for i := range steps {
		f := d.Quantizer.Features[min(i, len(d.Quantizer.Features)-1)]
		steps[i] = math.Ldexp(1/float64(f.Multiplier), int(f.Shift)-int(f.Exponent))
		zeros[i] = -math.Ldexp(float64(f.Offset), -int(f.Shift)) * steps[i]
	}
	var sum, squares, errs float64
	for row := range test.Len() {
		var values [][]float64
		scores, err := n.Forward(test.Row(row), func(_ int, v []float64) { values = append(values, slices.Clone(v)) })
		if err != nil {
			t.Fatal(err)
		}
		step, zero := steps, zeros
		variance := rounded(values[0], step, zero, -128)
		for i := range n.Layers {
			l := n.Layers[i]
			fan := len(l.Weights) / l.Out
			one := layers.Network{Input: n.Shapes()[i], Scale: slices.Repeat([]float64{1}, len(step)), Offset: make([]float64, len(step))}
			through := func(weights, bias, v []float64) []float64 { // of a layer of this shape, without ReLU
				m := l
				m.Weights, m.Bias, m.ReLU = weights, bias, false
				one.Layers = []layers.Layer{m}
				out, err := one.Forward(v, nil)
				if err != nil {
					t.Fatal(err)
				}
				return out
			}
			// A weight is rounded to a 127th of the largest of its output, in the last layer of
			// all, and stands before an integer.
			scales := make([]float64, l.Out)
			for o := range scales {
				for k, w := range l.Weights[o*fan : (o+1)*fan] {
					scales[o] = max(scales[o], math.Abs(w)*step[k%len(step)]/127)
				}
			}
			if i == len(n.Layers)-1 {
				scales = slices.Repeat([]float64{slices.Max(scales)}, l.Out)
			}
			integers, square, noise, bias := make([]float64, len(step)), make([]float64, len(l.Weights)), make([]float64, len(l.Weights)), make([]float64, l.Out)
			for k, v := range values[i] {
				q := max(-128, min(127, (v-zero[k])/step[k]))
				integers[k] = q * q
			}
			for k, w := range l.Weights {
				square[k], noise[k] = w*w, scales[k/fan]*scales[k/fan]/12
			}
			for o := range bias {
				bias[o] = scales[o] * scales[o] / 12
			}
			next := through(square, make([]float64, l.Out), variance)
			for k, v := range through(noise, bias, integers) {
				next[k] += v
			}
			variance = next
			if i == len(n.Layers)-1 {
				break
			}
			// The step of the layer's values is what its multipliers divide by.
			o := slices.Index(p.Layers[i].Multiplier, slices.Max(p.Layers[i].Multiplier))
			unit := math.Ldexp(scales[o]/float64(p.Layers[i].Multiplier[o]), intnet.Shift)
			step, zero = slices.Repeat([]float64{unit}, len(variance)), make([]float64, len(variance))
			low := -127.0
			if l.ReLU {
				low = 0
			}
			for k, v := range rounded(values[i+1], step, zero, low) {
				variance[k] += v
			}
		}
		for k, v := range scores {
			sum, squares, errs = sum+v, squares+v*v, errs+variance[k]
		}
	}
	count := float64(test.Len() * len(p.Layers[len(p.Layers)-1].Bias))
	return math.Sqrt(errs / count / (squares/count - sum/count*sum/count))
}

// rounded is the squared error of each value when it is rounded to its step, counted from
// its zero, and cut off at low and 127 steps.
func rounded(values, step, zero []float64, low float64) []float64 {
	out := make([]float64, len(values))
	for k, v := range values {
		q := (v - zero[k]) / step[k]
		over := max(0, q-127, low-q) * step[k]
		out[k] = step[k]*step[k]/12 + over*over
	}
	return out
}

// TestNetworksOwnScaleIsPartOfTheQuantizer: the same network, once with scaled inputs.
func TestNetworksOwnScaleIsPartOfTheQuantizer(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	n := network(r, layers.Shape{C: 4, H: 1, W: 1}, dense(8, true), dense(3, false))
	scaled := *n
	scaled.Scale, scaled.Offset = []float64{0.5, 100, -1e-3, 4}, []float64{1, -7, 0.25, 0}
	plain := draw(r, 200, 4, func(int) float64 { return r.NormFloat64() })
	raw := &Rows{Width: 4}
	for i, v := range plain.Values {
		raw.Values = append(raw.Values, (v-scaled.Offset[i%4])/scaled.Scale[i%4])
	}
	a, p, err := Convert(n, plain)
	if err != nil {
		t.Fatal(err)
	}
	b, q, err := Convert(&scaled, raw)
	if err != nil {
		t.Fatal(err)
	}
	x, y := make([]int8, 4), make([]int8, 4)
	for i := range plain.Len() {
		_, err := classifier.Quantize(&a.Quantizer, plain.Row(i), x)
		_, other := classifier.Quantize(&b.Quantizer, raw.Row(i), y)
		if err != nil || other != nil {
			t.Fatal("not quantized")
		}
		for k := range x {
			if d := int(x[k]) - int(y[k]); d < -1 || d > 1 { // a tie may fall to either side
				t.Fatalf("row %d: %v and %v", i, x, y)
			}
		}
	}
	if !reflect.DeepEqual(p.Layers[0].Weights, q.Layers[0].Weights) {
		t.Error("weights differ")
	}
}

func TestConvertAtTheEdges(t *testing.T) {
	two := func() *layers.Network { // the same for each case
		return network(rand.New(rand.NewPCG(4, 4)), layers.Shape{C: 3, H: 1, W: 1}, dense(2, true), dense(2, false))
	}
	r := rand.New(rand.NewPCG(4, 5))
	rows := draw(r, 50, 3, func(int) float64 { return r.NormFloat64() })
	cases := map[string]struct {
		change func(*layers.Network)
		ok     bool
	}{
		"as it is":                {func(*layers.Network) {}, true},
		"a silent layer":          {func(n *layers.Network) { n.Layers[0].Bias = []float64{-1e3, -1e3} }, true},
		"a large bias":            {func(n *layers.Network) { n.Layers[1].Bias[0] = 1e9 }, true},
		"an output of zeros":      {func(n *layers.Network) { clear(n.Layers[0].Weights[:3]); n.Layers[0].Bias[0] = 0 }, true},
		"tiny beside large":       {func(n *layers.Network) { n.Layers[0].Weights[0] = 1e6 }, true},
		"a feature of zero scale": {func(n *layers.Network) { n.Scale[1] = 0; n.Offset[1] = 3 }, true},
		"nothing but zeros":       {func(n *layers.Network) { clear(n.Layers[1].Weights); clear(n.Layers[1].Bias) }, false},
		"weights out of range":    {func(n *layers.Network) { n.Layers[1].Weights[0] = 1e300 }, false},
		"infinite":                {func(n *layers.Network) { n.Layers[0].Weights[0] = math.Inf(1) }, false},
		"relu last":               {func(n *layers.Network) { n.Layers[1].ReLU = true }, false},
		"labels that are none":    {func(n *layers.Network) { n.Labels = []string{"a", "a"} }, false},
		"inputs of no size":       {func(n *layers.Network) { n.Scale[0] = 1e-320; n.Offset[0] = 1e300 }, false},
	}
	for name, c := range cases {
		n := two()
		c.change(n)
		d, p, err := Convert(n, rows)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		net := &intnet.Network{Architecture: d.Architecture, Parameters: p}
		if err := net.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := Convert(two(), draw(r, 2, 4, func(int) float64 { return 0 })); err == nil {
		t.Error("rows of another width")
	}
	if _, _, err := Convert(two(), draw(r, 5, 3, func(int) float64 { return 7 })); err != nil {
		t.Errorf("rows that are all the same: %v", err)
	}
}

// TestMultipliersStayBelowOne: a layer that only makes values smaller than one unit of its
// accumulator would need a multiplier that intnet refuses, and an output far below the
// others one of 0, which it refuses too.
func TestMultipliersStayBelowOne(t *testing.T) {
	n := &layers.Network{Input: layers.Shape{C: 1, H: 1, W: 1}, Scale: []float64{1}, Offset: []float64{0}, Layers: []layers.Layer{
		{Kind: layers.Dense, Out: 2, ReLU: true, Weights: []float64{100, 1e-9}, Bias: []float64{-9999, 0}},
		{Kind: layers.Dense, Out: 2, Weights: []float64{1, 0, 0, 1}, Bias: []float64{0, 0}}}}
	d, p, err := Convert(n, &Rows{Width: 1, Values: []float64{0, 100}})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range p.Layers[0].Multiplier {
		if m < 1<<7 || m >= 1<<24 {
			t.Errorf("multiplier %d", m)
		}
	}
	if d.Architecture.Layers[0].Out != 2 {
		t.Error("shape")
	}
}

func TestCompareCountsAnswers(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	n := network(r, layers.Shape{C: 4, H: 1, W: 1}, dense(3, false))
	rows := draw(r, 100, 4, func(int) float64 { return r.NormFloat64() })
	d, p, err := Convert(n, rows)
	if err != nil {
		t.Fatal(err)
	}
	answers := make([]int, 100)
	for i := range answers {
		scores, err := n.Forward(rows.Row(i), nil)
		if err != nil {
			t.Fatal(err)
		}
		for k := range scores {
			if scores[k] > scores[answers[i]] {
				answers[i] = k
			}
		}
		if i < 10 {
			answers[i] = (answers[i] + 1) % 3
		}
	}
	report, err := Compare(n, d, p, rows, answers)
	if err != nil || *report.Float != 0.9 || *report.Integer < 0.85 || report.Agreed < 0.95 {
		t.Errorf("%+v, %v", report, err)
	}
	for name, try := range map[string]func() error{
		"width":      func() error { _, err := Compare(n, d, p, &Rows{Width: 3, Values: make([]float64, 3)}, nil); return err },
		"answers":    func() error { _, err := Compare(n, d, p, rows, answers[1:]); return err },
		"parameters": func() error { _, err := Compare(n, d, intnet.Parameters{}, rows, nil); return err },
		"no number": func() error {
			_, err := Compare(n, d, p, &Rows{Width: 4, Values: []float64{math.NaN(), 0, 0, 0}}, nil)
			return err
		},
	} {
		if try() == nil {
			t.Errorf("%s: compared", name)
		}
	}
}

// An output that is always 0, or nearly, beside a large one has a multiplier all the same.
func TestNoMultiplierIsZero(t *testing.T) {
	for _, small := range []float64{0, 5e-324, 1e-300, 1e-9} {
		n := &layers.Network{Input: layers.Shape{C: 1, H: 1, W: 1}, Scale: []float64{1}, Offset: []float64{0}, Layers: []layers.Layer{
			{Kind: layers.Dense, Out: 2, ReLU: true, Weights: []float64{1e6, small}, Bias: []float64{0, small}},
			{Kind: layers.Dense, Out: 2, Weights: []float64{1, 0, 0, 1}, Bias: []float64{0, 0}}}}
		d, p, err := Convert(n, &Rows{Width: 1, Values: []float64{0, 1e6}})
		if err != nil {
			t.Fatal(err)
		}
		if err := (&intnet.Network{Architecture: d.Architecture, Parameters: p}).Check(); err != nil || p.Layers[0].Multiplier[1] == 0 {
			t.Errorf("%g: multipliers %d: %v", small, p.Layers[0].Multiplier, err)
		}
	}
}
