package layers

import (
	"errors"
	"fmt"
	"slices"

	"github.com/anchorhold/anchorhold/runtime/onnx"
)

// operator changes the builder by one node.
type operator func(*builder, *onnx.Node) error

// body lists the operators up to the last layer.
var body = map[string]operator{
	"Identity": pass, "Cast": cast, "Relu": relu,
	"Add": affine, "Sub": affine, "Mul": affine, "Div": affine, "ai.onnx.ml.Scaler": scaler,
	"MatMul": matMul, "Gemm": gemm, "Conv": conv,
	"Flatten": flatten, "Reshape": reshape, "Transpose": trivialTranspose,
}

// spend counts n weights against the limit, since a constant can be used many times.
func (b *builder) spend(n int) error {
	if n > b.left {
		return fmt.Errorf("the network has more than %d weights", maxWeights)
	}
	b.left -= n
	return nil
}

// constant computes a node that depends on nothing, or returns nil.
func (b *builder) constant(n *onnx.Node) (*onnx.Tensor, error) {
	switch key(n) {
	case "Constant":
		return constantOf(n)
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
		return b.transposed(t, n)
	case "Cast":
		to := onnx.DataType(n.Attributes["to"].Int)
		if (to == onnx.Float32 || to == onnx.Float64) && t.Floats != nil {
			return &onnx.Tensor{Type: to, Dims: t.Dims, Floats: t.Floats}, nil
		}
		if (to == onnx.Int32 || to == onnx.Int64) && t.Ints != nil {
			return &onnx.Tensor{Type: to, Dims: t.Dims, Ints: t.Ints}, nil
		}
		return nil, errors.New("changes a constant's type in a way that is not supported")
	}
	return t, nil
}

// constantOf is the value of a Constant node, from the one attribute that it has.
func constantOf(n *onnx.Node) (*onnx.Tensor, error) {
	if len(n.Attributes) != 1 || len(n.Inputs) != 0 {
		return nil, errors.New("does not have exactly one value")
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
	return nil, errors.New("has a value of a kind that is not supported")
}

// transposed is a matrix with rows and columns exchanged.
func (b *builder) transposed(t *onnx.Tensor, n *onnx.Node) (*onnx.Tensor, error) {
	perm := n.Attributes["perm"].Ints
	if len(t.Dims) != 2 || t.Floats == nil || perm != nil && !slices.Equal(perm, []int64{1, 0}) {
		return nil, errors.New("exchanges other than the rows and columns of a matrix")
	}
	if err := b.spend(len(t.Floats)); err != nil {
		return nil, err
	}
	return &onnx.Tensor{Type: t.Type, Dims: []int64{t.Dims[1], t.Dims[0]}, Floats: transpose(t.Floats, int(t.Dims[0]), int(t.Dims[1]))}, nil
}

func transpose(v []float64, rows, cols int) []float64 {
	out := make([]float64, 0, len(v))
	for c := range cols {
		for r := range rows {
			out = append(out, v[r*cols+c])
		}
	}
	return out
}

// only refuses attributes other than those named: what is not known may matter.
func only(n *onnx.Node, names ...string) error {
	for name := range n.Attributes {
		if !slices.Contains(names, name) {
			return fmt.Errorf("attribute %q is not supported", name)
		}
	}
	return nil
}

// intOf is an integer attribute, or its default.
func intOf(n *onnx.Node, name string, otherwise int64) int64 {
	if a, ok := n.Attributes[name]; ok {
		return a.Int
	}
	return otherwise
}

// pass is an operator that changes nothing.
func pass(_ *builder, n *onnx.Node) error { return only(n) }

func cast(_ *builder, n *onnx.Node) error {
	if to := onnx.DataType(n.Attributes["to"].Int); to != onnx.Float32 && to != onnx.Float64 {
		return fmt.Errorf("casts the values to type %d; want float32 or float64", to)
	}
	return only(n, "to", "saturate")
}

func relu(b *builder, n *onnx.Node) error {
	if !b.open {
		return errors.New("does not follow a layer")
	}
	b.net.Layers[len(b.net.Layers)-1].ReLU, b.open = true, false
	return only(n)
}

// operands splits a node's two inputs into the value that was computed and a constant.
func (b *builder) operands(n *onnx.Node) (t *onnx.Tensor, first bool, err error) {
	if len(n.Inputs) != 2 || (n.Inputs[0] == b.value) == (n.Inputs[1] == b.value) {
		return nil, false, errors.New("want the values computed so far and one constant")
	}
	first = n.Inputs[0] == b.value
	t = b.constants[n.Inputs[0]]
	if first {
		t = b.constants[n.Inputs[1]]
	}
	if t == nil || t.Floats == nil {
		return nil, first, errors.New("the other operand is not a constant of numbers")
	}
	return t, first, nil
}

// affine takes Add, Sub, Mul and Div by a constant: before the first layer into the input's
// scale and offset, after a layer (Add and Sub) into its bias.
func affine(b *builder, n *onnx.Node) error {
	t, first, err := b.operands(n)
	if err == nil {
		err = only(n)
	}
	if err != nil {
		return err
	}
	c, err := b.broadcast(t)
	if err != nil {
		return err
	}
	if !first && n.Op == "Div" {
		return errors.New("divides a constant by the values")
	}
	if len(b.net.Layers) > 0 {
		return b.addBias(n, c, first)
	}
	scale, offset := b.net.Scale, b.net.Offset
	for i, v := range c {
		switch n.Op {
		case "Add":
			offset[i] += v
		case "Sub":
			offset[i] -= v
			if !first {
				scale[i], offset[i] = -scale[i], -offset[i]
			}
		case "Mul":
			scale[i], offset[i] = scale[i]*v, offset[i]*v
		case "Div":
			scale[i], offset[i] = scale[i]/v, offset[i]/v
		}
	}
	return nil
}

func (b *builder) addBias(n *onnx.Node, c []float64, first bool) error {
	sign := 1.0
	if n.Op == "Sub" {
		sign = -1
	}
	if !b.open || !first && sign < 0 || n.Op != "Add" && n.Op != "Sub" {
		return errors.New("only the addition of a bias may follow a layer, before ReLU")
	}
	l := &b.net.Layers[len(b.net.Layers)-1]
	each := len(c) / l.Out // positions of an image share a bias
	for o := range l.Out {
		for _, v := range c[o*each : (o+1)*each] {
			if v != c[o*each] {
				return errors.New("adds a bias that differs between the positions of an image")
			}
		}
		l.Bias[o] += sign * c[o*each]
	}
	return nil
}

// broadcast repeats a constant over the values' shape, as ONNX does.
func (b *builder) broadcast(t *onnx.Tensor) ([]float64, error) {
	want := b.dims()
	dims := make([]int, len(want))
	for i := range dims {
		dims[i] = 1
	}
	if len(t.Dims) > len(want)+1 || len(t.Dims) == len(want)+1 && t.Dims[0] != 1 {
		return nil, fmt.Errorf("a constant of shape %v for values of shape %v", t.Dims, want)
	}
	for i := range min(len(t.Dims), len(want)) {
		dims[len(want)-1-i] = int(t.Dims[len(t.Dims)-1-i])
	}
	for i, d := range dims {
		if d != 1 && d != want[i] {
			return nil, fmt.Errorf("a constant of shape %v for values of shape %v", t.Dims, want)
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

// dims is the shape of the values, without the rows' dimension.
func (b *builder) dims() []int {
	switch b.rank {
	case 2:
		return []int{b.shape.Len()}
	case 3:
		return []int{b.shape.H, b.shape.W}
	}
	return []int{b.shape.C, b.shape.H, b.shape.W}
}

// scaler is scikit-learn's StandardScaler: (x - offset) * scale.
func scaler(b *builder, n *onnx.Node) error {
	if len(b.net.Layers) > 0 || b.rank != 2 || len(n.Inputs) != 1 {
		return errors.New("want it before the first layer, over rows of values")
	}
	if err := only(n, "offset", "scale"); err != nil {
		return err
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
			return fmt.Errorf("%d values for %d features", len(list), b.shape.Len())
		}
	}
	for i := range b.net.Scale {
		b.net.Scale[i] *= at(scale, i)
		b.net.Offset[i] = (b.net.Offset[i] - at(offset, i)) * at(scale, i)
	}
	return nil
}

// matMul is a dense layer without bias: values times a constant matrix [in][out].
func matMul(b *builder, n *onnx.Node) error {
	t, first, err := b.operands(n)
	if err == nil {
		err = only(n)
	}
	if err != nil {
		return err
	}
	if !first {
		return errors.New("multiplies a constant with the values, not the values with a constant")
	}
	return b.dense(t, false, 1, nil)
}

// gemm is a dense layer: alpha * values * matrix + beta * bias.
func gemm(b *builder, n *onnx.Node) error {
	if err := only(n, "alpha", "beta", "transA", "transB"); err != nil {
		return err
	}
	if len(n.Inputs) < 2 || len(n.Inputs) > 3 || n.Inputs[0] != b.value || intOf(n, "transA", 0) != 0 {
		return errors.New("want the values, a matrix and a bias, the values not transposed")
	}
	factor := func(name string) float64 {
		if a, ok := n.Attributes[name]; ok {
			return float64(a.Float)
		}
		return 1
	}
	var bias *onnx.Tensor
	if len(n.Inputs) == 3 && n.Inputs[2] != "" {
		if bias = b.constants[n.Inputs[2]]; bias == nil {
			return errors.New("the bias is not a constant")
		}
	}
	if err := b.dense(b.constants[n.Inputs[1]], intOf(n, "transB", 0) != 0, factor("alpha"), bias); err != nil {
		return err
	}
	l := &b.net.Layers[len(b.net.Layers)-1]
	for i := range l.Bias {
		l.Bias[i] *= factor("beta")
	}
	return nil
}

// dense appends a dense layer; the matrix is [in][out], or [out][in] when byRow.
func (b *builder) dense(t *onnx.Tensor, byRow bool, alpha float64, bias *onnx.Tensor) error {
	in := b.shape.Len()
	if t == nil || len(t.Dims) != 2 || t.Floats == nil {
		return errors.New("the matrix is not a constant of two dimensions")
	}
	if b.rank != 2 {
		return errors.New("want rows of values before it; flatten images first")
	}
	rows, out := int(t.Dims[0]), int(t.Dims[1])
	if byRow {
		rows, out = out, rows
	}
	if rows != in || out < 1 || out > MaxFeatures {
		return fmt.Errorf("a matrix of shape %v for %d values", t.Dims, in)
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
		scaled[i] = v * alpha
	}
	return b.add(Layer{Kind: Dense, Out: out, Weights: scaled}, bias)
}

// add appends a layer, with the bias if there is one.
func (b *builder) add(l Layer, bias *onnx.Tensor) error {
	if len(b.net.Layers) == MaxLayers {
		return fmt.Errorf("more than %d layers", MaxLayers)
	}
	l.Bias = make([]float64, l.Out)
	if bias != nil {
		n := bias.Len()
		if n != 1 && n != l.Out || bias.Floats == nil || n > 1 && int(bias.Dims[len(bias.Dims)-1]) != l.Out {
			return fmt.Errorf("a bias of shape %v for %d outputs", bias.Dims, l.Out)
		}
		for i := range l.Bias {
			l.Bias[i] = bias.Floats[i%n]
		}
	}
	b.net.Layers = append(b.net.Layers, l)
	b.shape, b.open = l.output(b.shape), true
	return nil
}

// conv is a convolution with a square kernel.
func conv(b *builder, n *onnx.Node) error {
	if err := only(n, "kernel_shape", "pads", "strides", "dilations", "group", "auto_pad"); err != nil {
		return err
	}
	if len(n.Inputs) < 2 || len(n.Inputs) > 3 || n.Inputs[0] != b.value || b.rank != 4 {
		return errors.New("want images, a constant kernel and a bias")
	}
	t := b.constants[n.Inputs[1]]
	if t == nil || len(t.Dims) != 4 || t.Floats == nil {
		return errors.New("the kernel is not a constant of four dimensions")
	}
	k := t.Dims[2]
	stride, okS := same(n, "strides", 2, 1)
	pad, okP := same(n, "pads", 4, 0)
	dilation, okD := same(n, "dilations", 2, 1)
	kernel, okK := same(n, "kernel_shape", 2, k)
	auto := n.Attributes["auto_pad"].String
	switch {
	case !okS || !okP || !okD || !okK || kernel != k || t.Dims[3] != k:
		return errors.New("kernel, stride, padding or dilation differ between the directions")
	case dilation != 1 || intOf(n, "group", 1) != 1 || auto != "" && auto != "NOTSET" && (auto != "VALID" || pad != 0):
		return errors.New("dilation, groups and automatic padding are not supported")
	case k < 1 || stride < 1 || pad < 0 || pad >= k || stride > MaxFeatures || int(t.Dims[1]) != b.shape.C:
		return fmt.Errorf("kernel of shape %v, stride %d, padding %d for images of %d channels", t.Dims, stride, pad, b.shape.C)
	case int64(b.shape.H)+2*pad < k || int64(b.shape.W)+2*pad < k || t.Dims[0] < 1 || t.Dims[0] > MaxFeatures:
		return fmt.Errorf("a kernel of shape %v is larger than the padded image, or has too many channels", t.Dims)
	}
	if err := b.spend(len(t.Floats)); err != nil {
		return err
	}
	l := Layer{Kind: Conv, Out: int(t.Dims[0]), Kernel: int(k), Stride: int(stride), Pad: int(pad), Weights: slices.Clone(t.Floats)}
	if l.output(b.shape).Len() > MaxFeatures {
		return fmt.Errorf("more than %d outputs", MaxFeatures)
	}
	var bias *onnx.Tensor
	if len(n.Inputs) == 3 && n.Inputs[2] != "" {
		if bias = b.constants[n.Inputs[2]]; bias == nil {
			return errors.New("the bias is not a constant")
		}
	}
	return b.add(l, bias)
}

// same is the one value of a list attribute of n equal values.
func same(n *onnx.Node, name string, count int, otherwise int64) (int64, bool) {
	a, ok := n.Attributes[name]
	if !ok {
		return otherwise, true
	}
	if len(a.Ints) != count {
		return 0, false
	}
	for _, v := range a.Ints {
		if v != a.Ints[0] {
			return 0, false
		}
	}
	return a.Ints[0], true
}

// flatten makes rows of values from images; the order of the values stays.
func flatten(b *builder, n *onnx.Node) error {
	if axis := intOf(n, "axis", 1); axis != 1 && axis != int64(1-b.rank) {
		return fmt.Errorf("axis %d; want 1", axis)
	}
	b.flat()
	return only(n, "axis")
}

func (b *builder) flat() {
	if b.rank != 2 {
		// A bias that is added to the row later must be one for each value, which a
		// convolution does not have.
		b.open = false
	}
	b.rank, b.shape = 2, Shape{b.shape.Len(), 1, 1}
}

// reshape changes rows into images or back; rows stay rows.
func reshape(b *builder, n *onnx.Node) error {
	if err := only(n, "allowzero"); err != nil {
		return err
	}
	if len(n.Inputs) != 2 || n.Inputs[0] != b.value || b.constants[n.Inputs[1]] == nil || b.constants[n.Inputs[1]].Ints == nil {
		return errors.New("want the values and a constant shape")
	}
	to := slices.Clone(b.constants[n.Inputs[1]].Ints)
	if len(to) != 2 && len(to) != 4 {
		return fmt.Errorf("to %d dimensions; want rows of values or images", len(to))
	}
	from := append([]int64{b.batch}, int64s(b.dims())...)
	for i, d := range to {
		if d != 0 {
			continue
		}
		if intOf(n, "allowzero", 0) != 0 || i >= len(from) {
			return fmt.Errorf("to shape %v", to)
		}
		to[i] = from[i] // the rows' dimension stays 0 where it is open
	}
	product, guess := int64(1), -1
	for i, d := range to[1:] {
		if d == -1 && guess < 0 {
			guess = i + 1
			continue
		}
		if d < 1 || d > MaxFeatures || product*d > MaxFeatures {
			return fmt.Errorf("to shape %v", to)
		}
		product *= d
	}
	total := int64(b.shape.Len())
	rows := to[0] == -1 && guess < 0 || to[0] != -1 && to[0] == b.batch
	if !rows || total%product != 0 || guess < 0 && product != total {
		return fmt.Errorf("to shape %v would not keep rows of %d values", to, total)
	}
	if guess > 0 {
		to[guess] = total / product
	}
	b.flat()
	if len(to) == 4 {
		b.rank, b.shape = 4, Shape{int(to[1]), int(to[2]), int(to[3])}
	}
	if len(b.net.Layers) == 0 {
		b.net.Input = b.shape
	}
	return nil
}

func int64s(list []int) []int64 {
	out := make([]int64, len(list))
	for i, v := range list {
		out[i] = int64(v)
	}
	return out
}

// trivialTranspose accepts an exchange of dimensions that leaves the values in their order:
// only dimensions of size 1 move.
func trivialTranspose(b *builder, n *onnx.Node) error {
	if err := only(n, "perm"); err != nil {
		return err
	}
	dims := append([]int64{0}, int64s(b.dims())...)
	perm := n.Attributes["perm"].Ints
	if len(perm) != len(dims) || perm[0] != 0 {
		return fmt.Errorf("order %v moves rows or values", perm)
	}
	last, used := int64(-1), map[int64]bool{}
	moved := make([]int, 0, 3)
	for _, p := range perm {
		if p < 0 || p >= int64(len(dims)) || used[p] {
			return fmt.Errorf("order %v is none", perm)
		}
		used[p] = true
		if dims[p] != 1 {
			if p < last {
				return fmt.Errorf("order %v moves values of shape %v", perm, dims[1:])
			}
			last = p
		}
		if p > 0 {
			moved = append(moved, int(dims[p]))
		}
	}
	if b.rank == 4 {
		if b.shape != (Shape{moved[0], moved[1], moved[2]}) {
			b.open = false
		}
		b.shape = Shape{moved[0], moved[1], moved[2]}
	}
	if b.rank == 3 {
		b.shape.H, b.shape.W = moved[0], moved[1]
	}
	if len(b.net.Layers) == 0 {
		b.net.Input = b.shape
	}
	return nil
}
