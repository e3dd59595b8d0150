package layers

import (
	"slices"

	"github.com/anchorhold/anchorhold/runtime/onnx"
)

// flatten makes rows of values from images; the order of the values stays.
func flatten(b *builder, n *onnx.Node) error {
	if axis := intOf(n, "axis", 1); axis != 1 && axis != int64(1-b.rank) {
		return badAttribute("got axis %d; want 1", axis)
	}
	b.flat()
	return nil
}

func (b *builder) flat() {
	if b.rank != 2 && b.made.H*b.made.W != 1 {
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
	if len(to) < 2 || len(to) > 4 || len(b.constants[n.Inputs[1]].Dims) != 1 {
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
	dims := make([]int, len(to)-1)
	for i, d := range to[1:] {
		dims[i] = int(d)
	}
	b.flat()
	b.setDims(dims)
	return nil
}

// dims is the shape of the values, without the rows' dimension.
func (b *builder) dims() []int {
	switch b.rank {
	case 2:
		return []int{b.shape.Len()}
	case 3:
		return []int{b.shape.C * b.shape.H, b.shape.W} // one of C and H is 1
	}
	return []int{b.shape.C, b.shape.H, b.shape.W}
}

// setDims gives the values another shape, of one to three dimensions.
func (b *builder) setDims(dims []int) {
	switch b.rank = len(dims) + 1; b.rank {
	case 2:
		b.shape = Shape{dims[0], 1, 1}
	case 3:
		b.shape = Shape{1, dims[0], dims[1]}
	default:
		b.shape = Shape{dims[0], dims[1], dims[2]}
	}
	if len(b.net.Layers) == 0 && b.order == nil {
		b.net.Input = b.shape
	}
}

// at is where value i lies among those of the last layer, or of the input.
func (b *builder) at(i int) int {
	if b.order == nil {
		return i
	}
	return b.order[i]
}

// placed puts numbers, one for each value, where the values lie.
func (b *builder) placed(list []float64) []float64 {
	out := make([]float64, len(list))
	for i, v := range list {
		out[b.at(i)] = v
	}
	return out
}

// exchange takes a Transpose: the values stay where they are, and their order is remembered.
func exchange(b *builder, n *onnx.Node) error {
	from, perm := b.dims(), n.Attributes["perm"].Ints
	if len(perm) != len(from)+1 || perm[0] != 0 {
		return misarranged("the order %v moves rows or is not one of %d dimensions", perm, len(from)+1)
	}
	dims, steps := make([]int, len(from)), make([]int, len(from))
	used := map[int64]bool{}
	for i, p := range perm[1:] {
		if p < 1 || p > int64(len(from)) || used[p] {
			return misarranged("the order %v is not a permutation", perm)
		}
		used[p] = true
		dims[i], steps[i] = from[p-1], 1
		for _, d := range from[p:] {
			steps[i] *= d
		}
	}
	order, moved := make([]int, b.shape.Len()), false
	for i := range order {
		at, rest := 0, i
		for d := len(dims) - 1; d >= 0; d-- {
			at += rest % dims[d] * steps[d]
			rest /= dims[d]
		}
		order[i] = b.at(at)
		moved = moved || order[i] != i
	}
	if b.order = order; !moved {
		b.order = nil
	}
	b.setDims(dims)
	return nil
}

// lastOf says whether the order of values is that of images with channels last, of this shape,
// which lie channels first; or, from a file's input, the other way round.
func (b *builder) lastOf(s Shape, reverse bool) bool {
	if len(b.order) != s.Len() {
		return false
	}
	for c := range s.C {
		for at := range s.H * s.W {
			first, last := c*s.H*s.W+at, at*s.C+c
			if !reverse && b.order[last] != first || reverse && b.order[first] != last {
				return false
			}
		}
	}
	return true
}

// axes are a node's axes, counted from the rows as 0, from its attribute or its second input.
func (b *builder) axes(n *onnx.Node, rank int) ([]int, error) {
	list := n.Attributes["axes"].Ints
	if len(n.Inputs) == 2 {
		if _, both := n.Attributes["axes"]; both {
			return nil, badAttribute("has axes twice, as an attribute and as an input")
		}
		if t := b.constants[n.Inputs[1]]; t != nil && len(t.Dims) <= 1 {
			list = t.Ints
		}
	}
	var out []int
	for _, a := range list {
		if a < 0 {
			a += int64(rank)
		}
		if a < 1 || a >= int64(rank) || slices.Contains(out, int(a)) {
			return nil, badAttribute("got axes %v; want some of 1 to %d, and the rows stay", list, rank-1)
		}
		out = append(out, int(a))
	}
	if out == nil {
		return nil, badAttribute("has no constant axes")
	}
	slices.Sort(out)
	return out, nil
}

func squeeze(b *builder, n *onnx.Node) error {
	axes, err := b.axes(n, b.rank)
	if err != nil {
		return err
	}
	var dims []int
	for i, d := range b.dims() {
		if !slices.Contains(axes, i+1) {
			dims = append(dims, d)
		} else if d != 1 {
			return misarranged("removes a dimension of %d values", d)
		}
	}
	if dims == nil {
		return misarranged("leaves no dimension beside the rows")
	}
	b.setDims(dims)
	return nil
}

func unsqueeze(b *builder, n *onnx.Node) error {
	from := b.dims()
	added := n.Attributes["axes"].Ints
	if len(n.Inputs) == 2 && b.constants[n.Inputs[1]] != nil { // axes refuses both
		added = b.constants[n.Inputs[1]].Ints
	}
	rank := b.rank + len(added)
	axes, err := b.axes(n, rank)
	if err != nil {
		return err
	}
	if n.Inputs[0] != b.value || rank > 4 {
		return misarranged("makes %d dimensions; want at most 4", rank)
	}
	var dims []int
	for i := 1; i < rank; i++ {
		if slices.Contains(axes, i) {
			dims = append(dims, 1)
			continue
		}
		dims, from = append(dims, from[0]), from[1:]
	}
	b.setDims(dims)
	return nil
}

func int64s(list []int) []int64 {
	out := make([]int64, len(list))
	for i, v := range list {
		out[i] = int64(v)
	}
	return out
}
