package layers

import (
	"testing"

	"github.com/anchorhold/anchorhold/runtime/onnx"
	w "github.com/anchorhold/anchorhold/runtime/onnx/onnxtest"
)

// FuzzFromONNX: whatever the bytes, no panic; a network that comes out computes.
func FuzzFromONNX(f *testing.F) {
	f.Add(w.Dense().Model())
	f.Add(twoClass(w.Node("Sub", two("one", "s"), []string{"m"}, nil), w.Node("Concat", two("m", "s"), []string{"p"}, w.Attributes{"axis": 1})).Model())
	f.Add(w.Dense(w.Node("Softmax", []string{"y"}, []string{"p"}, nil), w.Node("ZipMap", []string{"p"}, []string{"z"}, w.Attributes{"classlabels_strings": []string{"no", "yes"}})).Model())
	f.Add(w.Graph([]w.Message{w.Value("x", 1, 0, 1, 4, 4)}, []w.Message{
		w.Node("Conv", two("x", "k"), []string{"c"}, w.Attributes{"strides": []int64{2, 2}, "pads": []int64{1, 1, 1, 1}}), w.Node("Relu", []string{"c"}, []string{"r"}, nil),
		w.Node("Reshape", two("r", "s"), []string{"f"}, nil), w.Node("MatMul", two("f", "w"), []string{"y"}, nil)},
		[]w.Message{w.Floats("k", []int64{1, 1, 2, 2}, 1, 2, 3, 4), w.Ints("s", []int64{2}, -1, 9), w.Floats("w", []int64{9, 2}, make([]float32, 18)...)}, []string{"y"}).Model())
	f.Add(w.Graph([]w.Message{w.Value("x", 11, 0, 3)}, []w.Message{
		w.Node("Scaler", []string{"x"}, []string{"a"}, w.Attributes{"offset": []float32{1}, "scale": []float32{2}}), w.Node("Cast", []string{"a"}, []string{"b"}, w.Attributes{"to": 1}),
		w.Node("Mul", two("b", "c"), []string{"d"}, nil), w.Node("Gemm", two("d", "w"), []string{"y"}, nil)},
		[]w.Message{w.Floats("c", []int64{3}, 1, 2, 3), w.Floats("w", []int64{3, 2}, 1, 2, 3, 4, 5, 6)}, []string{"y"}).Model())
	f.Add(w.Graph([]w.Message{w.Value("x", 1, 0, 6, 6, 2)}, []w.Message{
		w.Node("Transpose", []string{"x"}, []string{"t"}, w.Attributes{"perm": []int64{0, 3, 1, 2}}), w.Node("Pad", two("t", "zeros"), []string{"q"}, nil),
		w.Node("Conv", two("q", "k"), []string{"c"}, w.Attributes{"group": 2, "dilations": []int64{2, 1}, "strides": []int64{1, 2}}), w.Node("LeakyRelu", []string{"c"}, []string{"r"}, nil),
		w.Node("MaxPool", []string{"r"}, []string{"m"}, w.Attributes{"kernel_shape": []int64{2, 2}, "ceil_mode": 1}), w.Node("Clip", []string{"m", "zero", "six"}, []string{"l"}, nil),
		w.Node("AveragePool", []string{"l"}, []string{"a"}, w.Attributes{"kernel_shape": []int64{2, 2}, "auto_pad": "SAME_LOWER", "count_include_pad": 1}),
		w.Node("GlobalAveragePool", []string{"a"}, []string{"g"}, nil), w.Node("Squeeze", two("g", "axes"), []string{"f"}, nil), w.Node("MatMul", two("f", "w"), []string{"y"}, nil)},
		[]w.Message{w.Ints("zeros", []int64{8}, 0, 0, 1, 0, 0, 0, 1, 1), w.Floats("k", []int64{2, 1, 2, 2}, 1, 2, 3, 4, 5, 6, 7, 8), w.Floats("zero", nil, 0), w.Floats("six", nil, 6), w.Ints("axes", []int64{2}, 2, 3), w.Floats("w", []int64{2, 2}, 1, 2, 3, 4)}, []string{"y"}).Model())
	f.Add(w.Graph([]w.Message{w.Value("x", 1, 0, 2, 9)}, []w.Message{
		w.Node("Conv", two("x", "k"), []string{"c"}, w.Attributes{"auto_pad": "SAME_UPPER"}), w.Node("PRelu", two("c", "slopes"), []string{"r"}, nil),
		w.Node("ReduceMean", []string{"r"}, []string{"f"}, w.Attributes{"axes": []int64{-1}, "keepdims": 0}), w.Node("MatMul", two("f", "w"), []string{"y"}, nil)},
		[]w.Message{w.Floats("k", []int64{2, 2, 3}, make([]float32, 12)...), w.Floats("slopes", []int64{2, 1}, 0.1, 0.2), w.Floats("w", []int64{2, 2}, 1, 2, 3, 4)}, []string{"y"}).Model())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := onnx.Parse(b, nil)
		if err != nil {
			return
		}
		n, err := FromONNX(m)
		if err != nil {
			return
		}
		shapes := n.Shapes()
		work := 0
		for i, l := range n.Layers {
			work += len(l.Weights) * shapes[i+1].H * shapes[i+1].W
			if l.Pools() {
				work += l.Window.Area() * shapes[i+1].Len()
			}
		}
		if work > 1<<22 {
			return
		}
		if out, err := n.Forward(make([]float64, n.Input.Len()), nil); err != nil || len(out) != shapes[len(shapes)-1].Len() {
			t.Fatalf("%d scores, %v", len(out), err)
		}
	})
}
