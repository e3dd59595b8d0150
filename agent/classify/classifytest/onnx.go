package classifytest

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/runtime/classifier"
	"github.com/anchorhold/anchorhold/runtime/layers"
	"github.com/anchorhold/anchorhold/runtime/onnx"
	w "github.com/anchorhold/anchorhold/runtime/onnx/onnxtest"
	"github.com/anchorhold/anchorhold/runtime/quantize"
)

// converted writes an ONNX file of Network's layers with random weights, and reads, converts
// and quantizes it as the command line does.
func converted(t testing.TB, seed uint64) (*intnet.Network, *classifier.Description) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 5))
	values := func(n int) (list []float32) {
		for range n {
			list = append(list, float32(2*r.Float64()-1))
		}
		return list
	}
	file := w.Graph([]w.Message{w.Value("x", 1, 0, Inputs)}, []w.Message{
		w.Node("Gemm", []string{"x", "w0", "b0"}, []string{"h"}, w.Attributes{"transB": 1}),
		w.Node("Relu", []string{"h"}, []string{"a"}, nil),
		w.Node("Gemm", []string{"a", "w1", "b1"}, []string{"y"}, w.Attributes{"transB": 1}),
	}, []w.Message{
		w.Floats("w0", []int64{hidden, Inputs}, values(hidden*Inputs)...), w.Floats("b0", []int64{hidden}, values(hidden)...),
		w.Floats("w1", []int64{Outputs, hidden}, values(Outputs*hidden)...), w.Floats("b1", []int64{Outputs}, values(Outputs)...),
	}, []string{"y"})
	path := filepath.Join(t.TempDir(), "small.onnx")
	if err := os.WriteFile(path, file.Model(), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := onnx.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := layers.FromONNX(m)
	if err != nil {
		t.Fatal(err)
	}
	rows := &quantize.Rows{Width: Inputs}
	for range 64 * Inputs {
		rows.Values = append(rows.Values, 2*r.Float64()-1)
	}
	d, p, err := quantize.Convert(n, rows)
	if err != nil {
		t.Fatal(err)
	}
	return &intnet.Network{Architecture: d.Architecture, Parameters: p}, d
}
