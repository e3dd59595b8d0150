package layers

import (
	"slices"

	"github.com/anchorhold/anchorhold/runtime/onnx"
)

// conv is a convolution with a square kernel.
func conv(b *builder, n *onnx.Node) error {
	if n.Inputs[0] != b.value || b.rank != 4 {
		return misarranged("want images with channels, a constant kernel and a bias")
	}
	if len(b.net.Layers) > 0 && b.shape != b.made {
		return misarranged("takes images of shape %v, reshaped from a layer's outputs of shape %v; a convolution must take a layer's outputs in their own shape", b.shape, b.made)
	}
	t := b.constants[n.Inputs[1]]
	if t == nil || len(t.Dims) != 4 {
		return misarranged("the kernel is not a four-dimensional constant")
	}
	if err := checkType(t); err != nil {
		return err
	}
	k := t.Dims[2]
	stride, okS := same(n, "strides", 2, 1)
	pad, okP := same(n, "pads", 4, 0)
	dilation, okD := same(n, "dilations", 2, 1)
	kernel, okK := same(n, "kernel_shape", 2, k)
	auto := n.Attributes["auto_pad"].String
	switch {
	case !okS || !okP || !okD || !okK || kernel != k || t.Dims[3] != k:
		return badAttribute("kernel, stride, padding or dilation differs between height and width; want them equal")
	case dilation != 1 || intOf(n, "group", 1) != 1:
		return badAttribute("dilation and groups are not supported")
	case (auto == "SAME_UPPER" || auto == "SAME_LOWER") && stride == 1 && k%2 == 1 && n.Attributes["pads"].Ints == nil:
		pad = (k - 1) / 2 // the same on all sides
	case auto != "" && auto != "NOTSET" && (auto != "VALID" || pad != 0):
		return badAttribute("automatic padding (auto_pad %s) is not supported; give the padding as numbers", auto)
	}
	switch {
	case k < 1 || stride < 1 || pad < 0 || pad >= k || stride > MaxFeatures || int(t.Dims[1]) != b.shape.C:
		return badAttribute("a kernel of shape %v with stride %d and padding %d does not fit images of %d channels", t.Dims, stride, pad, b.shape.C)
	case int64(b.shape.H)+2*pad < k || int64(b.shape.W)+2*pad < k || t.Dims[0] < 1 || t.Dims[0] > MaxFeatures:
		return badAttribute("a kernel of shape %v is larger than the padded image, or has too many channels", t.Dims)
	}
	if err := b.spend(len(t.Floats)); err != nil {
		return err
	}
	l := Layer{Kind: Conv, Out: int(t.Dims[0]), Kernel: int(k), Stride: int(stride), Pad: int(pad), Weights: slices.Clone(t.Floats)}
	if l.output(b.shape).Len() > MaxFeatures {
		return tooLarge("more than %d outputs", MaxFeatures)
	}
	bias, err := b.biasOf(n)
	if err != nil {
		return err
	}
	if bias != nil && !slices.Equal(bias.Dims, t.Dims[:1]) {
		return misarranged("a bias of shape %v does not fit %d channels", bias.Dims, t.Dims[0])
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
		return badAttribute("got axis %d; want 1", axis)
	}
	b.flat()
	return nil
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
	if n.Inputs[0] != b.value || b.constants[n.Inputs[1]] == nil || b.constants[n.Inputs[1]].Type != onnx.Int64 {
		return misarranged("want the values and a constant shape; torch.flatten(x, 1) and nn.Flatten have one")
	}
	to := slices.Clone(b.constants[n.Inputs[1]].Ints)
	if len(to) != 2 && len(to) != 4 || len(b.constants[n.Inputs[1]].Dims) != 1 {
		return misarranged("reshapes to %d dimensions; want rows of values or images", len(to))
	}
	from := append([]int64{b.batch}, int64s(b.dims())...)
	for i, d := range to {
		if d != 0 {
			continue
		}
		if intOf(n, "allowzero", 0) != 0 || i >= len(from) {
			return misarranged("reshapes to shape %v, which is not supported", to)
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
			return misarranged("reshapes to shape %v, which is not supported", to)
		}
		product *= d
	}
	total := int64(b.shape.Len())
	rows := to[0] == -1 && guess < 0 || to[0] == rowsMark || to[0] != -1 && to[0] == b.batch
	if !rows || total%product != 0 || guess < 0 && product != total {
		return misarranged("reshapes to shape %v, which does not keep rows of %d values", to, total)
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
	dims := append([]int64{0}, int64s(b.dims())...)
	perm := n.Attributes["perm"].Ints
	if len(perm) != len(dims) || perm[0] != 0 {
		return misarranged("the order %v moves rows or values", perm)
	}
	last, used := int64(-1), map[int64]bool{}
	moved := make([]int, 0, 3)
	for _, p := range perm {
		if p < 0 || p >= int64(len(dims)) || used[p] {
			return misarranged("the order %v is not a permutation", perm)
		}
		used[p] = true
		if dims[p] != 1 {
			if p < last {
				return misarranged("the order %v moves values of shape %v", perm, dims[1:])
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
