package layers

import (
	"math"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/runtime/onnx"
)

// then is the step s followed by another one.
func (s affineStep) then(next affineStep) affineStep {
	for i := range s.scale {
		s.scale[i] *= next.scale[i]
		s.offset[i] = s.offset[i]*next.scale[i] + next.offset[i]
	}
	return s
}

// step takes a factor and an offset for each value into the input's scale before the first
// layer, into a layer that has no activation yet, and else into the layer that comes next.
func (b *builder) step(s affineStep) error {
	switch {
	case len(b.net.Layers) == 0:
		all := affineStep{b.net.Scale, b.net.Offset}.then(s)
		b.net.Scale, b.net.Offset = all.scale, all.offset
	case b.pending != nil: // first: the last layer stands before it
		all := b.pending.then(s)
		b.pending = &all
	case b.open && b.fold(s):
	default:
		b.before(&s)
		b.pending = &s
	}
	return nil
}

// weighted is the last layer with weights, if nothing but pools without activations is behind
// it. A factor behind a pool of largest values is one before it only if it is not below zero
// (rises); an offset behind an average that counts padding is not one before it (centred).
func (b *builder) weighted() (l *Layer, rises, centred bool) {
	for i := len(b.net.Layers) - 1; i >= 0; i-- {
		l := &b.net.Layers[i]
		switch {
		case !l.Pools():
			return l, rises, centred
		case l.active():
			return nil, false, false
		case l.Kind == MaxPool:
			rises = true
		case l.Counted != intnet.Edges{}:
			centred = true
		}
	}
	return nil, false, false
}

// before takes the factors of a step behind ReLU into the layer before it, all but their
// signs: max(0, z)*s is max(0, z*s) for an s above zero. The next layer's weights would
// differ as much in size as the factors do, which INT8 has no digits for.
func (b *builder) before(s *affineStep) {
	l, _, _ := b.weighted()
	if l == nil || !l.ReLU && l.Slope == nil || l.Limit != 0 {
		return
	}
	each := len(s.scale) / l.Out
	size := affineStep{scale: make([]float64, len(s.scale)), offset: make([]float64, len(s.scale))}
	for i, v := range s.scale {
		if size.scale[i] = math.Abs(v); size.scale[i] != size.scale[i/each*each] {
			return // positions of an image share their weights
		}
		if v == 0 {
			size.scale[i] = 1
		}
	}
	if b.fold(size) {
		for i := range s.scale {
			s.scale[i] /= size.scale[i]
		}
	}
}

// channelwise says whether a step is the same at all places of each of so many channels.
func (s affineStep) channelwise(channels int) bool {
	each := len(s.scale) / channels
	for i := range s.scale {
		if first := i / each * each; s.scale[i] != s.scale[first] || s.offset[i] != s.offset[first] {
			return false
		}
	}
	return true
}

// fold takes a step into the last layer with weights, whose outputs are all linear. It does
// nothing and returns false where positions of an image differ in it, which share their
// weights, or where a pool in between does not let it through.
func (b *builder) fold(s affineStep) bool {
	l, rises, centred := b.weighted()
	if l == nil || !s.channelwise(l.Out) {
		return false
	}
	each, fan := len(s.scale)/l.Out, len(l.Weights)/l.Out
	for o := range l.Out {
		if rises && s.scale[o*each] < 0 || centred && s.offset[o*each] != 0 {
			return false
		}
	}
	for o := range l.Out {
		for k := o * fan; k < (o+1)*fan; k++ {
			l.Weights[k] *= s.scale[o*each]
		}
		l.Bias[o] = l.Bias[o]*s.scale[o*each] + s.offset[o*each]
	}
	return true
}

// takePending takes the step behind the last layer into the weights of the next.
func (b *builder) takePending(l *Layer) error {
	if b.pending == nil {
		return nil
	}
	s, per := *b.pending, 1
	area, group, each := 1, 0, l.Out // weights that meet one channel; channels of a group; its outputs
	if l.Kind == Conv {
		per, area = b.made.H*b.made.W, l.Window.Area()
		group, each = b.made.C/l.Groups, l.Out/l.Groups
		shifted := slices.ContainsFunc(s.offset, func(v float64) bool { return v != 0 })
		if !s.channelwise(b.made.C) || l.Window.Padded() && shifted {
			return b.settle()
		}
	}
	fan := len(l.Weights) / l.Out
	for o := range l.Out {
		for k := range fan {
			w := &l.Weights[o*fan+k]
			from := (o/each*group + k/area) * per
			l.Bias[o] += *w * s.offset[from]
			*w *= s.scale[from]
		}
	}
	b.pending = nil
	return nil
}

// passPool moves the step behind the last layer to behind a pool, if it may stand there.
func (b *builder) passPool(l *Layer) error {
	if b.pending == nil {
		return nil
	}
	s := b.pending
	falls := slices.ContainsFunc(s.scale, func(v float64) bool { return v < 0 })
	shifted := slices.ContainsFunc(s.offset, func(v float64) bool { return v != 0 })
	if !s.channelwise(l.Out) || l.Kind == MaxPool && falls || l.Counted != (intnet.Edges{}) && shifted {
		return b.settle()
	}
	to := l.output(b.made)
	var moved affineStep
	for c := range l.Out {
		from := c * b.made.H * b.made.W
		moved.scale = append(moved.scale, slices.Repeat([]float64{s.scale[from]}, to.H*to.W)...)
		moved.offset = append(moved.offset, slices.Repeat([]float64{s.offset[from]}, to.H*to.W)...)
	}
	b.pending = &moved
	return nil
}

// settle makes a layer of the step behind the last one: a convolution of each channel for
// itself, with a kernel of one value.
func (b *builder) settle() error {
	s := *b.pending
	if !s.channelwise(b.made.C) {
		return misarranged("follows a scaling that differs between the positions of an image, which no layer can take in")
	}
	if len(b.net.Layers) == MaxLayers {
		return tooLarge("more than %d layers", MaxLayers)
	}
	l := Layer{Kind: Conv, Out: b.made.C, Groups: b.made.C, Window: intnet.Square(1, 1, 0)}
	for c := range l.Out {
		at := c * b.made.H * b.made.W
		l.Weights, l.Bias = append(l.Weights, s.scale[at]), append(l.Bias, s.offset[at])
	}
	b.net.Layers = append(b.net.Layers, l)
	b.pending, b.open = nil, true
	return nil
}

// maxMerge bounds the multiplications that all merges of a file may take.
const maxMerge = 1 << 30

// merge makes one layer of the last one and l, where both are dense, nothing stands between
// them and one layer has no more weights: W2(W1 x + b1) + b2 = W2 W1 x + (W2 b1 + b2).
func (b *builder) merge(l Layer) bool {
	if l.Kind != Dense || len(b.net.Layers) == 0 || !b.open {
		return false
	}
	last := &b.net.Layers[len(b.net.Layers)-1]
	in := len(last.Weights) / last.Out
	if last.Kind != Dense || last.ReLU || in*l.Out > len(last.Weights)+len(l.Weights) || in*last.Out*l.Out > maxMerge-b.merged {
		return false
	}
	b.merged += in * last.Out * l.Out
	weights := make([]float64, in*l.Out)
	for o := range l.Out {
		row := weights[o*in : (o+1)*in]
		for k, w := range l.Weights[o*last.Out : (o+1)*last.Out] {
			l.Bias[o] += w * last.Bias[k]
			for i, v := range last.Weights[k*in : (k+1)*in] {
				row[i] += w * v
			}
		}
	}
	*last = Layer{Kind: Dense, Out: l.Out, Weights: weights, Bias: l.Bias}
	return true
}

// batchNorm scales each channel by constants: (x-mean)/sqrt(variance+epsilon)*scale + bias.
func batchNorm(b *builder, n *onnx.Node) error {
	if intOf(n, "training_mode", 0) != 0 || intOf(n, "spatial", 1) != 1 {
		return badAttribute("training_mode or spatial is not set for inference; export the model in evaluation mode")
	}
	if n.Inputs[0] != b.value || b.pad != (intnet.Edges{}) {
		return misarranged("want rows of values or images, and constants")
	}
	channels := b.dims()[0]
	var c [4][]float64 // scale, bias, mean, variance
	for i := range c {
		t := b.constants[n.Inputs[i+1]]
		if t == nil || t.Floats == nil || len(t.Floats) != channels || len(t.Dims) != 1 {
			return misarranged("its scale, bias, mean and variance must be constants for each of %d channels", channels)
		}
		c[i] = t.Floats
	}
	epsilon := floatOf(n, "epsilon", 1e-5)
	s := affineStep{}
	each := b.shape.Len() / channels
	for i := range channels {
		factor := c[0][i] / math.Sqrt(c[3][i]+epsilon)
		s.scale = append(s.scale, slices.Repeat([]float64{factor}, each)...)
		s.offset = append(s.offset, slices.Repeat([]float64{c[1][i] - c[2][i]*factor}, each)...)
	}
	s.scale, s.offset = b.placed(s.scale), b.placed(s.offset)
	return b.step(s)
}
