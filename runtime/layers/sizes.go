package layers

import (
	"math"
	"slices"

	"github.com/anchorhold/anchorhold/runtime/onnx"
)

// What stands for the sizes of a computed value in a shape that the file computes: the
// number of rows, which comes first in every value, and what is not known before the walk.
// Exporters write the number between them for the end of a list that is turned round.
const (
	rowsMark    = math.MinInt64
	unknownMark = math.MinInt64 + 2
)

// maxSizes is how many integers a constant has of which parts are taken or turned round: the padding
// of both ends of every dimension. Each node makes another list, so a long one could take any memory.
const maxSizes = 2 * onnx.MaxDims

// shapeOf is the shape of a value. PyTorch's x.view(x.size(0), -1) asks for it.
func (b *builder) shapeOf(n *onnx.Node) *onnx.Tensor {
	dims := slices.Repeat([]int64{unknownMark}, onnx.MaxDims)
	dims[0] = rowsMark
	if t := b.constants[n.Inputs[0]]; t != nil {
		dims = slices.Clone(t.Dims)
		if slices.Contains(t.Ints, unknownMark) { // nor is how many there are
			dims = slices.Repeat([]int64{unknownMark}, len(dims))
		}
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
		if t == nil || t.Type != onnx.Int64 && t.Type != onnx.Int32 {
			return nil, nil
		}
		parts = append(parts, t)
	}
	first := parts[0]
	if len(first.Ints) > maxSizes && (n.Op == "Reshape" || n.Op == "Slice" || n.Op == "Transpose") {
		return nil, misarranged("arranges %d constant integers; want at most %d", len(first.Ints), maxSizes)
	}
	switch n.Op {
	case "Gather":
		if len(first.Dims) != 1 || len(parts[1].Dims) > 1 || len(parts[1].Ints) > onnx.MaxDims || intOf(n, "axis", 0) != 0 {
			return nil, misarranged("takes more from a shape than a list of sizes")
		}
		out := &onnx.Tensor{Type: first.Type, Dims: parts[1].Dims}
		for _, at := range parts[1].Ints {
			if at < 0 || at >= int64(len(first.Ints)) {
				return nil, misarranged("takes size %d from a shape; count from the front", at)
			}
			out.Ints = append(out.Ints, first.Ints[at])
		}
		return out, nil
	case "Unsqueeze":
		axes := n.Attributes["axes"].Ints
		if len(parts) == 2 && axes == nil {
			axes = parts[1].Ints
		}
		if len(first.Ints) != 1 || len(first.Dims) != 0 || !slices.Equal(axes, []int64{0}) && !slices.Equal(axes, []int64{-1}) {
			return nil, misarranged("does not make a list of one size")
		}
		return &onnx.Tensor{Type: first.Type, Dims: []int64{1}, Ints: first.Ints}, nil
	case "ConstantOfShape":
		v := n.Attributes["value"].Tensor
		if v == nil || len(v.Ints) != 1 || len(first.Ints) != 1 || first.Ints[0] < 0 || first.Ints[0] > onnx.MaxDims {
			return nil, misarranged("does not make a list of at most %d equal integers", onnx.MaxDims)
		}
		return &onnx.Tensor{Type: v.Type, Dims: first.Ints, Ints: slices.Repeat(v.Ints, int(first.Ints[0]))}, nil
	case "Reshape":
		return arranged(first, parts[1].Ints)
	case "Slice":
		return sliced(parts)
	case "Transpose":
		perm := n.Attributes["perm"].Ints
		if len(first.Dims) != 2 || perm != nil && !slices.Equal(perm, []int64{1, 0}) {
			return nil, misarranged("exchanges something other than the rows and columns of a matrix")
		}
		return &onnx.Tensor{Type: first.Type, Dims: []int64{first.Dims[1], first.Dims[0]}, Ints: transpose(first.Ints, int(first.Dims[0]), int(first.Dims[1]))}, nil
	}
	if a, ok := n.Attributes["axis"]; !ok || a.Int != 0 && a.Int != -1 {
		return nil, badAttribute("joins sizes along an axis other than 0")
	}
	out := &onnx.Tensor{Type: first.Type}
	for _, t := range parts {
		if len(t.Dims) != 1 || t.Type != first.Type || len(out.Ints)+len(t.Ints) > onnx.MaxDims {
			return nil, misarranged("joins more sizes than a shape can have")
		}
		out.Ints = append(out.Ints, t.Ints...)
	}
	out.Dims = []int64{int64(len(out.Ints))}
	return out, nil
}

// arranged is a short list of integers, or a matrix of as many: PyTorch's TorchScript exporter
// brings the padding of ZeroPad2d into ONNX's order that way, and turns the matrix around.
func arranged(t *onnx.Tensor, dims []int64) (*onnx.Tensor, error) {
	if len(dims) > 2 {
		return nil, misarranged("gives constant integers a shape of %d dimensions; want a list or a matrix", len(dims))
	}
	dims = slices.Clone(dims)
	n, open := int64(1), -1
	for i, d := range dims {
		switch {
		case d == -1 && open < 0:
			open = i
		case d > 0 && d <= int64(len(t.Ints)):
			n *= d
		default:
			return nil, misarranged("gives constant integers the shape %v", dims)
		}
		if n > int64(len(t.Ints)) {
			return nil, misarranged("gives %d constant integers the shape %v", len(t.Ints), dims)
		}
	}
	if open >= 0 {
		dims[open] = int64(len(t.Ints)) / n
		n *= dims[open]
	}
	if n != int64(len(t.Ints)) {
		return nil, misarranged("gives %d constant integers the shape %v", len(t.Ints), dims)
	}
	return &onnx.Tensor{Type: t.Type, Dims: dims, Ints: t.Ints}, nil
}

// sliced takes sizes from a list, as tf2onnx does for Flatten: from one place, counted from the
// front because a shape's end may not be known, to another. Or it turns the order of rows round.
func sliced(parts []*onnx.Tensor) (*onnx.Tensor, error) {
	t, step := parts[0], int64(1)
	for _, p := range parts[1:] {
		if len(p.Ints) != 1 {
			return nil, misarranged("takes a part of constant integers along several axes")
		}
	}
	if len(parts) > 4 {
		step = parts[4].Ints[0]
	}
	if len(t.Dims) == 0 || len(parts) > 3 && parts[3].Ints[0] != 0 {
		return nil, misarranged("takes a part of constant integers along an axis other than 0")
	}
	rows, begin, end := t.Dims[0], parts[1].Ints[0], parts[2].Ints[0]
	switch {
	case step == 1 && len(t.Dims) == 1 && begin >= 0 && end >= begin:
		part := t.Ints[min(begin, rows):min(end, rows)]
		return &onnx.Tensor{Type: t.Type, Dims: []int64{int64(len(part))}, Ints: part}, nil
	case step == -1 && (begin == -1 || begin >= rows-1) && end < -rows && end != rowsMark && end != unknownMark && !slices.Contains(t.Ints, unknownMark) && rows > 0:
		out := &onnx.Tensor{Type: t.Type, Dims: t.Dims}
		each := len(t.Ints) / int(rows)
		for i := len(t.Ints) - each; i >= 0 && each > 0; i -= each {
			out.Ints = append(out.Ints, t.Ints[i:i+each]...)
		}
		return out, nil
	}
	return nil, misarranged("takes a part of constant integers in steps of %d from %d to %d; want steps of 1 counted from the front, or all in reverse", step, begin, end)
}
