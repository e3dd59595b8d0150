package quantize

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/layers"
	"github.com/anchorhold/anchorhold/runtime/onnx"
)

// chains writes random chains of operators, most of which are right ONNX and few of which
// anybody would train, with rows and onnxruntime's scores of them.
const chains = `
import base64, json, sys
import numpy as np, onnx, onnxruntime as ort
from onnx import helper as h, numpy_helper as nh
ort.set_default_logger_severity(4)
options = ort.SessionOptions()
options.log_severity_level, options.intra_op_num_threads = 4, 1
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL

class Chain:
    def __init__(self, seed):
        self.r, self.nodes, self.weights, self.count, self.x = np.random.default_rng(seed), [], [], 0, "x"
        r = self.r
        self.opset = int(r.choice([9, 11, 12, 13, 15, 17, 21, 22]))
        self.input = [int(r.integers(2, 7))] if r.random() < .2 else [int(r.integers(1, 4)), int(r.integers(3, 9))] if r.random() < .2 else [int(r.integers(1, 4)), int(r.integers(3, 6)), int(r.integers(3, 6))]
        self.shape = list(self.input)
    def name(self):
        self.count += 1
        return "v%d" % self.count
    def constant(self, value):
        self.weights.append(nh.from_array(np.asarray(value), self.name()))
        return self.weights[-1].name
    def floats(self, *shape): return (self.r.standard_normal(shape) * .6).astype(np.float32)
    def add(self, op, *constants, first=False, **attributes):
        ins = [self.x] + [self.constant(c) for c in constants]
        out = self.name()
        self.nodes.append(h.make_node(op, ins[::-1] if first else ins, [out], **attributes))
        self.x = out
    def session(self):
        model = h.make_model(h.make_graph(self.nodes, "g", [h.make_tensor_value_info("x", 1, ["N"] + self.input)], [h.make_empty_tensor_value_info(self.x)], self.weights),
            opset_imports=[h.make_opsetid("", self.opset)], ir_version=8).SerializeToString()
        return model, ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    def run(self, rows): return self.session()[1].run(None, {"x": rows})[0]
    def dense(self, out):
        r, n = self.r, self.shape[0]
        if r.random() < .3: return self.add("MatMul", self.floats(n, out))
        by_row, bias = int(r.integers(0, 2)), [(out,), (1, out), (1,), ()][int(r.integers(0, 4))]
        self.add("Gemm", self.floats(*((out, n) if by_row else (n, out))), self.floats(*bias), transB=by_row, alpha=float(r.choice([1, .5, -1])), beta=float(r.choice([1, .5, 0])))
    def step(self):
        r, s = self.r, self.shape
        k, size = r.random(), int(np.prod(s))
        if k < .25:
            c = self.floats(*[s, [s[0]] + [1] * (len(s) - 1), s[-1:], []][int(r.integers(0, 4))])
            self.add(str(r.choice(["Add", "Sub", "Mul"])), c, first=bool(r.integers(0, 2)))
        elif k < .35: self.add("BatchNormalization", self.floats(s[0]), self.floats(s[0]), self.floats(s[0]), np.abs(self.floats(s[0])) + np.float32(.2), epsilon=1e-3)
        elif k < .47 and any(n.op_type in ("Gemm", "MatMul", "Conv") for n in self.nodes): self.add("Relu")
        elif k < .52:
            a = int(r.choice([d for d in range(1, size + 1) if size % d == 0]))
            self.add("Reshape", np.array([[-1, size], [0, -1], [-1, a, size // a, 1], [0, 1, a, -1]][int(r.integers(0, 4))], dtype=np.int64))
        elif k < .55 and len(s) > 1: self.add("Transpose", perm=[0] + [int(v) + 1 for v in r.permutation(len(s))])
        elif k < .57: self.add("Flatten")
        elif k < .61: self.activation()
        elif len(s) == 1: self.dense(int(r.integers(1, 6)))
        elif k < .8: self.window()
        elif len(s) == 3:
            size, auto = int(r.integers(1, min(s[1], s[2], 3) + 1)), r.random()
            how = {"auto_pad": str(r.choice(["SAME_UPPER", "VALID"]))} if auto < .2 else {"pads": [int(r.integers(0, 2))] * 4} if auto < .9 else {"pads": [0, 1, 0, 1]}
            out = int(r.integers(1, 4))
            self.add("Conv", self.floats(out, s[0], size, size), self.floats(out), strides=[int(r.integers(1, 3))] * 2, **how)
    def activation(self):
        r, s = self.r, self.shape
        k = int(r.integers(0, 5))
        if k == 0: self.add("LeakyRelu", alpha=float(r.choice([.01, .3, 1.5])))
        elif k == 1: self.add("PRelu", np.abs(self.floats(*[[s[0]] + [1] * (len(s) - 1), [1] * len(s)][int(r.integers(0, 2))])))
        else:
            low, high = [(0, 6), (-1, 1), (0, .5)][k - 2]
            if self.opset < 11: self.add("Clip", min=float(low), max=float(high))
            else: self.add("Clip", np.float32(low), np.float32(high))
    def window(self):
        r, s, n = self.r, self.shape, len(self.shape) - 1
        k = r.random()
        if k < .12: return self.add(str(r.choice(["GlobalMaxPool", "GlobalAveragePool"])))
        if k < .24 and self.opset < 18: return self.add(str(r.choice(["ReduceMean", "ReduceMax"])), axes=[[2, 3], [-1], [2]][int(r.integers(0, 3))], keepdims=int(r.integers(0, 2)))
        if k < .3 and self.opset >= 11: return self.add("Pad", np.array([0, 0] + [int(v) for v in r.integers(0, 2, n)] + [0, 0] + [int(v) for v in r.integers(0, 2, n)], dtype=np.int64))
        size = [int(v) for v in r.integers(1, 4, n)]
        how = dict(strides=[int(v) for v in r.integers(1, 4, n)])
        if r.random() < .2: how["auto_pad"] = str(r.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))
        elif r.random() < .6: how["pads"] = [int(v) for v in r.integers(0, 2, 2 * n)]
        kind = str(r.choice(["MaxPool", "AveragePool", "Conv"]))
        if (kind == "Conv" or kind == "MaxPool" and self.opset >= 10 or kind == "AveragePool" and self.opset >= 19) and r.random() < .3: how["dilations"] = [int(v) for v in r.integers(1, 3, n)]
        if kind == "Conv":
            g = int(r.choice([d for d in range(1, s[0] + 1) if s[0] % d == 0]))
            out = g * int(r.integers(1, 3))
            return self.add("Conv", self.floats(out, s[0] // g, *size), self.floats(out), group=g, **how)
        if kind == "AveragePool" and r.random() < .5: how["count_include_pad"] = 1
        if self.opset >= 10 and r.random() < .4: how["ceil_mode"] = 1
        self.add(kind, kernel_shape=size, **how)

out = []
for seed in range(int(sys.argv[1])):
    c = Chain(seed)
    try:
        probe = np.ones([3] + c.input, dtype=np.float32)
        for _ in range(int(c.r.integers(1, 9))):
            c.step()
            c.shape = list(c.run(probe).shape[1:]) if c.nodes else c.shape
        if len(c.shape) != 1:
            c.add("Flatten")
            c.shape = [int(np.prod(c.shape))]
        c.dense(int(c.r.integers(2, 5)))
        classes = c.run(probe).shape[1]
        if c.r.random() < .2: c.add("Reshape", np.array([-1] + [[classes, 1, 1], [1, classes, 1]][int(c.r.integers(0, 2))], dtype=np.int64))
        if c.r.random() < .6: c.add(str(c.r.choice(["Softmax", "LogSoftmax"])), axis=int(c.r.choice([1, -1])))
        model, session = c.session()
        rows = (c.r.standard_normal([12] + c.input) * 2).astype(np.float32)
        scores = session.run(None, {"x": rows})[0].reshape(12, -1)
        if np.isfinite(scores).all():
            out.append({"seed": seed, "operators": [n.op_type for n in c.nodes], "model": base64.b64encode(model).decode(), "rows": rows.reshape(-1).tolist(), "scores": scores.reshape(-1).tolist()})
    except Exception: pass # no right ONNX
json.dump(out, sys.stdout)
`

// TestRandomChainsAnswerAsOnnxruntime: what is accepted computes what the file computes,
// however its operators are put together.
func TestRandomChainsAnswerAsOnnxruntime(t *testing.T) {
	longtest.WithoutRace(t, "networks compute thousands of answers")
	const n = 800
	python := filepath.Join(zkPeers(t), "bin/python")
	if err := exec.CommandContext(t.Context(), python, "-c", "import onnx, onnxruntime").Run(); err != nil {
		t.Skip("no Python with onnxruntime; make it with .ci/peers-zk: ", err)
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", chains, strconv.Itoa(n))
	cmd.Stderr = os.Stderr
	b, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Seed         int
		Operators    []string
		Model        []byte
		Rows, Scores []float64
	}
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	accepted, refused := 0, map[refusal.Reason]int{}
	for _, c := range list {
		m, err := onnx.Parse(c.Model, nil)
		if err != nil {
			t.Errorf("chain %d, %v: %v", c.Seed, c.Operators, err)
			continue
		}
		network, err := layers.FromONNX(m)
		if err != nil {
			reason, named := refusal.ReasonOf(err)
			if !named {
				t.Errorf("chain %d, %v: %v has no reason", c.Seed, c.Operators, err)
			}
			refused[reason]++
			continue
		}
		accepted++
		rows := &Rows{Width: network.Input.Len(), Values: c.Rows}
		scores := &Rows{Width: len(c.Scores) / rows.Len(), Values: c.Scores}
		var answers []string
		for i := range scores.Len() {
			answers = append(answers, strconv.Itoa(slices.Index(scores.Row(i), slices.Max(scores.Row(i)))))
		}
		if !t.Run(strconv.Itoa(c.Seed), func(t *testing.T) { compareWithOracle(t, network, rows, answers, scores) }) {
			t.Logf("chain %d is %v", c.Seed, c.Operators)
		}
	}
	if len(list) < n/2 || accepted < len(list)/4 {
		t.Errorf("%d chains, of which %d are accepted", len(list), accepted)
	}
	t.Logf("%d chains, of which %d are accepted; refused: %v", len(list), accepted, refused)
}
