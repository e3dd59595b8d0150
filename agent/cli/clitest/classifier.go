package clitest

import (
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/runtime/onnx/onnxtest"
)

// SmallClassifier is an ONNX file and rows for its calibration.
func SmallClassifier(t *testing.T) (model, rows string) {
	t.Helper()
	dir := t.TempDir()
	m := onnxtest.Graph([]onnxtest.Message{onnxtest.Value("x", 1, 0, 3)},
		[]onnxtest.Message{onnxtest.Node("Gemm", []string{"x", "w", "b"}, []string{"y"}, onnxtest.Attributes{"transB": 1})},
		[]onnxtest.Message{onnxtest.Floats("w", []int64{2, 3}, 1, 2, 3, 4, 5, 6), onnxtest.Floats("b", []int64{2}, 5, 10)}, []string{"y"}).Model()
	return Write(t, filepath.Join(dir, "m.onnx"), string(m)), Write(t, filepath.Join(dir, "rows.csv"), "1,0,2\n0,1,1\n-1,2,0\n")
}
