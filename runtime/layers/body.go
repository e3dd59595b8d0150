package layers

import (
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/runtime/onnx"
)

// operator changes the builder by one node.
type operator func(*builder, *onnx.Node) error

// body lists the operators up to the last layer.
var body = map[string]operator{
	"Identity": pass, "Cast": cast, "Dropout": dropout,
	"Relu": relu, "LeakyRelu": leakyRelu, "PRelu": pRelu, "Clip": clip, "Min": limit, "Max": limit,
	"Add": affine, "Sub": affine, "Mul": affine, "Div": affine, "ai.onnx.ml.Scaler": scaler, "BatchNormalization": batchNorm,
	"MatMul": matMul, "Gemm": gemm, "Conv": conv, "Pad": pad,
	"MaxPool": pool, "AveragePool": pool, "GlobalMaxPool": global, "GlobalAveragePool": global, "ReduceMean": reduce, "ReduceMax": reduce,
	"ai.onnx.ml.LinearClassifier": linearClassifier, "ai.onnx.ml.ArrayFeatureExtractor": choose,
	"Flatten": flatten, "Reshape": reshape, "Transpose": exchange, "Squeeze": squeeze, "Unsqueeze": unsqueeze,
}

// spend counts n weights against the limit, since a constant can be used many times.
func (b *builder) spend(n int) error {
	if n > b.left {
		return tooLarge("the network has more than %d weights", maxWeights)
	}
	b.left -= n
	return nil
}

// constant computes a node that depends on nothing but constants and the number of rows, or
// returns nil.
func (b *builder) constant(n *onnx.Node) (*onnx.Tensor, error) {
	switch key(n) {
	case "Constant":
		return constantOf(n)
	case "Shape":
		return b.shapeOf(n), nil
	case "Gather", "Unsqueeze", "Concat", "ConstantOfShape", "Slice", "Reshape":
		return b.sizes(n)
	case "Identity", "Transpose", "Cast":
		if len(n.Inputs) != 1 || b.constants[n.Inputs[0]] == nil {
			return nil, nil
		}
	default:
		return nil, nil
	}
	t := b.constants[n.Inputs[0]]
	switch n.Op {
	case "Transpose":
		if t.Ints != nil {
			return b.sizes(n)
		}
		return b.transposed(t, n)
	case "Cast":
		to := onnx.DataType(n.Attributes["to"].Int)
		if to == onnx.Float64 && t.Floats != nil {
			return &onnx.Tensor{Type: to, Dims: t.Dims, Floats: t.Floats}, nil
		}
		if to == onnx.Float32 && t.Floats != nil {
			rounded := slices.Clone(t.Floats)
			for i, v := range rounded {
				rounded[i] = float64(float32(v))
			}
			return &onnx.Tensor{Type: to, Dims: t.Dims, Floats: rounded}, b.spend(len(rounded))
		}
		small := !slices.ContainsFunc(t.Ints, func(v int64) bool { return v != int64(int32(v)) && v != rowsMark && v != unknownMark })
		if (to == onnx.Int64 || to == onnx.Int32 && small) && t.Ints != nil {
			return &onnx.Tensor{Type: to, Dims: t.Dims, Ints: t.Ints}, b.spend(len(t.Ints)) // each time all are looked at
		}
		return nil, refusal.New(ReasonType, "changes a constant's type in a way that is not supported: from %v to %v", t.Type, to)
	}
	return t, nil
}

// constantOf is the value of a Constant node, from the one attribute that it has.
func constantOf(n *onnx.Node) (*onnx.Tensor, error) {
	if len(n.Attributes) != 1 || len(n.Inputs) != 0 {
		return nil, misarranged("does not have exactly one value")
	}
	for name, a := range n.Attributes {
		switch name {
		case "value":
			if a.Tensor != nil {
				return a.Tensor, nil
			}
		case "value_float":
			return &onnx.Tensor{Type: onnx.Float32, Floats: []float64{float64(a.Float)}}, nil
		case "value_floats":
			return &onnx.Tensor{Type: onnx.Float32, Dims: []int64{int64(len(a.Floats))}, Floats: a.Floats}, nil
		case "value_int":
			return &onnx.Tensor{Type: onnx.Int64, Ints: []int64{a.Int}}, nil
		case "value_ints":
			return &onnx.Tensor{Type: onnx.Int64, Dims: []int64{int64(len(a.Ints))}, Ints: a.Ints}, nil
		}
	}
	return nil, misarranged("has a value of an unsupported kind")
}

// transposed is a matrix with rows and columns exchanged.
func (b *builder) transposed(t *onnx.Tensor, n *onnx.Node) (*onnx.Tensor, error) {
	perm := n.Attributes["perm"].Ints
	if len(t.Dims) != 2 || t.Floats == nil || perm != nil && !slices.Equal(perm, []int64{1, 0}) {
		return nil, misarranged("exchanges something other than the rows and columns of a matrix")
	}
	if err := b.spend(len(t.Floats)); err != nil {
		return nil, err
	}
	return &onnx.Tensor{Type: t.Type, Dims: []int64{t.Dims[1], t.Dims[0]}, Floats: transpose(t.Floats, int(t.Dims[0]), int(t.Dims[1]))}, nil
}

func transpose[T any](v []T, rows, cols int) []T {
	out := make([]T, 0, len(v))
	for c := range cols {
		for r := range rows {
			out = append(out, v[r*cols+c])
		}
	}
	return out
}

// intOf is an integer attribute, or its default.
func intOf(n *onnx.Node, name string, otherwise int64) int64 {
	if a, ok := n.Attributes[name]; ok {
		return a.Int
	}
	return otherwise
}

// floatOf is a floating-point attribute, or its default.
func floatOf(n *onnx.Node, name string, otherwise float32) float64 {
	if a, ok := n.Attributes[name]; ok {
		return float64(a.Float)
	}
	return float64(otherwise)
}

// pass is an operator that changes nothing.
func pass(*builder, *onnx.Node) error { return nil }

func cast(_ *builder, n *onnx.Node) error {
	if to := onnx.DataType(n.Attributes["to"].Int); to != onnx.Float32 && to != onnx.Float64 {
		return refusal.New(ReasonType, "casts the values to type %v; want float32 or float64", to)
	}
	return nil
}

// dropout changes nothing, unless it is told to drop values as in training.
func dropout(b *builder, n *onnx.Node) error {
	if len(n.Inputs) < 3 {
		return nil
	}
	if t := b.constants[n.Inputs[2]]; t == nil || len(t.Ints) != 1 || t.Ints[0] != 0 {
		return badAttribute("training_mode is on, or is computed: answers would be drawn at random; export the model in evaluation mode")
	}
	return nil
}

// operands splits a node's two inputs into the value that was computed and a constant.
func (b *builder) operands(n *onnx.Node) (t *onnx.Tensor, first bool, err error) {
	if len(n.Inputs) != 2 || (n.Inputs[0] == b.value) == (n.Inputs[1] == b.value) {
		return nil, false, misarranged("want the values computed so far and one constant")
	}
	first = n.Inputs[0] == b.value
	t = b.constants[n.Inputs[0]]
	if first {
		t = b.constants[n.Inputs[1]]
	}
	if t == nil {
		return nil, first, misarranged("the other operand is not a constant of numbers")
	}
	return t, first, checkType(t)
}

// affine takes Add, Sub, Mul and Div by a constant.
func affine(b *builder, n *onnx.Node) error {
	t, first, err := b.operands(n)
	if err != nil {
		return err
	}
	c, err := b.broadcast(t)
	if err != nil {
		return err
	}
	c = b.placed(c)
	if !first && n.Op == "Div" {
		return misarranged("divides a constant by the values")
	}
	s := affineStep{scale: slices.Repeat([]float64{1}, len(c)), offset: make([]float64, len(c))}
	for i, v := range c {
		switch n.Op {
		case "Add":
			s.offset[i] = v
		case "Sub":
			s.offset[i] = -v
			if !first {
				s.scale[i], s.offset[i] = -1, v
			}
		case "Mul":
			s.scale[i] = v
		case "Div":
			s.scale[i] = 1 / v
		}
	}
	return b.step(s)
}

// broadcast repeats a constant over the values' shape, as ONNX does.
func (b *builder) broadcast(t *onnx.Tensor) ([]float64, error) {
	want := b.dims()
	dims := make([]int, len(want))
	for i := range dims {
		dims[i] = 1
	}
	if len(t.Dims) > len(want)+1 || len(t.Dims) == len(want)+1 && t.Dims[0] != 1 {
		return nil, misarranged("a constant of shape %v does not fit values of shape %v", t.Dims, want)
	}
	for i := range min(len(t.Dims), len(want)) {
		dims[len(want)-1-i] = int(t.Dims[len(t.Dims)-1-i])
	}
	for i, d := range dims {
		if d != 1 && d != want[i] {
			return nil, misarranged("a constant of shape %v does not fit values of shape %v", t.Dims, want)
		}
	}
	out := make([]float64, 0, b.shape.Len())
	at := make([]int, len(want))
	for range b.shape.Len() {
		from := 0
		for i, d := range dims {
			from = from*d + at[i]%d
		}
		out = append(out, t.Floats[from])
		for i := len(at) - 1; i >= 0; i-- {
			if at[i]++; at[i] < want[i] {
				break
			}
			at[i] = 0
		}
	}
	return out, nil
}

// scaler is scikit-learn's StandardScaler: (x - offset) * scale.
func scaler(b *builder, n *onnx.Node) error {
	if n.Inputs[0] != b.value || b.rank != 2 || b.order != nil {
		return misarranged("want rows of values")
	}
	offset, scale := n.Attributes["offset"].Floats, n.Attributes["scale"].Floats
	at := func(list []float64, i int) float64 {
		if len(list) == 1 {
			return list[0]
		}
		return list[i]
	}
	for _, list := range [][]float64{offset, scale} {
		if len(list) != 1 && len(list) != b.shape.Len() {
			return badAttribute("got %d values for %d features", len(list), b.shape.Len())
		}
	}
	s := affineStep{}
	for i := range b.shape.Len() {
		s.scale, s.offset = append(s.scale, at(scale, i)), append(s.offset, -at(offset, i)*at(scale, i))
	}
	return b.step(s)
}

// choose takes some of a row's values, in an order of its own: a layer of ones and zeros.
func choose(b *builder, n *onnx.Node) error {
	t := b.constants[n.Inputs[1]]
	if n.Inputs[0] != b.value || b.rank != 2 || b.order != nil || t == nil || t.Type != onnx.Int64 || len(t.Ints) == 0 || len(t.Ints) > MaxFeatures {
		return misarranged("want rows of values and constant indices into them")
	}
	in, out := b.shape.Len(), len(t.Ints)
	if err := b.spend(in * out); err != nil {
		return err
	}
	l := Layer{Kind: Dense, Out: out, Weights: make([]float64, in*out)}
	for o, k := range t.Ints {
		if k < 0 || k >= int64(in) {
			return misarranged("there is no value %d of %d", k, in)
		}
		l.Weights[o*in+int(k)] = 1
	}
	return b.add(l, nil)
}

// matMul is a dense layer without bias: values times a constant matrix [in][out].
func matMul(b *builder, n *onnx.Node) error {
	t, first, err := b.operands(n)
	if err != nil {
		return err
	}
	if !first {
		return misarranged("multiplies a constant by the values; want the values multiplied by a constant")
	}
	return b.dense(t, false, 1, nil)
}

// gemm is a dense layer: alpha * values * matrix + beta * bias.
func gemm(b *builder, n *onnx.Node) error {
	if n.Inputs[0] != b.value || intOf(n, "transA", 0) != 0 {
		return misarranged("want the values, a matrix and a bias, without transposing the values (transA 0)")
	}
	bias, err := b.biasOf(n)
	if err != nil {
		return err
	}
	beta := floatOf(n, "beta", 1)
	if bias != nil && beta != 1 {
		scaled := &onnx.Tensor{Type: bias.Type, Dims: bias.Dims}
		for _, v := range bias.Floats {
			scaled.Floats = append(scaled.Floats, v*beta)
		}
		bias = scaled
	}
	return b.dense(b.constants[n.Inputs[1]], intOf(n, "transB", 0) != 0, floatOf(n, "alpha", 1), bias)
}

// biasOf is the third input, or nil.
func (b *builder) biasOf(n *onnx.Node) (*onnx.Tensor, error) {
	if len(n.Inputs) < 3 {
		return nil, nil
	}
	bias := b.constants[n.Inputs[2]]
	if bias == nil {
		return nil, misarranged("the bias is not a constant")
	}
	return bias, checkType(bias)
}

// checkType refuses a constant of a type whose values are not read, and one of no numbers.
func checkType(t *onnx.Tensor) error {
	if t.Type != onnx.Float32 && t.Type != onnx.Float64 {
		return refusal.New(ReasonType, "got a constant of type %v; want float32 or float64", t.Type)
	}
	return nil
}

// dense appends a dense layer; the matrix is [in][out], or [out][in] when byRow.
func (b *builder) dense(t *onnx.Tensor, byRow bool, alpha float64, bias *onnx.Tensor) error {
	in := b.shape.Len()
	if t == nil || len(t.Dims) != 2 {
		return misarranged("the matrix is not a two-dimensional constant")
	}
	if err := checkType(t); err != nil {
		return err
	}
	if b.rank != 2 {
		return misarranged("want rows of values before it; flatten images first")
	}
	rows, out := int(t.Dims[0]), int(t.Dims[1])
	if byRow {
		rows, out = out, rows
	}
	if rows != in || out < 1 || out > MaxFeatures {
		return misarranged("a matrix of shape %v does not fit %d values", t.Dims, in)
	}
	if err := b.spend(len(t.Floats)); err != nil {
		return err
	}
	w := t.Floats
	if !byRow {
		w = transpose(w, in, out)
	}
	scaled := make([]float64, len(w))
	for i, v := range w {
		scaled[i/in*in+b.at(i%in)] = v * alpha
	}
	b.order = nil
	return b.add(Layer{Kind: Dense, Out: out, Weights: scaled}, bias)
}

// add appends a layer, with the bias if there is one.
func (b *builder) add(l Layer, bias *onnx.Tensor) error {
	l.Bias = make([]float64, l.Out)
	if bias != nil {
		n := bias.Len()
		if n != 1 && n != l.Out || n > 1 && int(bias.Dims[len(bias.Dims)-1]) != l.Out {
			return misarranged("a bias of shape %v does not fit %d outputs", bias.Dims, l.Out)
		}
		for i := range l.Bias {
			l.Bias[i] = bias.Floats[i%n]
		}
	}
	if err := b.takePending(&l); err != nil {
		return err
	}
	out := l.output(b.shape)
	if !b.merge(l) {
		return b.push(l)
	}
	b.shape, b.made, b.open = out, out, true
	return nil
}

// push appends a layer as it is.
func (b *builder) push(l Layer) error {
	if len(b.net.Layers) == MaxLayers {
		return tooLarge("more than %d layers", MaxLayers)
	}
	out := l.output(b.shape)
	b.net.Layers = append(b.net.Layers, l)
	b.shape, b.made = out, out
	b.open = !l.Pools() || b.open
	return nil
}
