package quantize

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/layers"
	"github.com/anchorhold/anchorhold/runtime/onnx"
)

// made is the list that packaging/classifiers/make.py writes.
type made struct {
	Format int
	Models []struct {
		Name     string
		Accuracy float64
		Rows     int
	}
	Missing []string
}

// zkPeers is where .ci/peers-zk keeps what it makes.
func zkPeers(t testing.TB) string {
	t.Helper()
	peers := os.Getenv("ANCHORHOLD_PEERS")
	if peers == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Skip("no cache directory: ", err)
		}
		peers = filepath.Join(cache, "anchorhold", "peers")
	}
	return filepath.Join(peers, "zk")
}

// madeClassifiers finds the models of packaging/classifiers/make.py.
func madeClassifiers(t testing.TB) (dir string, list made) {
	t.Helper()
	dir = filepath.Join(zkPeers(t), "classifiers")
	b, err := os.ReadFile(filepath.Join(dir, "complete.json"))
	if err != nil {
		t.Skip("scikit-learn's and PyTorch's models are not there; make them with .ci/peers-zk: ", err)
	}
	if err := json.Unmarshal(b, &list); err != nil || list.Format != 2 || len(list.Models) == 0 {
		t.Fatalf("%s: %v; delete the directory and run .ci/peers-zk again", dir, err)
	}
	for _, m := range list.Missing {
		t.Log("not made: ", m)
	}
	return dir, list
}

// TestNetworkComputesWhatOnnxruntimeDoes: onnxruntime ran the whole graph, tail included.
func TestNetworkComputesWhatOnnxruntimeDoes(t *testing.T) {
	longtest.WithoutRace(t, "networks compute thousands of answers")
	dir, list := madeClassifiers(t)
	for _, model := range list.Models {
		t.Run(model.Name, func(t *testing.T) {
			at := func(part string) string { return filepath.Join(dir, model.Name+part) }
			n := read(t, at(".onnx"))
			test, err := ReadRows(at(".test.npy"))
			if err != nil {
				t.Fatal(err)
			}
			scores, err := ReadRows(at(".scores.npy"))
			if err != nil {
				t.Fatal(err)
			}
			worst := 0.0
			for i := range test.Len() {
				have, err := n.Forward(test.Row(i), nil)
				if err != nil {
					t.Fatal(err)
				}
				want := scores.Row(i)
				if len(want) != len(have) {
					t.Fatalf("%d scores, onnxruntime has %d", len(have), len(want))
				}
				if isProbability(want) {
					have = probabilities(have)
				}
				for j := range want {
					worst = max(worst, math.Abs(want[j]-have[j])/(1+math.Abs(want[j])))
				}
			}
			if worst > 1e-4 {
				t.Errorf("scores differ from onnxruntime's by %g", worst)
			}
			t.Logf("%d rows, labels %q, largest difference %.2g", test.Len(), n.Labels, worst)
		})
	}
}

// read imports a model.
func read(t testing.TB, path string) *layers.Network {
	t.Helper()
	m, err := onnx.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := layers.FromONNX(m)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestAccuracyIsWithinHalfAPoint of the floating-point model's, on rows that neither
// training nor calibration saw.
func TestAccuracyIsWithinHalfAPoint(t *testing.T) {
	longtest.WithoutRace(t, "networks compute thousands of answers")
	dir, list := madeClassifiers(t)
	for _, model := range list.Models {
		t.Run(model.Name, func(t *testing.T) {
			at := func(part string) string { return filepath.Join(dir, model.Name+part) }
			n := read(t, at(".onnx"))
			calibration, err := ReadRows(at(".calibration.npy"))
			if err != nil {
				t.Fatal(err)
			}
			test, err := ReadRows(at(".test.npy"))
			if err != nil {
				t.Fatal(err)
			}
			answers, err := ReadAnswers(at(".answers.npy"), n)
			if err != nil {
				t.Fatal(err)
			}
			d, p, err := Convert(n, calibration)
			if err != nil {
				t.Fatal(err)
			}
			r, err := Compare(n, d, p, test, answers)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(*r.Float-model.Accuracy) > 1e-9 {
				t.Errorf("accuracy in floating point %.4f, onnxruntime has %.4f", *r.Float, model.Accuracy)
			}
			if *r.Float-*r.Integer > 0.005 {
				t.Errorf("accuracy fell from %.4f to %.4f", *r.Float, *r.Integer)
			}
			t.Logf("%s: float %.4f, integer %.4f, agreed %.4f, score error %.4f (%d rows, %d input rules)", model.Name, *r.Float, *r.Integer, r.Agreed, r.ScoreError, r.Rows, len(d.Quantizer.Features))
		})
	}
}

func isProbability(v []float64) bool {
	sum := 0.0
	for _, x := range v {
		if x < 0 || x > 1 {
			return false
		}
		sum += x
	}
	return math.Abs(sum-1) < 1e-4
}

func probabilities(v []float64) []float64 {
	top, sum := math.Inf(-1), 0.0
	for _, x := range v {
		top = max(top, x)
	}
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = math.Exp(x - top)
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}
