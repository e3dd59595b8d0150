package layers

import (
	"slices"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/runtime/onnx"
)

// Integer is the layer's shape in integer arithmetic.
func (l *Layer) Integer() intnet.Layer {
	i := intnet.Layer{Kind: intnet.Kind(l.Kind), Out: l.Out, Window: l.Window, Groups: l.Groups, Counted: l.Counted, ReLU: l.ReLU, Leaky: l.Slope != nil}
	if l.Pools() {
		i.Out = 0
	}
	return i
}

func (l *Layer) geometry(from Shape) intnet.Geometry {
	return intnet.Architecture{Input: intnet.Shape(from), Layers: []intnet.Layer{l.Integer()}}.Geometries()[0]
}

// image prepares the values for a layer that moves a window over them. It gives the number of
// dimensions of the windows: 2, or 1 of lines.
func (b *builder) image(n *onnx.Node) (int, error) {
	if n.Inputs[0] != b.value || b.rank < 3 {
		return 0, misarranged("want images with channels and, if it has weights, a constant kernel and a bias")
	}
	shape := b.shape
	if b.rank == 3 {
		shape = Shape{shape.C * shape.H, 1, shape.W}
	}
	switch {
	case len(b.net.Layers) > 0 && (b.order != nil || shape != b.made):
		return 0, misarranged("takes images of shape %v, reshaped or reordered from a layer's outputs of shape %v; a convolution or a pool must take a layer's outputs in their own shape and order", shape, b.made)
	case b.order != nil && !b.lastOf(shape, true):
		return 0, misarranged("takes images of shape %v whose dimensions were exchanged; of an input, channels may come first or last", shape)
	case len(b.net.Layers) == 0:
		b.net.Input, b.net.ChannelsLast, b.order = shape, b.order != nil, nil
		b.made = shape
	}
	b.shape = shape
	return b.rank - 2, nil
}

// conv is a convolution of images or lines.
func conv(b *builder, n *onnx.Node) error {
	lines, err := b.image(n)
	if err != nil {
		return err
	}
	t := b.constants[n.Inputs[1]]
	if t == nil || len(t.Dims) != lines+2 {
		return misarranged("the kernel is not a constant of %d dimensions", lines+2)
	}
	if err := checkType(t); err != nil {
		return err
	}
	group := intOf(n, "group", 1)
	out, channels := t.Dims[0], int64(b.shape.C)
	if group < 1 || out < 1 || out > MaxFeatures || group > out || out%group != 0 || t.Dims[1] > channels || t.Dims[1]*group != channels {
		return badAttribute("a kernel of shape %v in %d groups does not fit images of %d channels", t.Dims, group, channels)
	}
	w, _, err := b.window(n, t.Dims[2:])
	if err != nil {
		return err
	}
	if err := b.spend(len(t.Floats)); err != nil {
		return err
	}
	l := Layer{Kind: Conv, Out: int(out), Window: w, Groups: int(group), Weights: slices.Clone(t.Floats)}
	if l.output(b.shape).Len() > MaxFeatures {
		return tooLarge("more than %d outputs", MaxFeatures)
	}
	bias, err := b.biasOf(n)
	if err != nil {
		return err
	}
	if bias != nil && !slices.Equal(bias.Dims, t.Dims[:1]) {
		return misarranged("a bias of shape %v does not fit %d channels", bias.Dims, out)
	}
	return b.add(l, bias)
}

// maxWindow bounds what attributes say of a window, so that nothing overflows.
const maxWindow = 4096

// window reads the attributes of a window with this kernel, and takes the zeros that were put
// around the image before. counted are those of its padding that are there whatever the
// operator says of its own, and beyond are those that only ceil_mode needs.
func (b *builder) window(n *onnx.Node, kernel []int64) (w intnet.Window, p padding, err error) {
	lines := len(kernel)
	list := func(name string, count int, otherwise int64) []int64 {
		a, ok := n.Attributes[name]
		if !ok {
			return slices.Repeat([]int64{otherwise}, count)
		}
		return a.Ints
	}
	stride, dilation, pads := list("strides", lines, 1), list("dilations", lines, 1), list("pads", 2*lines, 0)
	if len(stride) != lines || len(dilation) != lines || len(pads) != 2*lines || !slices.Equal(list("kernel_shape", lines, 1), kernel) && n.Attributes["kernel_shape"].Ints != nil {
		return w, p, badAttribute("kernel, strides, padding or dilations are not those of %d dimensions", lines)
	}
	for _, v := range slices.Concat(kernel, stride, dilation) {
		if v < 1 || v > maxWindow {
			return w, p, badAttribute("kernel %v, strides %v or dilations %v are out of range; want 1 to %d", kernel, stride, dilation, maxWindow)
		}
	}
	for _, v := range pads {
		if v < 0 || v > maxWindow {
			return w, p, badAttribute("padding %v is out of range; want 0 to %d", pads, maxWindow)
		}
	}
	// A line is an image of one row.
	one := line{kernel: 1, stride: 1, dilation: 1, size: b.shape.H}
	rows, columns := one, one
	for i, l := range []*line{&rows, &columns}[2-lines:] {
		*l = line{kernel: int(kernel[i]), stride: int(stride[i]), dilation: int(dilation[i]), first: int(pads[i]), last: int(pads[lines+i])}
		if l.kernel == 1 {
			l.dilation = 1
		}
	}
	rows.size, columns.size = b.shape.H+b.pad.Top+b.pad.Bottom, b.shape.W+b.pad.Left+b.pad.Right
	for _, l := range []*line{&rows, &columns} {
		if err := l.auto(n.Attributes["auto_pad"].String, n.Op != "Conv"); err != nil {
			return w, p, err
		}
	}
	own := intnet.Edges{Top: rows.first, Left: columns.first, Bottom: rows.last, Right: columns.last}
	p = padding{given: b.pad, own: plus(b.pad, own)}
	if intOf(n, "ceil_mode", 0) != 0 {
		own.Bottom += rows.beyond()
		own.Right += columns.beyond()
	}
	w = intnet.Window{Kernel: intnet.Size{H: rows.kernel, W: columns.kernel}, Stride: intnet.Size{H: rows.stride, W: columns.stride},
		Dilation: intnet.Size{H: rows.dilation, W: columns.dilation}, Pad: plus(b.pad, own)}
	b.pad = intnet.Edges{}
	if err := w.Fits(b.shape.H, b.shape.W); err != nil {
		return w, p, badAttribute("%v", err)
	}
	return w, p, nil
}

// padding is what counts of a window's: zeros that an operator of their own gave, and those
// with the window's own.
type padding struct{ given, own intnet.Edges }

func plus(a, b intnet.Edges) intnet.Edges {
	return intnet.Edges{Top: a.Top + b.Top, Left: a.Left + b.Left, Bottom: a.Bottom + b.Bottom, Right: a.Right + b.Right}
}

// line is a window along one dimension of an image.
type line struct{ kernel, stride, dilation, first, last, size int }

func (l *line) span() int { return (l.kernel-1)*l.dilation + 1 }

// auto chooses the padding as auto_pad says: SAME is for an output of size/stride, rounded up,
// with the odd one at the end or, of SAME_LOWER, at the beginning. Of pools, onnxruntime (1.32) leaves
// the dilation out and lets padding be negative, so that windows begin inside the image.
func (l *line) auto(how string, pool bool) error {
	switch how {
	case "", "NOTSET":
		return nil
	case "VALID", "SAME_UPPER", "SAME_LOWER":
	default:
		return badAttribute("automatic padding %q is unknown", how)
	}
	if l.first != 0 || l.last != 0 {
		return badAttribute("padding is given twice, as numbers and as auto_pad %s", how)
	}
	if how == "VALID" {
		return nil
	}
	total := ((l.size+l.stride-1)/l.stride-1)*l.stride + l.span() - l.size
	if pool && (l.dilation != 1 || total < -1) {
		return badAttribute("auto_pad %s of a pool with dilations, or with a stride that steps over values, means different things to different readers; give the padding as numbers", how)
	}
	total = max(0, total)
	l.first, l.last = total/2, total-total/2
	if how == "SAME_LOWER" {
		l.first, l.last = l.last, l.first
	}
	return nil
}

// beyond is how much the last window of ceil_mode needs behind the padding. A window that
// would begin in the padding at the end is left out.
func (l *line) beyond() int {
	room := l.size + l.first + l.last - l.span()
	if room < 0 {
		return 0
	}
	windows := (room + l.stride - 1) / l.stride // and the first one
	if windows*l.stride >= l.size+l.first {
		windows--
	}
	return max(0, windows*l.stride-room)
}

// pad puts zeros around images, which the next layer takes in.
func pad(b *builder, n *onnx.Node) error {
	if mode, ok := n.Attributes["mode"]; ok && mode.String != "constant" {
		return badAttribute("pads with mode %q; want zeros (constant)", mode.String)
	}
	pads := n.Attributes["pads"].Ints
	if len(n.Inputs) > 1 && b.constants[n.Inputs[1]] != nil {
		pads = b.constants[n.Inputs[1]].Ints
	}
	value := floatOf(n, "value", 0)
	if len(n.Inputs) > 2 && n.Inputs[2] != "" {
		t := b.constants[n.Inputs[2]]
		if t == nil || len(t.Floats) != 1 {
			return misarranged("the padding's value is not a constant number")
		}
		value = t.Floats[0]
	}
	if n.Inputs[0] != b.value || len(pads) != 2*b.rank || len(n.Inputs) > 3 {
		return misarranged("want images and a constant number of zeros at both ends of each of their %d dimensions", b.rank)
	}
	for i, v := range pads {
		if v < 0 || v > maxWindow || v > 0 && (i%b.rank < 2 || value != 0) {
			return badAttribute("pads by %v with %g; want zeros at the sides of images, at most %d", pads, value, maxWindow)
		}
	}
	if !slices.ContainsFunc(pads, func(v int64) bool { return v > 0 }) {
		return nil
	}
	if _, err := b.image(n); err != nil {
		return err
	}
	at := func(i int) int { return int(pads[i]) }
	e := intnet.Edges{Left: at(b.rank - 1), Right: at(2*b.rank - 1)}
	if b.rank == 4 {
		e.Top, e.Bottom = at(2), at(6)
	}
	b.pad = plus(b.pad, e)
	return nil
}

// pool takes MaxPool and AveragePool.
func pool(b *builder, n *onnx.Node) error {
	lines, err := b.image(n)
	if err != nil {
		return err
	}
	kernel := n.Attributes["kernel_shape"].Ints
	if len(kernel) != lines {
		return badAttribute("kernel %v has not %d dimensions", kernel, lines)
	}
	l := Layer{Kind: MaxPool, Out: b.shape.C}
	zeros := b.pad != intnet.Edges{}
	var p padding
	if l.Window, p, err = b.window(n, kernel); err != nil {
		return err
	}
	switch {
	case n.Op == "AveragePool":
		l.Kind, l.Counted = AveragePool, p.given
		if intOf(n, "count_include_pad", 0) != 0 {
			l.Counted = p.own
		}
	case zeros && !b.positive():
		return misarranged("takes the largest values of images with zeros around them, which may be larger than the values; want ReLU before the padding")
	}
	return b.pool(l)
}

// positive says whether no value is below zero.
func (b *builder) positive() bool {
	for i := len(b.net.Layers) - 1; i >= 0 && b.pending == nil; i-- {
		if l := &b.net.Layers[i]; l.ReLU || !l.Pools() {
			return l.ReLU
		}
	}
	return false
}

// pool appends a pool, but for one that changes nothing.
func (b *builder) pool(l Layer) error {
	if l.Window == intnet.Square(1, 1, 0) {
		return nil
	}
	if l.output(b.shape).Len() > MaxFeatures {
		return tooLarge("more than %d outputs", MaxFeatures)
	}
	if err := b.passPool(&l); err != nil {
		return err
	}
	return b.push(l)
}

// whole is a window of all rows, all columns or both.
func whole(s Shape, rows, columns bool) intnet.Window {
	w := intnet.Square(1, 1, 0)
	if rows {
		w.Kernel.H = s.H
	}
	if columns {
		w.Kernel.W = s.W
	}
	return w
}

// global is a pool over all places of an image.
func global(b *builder, n *onnx.Node) error {
	if _, err := b.image(n); err != nil {
		return err
	}
	l := Layer{Kind: MaxPool, Out: b.shape.C, Window: whole(b.shape, true, true)}
	if n.Op == "GlobalAveragePool" {
		l.Kind = AveragePool
	}
	return b.pool(l)
}

// reduce takes the mean or the largest over rows, columns or both of an image, as a pool does.
func reduce(b *builder, n *onnx.Node) error {
	axes, err := b.axes(n, b.rank)
	if err != nil {
		return err
	}
	var left []int // the dimensions that are left
	for i, d := range b.dims() {
		switch {
		case !slices.Contains(axes, i+1):
			left = append(left, d)
		case intOf(n, "keepdims", 1) != 0:
			left = append(left, 1)
		}
	}
	rows, columns := slices.Contains(axes, b.rank-2) && b.rank == 4, slices.Contains(axes, b.rank-1)
	over := !slices.ContainsFunc(axes, func(a int) bool { return a < 2 })
	if len(b.net.Layers) > 0 && b.rank > 2 && b.lastOf(b.made, false) { // channels are last
		over = !slices.Contains(axes, b.rank-1) && len(axes) == b.rank-2
		b.order, rows, columns = nil, true, true
		b.rank, b.shape = 4, b.made
	}
	if b.rank < 3 || !over || b.order != nil {
		return misarranged("is over axes %v, which are not those of an image's rows or columns", axes)
	}
	if _, err := b.image(n); err != nil {
		return err
	}
	l := Layer{Kind: MaxPool, Out: b.shape.C, Window: whole(b.shape, rows, columns)}
	if n.Op == "ReduceMean" {
		l.Kind = AveragePool
	}
	if err := b.pool(l); err != nil {
		return err
	}
	b.setDims(left)
	return nil
}
