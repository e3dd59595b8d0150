package layers

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	w "github.com/anchorhold/anchorhold/runtime/onnx/onnxtest"
)

// TestOperatorsAreNamedFirst: what a file is comes before how many outputs a node has, what
// types its tensors are, and what else is in it.
func TestOperatorsAreNamedFirst(t *testing.T) {
	half := w.Shaped("half", 10, []int64{1}).Bytes(9, []byte{0, 0})
	graph := w.Message(nil).String(1, "body").Bytes(6, nil).Int(20, 5)
	cases := map[string]struct {
		nodes []w.Message
		want  refusal.Reason
		says  string
	}{
		"trees":    {[]w.Message{w.Node("ai.onnx.ml.TreeEnsembleClassifier", []string{"x"}, two("l", "p"), w.Attributes{"nodes_truenodeids": []int64{1}})}, ReasonTrees, "ai.onnx.ml.TreeEnsembleClassifier"},
		"new tree": {[]w.Message{w.Node("ai.onnx.ml.TreeEnsemble", []string{"x"}, []string{"p"}, w.Attributes{"nodes_modes": half})}, ReasonTrees, "TreeEnsemble"},
		"svm":      {[]w.Message{w.Node("ai.onnx.ml.SVMClassifier", []string{"x"}, two("l", "p"), nil)}, ReasonKernels, "LinearSVC"},
		"neighbours": {[]w.Message{w.Node("com.microsoft.CDist", two("x", "w"), []string{"d"}, nil), w.Node("TopK", two("d", "flat"), two("v", "i"), nil)},
			ReasonNeighbours, "CDist"},
		"scan":             {[]w.Message{w.Node("Scan", two("x", "w"), two("a", "b"), nil).Bytes(5, graph)}, ReasonControl, "Scan"},
		"gelu":             {[]w.Message{w.Dense().Nodes[0], w.Node("Gelu", []string{"y"}, []string{"p"}, nil)}, ReasonActivation, `operator Gelu (node "the Gelu")`},
		"erf":              {[]w.Message{w.Dense().Nodes[0], w.Node("Div", two("y", "one"), []string{"d"}, nil), w.Node("Erf", []string{"d"}, []string{"e"}, nil), w.Node("Mul", two("y", "e"), []string{"p"}, nil)}, ReasonActivation, "Erf"},
		"silu":             {[]w.Message{w.Dense().Nodes[0], w.Node("Sigmoid", []string{"y"}, []string{"s"}, nil), w.Node("Mul", two("y", "s"), []string{"h"}, nil), w.Node("MatMul", two("h", "w"), []string{"p"}, nil)}, ReasonActivation, ""},
		"hidden sigmoid":   {[]w.Message{w.Dense().Nodes[0], w.Node("Sigmoid", []string{"y"}, []string{"s"}, nil), w.Node("MatMul", two("s", "w"), []string{"p"}, nil)}, ReasonActivation, "Sigmoid"},
		"sigmoids":         {[]w.Message{w.Dense().Nodes[0], w.Node("Sigmoid", []string{"y"}, []string{"p"}, nil)}, ReasonClasses, "several"},
		"residual":         {[]w.Message{w.Dense().Nodes[0], w.Node("Relu", []string{"y"}, []string{"r"}, nil), w.Node("Add", two("y", "r"), []string{"p"}, nil)}, ReasonResidual, `operator Add (node "the Add")`},
		"residual of x":    {[]w.Message{w.Node("MatMul", two("x", "square"), []string{"y"}, nil), w.Node("Add", two("y", "x"), []string{"p"}, nil)}, ReasonResidual, ""},
		"attention":        {[]w.Message{w.Node("Transpose", []string{"x"}, []string{"t"}, nil), w.Node("MatMul", two("x", "t"), []string{"p"}, nil)}, ReasonAttention, ""},
		"branches":         {[]w.Message{w.Dense().Nodes[0], w.Node("MatMul", two("x", "square"), []string{"z"}, nil), w.Node("Sub", two("y", "z"), []string{"p"}, nil)}, ReasonResidual, ""},
		"pooling":          {[]w.Message{w.Node("LpPool", []string{"x"}, []string{"p"}, w.Attributes{"ceil_mode": 1})}, ReasonPooling, "stride"},
		"layer norm":       {[]w.Message{w.Node("LayerNormalization", []string{"x", "w"}, []string{"p", "a", "b"}, nil)}, ReasonNormalization, ""},
		"row norm":         {[]w.Message{w.Node("Normalizer", []string{"x"}, []string{"n"}, w.Attributes{"norm": "L2"}), w.Node("MatMul", two("n", "w"), []string{"p"}, nil)}, ReasonNormalization, "Normalizer"},
		"recurrent":        {[]w.Message{w.Node("LSTM", []string{"x", "w", "w"}, []string{"a", "b", "c"}, nil)}, ReasonRecurrent, ""},
		"quantized":        {[]w.Message{w.Node("DequantizeLinear", two("half", "one"), []string{"v"}, nil), w.Node("MatMul", two("x", "v"), []string{"p"}, nil)}, ReasonQuantized, "--calibration"},
		"imputer":          {[]w.Message{w.Node("ai.onnx.ml.Imputer", []string{"x"}, []string{"v"}, nil), w.Node("MatMul", two("v", "w"), []string{"p"}, nil)}, ReasonPreprocessing, "Imputer"},
		"other domain":     {[]w.Message{w.Node("org.example.Dense", []string{"x"}, []string{"p"}, nil)}, ReasonOperator, "org.example.Dense"},
		"half":             {[]w.Message{w.Node("MatMul", two("x", "half"), []string{"p"}, nil)}, ReasonType, "float16"},
		"half bias":        {[]w.Message{w.Node("Add", two("x", "half"), []string{"v"}, nil), w.Node("MatMul", two("v", "w"), []string{"p"}, nil)}, ReasonType, "float16"},
		"an attribute":     {[]w.Message{w.Node("Gemm", []string{"x", "w", "b"}, []string{"p"}, w.Attributes{"transB": 1, "broadcast": 1})}, ReasonAttribute, "broadcast"},
		"of another type":  {[]w.Message{w.Node("Gemm", []string{"x", "w", "b"}, []string{"p"}, w.Attributes{"transB": float32(1)})}, ReasonAttribute, "transB"},
		"scores as images": {[]w.Message{w.Dense().Nodes[0], w.Node("Reshape", two("y", "image"), []string{"s"}, nil), w.Node("Softmax", []string{"s"}, []string{"p"}, w.Attributes{"axis": 1})}, ReasonArrangement, "4 dimensions"},
		"behind a pair": {[]w.Message{w.Node("Relu", []string{"x"}, []string{"r"}, nil), w.Node("MatMul", two("r", "column"), []string{"z"}, nil), w.Node("Sigmoid", []string{"z"}, []string{"q"}, nil),
			w.Node("Sub", two("one", "q"), []string{"n"}, nil), w.Node("Concat", two("n", "q"), []string{"p"}, w.Attributes{"axis": 1})}, ReasonArrangement, "Relu"},
		"many inputs": {[]w.Message{w.Node("Relu", []string{"x", "w"}, []string{"p"}, nil)}, ReasonArrangement, "2 inputs"},
	}
	for name, c := range cases {
		f := w.Dense()
		f.Nodes, f.Outputs = c.nodes, []string{"p"}
		f.Weights = append(f.Weights, half, w.Floats("square", []int64{3, 3}, make([]float32, 9)...), w.Ints("image", []int64{4}, -1, 1, 2, 1), w.Floats("column", []int64{3, 1}, 1, 1, 1))
		n, err := tryLoad(f)
		if reason, _ := refusal.ReasonOf(err); reason != c.want || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %+v, want %s and %q", name, err, n, c.want, c.says)
		}
		if r, ok := errors.AsType[*Refused](err); !ok || len(r.Reasons) == 0 {
			t.Errorf("%s: %v is no *Refused", name, err)
		}
	}
}

// TestEveryOperatorIsNamed in one refusal, what says most first.
func TestEveryOperatorIsNamed(t *testing.T) {
	f := w.Dense(w.Node("Pow", two("y", "one"), []string{"a"}, nil), w.Node("Pow", two("a", "one"), []string{"b"}, nil), w.Node("LpPool", []string{"b"}, []string{"c"}, nil),
		w.Node("ai.onnx.ml.TreeEnsembleRegressor", []string{"c"}, []string{"p"}, nil))
	_, err := tryLoad(f)
	r, ok := errors.AsType[*Refused](err)
	if !ok || len(r.Reasons) != 3 {
		t.Fatal(err)
	}
	for i, want := range []refusal.Reason{ReasonTrees, ReasonPooling, ReasonOperator} {
		if r.Reasons[i].Reason != want {
			t.Errorf("%d: %v", i, r.Reasons[i])
		}
	}
	if text := err.Error(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "the first of 2") || len(r.Unwrap()) != 3 {
		t.Error(text)
	}
}

func TestOperatorSets(t *testing.T) {
	for name, c := range map[string]struct {
		sets []w.Message
		ok   bool
	}{
		"as always":               {[]w.Message{w.Opset("", 17)}, true},
		"twice":                   {[]w.Message{w.Opset("", 22), w.Opset("", 22)}, true},
		"by both names":           {[]w.Message{w.Opset("ai.onnx", 17), w.Opset("", 17)}, true},
		"the highest counts":      {[]w.Message{w.Opset("", maxOpset+1), w.Opset("", 17)}, false},
		"another that nobody has": {[]w.Message{w.Opset("", 17), w.Opset("org.example", 3)}, true},
		"lowest":                  {[]w.Message{w.Opset("", minOpset)}, true},
		"highest":                 {[]w.Message{w.Opset("", maxOpset)}, true},
		"too low":                 {[]w.Message{w.Opset("", minOpset-1)}, false},
		"too high":                {[]w.Message{w.Opset("", maxOpset+1)}, false},
		"missing":                 {[]w.Message{w.Opset("ai.onnx.ml", 1)}, false},
	} {
		f := w.Dense()
		f.Opsets = c.sets
		_, err := tryLoad(f)
		if reason, _ := refusal.ReasonOf(err); (err == nil) != c.ok || err != nil && reason != ReasonOpset {
			t.Errorf("%s: %v", name, err)
		}
	}
	f := linear(w.Attributes{})
	for version, ok := range map[int64]bool{0: false, 1: true, maxMLOpset: true, maxMLOpset + 1: false} {
		f.Opsets = []w.Message{w.Opset("", 17), w.Opset("ai.onnx.ml", version)}
		if _, err := tryLoad(f); (err == nil) != ok {
			t.Errorf("ai.onnx.ml %d: %v", version, err)
		}
	}
}

// TestReasonsAreDocumented in the table of docs/classifiers.md, this package's and the
// reader's.
func TestReasonsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/classifiers.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range []string{"refusal.go", "../onnx/model.go", "../quantize/clipping.go"} {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`Reason\w+ refusal\.Reason = "([a-z-]+)"`).FindAllStringSubmatch(string(src), -1) {
			found++
			if !strings.Contains(string(doc), "`"+m[1]+"`") {
				t.Errorf("the reason %s is not in docs/classifiers.md", m[1])
			}
		}
	}
	if found < 25 {
		t.Errorf("only %d reasons were found: the search is broken", found)
	}
}
