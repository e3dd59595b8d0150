package layers

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/runtime/onnx"
	w "github.com/anchorhold/anchorhold/runtime/onnx/onnxtest"
)

func load(t testing.TB, f w.Fixture) *Network {
	t.Helper()
	n, err := tryLoad(f)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func tryLoad(f w.Fixture) (*Network, error) {
	m, err := onnx.Parse(f.Model(), nil)
	if err != nil {
		return nil, err
	}
	return FromONNX(m)
}

func scoresOf(t testing.TB, n *Network, in ...float64) []float64 {
	t.Helper()
	out, err := n.Forward(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// two is the row of inputs of a binary operator on the values.
func two(a, b string) []string { return []string{a, b} }

func TestDenseLayersInEveryForm(t *testing.T) {
	x := []w.Message{w.Value("x", 1, 0, 3)}
	rows := w.Floats("w", []int64{2, 3}, 1, 2, 3, 4, 5, 6)
	cols := w.Floats("w", []int64{3, 2}, 1, 4, 2, 5, 3, 6)
	bias := w.Floats("b", []int64{2}, 10, 20)
	y := []string{"y"}
	cases := map[string]w.Fixture{
		"gemm by row":          w.Graph(x, []w.Message{w.Node("Gemm", []string{"x", "w", "b"}, y, w.Attributes{"transB": 1})}, []w.Message{rows, bias}, y),
		"gemm by column":       w.Graph(x, []w.Message{w.Node("Gemm", []string{"x", "w", "b"}, y, nil)}, []w.Message{cols, bias}, y),
		"gemm with factors":    w.Graph(x, []w.Message{w.Node("Gemm", []string{"x", "w", "b"}, y, w.Attributes{"alpha": float32(0.5), "beta": float32(2)})}, []w.Message{w.Floats("w", []int64{3, 2}, 2, 8, 4, 10, 6, 12), w.Floats("b", []int64{1, 2}, 5, 10)}, y),
		"gemm without bias":    w.Graph(x, []w.Message{w.Node("Gemm", two("x", "w"), []string{"g"}, nil), w.Node("Add", two("g", "b"), y, nil)}, []w.Message{cols, bias}, y),
		"matmul, bias first":   w.Graph(x, []w.Message{w.Node("MatMul", two("x", "w"), []string{"g"}, nil), w.Node("Add", two("b", "g"), y, nil)}, []w.Message{cols, bias}, y),
		"matmul, bias row":     w.Graph(x, []w.Message{w.Node("MatMul", two("x", "w"), []string{"g"}, nil), w.Node("Add", two("g", "b"), y, nil)}, []w.Message{cols, w.Floats("b", []int64{1, 2}, 10, 20)}, y),
		"matmul, subtraction":  w.Graph(x, []w.Message{w.Node("MatMul", two("x", "w"), []string{"g"}, nil), w.Node("Sub", two("g", "b"), y, nil)}, []w.Message{cols, w.Floats("b", []int64{2}, -10, -20)}, y),
		"casts and identities": w.Graph([]w.Message{w.Value("x", 11, 0, 3)}, []w.Message{w.Node("Cast", []string{"x"}, []string{"a"}, w.Attributes{"to": 1}), w.Node("Identity", []string{"a"}, []string{"c"}, nil), w.Node("Gemm", []string{"c", "w", "b"}, y, nil)}, []w.Message{cols, bias}, y),
		"transposed constant":  w.Graph(x, []w.Message{w.Node("Transpose", []string{"w"}, []string{"v"}, w.Attributes{"perm": []int64{1, 0}}), w.Node("Gemm", []string{"x", "v", "b"}, y, nil)}, []w.Message{rows, bias}, y),
		"constant node":        w.Graph(x, []w.Message{w.Node("Constant", nil, []string{"b"}, w.Attributes{"value": w.Floats("", []int64{2}, 10, 20)}), w.Node("Identity", []string{"w"}, []string{"v"}, nil), w.Node("Gemm", []string{"x", "v", "b"}, y, nil)}, []w.Message{cols}, y),
		"constant list":        w.Graph(x, []w.Message{w.Node("Constant", nil, []string{"b"}, w.Attributes{"value_floats": []float32{10, 20}}), w.Node("Gemm", []string{"x", "w", "b"}, y, nil)}, []w.Message{cols}, y),
		"image, flattened":     w.Graph([]w.Message{w.Value("x", 1, 0, 1, 1, 3)}, []w.Message{w.Node("Flatten", []string{"x"}, []string{"a"}, nil), w.Node("Gemm", []string{"a", "w", "b"}, y, nil)}, []w.Message{cols, bias}, y),
		"three dimensions":     w.Graph([]w.Message{w.Value("x", 1, 1, 3, 1)}, []w.Message{w.Node("Flatten", []string{"x"}, []string{"a"}, w.Attributes{"axis": -2}), w.Node("Gemm", []string{"a", "w", "b"}, y, nil)}, []w.Message{cols, bias}, y),
		"reshaped":             w.Graph([]w.Message{w.Value("x", 1, 0, 3, 1, 1)}, []w.Message{w.Node("Reshape", two("x", "s"), []string{"a"}, w.Attributes{"allowzero": 0}), w.Node("Gemm", []string{"a", "w", "b"}, y, nil)}, []w.Message{cols, bias, w.Ints("s", []int64{2}, 0, -1)}, y),
		"scaler that is one":   w.Graph(x, []w.Message{w.Node("Scaler", []string{"x"}, []string{"a"}, w.Attributes{"offset": []float32{0}, "scale": []float32{1}}), w.Node("Gemm", []string{"a", "w", "b"}, y, nil)}, []w.Message{cols, bias}, y),
		"trivial transpose":    w.Graph([]w.Message{w.Value("x", 1, 0, 1, 3, 1)}, []w.Message{w.Node("Transpose", []string{"x"}, []string{"t"}, w.Attributes{"perm": []int64{0, 3, 1, 2}}), w.Node("Flatten", []string{"t"}, []string{"a"}, w.Attributes{"axis": 1}), w.Node("Gemm", []string{"a", "w", "b"}, y, nil)}, []w.Message{cols, bias}, y),
	}
	for name, f := range cases {
		t.Run(name, func(t *testing.T) {
			n := load(t, f)
			if got := scoresOf(t, n, 1, -1, 2); !slices.Equal(got, []float64{10 + 5, 20 + 11}) {
				t.Errorf("scores %v", got)
			}
			if n.Labels != nil {
				t.Errorf("labels %v", n.Labels)
			}
		})
	}
}

// TestWhatStandsBeforeTheFirstLayerIsFoldedIntoTheInput: each operator in turn on x = 1 2 4.
func TestWhatStandsBeforeTheFirstLayerIsFoldedIntoTheInput(t *testing.T) {
	c := w.Floats("c", []int64{1, 3}, 1, 2, 4)
	cases := []struct {
		op   w.Message
		want []float64
	}{
		{w.Node("Add", two("x", "c"), []string{"a"}, nil), []float64{2, 4, 8}},
		{w.Node("Sub", two("x", "c"), []string{"a"}, nil), []float64{0, 0, 0}},
		{w.Node("Sub", two("c", "x"), []string{"a"}, nil), []float64{0, 0, 0}},
		{w.Node("Mul", two("c", "x"), []string{"a"}, nil), []float64{1, 4, 16}},
		{w.Node("Div", two("x", "c"), []string{"a"}, nil), []float64{1, 1, 1}},
		{w.Node("Scaler", []string{"x"}, []string{"a"}, w.Attributes{"offset": []float32{1, 1, 2}, "scale": []float32{3, 5, 7}}), []float64{0, 5, 14}},
		{w.Node("Add", two("x", "three"), []string{"a"}, nil), []float64{4, 5, 7}},
	}
	for i, c2 := range cases {
		f := w.Graph([]w.Message{w.Value("x", 1, 0, 3)}, []w.Message{c2.op, w.Node("Gemm", two("a", "w"), []string{"y"}, nil)},
			[]w.Message{c, w.Floats("three", nil, 3), w.Floats("w", []int64{3, 3}, 1, 0, 0, 0, 1, 0, 0, 0, 1)}, []string{"y"})
		if got := scoresOf(t, load(t, f), 1, 2, 4); !slices.Equal(got, c2.want) {
			t.Errorf("case %d: %v, want %v", i, got, c2.want)
		}
	}
	// Order matters: (x - 1) * 2, as two nodes.
	f := w.Graph([]w.Message{w.Value("x", 1, 0, 3)}, []w.Message{
		w.Node("Sub", two("x", "one"), []string{"a"}, nil), w.Node("Mul", two("a", "two"), []string{"b"}, nil), w.Node("Gemm", two("b", "w"), []string{"y"}, nil)},
		[]w.Message{w.Floats("one", []int64{1}, 1), w.Floats("two", []int64{1, 1}, 2), w.Floats("w", []int64{3, 3}, 1, 0, 0, 0, 1, 0, 0, 0, 1)}, []string{"y"})
	if got := scoresOf(t, load(t, f), 1, 2, 4); !slices.Equal(got, []float64{0, 2, 6}) {
		t.Errorf("two nodes: %v", got)
	}
}

// TestConvolution compares with sums written out by hand.
func TestConvolution(t *testing.T) {
	image := []w.Message{w.Value("x", 1, 0, 2, 3, 3)}
	kernel := w.Floats("k", []int64{1, 2, 2, 2}, 1, 2, 3, 4, 10, 0, 0, -1)
	head := []w.Message{w.Node("Relu", []string{"c"}, []string{"r"}, nil), w.Node("Flatten", []string{"r"}, []string{"f"}, nil), w.Node("Gemm", two("f", "w"), []string{"y"}, nil)}
	identity := func(n int) w.Message {
		v := make([]float32, n*n)
		for i := range n {
			v[i*n+i] = 1
		}
		return w.Floats("w", []int64{int64(n), int64(n)}, v...)
	}
	x := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 0, 1, 0, 1, 0, 1, 0}
	cases := []struct {
		attrs w.Attributes
		bias  bool
		out   []float64
	}{
		{w.Attributes{"kernel_shape": []int64{2, 2}, "dilations": []int64{1, 1}, "group": 1}, false, []float64{1 + 4 + 12 + 20, 2 + 6 + 15 + 24 + 10 - 1, 4 + 10 + 21 + 32 + 10 - 1, 5 + 12 + 24 + 36}},
		{w.Attributes{"strides": []int64{2, 2}, "auto_pad": "NOTSET"}, true, []float64{37 - 30}},
		{w.Attributes{"strides": []int64{3, 3}, "pads": []int64{1, 1, 1, 1}}, false, []float64{4, 3 * 6 * 0, 0, 0}},
		{w.Attributes{"auto_pad": "VALID", "strides": []int64{2, 2}, "pads": []int64{0, 0, 0, 0}}, true, []float64{7}},
	}
	// With padding 1 and stride 3 the windows begin at -1 and 2: corners of the image.
	cases[2].out = []float64{4*1 - 0, 3*3 + 0, 2*7 + 0, 1*9 + 0}
	for i, c := range cases {
		in := []string{"x", "k"}
		if c.bias {
			in = append(in, "b")
		}
		n := len(c.out)
		f := w.Graph(image, append([]w.Message{w.Node("Conv", in, []string{"c"}, c.attrs)}, head...), []w.Message{kernel, w.Floats("b", []int64{1}, -30), identity(max(n, 1))}, []string{"y"})
		if n == 1 {
			f.Weights[2] = w.Floats("w", []int64{1, 2}, 1, 0) // a classifier has two outputs
			c.out = append(c.out, 0)
		}
		net := load(t, f)
		if got := scoresOf(t, net, x...); !slices.Equal(got, c.out) {
			t.Errorf("case %d: %v, want %v", i, got, c.out)
		}
		if shapes := net.Shapes(); shapes[0] != (Shape{2, 3, 3}) || shapes[1].Len() != n || shapes[2].C != len(c.out) {
			t.Errorf("case %d: shapes %v", i, shapes)
		}
	}
	// A bias of a channel that stands in a node of its own, and one that differs by place.
	add := func(b w.Message) w.Fixture {
		return w.Graph(image, append([]w.Message{w.Node("Conv", two("x", "k"), []string{"d"}, nil), w.Node("Add", two("d", "b"), []string{"c"}, nil)}, head...), []w.Message{kernel, b, identity(4)}, []string{"y"})
	}
	if got := scoresOf(t, load(t, add(w.Floats("b", []int64{1, 1, 1}, -37))), x...); !slices.Equal(got, []float64{0, 19, 39, 40}) {
		t.Errorf("added bias: %v", got)
	}
	if _, err := tryLoad(add(w.Floats("b", []int64{1, 2, 2}, 1, 1, 1, 2))); err == nil || !strings.Contains(err.Error(), "the Relu") {
		t.Errorf("a bias by place: %v", err)
	}
}

func TestTailsAreCutOffAndLabelsKept(t *testing.T) {
	label := func(classes string) []w.Message {
		return []w.Message{
			w.Node("ArgMax", []string{"p"}, []string{"i"}, w.Attributes{"axis": 1}),
			w.Node("ArrayFeatureExtractor", two(classes, "i"), []string{"e"}, nil),
			w.Node("Reshape", two("e", "flat"), []string{"label"}, nil),
		}
	}
	softmax := w.Node("Softmax", []string{"y"}, []string{"p"}, nil)
	cases := map[string]struct {
		nodes   []w.Message
		outputs []string
		labels  []string
	}{
		"none":           {nil, []string{"y"}, nil},
		"softmax":        {[]w.Message{softmax}, []string{"p"}, nil},
		"log-softmax":    {[]w.Message{w.Node("LogSoftmax", []string{"y"}, []string{"p"}, w.Attributes{"axis": 1})}, []string{"p"}, nil},
		"argmax":         {[]w.Message{w.Node("ArgMax", []string{"y"}, []string{"p"}, w.Attributes{"axis": -1, "keepdims": 0})}, []string{"p"}, nil},
		"score and max":  {[]w.Message{w.Node("ArgMax", []string{"y"}, []string{"p"}, w.Attributes{"axis": 1})}, []string{"y", "p"}, nil},
		"scikit strings": {append([]w.Message{softmax, w.Node("ZipMap", []string{"p"}, []string{"map"}, w.Attributes{"classlabels_strings": []string{"no", "yes"}})}, label("names")...), []string{"label", "map"}, []string{"no", "yes"}},
		"scikit numbers": {append([]w.Message{softmax, w.Node("ZipMap", []string{"p"}, []string{"map"}, w.Attributes{"classlabels_int64s": []int64{7, 9}})}, append(label("numbers"), w.Node("Cast", []string{"label"}, []string{"out"}, w.Attributes{"to": 7}))...), []string{"out", "map"}, []string{"7", "9"}},
		"without map":    {append([]w.Message{softmax, w.Node("Identity", []string{"p"}, []string{"q"}, nil)}, label("names")...), []string{"label", "q"}, []string{"no", "yes"}},
	}
	for name, c := range cases {
		f := w.Dense(c.nodes...)
		f.Outputs = c.outputs
		n := load(t, f)
		if !slices.Equal(n.Labels, c.labels) || n.IntegerLabels != (name == "scikit numbers") {
			t.Errorf("%s: labels %v", name, n.Labels)
		}
		if got := scoresOf(t, n, 1, 0, 0); !slices.Equal(got, []float64{11, 24}) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// twoClass is scikit-learn's way for two classes: one output, and a sigmoid of it.
func twoClass(nodes ...w.Message) w.Fixture {
	f := w.Dense()
	f.Nodes = append([]w.Message{w.Node("MatMul", two("x", "v"), []string{"z"}, nil), w.Node("Add", two("z", "c"), []string{"y"}, nil), w.Node("Sigmoid", []string{"y"}, []string{"s"}, nil)}, nodes...)
	f.Weights = append(f.Weights, w.Floats("v", []int64{3, 1}, 2, 4, 6), w.Floats("c", []int64{1, 1}, 8))
	f.Outputs = []string{"p"}
	return f
}

func TestSigmoidBecomesTwoScores(t *testing.T) {
	n := load(t, twoClass(w.Node("Sub", two("one", "s"), []string{"m"}, nil), w.Node("Concat", two("m", "s"), []string{"p"}, w.Attributes{"axis": 1})))
	if got := scoresOf(t, n, 1, 0, -1); !slices.Equal(got, []float64{-2, 2}) { // z = 4
		t.Errorf("%v", got)
	}
}

// TestRefusalsNameOperatorAndNode has one thing wrong in each graph.
func TestRefusalsNameOperatorAndNode(t *testing.T) {
	out := func(f w.Fixture, names ...string) w.Fixture { f.Outputs = names; return f }
	tail := func(nodes ...w.Message) w.Fixture { return out(w.Dense(nodes...), "p") }
	one := func(op string, in []string, attrs w.Attributes, extra ...w.Message) w.Fixture { // a node before the layer
		f := w.Dense()
		f.Nodes = []w.Message{w.Node(op, in, []string{"a"}, attrs), w.Node("Gemm", []string{"a", "w", "b"}, []string{"y"}, w.Attributes{"transB": 1})}
		f.Weights = append(f.Weights, extra...)
		return f
	}
	image := func(op string, attrs w.Attributes, k w.Message, dims ...int64) w.Fixture {
		return w.Graph([]w.Message{w.Value("x", 1, dims...)}, []w.Message{w.Node(op, two("x", "k"), []string{"y"}, attrs)}, []w.Message{k}, []string{"y"})
	}
	k2 := w.Floats("k", []int64{1, 1, 2, 2}, 1, 2, 3, 4)
	x := []string{"x"}
	cases := map[string]struct {
		f    w.Fixture
		want string
	}{
		"hidden tanh":          {tail(w.Node("Tanh", []string{"y"}, []string{"h"}, nil), w.Node("Gemm", []string{"h", "w"}, []string{"p"}, nil)), "operator Tanh (node \"the Tanh\")"},
		"hidden sigmoid":       {tail(w.Node("Sigmoid", []string{"y"}, []string{"h"}, nil), w.Node("Gemm", []string{"h", "w"}, []string{"p"}, nil)), "Sigmoid (node \"the Sigmoid\")"},
		"max pool":             {image("MaxPool", nil, k2, 0, 1, 4, 4), "MaxPool"},
		"ArgMin":               {tail(w.Node("ArgMin", []string{"y"}, []string{"p"}, nil)), "ArgMin"},
		"last of equals":       {tail(w.Node("ArgMax", []string{"y"}, []string{"p"}, w.Attributes{"axis": 1, "select_last_index": 1})), "first"},
		"argmax of rows":       {tail(w.Node("ArgMax", []string{"y"}, []string{"p"}, nil)), "axis 0"},
		"softmax of rows":      {tail(w.Node("Softmax", []string{"y"}, []string{"p"}, w.Attributes{"axis": 0})), "axis 0"},
		"softmax twice":        {tail(w.Node("Softmax", []string{"y"}, []string{"q"}, nil), w.Node("Softmax", []string{"q"}, []string{"p"}, nil)), "unexpected values"},
		"one minus scores":     {tail(w.Node("Softmax", []string{"y"}, []string{"q"}, nil), w.Node("Sub", two("one", "q"), []string{"p"}, nil)), "unexpected values"},
		"pair the wrong way":   {twoClass(w.Node("Sub", two("one", "s"), []string{"m"}, nil), w.Node("Concat", two("s", "m"), []string{"p"}, w.Attributes{"axis": 1})), "Concat"},
		"two minus":            {twoClass(w.Node("Sub", two("flat", "s"), []string{"m"}, nil), w.Node("Concat", two("m", "s"), []string{"p"}, w.Attributes{"axis": 1})), "one minus"},
		"three minus":          {twoClass(w.Node("Sub", two("c", "s"), []string{"m"}, nil), w.Node("Concat", two("m", "s"), []string{"p"}, w.Attributes{"axis": 1})), "one minus"},
		"minus as output":      {out(twoClass(w.Node("Sub", two("one", "s"), []string{"m"}, nil)), "m"), "not a score"},
		"labels that differ":   {tail(w.Node("ArgMax", []string{"y"}, []string{"i"}, w.Attributes{"axis": 1}), w.Node("ArrayFeatureExtractor", two("names", "i"), []string{"l"}, nil), w.Node("ZipMap", []string{"y"}, []string{"p"}, w.Attributes{"classlabels_strings": []string{"yes", "no"}})), "differ"},
		"equal labels":         {tail(w.Node("ZipMap", []string{"y"}, []string{"p"}, w.Attributes{"classlabels_strings": []string{"no", "no"}})), "same label"},
		"no labels":            {tail(w.Node("ZipMap", []string{"y"}, []string{"p"}, nil)), "class labels"},
		"labels for three":     {tail(w.Node("ZipMap", []string{"y"}, []string{"p"}, w.Attributes{"classlabels_int64s": []int64{1, 2, 3}})), "3 labels for 2"},
		"labels computed":      {tail(w.Node("ArgMax", []string{"y"}, []string{"i"}, w.Attributes{"axis": 1}), w.Node("ArrayFeatureExtractor", two("y", "i"), []string{"p"}, nil)), "ArrayFeatureExtractor"},
		"scores as integers":   {tail(w.Node("Softmax", []string{"y"}, []string{"q"}, nil), w.Node("Cast", []string{"q"}, []string{"p"}, w.Attributes{"to": 7})), "Cast"},
		"reshaped scores":      {tail(w.Node("Softmax", []string{"y"}, []string{"q"}, nil), w.Node("Reshape", two("q", "flat"), []string{"p"}, nil)), "Reshape"},
		"unused node":          {w.Dense(w.Node("Relu", x, []string{"z"}, nil)), "Gemm"},
		"node aside":           {w.Dense(w.Node("Identity", []string{"y"}, []string{"p"}, nil), w.Node("Constant", nil, []string{"c"}, w.Attributes{"value_int": 3}), w.Node("Add", two("c", "c"), []string{"d"}, nil)), "operator Add (node \"the Add\") is not on the way"},
		"output of a constant": {out(w.Dense(), "w"), "not a score"},
		"no output":            {out(w.Dense()), "no output"},
		"last layer with relu": {tail(w.Node("Relu", []string{"y"}, []string{"p"}, nil)), "ReLU"},
		"relu twice":           {tail(w.Node("Relu", []string{"y"}, []string{"q"}, nil), w.Node("Relu", []string{"q"}, []string{"p"}, nil)), "must not"},
		"relu first":           {one("Relu", x, nil), "does not follow"},
		"cast to integers":     {one("Cast", x, w.Attributes{"to": 7}), "casts"},
		"constant over x":      {one("Div", two("one", "x"), nil), "divides"},
		"division by zero":     {one("Div", two("x", "zero"), nil, w.Floats("zero", nil, 0)), "finite"},
		"sum of itself":        {one("Add", two("x", "x"), nil), "one constant"},
		"integers added":       {one("Add", two("x", "numbers"), nil), "type int64; want float32"},
		"broadcast too long":   {one("Add", two("x", "c"), nil, w.Floats("c", []int64{2, 3}, 1, 2, 3, 4, 5, 6)), "shape"},
		"broadcast misfit":     {one("Add", two("x", "c"), nil, w.Floats("c", []int64{2}, 1, 2)), "shape"},
		"scaler misfit":        {one("Scaler", x, w.Attributes{"offset": []float32{1, 2}, "scale": []float32{1}}), "2 values for 3"},
		"unknown attribute":    {one("Identity", x, w.Attributes{"twist": 1}), "twist"},
		"matrix misfit":        {tail(w.Node("Gemm", two("y", "w"), []string{"p"}, w.Attributes{"transB": 1})), "[2 3]"},
		"transposed values":    {tail(w.Node("Gemm", two("y", "w"), []string{"p"}, w.Attributes{"transA": 1})), "without transposing the values"},
		"matmul other way":     {tail(w.Node("MatMul", two("w", "y"), []string{"p"}, nil)), "MatMul"},
		"matrix of one row":    {tail(w.Node("MatMul", two("y", "b"), []string{"p"}, nil)), "two-dimensional"},
		"bias computed":        {tail(w.Node("Gemm", []string{"y", "w", "y"}, []string{"p"}, nil)), "Gemm"},
		"bias misfit":          {tail(w.Node("Gemm", []string{"y", "w", "b"}, []string{"p"}, nil)), "bias of shape"},
		"dense on image":       {w.Graph([]w.Message{w.Value("x", 1, 0, 1, 1, 3)}, []w.Message{w.Node("MatMul", two("x", "w"), []string{"y"}, nil)}, []w.Message{w.Floats("w", []int64{3, 2}, 1, 2, 3, 4, 5, 6)}, []string{"y"}), "flatten"},
		"flatten from 0":       {one("Flatten", x, w.Attributes{"axis": 0}), "axis 0"},
		"reshape of rows":      {one("Reshape", two("x", "s"), nil, w.Ints("s", []int64{2}, 1, 3)), "keep rows"},
		"reshape mixing":       {one("Reshape", two("x", "s"), nil, w.Ints("s", []int64{2}, -1, 1)), "keep rows"},
		"reshape to five":      {one("Reshape", two("x", "s"), nil, w.Ints("s", []int64{5}, -1, 3, 1, 1, 1)), "5 dimensions"},
		"reshape, two open":    {one("Reshape", two("x", "s"), nil, w.Ints("s", []int64{2}, -1, -1)), "keep rows"},
		"reshape to nothing":   {one("Reshape", two("x", "s"), w.Attributes{"allowzero": 1}, w.Ints("s", []int64{2}, 0, 3)), "to shape"},
		"reshape computed":     {one("Reshape", two("x", "x"), nil), "constant shape"},
		"transposed rows":      {one("Transpose", x, w.Attributes{"perm": []int64{1, 0}}), "moves"},
		"transposed image":     {image("Transpose", w.Attributes{"perm": []int64{0, 1, 3, 2}}, k2, 0, 1, 4, 4), "Transpose"},
		"order that is none":   {one("Transpose", x, w.Attributes{"perm": []int64{0, 0}}), "is not a permutation"},
		"constant reversed":    {one("Transpose", []string{"w"}, w.Attributes{"perm": []int64{0, 1}}), "Transpose"},
		"constant recast":      {one("Cast", []string{"w"}, w.Attributes{"to": 7}), "changes a constant"},
		"constant of two":      {one("Constant", nil, w.Attributes{"value_int": 1, "value_float": float32(1)}), "exactly one"},
		"constant of text":     {one("Constant", nil, w.Attributes{"value_string": "x"}), "value_string"},
		"groups":               {image("Conv", w.Attributes{"group": 2}, k2, 0, 1, 4, 4), "groups"},
		"dilated":              {image("Conv", w.Attributes{"dilations": []int64{4, 2}}, k2, 0, 1, 4, 4), "larger than"},
		"padding twice":        {image("Conv", w.Attributes{"auto_pad": "SAME_UPPER", "pads": []int64{1, 1, 1, 1}}, k2, 0, 1, 4, 4), "given twice"},
		"padding unknown":      {image("Conv", w.Attributes{"auto_pad": "SAME"}, k2, 0, 1, 4, 4), "unknown"},
		"short stride":         {image("Conv", w.Attributes{"strides": []int64{1}}, k2, 0, 1, 4, 4), "2 dimensions"},
		"wide padding":         {image("Conv", w.Attributes{"pads": []int64{2, 2, 2, 2}}, k2, 0, 1, 4, 4), "padding {Top:2"},
		"large kernel":         {image("Conv", nil, k2, 0, 1, 1, 4), "larger"},
		"other channels":       {image("Conv", nil, k2, 0, 2, 4, 4), "channels"},
		"conv on rows":         {image("Conv", nil, k2, 0, 16), "images"},
		"flat kernel":          {image("Conv", nil, w.Floats("k", []int64{2, 2}, 1, 2, 3, 4), 0, 1, 4, 4), "4 dimensions"},
		"conv last":            {image("Conv", nil, w.Floats("k", []int64{2, 1, 2, 2}, 1, 2, 3, 4, 5, 6, 7, 8), 0, 1, 4, 4), "row of scores"},
		"one class":            {image("MatMul", nil, w.Floats("k", []int64{3, 1}, 1, 2, 3), 0, 3), "which class it stands for"},
		"open feature":         {image("MatMul", nil, k2, 0, 0), "may be left open"},
		"five dimensions":      {image("MatMul", nil, k2, 0, 1, 1, 1, 1), "rows of values or images"},
		"text input":           {w.Graph([]w.Message{w.Value("x", 8, 0, 3)}, w.Dense().Nodes, w.Dense().Weights, []string{"y"}), "type string; want float32"},
		"two inputs":           {w.Graph([]w.Message{w.Value("x", 1, 0, 3), w.Value("z", 1, 0, 3)}, w.Dense().Nodes, w.Dense().Weights, []string{"y"}), "2 inputs"},
		"infinite weight":      {one("Mul", two("x", "c"), nil, w.Floats("c", nil, 3e38), w.Floats("d", nil, 3e38)), "y"},
		"unknown value":        {one("Identity", []string{"nowhere"}, nil), "before it is computed"},
		"two outputs":          {w.Graph([]w.Message{w.Value("x", 1, 0, 3)}, []w.Message{w.Node("Gemm", two("x", "w"), two("y", "z"), nil)}, w.Dense().Weights, []string{"y"}), "too many outputs"},
		"no node output":       {w.Graph([]w.Message{w.Value("x", 1, 0, 3)}, []w.Message{w.Node("Gemm", two("x", "w"), nil, nil)}, w.Dense().Weights, []string{"y"}), "no output"},
	}
	delete(cases, "infinite weight")
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			n, err := tryLoad(c.f)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v (%+v), want %q", err, n, c.want)
			}
		})
	}
}

func TestForwardTellsEachLayersValues(t *testing.T) {
	n := load(t, w.Dense())
	var seen [][]float64
	if _, err := n.Forward([]float64{1, 0, 0}, func(_ int, v []float64) { seen = append(seen, slices.Clone(v)) }); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 2 || !slices.Equal(seen[0], []float64{1, 0, 0}) || !slices.Equal(seen[1], []float64{11, 24}) {
		t.Errorf("%v", seen)
	}
	if _, err := n.Forward(nil, nil); err == nil {
		t.Error("an input of no values")
	}
}

func TestConstantsCannotMultiply(t *testing.T) {
	// 3 layers of 2304 by 2304 weights are 15.9 million; the fourth is one too many.
	const size = 2304
	f := w.Fixture{Inputs: []w.Message{w.Value("x", 1, 0, size)}, Weights: []w.Message{w.Floats("w", []int64{size, size}, make([]float32, size*size)...)}}
	last := "x"
	for _, name := range []string{"a", "b", "c", "d"} {
		f.Nodes = append(f.Nodes, w.Node("MatMul", two(last, "w"), []string{name}, nil))
		last = name
	}
	f.Outputs = []string{"d"}
	if _, err := tryLoad(f); err == nil || !strings.Contains(err.Error(), "weights") {
		t.Error(err)
	}
	f.Nodes, f.Outputs = f.Nodes[:3], []string{"c"}
	if _, err := tryLoad(f); err != nil {
		t.Error(err)
	}
}

// TestShapesThatExportersCompute: PyTorch's TorchScript exporter makes the padding of ZeroPad2d from a list that
// it turns round, and tf2onnx the shape behind Flatten from a part of a shape. Anything else stays refused.
func TestShapesThatExportersCompute(t *testing.T) {
	node := func(op, out string, attrs w.Attributes, in ...string) w.Message {
		return w.Node(op, in, []string{out}, attrs)
	}
	zero := []w.Message{w.Ints("four", []int64{1}, 4), w.Ints("sides", []int64{4}, 0, 1, 0, 2), w.Ints("pairs", []int64{2}, -1, 2), w.Ints("last", []int64{1}, -1),
		w.Ints("least", []int64{1}, -math.MaxInt64), w.Ints("none", []int64{1}, 0), w.Ints("one", []int64{1}, 1), w.Ints("two", []int64{1}, 2), w.Ints("order", []int64{4}, 0, 2, 3, 1), w.Ints("many", []int64{1}, 9),
		w.Floats("k", []int64{1, 1, 1, 1}, 1), w.Floats("nine", []int64{1, 1, 3, 3}, 1, 2, 3, 4, 5, 6, 7, 8, 9), w.Floats("eye", []int64{2, 2}, 1, 0, 0, 1), w.Floats("v", []int64{4, 2}, 1, 2, 3, 4, 5, 6, 7, 8)}
	padded := func(count, pairs, begin, end, step string) w.Fixture {
		return w.Graph([]w.Message{w.Value("x", 1, 0, 1, 2, 2)}, []w.Message{
			node("ConstantOfShape", "zeros", w.Attributes{"value": w.Ints("", []int64{1}, 0)}, count), node("Concat", "all", w.Attributes{"axis": 0}, "sides", "zeros"),
			node("Reshape", "matrix", nil, "all", pairs), node("Slice", "round", nil, "matrix", begin, end, "none", step), node("Transpose", "across", w.Attributes{"perm": []int64{1, 0}}, "round"),
			node("Reshape", "list", nil, "across", "last"), node("Cast", "pads", w.Attributes{"to": 7}, "list"), node("Pad", "q", nil, "x", "pads"),
			node("Conv", "c", nil, "q", "nine"), node("Flatten", "f", nil, "c"), node("MatMul", "y", nil, "f", "eye")}, zero, []string{"y"})
	}
	flat := func(begin, end string, open int64) w.Fixture {
		return w.Graph([]w.Message{w.Value("x", 1, 0, 1, 2, 2)}, []w.Message{
			node("Conv", "c", nil, "x", "k"), node("Transpose", "t", w.Attributes{"perm": []int64{0, 2, 3, 1}}, "c"), node("Shape", "s", nil, "c"), node("Gather", "g", nil, "s", "order"),
			node("Cast", "small", w.Attributes{"to": 6}, "g"), node("Slice", "rows", nil, "small", begin, end, "none"), node("Cast", "opensmall", w.Attributes{"to": 6}, "open"),
			node("Concat", "joined", w.Attributes{"axis": 0}, "rows", "opensmall"), node("Cast", "shape", w.Attributes{"to": 7}, "joined"),
			node("Reshape", "f", nil, "t", "shape"), node("MatMul", "y", nil, "f", "v")}, append(slices.Clone(zero), w.Ints("open", []int64{1}, open)), []string{"y"})
	}
	for name, c := range map[string]struct {
		f    w.Fixture
		want []float64 // nil: refused
	}{
		"ZeroPad2d":              {padded("four", "pairs", "last", "least", "last"), []float64{1*1 + 2*2 + 3*4 + 4*5, 3*1 + 4*2}}, // one column and two rows of zeros behind
		"padding not turned":     {padded("four", "pairs", "none", "many", "one"), nil},
		"in steps of two":        {padded("four", "pairs", "last", "least", "two"), nil},
		"too long a list":        {padded("many", "pairs", "last", "least", "last"), nil},
		"less than a list":       {padded("last", "pairs", "last", "least", "last"), nil},
		"a shape that is none":   {padded("four", "sides", "last", "least", "last"), nil},
		"Flatten":                {flat("none", "one", -1), []float64{1 + 2*3 + 3*5 + 4*7, 2 + 2*4 + 3*6 + 4*8}},
		"Flatten, known":         {flat("none", "one", 4), []float64{50, 60}},
		"Flatten, another size":  {flat("none", "one", 5), nil},
		"Flatten, rows and more": {flat("none", "two", -1), nil},
		"Flatten, from the end":  {flat("last", "many", -1), nil},
	} {
		n, err := tryLoad(c.f)
		if c.want == nil {
			if err == nil {
				t.Errorf("%s: %+v", name, n)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := scoresOf(t, n, 1, 2, 3, 4); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// TestConstantIntegersStayShort: a file of few bytes cannot have a long list copied for each of its nodes.
func TestConstantIntegersStayShort(t *testing.T) {
	const last = "the last"
	graph := func(m w.Message, nodes ...w.Message) w.Fixture {
		nodes = append(nodes, w.Node("MatMul", []string{"x", "eye"}, []string{"y"}, nil))
		return w.Graph([]w.Message{w.Value("x", 1, 0, 2)}, nodes, []w.Message{m, w.Ints("back", []int64{1}, -1), w.Ints("none", []int64{1}, 0), w.Ints("end", []int64{1}, -math.MaxInt64),
			w.Ints("long", []int64{3}, 1, 1, -1), w.Floats("eye", []int64{2, 2}, 1, 0, 0, 1)}, []string{"y"})
	}
	for _, rows := range []int64{2 * onnx.MaxDims, 2*onnx.MaxDims + 1} {
		m := w.Ints("m", []int64{rows, 1}, make([]int64, rows)...)
		for op, node := range map[string]w.Message{
			"Transpose": w.Node("Transpose", []string{"m"}, []string{last}, nil),
			"Slice":     w.Node("Slice", []string{"m", "back", "end", "none", "back"}, []string{last}, nil),
			"Reshape":   w.Node("Reshape", []string{"m", "back"}, []string{last}, nil),
		} {
			if _, err := tryLoad(graph(m, node)); (err == nil) != (rows == 2*onnx.MaxDims) {
				t.Errorf("%s of %d integers: %v", op, rows, err)
			}
		}
	}
	b := &builder{constants: map[string]*onnx.Tensor{"m": {Type: onnx.Int64, Dims: []int64{6}, Ints: make([]int64, 6)}}, left: 10}
	narrow := &onnx.Node{Op: "Cast", Inputs: []string{"m"}, Attributes: map[string]onnx.Attribute{"to": {Int: int64(onnx.Int32)}}}
	for i, want := range []bool{true, false} {
		if _, err := b.constant(narrow); (err == nil) != want {
			t.Errorf("cast %d of 6 integers where 10 are left: %v", i+1, err)
		}
	}
	m := w.Ints("m", []int64{4}, 1, 2, 3, 4)
	if _, err := tryLoad(graph(m, w.Node("Reshape", []string{"m", "long"}, []string{last}, nil))); err == nil {
		t.Error("a shape of three dimensions was taken")
	}
}

// TestSizesThatAreNotKnownAreNotUsed: neither how many sizes a computed value has, nor a size of it as the end of a list.
func TestSizesThatAreNotKnownAreNotUsed(t *testing.T) {
	node := func(op, out string, attrs w.Attributes, in ...string) w.Message {
		return w.Node(op, in, []string{out}, attrs)
	}
	weights := []w.Message{w.Floats("k", []int64{1, 1, 1, 1}, 1), w.Ints("none", []int64{1}, 0), w.Ints("two", []int64{1}, 2), w.Ints("back", []int64{1}, -1), w.Floats("v", []int64{4, 2}, 1, 2, 3, 4, 5, 6, 7, 8),
		w.Ints("list", []int64{9}, 1, 1, 1, 1, 1, 1, 1, 1, 4), w.Ints("shape", []int64{2}, 4, -1)}
	graph := func(nodes ...w.Message) w.Fixture {
		all := append([]w.Message{node("Conv", "c", nil, "x", "k"), node("Shape", "s", nil, "c")}, nodes...)
		return w.Graph([]w.Message{w.Value("x", 1, 0, 1, 2, 2)}, append(all, node("Reshape", "f", nil, "c", "to"), node("MatMul", "y", nil, "f", "v")), weights, []string{"y"})
	}
	for name, f := range map[string]w.Fixture{
		// With 8 in place of 4 dimensions, this is the shape of rows of 4 values; really, of one.
		"how many": graph(node("Gather", "rows", nil, "s", "none"), node("Shape", "n", nil, "s"), node("Gather", "four", nil, "list", "n"), node("Concat", "to", w.Attributes{"axis": 0}, "rows", "four")),
		// Turned round up to a size, or to the number of rows, nothing is left of the list.
		"a size": graph(node("Gather", "end", nil, "s", "two"), node("Slice", "to", nil, "shape", "back", "end", "none", "back")),
		"rows":   graph(node("Gather", "end", nil, "s", "none"), node("Slice", "to", nil, "shape", "back", "end", "none", "back")),
	} {
		if n, err := tryLoad(f); err == nil {
			t.Errorf("%s: %+v", name, n)
		}
	}
}
