package layers

import (
	"math"
	"slices"

	"github.com/anchorhold/anchorhold/runtime/onnx"
)

// What stands for the sizes of a computed value in a shape that the file computes: the
// number of rows, which comes first in every value, and what is not known before the walk.
const (
	rowsMark    = math.MinInt64
	unknownMark = math.MinInt64 + 1
)

// shapeOf is the shape of a value. PyTorch's x.view(x.size(0), -1) asks for it.
func (b *builder) shapeOf(n *onnx.Node) *onnx.Tensor {
	dims := slices.Repeat([]int64{unknownMark}, onnx.MaxDims)
	dims[0] = rowsMark
	if t := b.constants[n.Inputs[0]]; t != nil {
		dims = slices.Clone(t.Dims)
	}
	for _, in := range b.g.Inputs {
		if in.Name == n.Inputs[0] && len(in.Dims) > 0 {
			dims = slices.Clone(in.Dims)
			dims[0] = rowsMark
		}
	}
	return &onnx.Tensor{Type: onnx.Int64, Dims: []int64{int64(len(dims))}, Ints: dims}
}

// sizes computes a node over constant integers that makes a shape of parts of others; nil
// where it works on something else.
func (b *builder) sizes(n *onnx.Node) (*onnx.Tensor, error) {
	var parts []*onnx.Tensor
	for _, in := range n.Inputs {
		t := b.constants[in]
		if t == nil || t.Type != onnx.Int64 {
			return nil, nil
		}
		parts = append(parts, t)
	}
	first := parts[0]
	switch n.Op {
	case "Gather":
		if len(first.Dims) != 1 || len(parts[1].Ints) != 1 || intOf(n, "axis", 0) != 0 {
			return nil, misarranged("takes more than one size from a shape")
		}
		at := parts[1].Ints[0]
		if at < 0 || at >= int64(len(first.Ints)) {
			return nil, misarranged("takes size %d from a shape; count from the front", at)
		}
		return &onnx.Tensor{Type: onnx.Int64, Dims: parts[1].Dims, Ints: []int64{first.Ints[at]}}, nil
	case "Unsqueeze":
		axes := n.Attributes["axes"].Ints
		if len(parts) == 2 && axes == nil {
			axes = parts[1].Ints
		}
		if len(first.Ints) != 1 || len(first.Dims) != 0 || !slices.Equal(axes, []int64{0}) && !slices.Equal(axes, []int64{-1}) {
			return nil, misarranged("does not make a list of one size")
		}
		return &onnx.Tensor{Type: onnx.Int64, Dims: []int64{1}, Ints: first.Ints}, nil
	}
	if a, ok := n.Attributes["axis"]; !ok || a.Int != 0 && a.Int != -1 {
		return nil, badAttribute("joins sizes along an axis other than 0")
	}
	out := &onnx.Tensor{Type: onnx.Int64}
	for _, t := range parts {
		if len(t.Dims) != 1 || len(out.Ints)+len(t.Ints) > onnx.MaxDims {
			return nil, misarranged("joins more sizes than a shape can have")
		}
		out.Ints = append(out.Ints, t.Ints...)
	}
	out.Dims = []int64{int64(len(out.Ints))}
	return out, nil
}
