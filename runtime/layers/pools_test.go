package layers

import (
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	w "github.com/anchorhold/anchorhold/runtime/onnx/onnxtest"
)

// small is a network of an image of one channel, 4 by 4, a convolution that keeps its size, the
// nodes, of which the last gives p, and a dense layer of that many values.
func small(values int, nodes ...w.Message) w.Fixture {
	list := append([]w.Message{w.Node("Conv", two("x", "k"), []string{"c"}, w.Attributes{"pads": []int64{1, 1, 1, 1}})}, nodes...)
	list = append(list, w.Node("Flatten", []string{"p"}, []string{"f"}, nil), w.Node("MatMul", two("f", "w"), []string{"y"}, nil))
	return w.Graph([]w.Message{w.Value("x", 1, 0, 1, 4, 4)}, list, []w.Message{w.Floats("k", []int64{2, 1, 3, 3}, make([]float32, 18)...), w.Floats("w", []int64{int64(values), 2}, make([]float32, 2*values)...),
		w.Ints("ends", []int64{8}, 0, 0, 1, 1, 0, 0, 1, 1), w.Ints("channels", []int64{8}, 0, 1, 0, 0, 0, 0, 0, 0), w.Ints("less", []int64{8}, 0, 0, -1, 0, 0, 0, 0, 0), w.Ints("one", []int64{1}, 1), w.Ints("both", []int64{2}, 1, 2), w.Ints("rows", []int64{1}, 0),
		w.Floats("zero", nil, 0), w.Floats("six", nil, 6), w.Floats("minus", nil, -2), w.Floats("slopes", []int64{2, 1, 1}, 0.5, -0.5), w.Floats("each", []int64{2, 4, 4}, make([]float32, 32)...)}, []string{"y"})
}

func TestRefusalsOfPoolsAndActivations(t *testing.T) {
	c, p, at := []string{"c"}, []string{"p"}, func(n w.Message) w.Fixture { return small(32, n) }
	kernel := func(more w.Attributes) w.Attributes {
		more["kernel_shape"] = []int64{2, 2}
		return more
	}
	for name, c := range map[string]struct {
		f    w.Fixture
		want refusal.Reason
		says string
	}{
		"no kernel":              {at(w.Node("MaxPool", c, p, nil)), ReasonAttribute, "2 dimensions"},
		"kernel of one":          {at(w.Node("MaxPool", c, p, w.Attributes{"kernel_shape": []int64{2}})), ReasonAttribute, "2 dimensions"},
		"kernel of zero":         {at(w.Node("MaxPool", c, p, w.Attributes{"kernel_shape": []int64{0, 2}})), ReasonAttribute, "out of range"},
		"kernel beyond all":      {at(w.Node("AveragePool", c, p, w.Attributes{"kernel_shape": []int64{1 << 40, 1}})), ReasonAttribute, "out of range"},
		"large kernel":           {at(w.Node("AveragePool", c, p, w.Attributes{"kernel_shape": []int64{5, 1}})), ReasonAttribute, "larger than"},
		"stride beyond all":      {at(w.Node("MaxPool", c, p, kernel(w.Attributes{"strides": []int64{1, 4097}}))), ReasonAttribute, "out of range"},
		"negative padding":       {at(w.Node("MaxPool", c, p, kernel(w.Attributes{"pads": []int64{0, 0, -1, 0}}))), ReasonAttribute, "padding"},
		"wide padding":           {at(w.Node("MaxPool", c, p, kernel(w.Attributes{"pads": []int64{0, 0, 2, 0}}))), ReasonAttribute, "reaches"},
		"short padding":          {at(w.Node("MaxPool", c, p, kernel(w.Attributes{"pads": []int64{0, 0}}))), ReasonAttribute, "2 dimensions"},
		"places of the largest":  {at(w.Node("MaxPool", c, two("p", "i"), kernel(w.Attributes{}))), ReasonArrangement, "outputs"},
		"zeros before largest":   {at(w.Node("Identity", []string{"m"}, p, nil)), ReasonArrangement, "may be larger"},
		"padding before ReLU":    {small(72, w.Node("Pad", two("c", "ends"), []string{"q"}, nil), w.Node("Relu", []string{"q"}, p, nil)), ReasonArrangement, "follows padding"},
		"padding of channels":    {small(48, w.Node("Pad", two("c", "channels"), p, nil)), ReasonAttribute, "sides of images"},
		"less than no padding":   {small(24, w.Node("Pad", two("c", "less"), p, nil)), ReasonAttribute, "sides of images"},
		"padding with six":       {small(72, w.Node("Pad", []string{"c", "ends", "six"}, p, nil)), ReasonAttribute, "with 6"},
		"padding by reflection":  {small(72, w.Node("Pad", two("c", "ends"), p, w.Attributes{"mode": "reflect"})), ReasonAttribute, "reflect"},
		"mean of channels":       {small(16, w.Node("ReduceMean", two("c", "one"), p, nil)), ReasonArrangement, "axes [1]"},
		"mean of rows":           {small(32, w.Node("ReduceMean", two("c", "rows"), p, nil)), ReasonAttribute, "the rows stay"},
		"mean of all":            {small(1, w.Node("ReduceMean", c, p, nil)), ReasonAttribute, "axes"},
		"limits from -2 to 6":    {at(w.Node("Clip", []string{"c", "minus", "six"}, p, nil)), ReasonActivation, "from -2 to 6"},
		"limits from 6 to 0":     {at(w.Node("Clip", []string{"c", "six", "zero"}, p, nil)), ReasonActivation, "from 6 to 0"},
		"a limit for each value": {at(w.Node("Clip", []string{"c", "zero", "each"}, p, nil)), ReasonArrangement, "constant number"},
		"a negative slope":       {at(w.Node("LeakyRelu", c, p, w.Attributes{"alpha": float32(-0.1)})), ReasonActivation, "below zero"},
		"negative slopes":        {at(w.Node("PRelu", two("c", "slopes"), p, nil)), ReasonActivation, "below zero"},
		"slopes by place":        {at(w.Node("PRelu", two("c", "place"), p, nil)), ReasonArrangement, "positions"},
		"squeezed":               {at(w.Node("Squeeze", two("c", "one"), p, nil)), ReasonArrangement, "2 values"},
		"five dimensions":        {at(w.Node("Unsqueeze", two("c", "one"), p, nil)), ReasonArrangement, "at most 4"},
		"same size, dilated":     {at(w.Node("AveragePool", c, p, kernel(w.Attributes{"auto_pad": "SAME_UPPER", "dilations": []int64{1, 2}}))), ReasonAttribute, "different readers"},
		"same size, steps over":  {small(8, w.Node("MaxPool", c, p, w.Attributes{"kernel_shape": []int64{1, 1}, "strides": []int64{4, 1}, "auto_pad": "SAME_LOWER"})), ReasonAttribute, "different readers"},
		"axes twice":             {small(32, w.Node("Flatten", c, []string{"v"}, nil), w.Node("Unsqueeze", two("v", "both"), p, w.Attributes{"axes": []int64{1}})), ReasonAttribute, "twice"},
		"axes beside a number":   {small(32, w.Node("Flatten", c, []string{"v"}, nil), w.Node("Unsqueeze", two("v", "six"), p, w.Attributes{"axes": []int64{1}})), ReasonAttribute, "twice"},
		"means over axes twice":  {small(2, w.Node("ReduceMean", two("c", "one"), p, w.Attributes{"axes": []int64{2, 3}})), ReasonAttribute, "twice"},
		"LeakyReLU last":         {w.Dense(w.Node("LeakyRelu", []string{"y"}, p, nil)), ReasonArrangement, "must not"},
		"pool of a row":          {w.Dense(w.Node("MaxPool", []string{"y"}, p, kernel(w.Attributes{}))), ReasonArrangement, "want images"},
	} {
		switch name {
		case "zeros before largest":
			c.f = small(50, w.Node("Pad", two("c", "ends"), []string{"q"}, nil), w.Node("MaxPool", []string{"q"}, p, kernel(w.Attributes{})))
		case "slopes by place":
			many := make([]float32, 32)
			many[3] = 1
			c.f.Weights = append(c.f.Weights, w.Floats("place", []int64{2, 4, 4}, many...))
		}
		if strings.HasSuffix(name, "last") || name == "pool of a row" {
			c.f.Outputs = p
		}
		_, err := tryLoad(c.f)
		if reason, _ := refusal.ReasonOf(err); err == nil || reason != c.want || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %s and %q", name, err, c.want, c.says)
		}
	}
}
