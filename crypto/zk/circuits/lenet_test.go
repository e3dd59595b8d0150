package circuits

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/poseidon2"
	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/classifier"
	"github.com/anchorhold/anchorhold/runtime/layers"
	"github.com/anchorhold/anchorhold/runtime/onnx"
	w "github.com/anchorhold/anchorhold/runtime/onnx/onnxtest"
	"github.com/anchorhold/anchorhold/runtime/quantize"
)

// leNet is an ONNX file of LeNet-5 in the shape in which it is trained on images of 28 by 28 today, with random
// weights: two convolutions of 5 by 5, each with ReLU and an average pool, and three dense layers.
func leNet(r *rand.Rand) []byte {
	weights := func(name string, fan int, dims ...int64) w.Message {
		size := int64(1)
		for _, d := range dims {
			size *= d
		}
		list := make([]float32, size)
		for i := range list {
			list[i] = float32(r.NormFloat64() / math.Sqrt(float64(fan)))
		}
		return w.Floats(name, dims, list...)
	}
	relu := func(in, out string) w.Message { return w.Node("Relu", []string{in}, []string{out}, nil) }
	pool := func(in, out string) w.Message {
		return w.Node("AveragePool", []string{in}, []string{out}, w.Attributes{"kernel_shape": []int64{2, 2}, "strides": []int64{2, 2}})
	}
	gemm := func(in, name, out string) w.Message {
		return w.Node("Gemm", []string{in, name, name + "b"}, []string{out}, w.Attributes{"transB": 1})
	}
	return w.Graph([]w.Message{w.Value("x", 1, 0, 1, 28, 28)}, []w.Message{
		w.Node("Conv", []string{"x", "c1", "c1b"}, []string{"a"}, w.Attributes{"pads": []int64{2, 2, 2, 2}}), relu("a", "b"), pool("b", "c"),
		w.Node("Conv", []string{"c", "c2", "c2b"}, []string{"d"}, nil), relu("d", "e"), pool("e", "f"),
		w.Node("Flatten", []string{"f"}, []string{"g"}, nil),
		gemm("g", "d1", "h"), relu("h", "i"), gemm("i", "d2", "j"), relu("j", "k"), gemm("k", "d3", "y"),
	}, []w.Message{
		weights("c1", 25, 6, 1, 5, 5), weights("c1b", 16, 6), weights("c2", 150, 16, 6, 5, 5), weights("c2b", 16, 16),
		weights("d1", 400, 120, 400), weights("d1b", 16, 120), weights("d2", 120, 84, 120), weights("d2b", 16, 84), weights("d3", 84, 10, 84), weights("d3b", 16, 10),
	}, []string{"y"}).Model()
}

// A file of LeNet-5 becomes a classifier whose scores are those of the file, and a circuit in which they are
// provable and no others are. One answer is proven with Groth16.
func TestLeNetIsProven(t *testing.T) {
	longtest.Arithmetic(t, "a circuit of LeNet-5 is compiled, solved eleven times and proven")
	r := rand.New(rand.NewPCG(5, 5))
	file, err := onnx.Parse(leNet(r), nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := layers.FromONNX(file)
	if err != nil {
		t.Fatal(err)
	}
	rows := &quantize.Rows{Width: 28 * 28, Values: make([]float64, 64*28*28)}
	for i := range rows.Values {
		rows.Values[i] = r.Float64()
	}
	d, p, err := quantize.Convert(n, rows)
	if err != nil {
		t.Fatal(err)
	}
	if report, err := quantize.Compare(n, d, p, rows, nil); err != nil || report.ScoreError > 0.1 {
		t.Fatalf("%v, and scores are off by %.3f of their deviation", err, report.ScoreError)
	} else {
		t.Logf("scores are off by %.3f of their deviation", report.ScoreError)
	}
	var kinds []intnet.Kind
	for _, l := range d.Architecture.Layers {
		kinds = append(kinds, l.Kind)
	}
	if want := []intnet.Kind{intnet.Conv, intnet.SumPool, intnet.Conv, intnet.SumPool, intnet.Dense, intnet.Dense, intnet.Dense}; !slices.Equal(kinds, want) {
		t.Fatalf("layers of kinds %v, want %v", kinds, want)
	}
	spec := Inference{d.Architecture, 1}
	if err := spec.Check(); err != nil {
		t.Fatal(err)
	}
	item := Item{Input: make([]int8, rows.Width)}
	if _, err := classifier.Quantize(&d.Quantizer, rows.Row(0), item.Input); err != nil {
		t.Fatal(err)
	}
	network := &intnet.Network{Architecture: d.Architecture, Parameters: p}
	c, err := CompileInference(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d constraints", c.Constraints())
	assigned, err := spec.assign(Assignment{Network: network, Items: []Item{item}, Statement: poseidon2.FromUint64(5)})
	if err != nil {
		t.Fatal(err)
	}
	if err := solve(t, c.System, assigned); err != nil {
		t.Fatal(err)
	}
	for i, score := range assigned.Items[0].Outputs {
		assigned.Items[0].Outputs[i] = score.(int32) + 1
		if solve(t, c.System, assigned) == nil {
			t.Errorf("another score of class %d was accepted", i)
		}
		assigned.Items[0].Outputs[i] = score
	}

	k := setup(t, c, nil)
	st := inferenceStatement(t, c, network, []Item{item})
	proof, err := ProveInference(c, spec, k.proving, Assignment{Network: network, Items: []Item{item}, Statement: statementElement(t, st)}, func(Phase) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.both(t, proof, publicInputs(t, st)); err != nil {
		t.Fatal(err)
	}
	st.Inference.Items[0].Outputs[3]++
	if k.both(t, proof, publicInputs(t, st)) == nil {
		t.Error("the proof is taken for another score")
	}
}
