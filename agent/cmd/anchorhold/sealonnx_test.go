package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	w "github.com/anchorhold/anchorhold/runtime/onnx/onnxtest"
)

// sealBench has what sealing needs; classifier seals FILE.onnx of a graph.
type sealBench struct {
	t   *testing.T
	dir string
	n   int
	// told is what the last one said on standard error.
	told bytes.Buffer
}

func newSealBench(t *testing.T) *sealBench {
	b := &sealBench{t: t, dir: t.TempDir()}
	clitest.Write(t, b.path("key"), strings.Repeat("k", chunkseal.KeySize))
	clitest.Write(t, b.path("credential"), strings.Repeat("c", 32))
	expectRun(t, 0, "", "keygen", "publisher", "--out", b.path("publisher"), "--credential-file", b.path("credential"))
	return b
}

func (b *sealBench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *sealBench) seal(f w.Fixture, more ...string) (out string, status int, err error) {
	b.t.Helper()
	b.n++
	model := clitest.Write(b.t, b.path(fmt.Sprintf("m%d.onnx", b.n)), string(f.Model()))
	args := []string{"seal", model, "--out", b.path(fmt.Sprintf("m%d.ahm", b.n)), "--key", b.path("key"), "--publisher", b.path("publisher"), "--credential-file", b.path("credential"), "--name", "m", "--model-version", "1"}
	b.told.Reset()
	return runTelling(b.t, &b.told, append(args, more...)...)
}

// logistic is scikit-learn's LogisticRegression of 3 features, as skl2onnx writes it.
func logistic() w.Fixture {
	f := w.Graph([]w.Message{w.Value("X", 1, 0, 3)}, []w.Message{
		w.Node("LinearClassifier", []string{"X"}, []string{"label", "p"}, w.Attributes{"coefficients": []float32{-1, -2, 3, 1, 2, -3}, "intercepts": []float32{-0.5, 0.5},
			"classlabels_strings": []string{"benign", "malignant"}, "multi_class": 0, "post_transform": "LOGISTIC"}),
		w.Node("ZipMap", []string{"p"}, []string{"map"}, w.Attributes{"classlabels_strings": []string{"benign", "malignant"}})}, nil, []string{"label", "map"})
	f.Opsets = []w.Message{w.Opset("ai.onnx.ml", 1), w.Opset("", 22), w.Opset("", 22)}
	return f
}

// rowsOf writes rows of 3 values up to a size, and the classes that logistic gives them.
func (b *sealBench) rowsOf(name string, size float64, seed uint64) (rows, answers string) {
	r := rand.New(rand.NewPCG(seed, 1))
	var text, labels strings.Builder
	for range 400 {
		x := [3]float64{}
		for i := range x {
			x[i] = size * (2*r.Float64() - 1)
		}
		fmt.Fprintf(&text, "%g,%g,%g\n", x[0], x[1], x[2])
		label := "benign"
		if x[0]+2*x[1]-3*x[2]+0.5 > 0 {
			label = "malignant"
		}
		fmt.Fprintln(&labels, label)
	}
	return clitest.Write(b.t, b.path(name+".csv"), text.String()), clitest.Write(b.t, b.path(name+".labels"), labels.String())
}

// TestSealSaysWhatAClassifierIs: LogisticRegression, whose file imports an operator set
// twice, with its labels, its clipping and what INT8 cost.
func TestSealSaysWhatAClassifierIs(t *testing.T) {
	b := newSealBench(t)
	calibration, _ := b.rowsOf("calibration", 1, 1)
	test, answers := b.rowsOf("test", 1, 2)
	out, status, err := b.seal(logistic(), "--calibration", calibration, "--test", test, "--answers", answers)
	if status != 0 {
		t.Fatal(err)
	}
	for _, want := range []string{"classes   2: benign, malignant", "their softmax is the file's probabilities", "clipped   calibration: input 0.00 %", "test: input ", "of 400 test rows have the same answer; "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	out, status, err = b.seal(logistic(), "--calibration", calibration, "--json")
	var result struct {
		Classes  int
		Labels   []string
		Softmax  bool
		Clipping struct {
			Calibration struct{ Layers []float64 }
			Test        *struct{}
		}
		Warnings     []string
		Quantization *struct{}
	}
	if json.Unmarshal([]byte(out), &result) != nil || status != 0 || result.Classes != 2 || fmt.Sprint(result.Labels) != "[benign malignant]" || !result.Softmax ||
		result.Clipping.Calibration.Layers == nil || result.Clipping.Test != nil || result.Warnings == nil || len(result.Warnings) != 0 || result.Quantization != nil {
		t.Errorf("%v\n%s", err, out)
	}
	out, _, _ = b.seal(w.Dense(), "--calibration", calibration)
	if !strings.Contains(out, "2, without labels: an answer is a number from 0 to 1") || !strings.Contains(out, "rank the classes") {
		t.Error(out)
	}
}

// TestAnINT8ThatAnswersOtherwiseIsNotSealedInSilence: two classes whose weights differ by
// less than a step, compared on test rows, or on those of the calibration.
func TestAnINT8ThatAnswersOtherwiseIsNotSealedInSilence(t *testing.T) {
	b := newSealBench(t)
	calibration, _ := b.rowsOf("calibration", 1, 1)
	test, _ := b.rowsOf("test", 1, 2)
	f := w.Dense()
	f.Weights = append(f.Weights[2:], w.Floats("w", []int64{2, 3}, 1, 0.7, -0.5, 1.001, 0.701, -0.499), w.Floats("b", []int64{2}, 0, 0))
	for rows, args := range map[string][]string{"calibration": {"--calibration", calibration}, "test": {"--calibration", calibration, "--test", test}} {
		out, status, err := b.seal(f, append(args, "--json")...)
		var result struct{ Warnings []string }
		if status != 0 || json.Unmarshal([]byte(out), &result) != nil || len(result.Warnings) != 1 || !strings.Contains(result.Warnings[0], "of the "+rows+" rows") {
			t.Errorf("%s: status %d: %v\n%s", rows, status, err, out)
		}
		if !strings.Contains(b.told.String(), "warning: the INT8 classifier answers differently from the file for ") {
			t.Errorf("%s: %q", rows, b.told.String())
		}
	}
}

// TestANarrowCalibrationIsNotSealedInSilence: warned of, and refused where the test rows
// show that much is clipped, with the accuracy that it costs.
func TestANarrowCalibrationIsNotSealedInSilence(t *testing.T) {
	b := newSealBench(t)
	calibration, _ := b.rowsOf("narrow", 0.1, 1)
	little, _ := b.rowsOf("little", 0.96, 1)
	test, answers := b.rowsOf("test", 1, 2)
	with := []string{"--calibration", calibration, "--test", test, "--answers", answers}
	_, status, err := b.seal(logistic(), with...)
	if status != cli.StatusRefused || !strings.Contains(err.Error(), "calibration-narrow: 9") || !strings.Contains(err.Error(), "--allow-clipping") || !strings.Contains(err.Error(), " are correct, ") {
		t.Errorf("status %d: %v", status, err)
	}
	if _, err := os.Stat(b.path("m1.ahm")); err == nil {
		t.Error("it was sealed")
	}
	out, status, err := b.seal(logistic(), append(with, "--allow-clipping")...)
	if status != 0 || !strings.HasPrefix(b.told.String(), "warning: 9") || !strings.Contains(b.told.String(), "of the values of the input are clipped for the test rows") {
		t.Errorf("status %d: %v\n%s", status, err, out)
	}
	if out, status, err = b.seal(logistic(), "--calibration", little, "--test", test); status != 0 || !strings.HasPrefix(b.told.String(), "warning: ") {
		t.Errorf("status %d: %v\n%s", status, err, out)
	}
	if out, status, err = b.seal(logistic(), "--calibration", test, "--test", test); status != 0 || b.told.Len() != 0 {
		t.Errorf("status %d: %v\n%s", status, err, out)
	}
}

// TestClassifiersAreRefusedByWhatTheyAre, with the status of a refusal and nothing written.
func TestClassifiersAreRefusedByWhatTheyAre(t *testing.T) {
	b := newSealBench(t)
	calibration, _ := b.rowsOf("calibration", 1, 1)
	trees := logistic()
	trees.Nodes[0] = w.Node("ai.onnx.ml.TreeEnsembleClassifier", []string{"X"}, []string{"label", "p"}, nil)
	deep := w.Dense()
	deep.Nodes = nil
	for i := range 70 { // more layers than a classifier has here
		deep.Nodes = append(deep.Nodes, w.Node("MatMul", []string{fmt.Sprintf("v%d", i), "square"}, []string{fmt.Sprintf("z%d", i)}, nil), w.Node("Relu", []string{fmt.Sprintf("z%d", i)}, []string{fmt.Sprintf("v%d", i+1)}, nil))
	}
	deep.Inputs = []w.Message{w.Value("v0", 1, 0, 3)}
	deep.Weights = append(deep.Weights, w.Floats("square", []int64{3, 3}, 1, 0, 0, 0, 1, 0, 0, 0, 1))
	deep.Nodes = append(deep.Nodes, w.Node("Gemm", []string{"v70", "w", "b"}, []string{"y"}, w.Attributes{"transB": 1}))
	broken := w.Dense()
	broken.Weights[0] = broken.Weights[0][:4]
	for name, c := range map[string]struct {
		f    w.Fixture
		says string
	}{
		"trees":  {trees, "model-trees: operator ai.onnx.ml.TreeEnsembleClassifier"},
		"deep":   {deep, "model-too-large: "},
		"broken": {broken, "onnx-malformed: "},
		"labels": {w.Dense(w.Node("ZipMap", []string{"y"}, []string{"z"}, w.Attributes{"classlabels_strings": []string{"a\nb", "c"}})), "model-classes: "},
	} {
		out, status, err := b.seal(c.f, "--calibration", calibration)
		if text, status, _ := run(t, "seal", "--check", b.path(fmt.Sprintf("m%d.onnx", b.n))); status != cli.StatusRefused || !strings.Contains(text, strings.TrimSuffix(strings.Fields(c.says)[0], ":")) {
			t.Errorf("%s: --check has status %d\n%s", name, status, text)
		}
		if status != cli.StatusRefused || !strings.Contains(clitest.ErrorText(err), c.says) {
			t.Errorf("%s: status %d, %v\n%s", name, status, err, out)
		}
		if _, err := os.Stat(b.path(fmt.Sprintf("m%d.ahm", b.n))); err == nil {
			t.Errorf("%s: it was sealed", name)
		}
	}
}
