package layers

import (
	"math"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/runtime/onnx"
)

// target is the layer that an activation belongs to: the last one, or the one before pools of
// largest values. Activations rise, so that the activation of the largest value is the largest
// of the activations, and fewer kinds of layers have one.
func (b *builder) target() (*Layer, error) {
	if b.pending != nil {
		if err := b.settle(); err != nil {
			return nil, err
		}
	}
	for i := len(b.net.Layers) - 1; i >= 0; i-- {
		if l := &b.net.Layers[i]; l.Kind != MaxPool {
			return l, nil
		}
	}
	return nil, misarranged("does not follow a layer")
}

func relu(b *builder, _ *onnx.Node) error {
	l, err := b.target()
	if err != nil {
		return err
	}
	// Behind LeakyReLU, too, ReLU is all that remains.
	l.ReLU, l.Slope, b.open = true, nil, false
	return nil
}

// clip limits values to a range: ReLU6, Hardtanh and the like.
func clip(b *builder, n *onnx.Node) error {
	if n.Inputs[0] != b.value {
		return misarranged("want the values and constant limits")
	}
	low, high := math.Inf(-1), math.Inf(1)
	for i, to := range []*float64{&low, &high} {
		name := []string{"min", "max"}[i]
		if a, ok := n.Attributes[name]; ok {
			*to = float64(a.Float)
		}
		if len(n.Inputs) <= i+1 || n.Inputs[i+1] == "" {
			continue
		}
		t := b.constants[n.Inputs[i+1]]
		if t == nil || len(t.Floats) != 1 {
			return misarranged("the limit %s is not a constant number", name)
		}
		*to = t.Floats[0]
	}
	return b.between(low, high)
}

// limit takes Min and Max of the values and one constant.
func limit(b *builder, n *onnx.Node) error {
	t, _, err := b.operands(n)
	if err != nil {
		return err
	}
	if len(t.Floats) != 1 {
		return misarranged("want the values and one number")
	}
	if n.Op == "Max" {
		return b.between(t.Floats[0], math.Inf(1))
	}
	return b.between(math.Inf(-1), t.Floats[0])
}

// endless says whether a limit is none: exporters write the largest float32 for it.
func endless(v float64) bool { return math.Abs(v) >= math.MaxFloat32 }

// between limits values to a range that integers end at, too: from zero, or as far on both
// sides.
func (b *builder) between(low, high float64) error {
	if low <= -math.MaxFloat32 && high >= math.MaxFloat32 {
		return nil
	}
	l, err := b.target()
	if err != nil {
		return err
	}
	if l.ReLU && low < 0 {
		low = 0
	}
	top := high
	if l.Limit != 0 {
		top = min(high, l.Limit)
	}
	switch {
	case low == 0 && endless(high) && high > 0:
		l.ReLU, l.Slope = true, nil
	case low == 0 && high > 0:
		l.ReLU, l.Slope, l.Limit = true, nil, top
	case low == -high && high > 0 && l.Slope == nil:
		l.Limit = top
	default:
		return refusal.New(ReasonActivation, "limits values to the range from %g to %g; want 0 and a number above it, as ReLU6 has, or the same number on both sides, as Hardtanh has", low, high)
	}
	b.open = false
	return nil
}

func leakyRelu(b *builder, n *onnx.Node) error {
	return b.leaky(func(l *Layer) ([]float64, error) {
		return slices.Repeat([]float64{floatOf(n, "alpha", 0.01)}, l.Out), nil
	})
}

// pRelu is LeakyReLU with trained slopes, one or one for each channel.
func pRelu(b *builder, n *onnx.Node) error {
	t := b.constants[n.Inputs[1]]
	if n.Inputs[0] != b.value || t == nil {
		return misarranged("want the values and constant slopes")
	}
	if err := checkType(t); err != nil {
		return err
	}
	c, err := b.broadcast(t)
	if err != nil {
		return err
	}
	c = b.placed(c)
	return b.leaky(func(l *Layer) ([]float64, error) {
		if len(c)%l.Out != 0 || !(affineStep{c, c}).channelwise(l.Out) {
			return nil, misarranged("has slopes that differ between the positions of an image")
		}
		var slopes []float64
		for o := range l.Out {
			slopes = append(slopes, c[o*(len(c)/l.Out)])
		}
		return slopes, nil
	})
}

func (b *builder) leaky(slopes func(*Layer) ([]float64, error)) error {
	l, err := b.target()
	if err != nil {
		return err
	}
	if l.Kind == AveragePool { // which has no slope of its own
		ones, zeros := make([]float64, b.made.Len()), make([]float64, b.made.Len())
		for i := range ones {
			ones[i] = 1
		}
		b.pending = &affineStep{ones, zeros}
		if err := b.settle(); err != nil {
			return err
		}
		l = &b.net.Layers[len(b.net.Layers)-1]
	}
	list, err := slopes(l)
	switch {
	case err != nil:
		return err
	case slices.ContainsFunc(list, func(v float64) bool { return !(v >= 0) || math.IsInf(v, 0) }):
		return refusal.New(ReasonActivation, "has a slope below zero; want slopes from 0 on, so that the activation rises")
	case l.ReLU:
		return nil // nothing is below zero
	case l.active():
		return misarranged("follows another activation")
	case !slices.ContainsFunc(list, func(v float64) bool { return v != 0 }):
		return relu(b, nil)
	}
	l.Slope, b.open = list, false
	return nil
}

// unpadded refuses an operator between zeros around an image and the layer that takes them in.
func (b *builder) unpadded() error {
	if b.pad != (intnet.Edges{}) {
		return misarranged("follows padding; want a convolution or a pool behind it")
	}
	return nil
}
