package onnxtest

import (
	"fmt"
	"math"
	"slices"
)

// Variant is an ONNX file that is refused for one reason.
type Variant struct {
	// Name says what the file is.
	Name string
	// Want is the first reason code.
	Want string
	// File is the file.
	File []byte
}

// Variants has a file for each reason for which ONNX files are refused without rows of inputs.
func Variants() []Variant {
	list := func(names ...string) []string { return names }
	// network is Dense with these nodes alone, and more constants.
	network := func(nodes ...Message) Fixture {
		f := Dense()
		f.Nodes, f.Outputs = nodes, list("p")
		f.Weights = append(f.Weights, Shaped("half", 10, []int64{1}).Bytes(9, []byte{0, 0}), Floats("square", []int64{3, 3}, make([]float32, 9)...))
		return f
	}
	dense := Dense().Nodes[0]
	named := func(name, want string, f Fixture) Variant { return Variant{name, want, f.Model()} }
	change := func(edit func(f *Fixture)) Fixture {
		f := Dense()
		edit(&f)
		return f
	}
	linear := func(edit Attributes) Fixture {
		all := Attributes{"coefficients": []float32{1, 2, 3, 4, 5, 6}, "intercepts": []float32{10, 20}, "classlabels_ints": []int64{0, 1}, "post_transform": "SOFTMAX"}
		for key, value := range edit {
			all[key] = value
		}
		f := network(Node("ai.onnx.ml.LinearClassifier", list("x"), list("l", "p"), all))
		return f
	}
	body := Message(nil).String(1, "body").Bytes(6, nil).Int(20, 5)
	external := Shaped("w", 1, []int64{2, 3}).Bytes(13, Message(nil).String(1, "location").String(2, "weights.bin")).Int(14, 1)
	return []Variant{
		named("decision trees", "model-trees", network(Node("ai.onnx.ml.TreeEnsembleClassifier", list("x"), list("l", "p"), Attributes{"nodes_truenodeids": []int64{1}}))),
		named("a support vector machine", "model-kernels", network(Node("ai.onnx.ml.SVMClassifier", list("x"), list("l", "p"), nil))),
		named("nearest neighbours", "model-neighbours", network(Node("com.microsoft.CDist", list("x", "w"), list("d"), nil), Node("TopK", list("d", "flat"), list("p", "i"), nil))),
		named("two classifiers", "model-several", network(Node("ai.onnx.ml.LinearClassifier", list("x"), list("l", "q"), Attributes{"coefficients": []float32{1, 2, 3, 4, 5, 6}, "intercepts": []float32{10, 20}, "classlabels_ints": []int64{0, 1}}),
			Node("ai.onnx.ml.LinearClassifier", list("q"), list("m", "p"), Attributes{"coefficients": []float32{1, 2, 3, 4}, "intercepts": []float32{1, 2}, "classlabels_ints": []int64{0, 1}}))),
		named("an LSTM", "model-recurrent", network(Node("LSTM", list("x", "w", "w"), list("p", "b", "c"), nil))),
		named("attention", "model-attention", network(Node("Transpose", list("x"), list("t"), nil), Node("MatMul", list("x", "t"), list("p"), nil))),
		named("quantized weights", "model-quantized", network(Node("DequantizeLinear", list("half", "one"), list("v"), nil), Node("MatMul", list("x", "v"), list("p"), nil))),
		named("a GELU", "operator-activation", network(dense, Node("Gelu", list("y"), list("p"), nil))),
		named("an Lp pool", "operator-pooling", network(Node("LpPool", list("x"), list("p"), Attributes{"kernel_shape": []int64{2, 2}}))),
		named("layer normalization", "operator-normalization", network(Node("LayerNormalization", list("x", "w"), list("p", "a", "b"), nil))),
		named("an imputer", "operator-preprocessing", network(Node("ai.onnx.ml.Imputer", list("x"), list("v"), nil), Node("MatMul", list("v", "w"), list("p"), nil))),
		named("a loop", "operator-control-flow", network(Node("Scan", list("x", "w"), list("p", "b"), nil).Bytes(5, body))),
		named("an operator of somebody's own", "operator-unsupported", network(Node("org.example.Dense", list("x"), list("p"), nil))),
		named("a residual network", "model-residual", network(dense, Node("Relu", list("y"), list("r"), nil), Node("Add", list("y", "r"), list("p"), nil))),
		named("a layer of two inputs", "operator-arrangement", network(Node("Relu", list("x", "w"), list("p"), nil))),
		named("an attribute of an older version", "operator-attribute", network(Node("Gemm", list("x", "w", "b"), list("p"), Attributes{"transB": 1, "broadcast": 1}))),
		named("weights in float16", "onnx-type", network(Node("MatMul", list("x", "half"), list("p"), nil))),
		named("an operator set of the future", "onnx-opset", change(func(f *Fixture) { f.Opsets = []Message{Opset("", 99)} })),
		named("two inputs", "onnx-input", change(func(f *Fixture) { f.Inputs = append(f.Inputs, Value("z", 1, 0, 3)) })),
		named("no output", "onnx-output", change(func(f *Fixture) { f.Outputs = nil })),
		named("labels for three of two classes", "model-classes", linear(Attributes{"classlabels_ints": []int64{7, 8, 9}})),
		named("an infinite weight", "model-weights", linear(Attributes{"coefficients": []float32{1, 2, 3, 4, 5, float32(math.Inf(1))}})),
		named("65 layers", "model-too-large", network(deep(65)...)),
		{"not an ONNX file", "onnx-malformed", []byte("MZ\x90\x00")},
		{"an empty file", "onnx-malformed", nil},
		{"a GGUF file", "onnx-malformed", []byte("GGUF\x03")},
		{"a file of PyTorch", "onnx-malformed", []byte("PK\x03\x04")},
		named("a tensor of 20 dimensions", "onnx-too-large", change(func(f *Fixture) {
			f.Weights = append(f.Weights, Shaped("big", 1, slices.Repeat([]int64{1}, 20)).Bytes(9, make([]byte, 4)))
		})),
		{"training information", "onnx-feature", Message(Dense().Model()).Bytes(20, Message(nil))},
		named("weights in a file that is not there", "onnx-weights", change(func(f *Fixture) { f.Weights[0] = external })),
	}
}

// deep is a chain of n layers of network's constant square, from x to p.
func deep(n int) (nodes []Message) {
	in := "x"
	for i := range n {
		out := fmt.Sprintf("h%d", i)
		if i == n-1 {
			out = "p"
		}
		nodes = append(nodes, Node("MatMul", []string{in, "square"}, []string{out}, nil))
		if in = out; i < n-1 {
			in = out + "+"
			nodes = append(nodes, Node("Relu", []string{out}, []string{in}, nil))
		}
	}
	return nodes
}
