package layers

import (
	"math"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	w "github.com/anchorhold/anchorhold/runtime/onnx/onnxtest"
)

// linear is a LinearClassifier of 3 inputs and the classes that attrs say, followed by nodes.
func linear(attrs w.Attributes, nodes ...w.Message) w.Fixture {
	f := w.Dense(nodes...)
	for name, v := range (w.Attributes{"coefficients": []float32{1, 2, 3, 4, 5, 6}, "intercepts": []float32{10, 20}, "classlabels_ints": []int64{7, 9}}) {
		if _, ok := attrs[name]; !ok {
			attrs[name] = v
		}
	}
	for name, v := range attrs {
		if v == nil {
			delete(attrs, name)
		}
	}
	f.Nodes[0] = w.Node("LinearClassifier", []string{"x"}, []string{"l", "y"}, attrs)
	f.Outputs = []string{"l", "y"}
	return f
}

func TestLinearClassifiersAreOneLayer(t *testing.T) {
	half := w.Attributes{"coefficients": []float32{-2, -4, -6, 2, 4, 6}, "intercepts": []float32{-8, 8}, "post_transform": "LOGISTIC"}
	cases := map[string]struct {
		f             w.Fixture
		scores        []float64 // of 1, 0, 0
		labels        []string
		probabilities bool
	}{
		"scores":        {linear(w.Attributes{}), []float64{11, 24}, []string{"7", "9"}, false},
		"softmax":       {linear(w.Attributes{"post_transform": "SOFTMAX", "multi_class": 1}), []float64{11, 24}, []string{"7", "9"}, true},
		"logistic":      {linear(half), []float64{-5, 5}, []string{"7", "9"}, true}, // of 10, the softmax of -5 and 5
		"two logistics": {linear(w.Attributes{"post_transform": "LOGISTIC"}), []float64{11, 24}, []string{"7", "9"}, false},
		"names":         {linear(w.Attributes{"classlabels_ints": nil, "classlabels_strings": []string{"no", "yes"}}), []float64{11, 24}, []string{"no", "yes"}, false},
		"normalized": {linear(w.Attributes{"post_transform": "SOFTMAX"}, w.Node("Normalizer", []string{"y"}, []string{"q"}, w.Attributes{"norm": "L1"}),
			w.Node("ZipMap", []string{"q"}, []string{"z"}, w.Attributes{"classlabels_int64s": []int64{7, 9}}), w.Node("Cast", []string{"l"}, []string{"m"}, w.Attributes{"to": 7})), []float64{11, 24}, []string{"7", "9"}, true},
		"one column": {linear(w.Attributes{}, w.Node("ArrayFeatureExtractor", []string{"y", "second"}, []string{"q"}, nil)), []float64{11, 24}, []string{"7", "9"}, false},
		"columns": {linear(w.Attributes{}, w.Node("Slice", []string{"y", "second", "flat", "second"}, []string{"q"}, nil), w.Node("Reshape", two("q", "flat"), []string{"r"}, nil)),
			[]float64{11, 24}, []string{"7", "9"}, false},
	}
	for name, c := range cases {
		c.f.Weights = append(c.f.Weights, w.Ints("second", []int64{1}, 1))
		if last := c.f.Nodes; len(last) > 1 {
			c.f.Outputs = []string{"l", map[string]string{"normalized": "z", "one column": "q", "columns": "r"}[name]}
		}
		if name == "normalized" {
			c.f.Outputs[0] = "m"
		}
		n, err := tryLoad(c.f)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := scoresOf(t, n, 1, 0, 0); !slices.Equal(got, c.scores) || !slices.Equal(n.Labels, c.labels) || n.IntegerLabels == (name == "names") || n.Probabilities != c.probabilities {
			t.Errorf("%s: scores %v, %+v", name, got, n)
		}
	}
	// Alone with its label, and behind a scaler.
	f := linear(w.Attributes{})
	f.Nodes = []w.Message{w.Node("Scaler", []string{"x"}, []string{"s"}, w.Attributes{"offset": []float32{1}, "scale": []float32{2}}),
		w.Node("LinearClassifier", []string{"s"}, []string{"l"}, w.Attributes{"coefficients": []float32{1, 2, 3, 4, 5, 6}, "intercepts": []float32{10, 20}, "classlabels_ints": []int64{0, 1}})}
	f.Outputs = []string{"l"}
	if n := load(t, f); !slices.Equal(scoresOf(t, n, 2, 1, 1), []float64{12, 28}) || len(n.Layers) != 1 {
		t.Errorf("%+v", n)
	}
}

func TestLinearClassifiersAreRefused(t *testing.T) {
	cases := map[string]struct {
		f    w.Fixture
		want refusal.Reason
	}{
		"probit":             {linear(w.Attributes{"post_transform": "PROBIT"}), ReasonAttribute},
		"softmax zero":       {linear(w.Attributes{"post_transform": "SOFTMAX_ZERO"}), ReasonAttribute},
		"multi class":        {linear(w.Attributes{"multi_class": 2}), ReasonAttribute},
		"unknown":            {linear(w.Attributes{"twist": 1}), ReasonAttribute},
		"integer intercepts": {linear(w.Attributes{"intercepts": []int64{10, 20}}), ReasonAttribute},
		"no intercepts":      {linear(w.Attributes{"intercepts": nil}), ReasonAttribute},
		"one intercept":      {linear(w.Attributes{"intercepts": []float32{1}, "coefficients": []float32{1, 2, 3}}), ReasonAttribute},
		"few coefficients":   {linear(w.Attributes{"coefficients": []float32{1, 2, 3, 4, 5}}), ReasonAttribute},
		"no labels":          {linear(w.Attributes{"classlabels_ints": nil}), ReasonClasses},
		"both labels":        {linear(w.Attributes{"classlabels_strings": []string{"no", "yes"}}), ReasonClasses},
		"equal labels":       {linear(w.Attributes{"classlabels_ints": []int64{7, 7}}), ReasonClasses},
		"labels for three":   {linear(w.Attributes{"classlabels_ints": []int64{7, 8, 9}}), ReasonClasses},
		"several": {linear(w.Attributes{}, w.Node("LinearClassifier", []string{"x"}, []string{"a", "b"},
			w.Attributes{"coefficients": []float32{1, 2, 3, 4, 5, 6}, "intercepts": []float32{10, 20}, "classlabels_ints": []int64{0, 1}})), ReasonSeveral},
		"on images": {func() w.Fixture {
			f := linear(w.Attributes{})
			f.Inputs = []w.Message{w.Value("x", 1, 0, 1, 1, 3)}
			return f
		}(), ReasonArrangement},
		"infinite":              {linear(w.Attributes{"coefficients": []float32{1, 2, 3, 4, 5, float32(math.Inf(1))}}), ReasonWeights},
		"normalized scores":     {linear(w.Attributes{}, w.Node("Normalizer", []string{"y"}, []string{"q"}, w.Attributes{"norm": "L1"})), ReasonArrangement},
		"by the largest":        {linear(w.Attributes{"post_transform": "SOFTMAX"}, w.Node("Normalizer", []string{"y"}, []string{"q"}, w.Attributes{"norm": "MAX"})), ReasonAttribute},
		"softmax of softmax":    {linear(w.Attributes{"post_transform": "SOFTMAX"}, w.Node("Softmax", []string{"y"}, []string{"q"}, nil)), ReasonArrangement},
		"labels as truth":       {linear(w.Attributes{}, w.Node("Cast", []string{"l"}, []string{"q"}, w.Attributes{"to": 9})), ReasonType},
		"labels as small":       {linear(w.Attributes{"classlabels_ints": []int64{1 << 24, 1<<24 + 1}}, w.Node("Cast", []string{"l"}, []string{"q"}, w.Attributes{"to": 1})), ReasonType},
		"labels of 33 bits":     {linear(w.Attributes{"classlabels_ints": []int64{0, 1 << 32}}, w.Node("Cast", []string{"l"}, []string{"q"}, w.Attributes{"to": 6})), ReasonType},
		"names as numbers":      {linear(w.Attributes{"classlabels_ints": nil, "classlabels_strings": []string{"1", "2"}}, w.Node("Cast", []string{"l"}, []string{"q"}, w.Attributes{"to": 7})), ReasonType},
		"some of the rows":      {linear(w.Attributes{}, w.Node("Slice", []string{"y", "numbers", "numbers", "numbers"}, []string{"q"}, nil)), ReasonArrangement},
		"a slice along axis 0":  {linear(w.Attributes{}, w.Node("Slice", []string{"y", "flat", "flat", "zero"}, []string{"q"}, nil)), ReasonArrangement},
		"layers behind it":      {linear(w.Attributes{}, w.Node("MatMul", two("y", "w"), []string{"q"}, nil)), ReasonArrangement},
		"something else beside": {linear(w.Attributes{}, w.Node("Relu", []string{"x"}, []string{"q"}, nil)), ReasonArrangement},
	}
	for name, c := range cases {
		c.f.Weights = append(c.f.Weights, w.Ints("zero", []int64{1}, 0))
		n, err := tryLoad(c.f)
		if reason, _ := refusal.ReasonOf(err); reason != c.want {
			t.Errorf("%s: %v, %+v, want %s", name, err, n, c.want)
		}
	}
}

// TestBinaryScoresOfOneOutput: how scikit-learn's linear models without probabilities say
// two classes, and how PyTorch's often do.
func TestBinaryScoresOfOneOutput(t *testing.T) {
	one := func(nodes ...w.Message) w.Fixture {
		f := w.Dense()
		f.Nodes = append([]w.Message{w.Node("MatMul", two("x", "v"), []string{"z"}, nil)}, nodes...)
		f.Weights = append(f.Weights, w.Floats("v", []int64{3, 1}, 2, 4, 6), w.Floats("minus", nil, -1), w.Floats("other", nil, -2))
		f.Outputs = []string{"p"}
		return f
	}
	pair := []w.Message{w.Node("Mul", two("z", "minus"), []string{"m"}, nil), w.Node("Concat", two("m", "z"), []string{"p"}, w.Attributes{"axis": 1})}
	if n := load(t, one(pair...)); !slices.Equal(scoresOf(t, n, 1, 0, 0), []float64{-2, 2}) || n.Probabilities {
		t.Errorf("%+v", n)
	}
	if n := load(t, one(w.Node("Sigmoid", []string{"z"}, []string{"p"}, nil))); !slices.Equal(scoresOf(t, n, 1, 0, 0), []float64{-1, 1}) || !n.Probabilities {
		t.Errorf("%+v", n)
	}
	for name, nodes := range map[string][]w.Message{
		"another factor": {w.Node("Mul", two("z", "other"), []string{"m"}, nil), pair[1]},
		"the wrong way":  {pair[0], w.Node("Concat", two("z", "m"), []string{"p"}, w.Attributes{"axis": 1})},
		"rows joined":    {pair[0], w.Node("Concat", two("m", "z"), []string{"p"}, w.Attributes{"axis": 0})},
		"twice":          {pair[0], w.Node("Concat", []string{"m", "z", "z"}, []string{"p"}, w.Attributes{"axis": 1})},
		"split twice":    {w.Node("Sigmoid", []string{"z"}, []string{"s"}, nil), pair[0], pair[1]},
		"nothing":        {w.Node("Identity", []string{"z"}, []string{"p"}, nil)},
	} {
		if n, err := tryLoad(one(nodes...)); err == nil {
			t.Errorf("%s: %+v", name, n)
		}
	}
}

// TestLogSumExpIsSoftmax: how naive Bayes of counts becomes probabilities.
func TestLogSumExpIsSoftmax(t *testing.T) {
	tail := func(keep int, shape string, axes string) w.Fixture {
		f := w.Dense(w.Node("ReduceLogSumExp", two("y", axes), []string{"t"}, w.Attributes{"keepdims": keep}), w.Node("Reshape", two("t", shape), []string{"c"}, nil),
			w.Node("Sub", two("y", "c"), []string{"q"}, nil), w.Node("Exp", []string{"q"}, []string{"p"}, nil))
		if shape == "" {
			f.Nodes = slices.Delete(f.Nodes, 2, 3)
			f.Nodes[2] = w.Node("Sub", two("y", "t"), []string{"q"}, nil)
		}
		f.Weights = append(f.Weights, w.Ints("columns", []int64{2}, -1, 1), w.Ints("rows", []int64{2}, 1, -1), w.Ints("axis", []int64{1}, 1), w.Ints("zero", []int64{1}, 0))
		f.Outputs = []string{"p"}
		return f
	}
	for name, f := range map[string]w.Fixture{"reshaped": tail(0, "columns", "axis"), "kept": tail(1, "", "axis")} {
		if n := load(t, f); !n.Probabilities || !slices.Equal(scoresOf(t, n, 1, 0, 0), []float64{11, 24}) {
			t.Errorf("%s: %+v", name, n)
		}
	}
	for name, f := range map[string]w.Fixture{"over rows": tail(1, "", "zero"), "as a row": tail(0, "rows", "axis"), "not a column": tail(0, "", "axis")} {
		if n, err := tryLoad(f); err == nil {
			t.Errorf("%s: %+v", name, n)
		}
	}
}

// TestWhatClassesHaveInCommonIsTakenAway, where probabilities are all that it could matter
// for: it is most of naive Bayes' numbers.
func TestWhatClassesHaveInCommonIsTakenAway(t *testing.T) {
	common := w.Attributes{"coefficients": []float32{-100, 2, -50, -102, 4, -50}, "intercepts": []float32{-8, -6}}
	for transform, want := range map[string][]float64{"SOFTMAX": {0, 0}, "NONE": {-108, -108}} {
		common["post_transform"] = transform
		if got := scoresOf(t, load(t, linear(common)), 1, 0, 0); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", transform, got, want)
		}
	}
}
