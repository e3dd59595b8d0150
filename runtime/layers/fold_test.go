package layers

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	w "github.com/anchorhold/anchorhold/runtime/onnx/onnxtest"
)

// close1e6 compares within a millionth: scale and offset are folded in float64.
func close1e6(a, b []float64) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(v float64) bool { return math.IsNaN(v) }) &&
		!slices.ContainsFunc(slices.Collect(func(yield func(int) bool) {
			for i := range a {
				if math.Abs(a[i]-b[i]) > 1e-6*(1+math.Abs(b[i])) && !yield(i) {
					return
				}
			}
		}), func(int) bool { return true })
}

// norm is a BatchNormalization of two channels: (v-1)/2*3+5 and (v-2)/4*1-6.
func norm(in, out string) w.Message {
	return w.Node("BatchNormalization", []string{in, "s", "b2", "m", "v"}, []string{out}, w.Attributes{"epsilon": float32(0)})
}

func normed(f w.Fixture) w.Fixture {
	f.Weights = append(f.Weights, w.Floats("s", []int64{2}, 3, 1), w.Floats("b2", []int64{2}, 5, -6), w.Floats("m", []int64{2}, 1, 2), w.Floats("v", []int64{2}, 4, 16),
		w.Floats("u", []int64{2, 2}, 1, 1, 2, -1), w.Floats("c", []int64{2}, 0.5, 2))
	return f
}

// TestStepsFoldIntoTheLayerBesideThem: x is 1, 0, 0, so that the first layer gives 11 and 24.
func TestStepsFoldIntoTheLayerBesideThem(t *testing.T) {
	a, b := (11.-1)/2*3+5, (24.-2)/4-6 // 20, -0.5
	y, dense := []string{"y"}, w.Dense().Nodes[0]
	relu := w.Node("Relu", y, []string{"r"}, nil)
	last := func(in string) w.Message { return w.Node("MatMul", two(in, "u"), []string{"p"}, nil) } // u is [[1 1] [2 -1]], by column
	cases := map[string]struct {
		nodes  []w.Message
		want   []float64
		layers int
	}{
		"after the last layer":    {[]w.Message{dense, norm("y", "p")}, []float64{a, b}, 1},
		"a factor, then a bias":   {[]w.Message{dense, w.Node("Mul", two("y", "c"), []string{"q"}, nil), w.Node("Add", two("q", "c"), []string{"p"}, nil)}, []float64{6, 50}, 1},
		"a quotient":              {[]w.Message{dense, w.Node("Div", two("y", "c"), []string{"p"}, nil)}, []float64{22, 12}, 1},
		"from a constant":         {[]w.Message{dense, w.Node("Sub", two("c", "y"), []string{"p"}, nil)}, []float64{-10.5, -22}, 1},
		"before ReLU":             {[]w.Message{dense, norm("y", "q"), w.Node("Relu", []string{"q"}, []string{"r"}, nil), last("r")}, []float64{a, a}, 2},
		"behind ReLU":             {[]w.Message{dense, relu, norm("r", "q"), last("q")}, []float64{a + 2*b, a - b}, 2},
		"behind ReLU, twice":      {[]w.Message{dense, relu, norm("r", "q"), norm("q", "o"), last("o")}, []float64{(a-1)/2*3 + 5 + 2*((b-2)/4-6), (a-1)/2*3 + 5 - ((b-2)/4 - 6)}, 2},
		"two layers without ReLU": {[]w.Message{dense, norm("y", "q"), last("q")}, []float64{a + 2*b, a - b}, 1},
		"a negative factor":       {[]w.Message{dense, w.Node("Mul", two("y", "s2"), []string{"q"}, nil), w.Node("Relu", []string{"q"}, []string{"r"}, nil), last("r")}, []float64{0, 0}, 2},
		"dropout":                 {[]w.Message{dense, relu, w.Node("Dropout", []string{"r", "c0", "off"}, []string{"q"}, nil), last("q")}, []float64{59, -13}, 2},
	}
	for name, c := range cases {
		f := normed(w.Dense())
		f.Nodes, f.Outputs = c.nodes, []string{"p"}
		f.Weights = append(f.Weights, w.Floats("s2", []int64{2}, -1, -2), w.Floats("c0", nil, 0.5), w.Shaped("off", 9, nil).Bytes(9, []byte{0}))
		n, err := tryLoad(f)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := scoresOf(t, n, 1, 0, 0); !close1e6(got, c.want) || len(n.Layers) != c.layers {
			t.Errorf("%s: %v of %d layers, want %v of %d", name, got, len(n.Layers), c.want, c.layers)
		}
	}
}

// TestStepsOfImages: two channels of 2 by 2, a kernel of 1 that doubles them, then a step,
// then a layer or a convolution that sums.
func TestStepsOfImages(t *testing.T) {
	x := []float64{1, 2, 3, 4, 10, 20, 30, 40}
	at := func(v float64, c int) float64 { // norm of channel c of 2v
		return []float64{(2*v-1)/2*3 + 5, (2*v-2)/4 - 6}[c]
	}
	var sums [2]float64
	for i, v := range x {
		sums[i/4] += max(0, at(v, i/4))
	}
	conv, relu := w.Node("Conv", two("x", "k"), []string{"c"}, nil), func(in, out string) w.Message { return w.Node("Relu", []string{in}, []string{out}, nil) }
	head := func(in string) []w.Message {
		return []w.Message{w.Node("Flatten", []string{in}, []string{"f"}, nil), w.Node("MatMul", two("f", "each"), []string{"y"}, nil)}
	}
	each := make([]float32, 16) // the sums of both channels
	for i := range 8 {
		each[2*i+i/4] = 1
	}
	eye := make([]float32, 64)
	for i := range 8 {
		eye[9*i] = 1
	}
	image := func(nodes ...w.Message) w.Fixture {
		f := w.Graph([]w.Message{w.Value("x", 1, 0, 2, 2, 2)}, nodes, []w.Message{w.Floats("k", []int64{2, 2, 1, 1}, 2, 0, 0, 2), w.Floats("each", []int64{8, 2}, each...),
			w.Floats("k2", []int64{1, 2, 2, 2}, 1, 1, 1, 1, 1, 1, 1, 1), w.Floats("spread", []int64{1, 2}, 1, -1), w.Floats("place", []int64{1, 1, 2, 2}, 1, 2, 3, 4)}, []string{"y"})
		f = normed(f)
		f.Weights = slices.DeleteFunc(f.Weights, func(m w.Message) bool { return bytes.Contains(m, []byte{8<<3 | 2, 1, 'c'}) }) // a value here
		return f
	}
	behind := func(v float64, c int) float64 { return []float64{(2*v-1)/2*3 + 5, (2*v-2)/4 - 6}[c] }
	var after, shifted float64
	var placed [2]float64
	for i, v := range x {
		placed[i/4] += at(v+float64(i%4+1)/2, i/4)
		after += behind(v, i/4)
		shifted += 2*v + []float64{1, 2, 3, 4}[i%4]
	}
	attrs := w.Attributes{"pads": []int64{1, 1, 1, 1}, "strides": []int64{3, 3}}
	for name, c := range map[string]struct {
		f    w.Fixture
		want []float64 // nil: refused
	}{
		"before ReLU":              {image(append([]w.Message{conv, norm("c", "n"), relu("n", "r")}, head("r")...)...), sums[:]},
		"behind ReLU, then dense":  {image(append([]w.Message{conv, relu("c", "r"), norm("r", "n")}, head("n")...)...), []float64{behind(1, 0) + behind(2, 0) + behind(3, 0) + behind(4, 0), behind(10, 1) + behind(20, 1) + behind(30, 1) + behind(40, 1)}},
		"behind ReLU, then a conv": {image(conv, relu("c", "r"), norm("r", "n"), w.Node("Conv", two("n", "k2"), []string{"d"}, nil), w.Node("Flatten", []string{"d"}, []string{"f"}, nil), w.Node("MatMul", two("f", "spread"), []string{"y"}, nil)), []float64{after, -after}},
		"by place, then dense": {image(append([]w.Message{conv, w.Node("Add", two("c", "place"), []string{"n"}, nil)}, head("n")...)...),
			[]float64{2*10 + 10, 2*100 + 10}},
		"by place, then a norm":       {image(append([]w.Message{conv, w.Node("Add", two("c", "place"), []string{"m1"}, nil), norm("m1", "n")}, head("n")...)...), placed[:]},
		"reshaped, then a conv":       {image(append([]w.Message{conv, w.Node("Reshape", two("c", "wide"), []string{"n"}, nil), w.Node("Conv", two("n", "k"), []string{"d"}, nil)}, head("d")...)...), nil},
		"dense, then a conv":          {image(append([]w.Message{w.Node("Flatten", []string{"x"}, []string{"r"}, nil), w.Node("MatMul", two("r", "eye"), []string{"q"}, nil), w.Node("Reshape", two("q", "back"), []string{"n"}, nil), w.Node("Conv", two("n", "k"), []string{"d"}, nil)}, head("d")...)...), nil},
		"there and back, then a conv": {image(append([]w.Message{conv, w.Node("Flatten", []string{"c"}, []string{"r"}, nil), w.Node("Reshape", two("r", "back"), []string{"n"}, nil), w.Node("Conv", two("n", "k"), []string{"d"}, nil)}, head("d")...)...), []float64{40, 400}},
		"by place, then a conv":       {image(conv, w.Node("Add", two("c", "place"), []string{"n"}, nil), w.Node("Conv", two("n", "k2"), []string{"d"}, nil), w.Node("Flatten", []string{"d"}, []string{"f"}, nil), w.Node("MatMul", two("f", "spread"), []string{"y"}, nil)), nil},
		"shifted, then padded":        {image(conv, relu("c", "r"), norm("r", "n"), w.Node("Conv", two("n", "k2"), []string{"d"}, attrs), w.Node("Flatten", []string{"d"}, []string{"f"}, nil), w.Node("MatMul", two("f", "spread"), []string{"y"}, nil)), []float64{5, -5}},
		"by place, then ReLU":         {image(append([]w.Message{conv, w.Node("Add", two("c", "place"), []string{"n"}, nil), relu("n", "r")}, head("r")...)...), nil},
		"flattened, then ReLU":        {image(conv, w.Node("Flatten", []string{"c"}, []string{"g"}, nil), relu("g", "r"), w.Node("MatMul", two("r", "each"), []string{"y"}, nil)), []float64{20, 200}},
		"flattened, then a constant":  {image(conv, w.Node("Flatten", []string{"c"}, []string{"g"}, nil), w.Node("Mul", two("g", "twice"), []string{"h"}, nil), w.Node("MatMul", two("h", "each"), []string{"y"}, nil)), []float64{40, 400}},
	} {
		c.f.Weights = append(c.f.Weights, w.Floats("twice", nil, 2), w.Ints("wide", []int64{4}, -1, 2, 1, 4), w.Ints("back", []int64{4}, -1, 2, 2, 2), w.Floats("eye", []int64{8, 8}, eye...))
		n, err := tryLoad(c.f)
		if c.want == nil {
			if reason, _ := refusal.ReasonOf(err); reason != ReasonArrangement {
				t.Errorf("%s: %v, %+v", name, err, n)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := scoresOf(t, n, x...); !close1e6(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestSomeOfTheFeatures are taken by a layer of ones that the next one takes in.
func TestSomeOfTheFeatures(t *testing.T) {
	f := w.Dense()
	f.Nodes = []w.Message{w.Node("ArrayFeatureExtractor", two("x", "places"), []string{"q"}, nil), w.Node("Gemm", two("q", "u"), []string{"y"}, nil)}
	f.Weights = append(f.Weights, w.Ints("places", []int64{2}, 2, 0), w.Floats("u", []int64{2, 2}, 1, 2, 3, 4))
	if n := load(t, f); !slices.Equal(scoresOf(t, n, 5, 7, 11), []float64{26, 42}) || len(n.Layers) != 1 {
		t.Errorf("%+v", n)
	}
	for _, places := range [][]int64{{3}, {-1}, {}} {
		f.Weights[len(f.Weights)-2] = w.Ints("places", []int64{int64(len(places))}, places...)
		if n, err := tryLoad(f); err == nil {
			t.Errorf("%v: %+v", places, n)
		}
	}
}

func TestTrainingIsRefused(t *testing.T) {
	on := w.Shaped("on", 9, nil).Bytes(9, []byte{1})
	for name, node := range map[string]w.Message{
		"dropout":       w.Node("Dropout", []string{"y", "one", "on"}, []string{"p"}, nil),
		"dropout, open": w.Node("Dropout", []string{"y", "one", "y"}, []string{"p"}, nil),
		"normalization": w.Node("BatchNormalization", []string{"y", "s", "b2", "m", "v"}, []string{"p"}, w.Attributes{"training_mode": 1}),
		"spatial":       w.Node("BatchNormalization", []string{"y", "s", "b2", "m", "v"}, []string{"p"}, w.Attributes{"spatial": 0}),
	} {
		f := normed(w.Dense(node))
		f.Weights, f.Outputs = append(f.Weights, on), []string{"p"}
		if _, err := tryLoad(f); err == nil {
			t.Errorf("%s: accepted", name)
		} else if reason, _ := refusal.ReasonOf(err); reason != ReasonAttribute {
			t.Errorf("%s: %v", name, err)
		}
	}
	f := normed(w.Dense(w.Node("BatchNormalization", []string{"y", "s", "b2", "m", "w"}, []string{"p"}, nil)))
	f.Outputs = []string{"p"}
	if _, err := tryLoad(f); err == nil {
		t.Error("a matrix of variances")
	}
}
