package quantize

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/layers"
)

// variant is a file of packaging/classifiers/variants.py.
type variant struct {
	Name, Group string
	NotRun      string `json:"not_run"`
}

// TestVariantsAnswerAsOnnxruntime: files that differ in one thing from what exporters write,
// and random ones. Whatever is accepted answers and scores as onnxruntime does; whatever is
// refused has a reason. ANCHORHOLD_VARIANTS="SEED COUNT" draws others.
func TestVariantsAnswerAsOnnxruntime(t *testing.T) {
	longtest.WithoutRace(t, "networks compute thousands of answers")
	python := filepath.Join(zkPeers(t), "bin", "python")
	if _, err := os.Stat(python); err != nil {
		t.Skip("onnxruntime is not there; install it with .ci/peers-zk: ", err)
	}
	draw := strings.Fields(cmp.Or(os.Getenv("ANCHORHOLD_VARIANTS"), "1 240"))
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), python, append([]string{"../../packaging/classifiers/variants.py", dir}, draw...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, "variants.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list []variant
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	accepted, all := map[string]int{}, map[string]int{}
	for _, v := range list {
		all[v.Group]++
		n, err := (&export{Name: v.Name}).load(dir)
		if err != nil {
			if _, named := refusal.ReasonOf(err); !named {
				t.Errorf("%s: %v has no reason", v.Name, err)
			}
			if v.Group == "random" && !tooClever(err) {
				t.Errorf("%s: %v; it is made of what is supported", v.Name, err)
			}
			continue
		}
		accepted[v.Group]++
		if v.NotRun != "" {
			// No other answer than onnxruntime's: it has none.
			t.Logf("%s is accepted; onnxruntime: %s", v.Name, v.NotRun)
			continue
		}
		if why := differs(t, dir, v, n); why != "" {
			t.Errorf("%s: %s", v.Name, why)
		}
	}
	for group, n := range all {
		t.Logf("%s: %d of %d accepted", group, accepted[group], n)
	}
	if accepted["hand"] < 60 || 2*accepted["random"] < all["random"] {
		t.Errorf("few are accepted: %v of %v", accepted, all)
	}
}

// tooClever says whether a refusal is of an arrangement that random files have and that no
// layer can take in: a shift before padding, steps that differ by place.
func tooClever(err error) bool {
	reason, _ := refusal.ReasonOf(err)
	return reason == layers.ReasonArrangement
}

// differs compares answers and scores with onnxruntime's, and says what differs.
func differs(t *testing.T, dir string, v variant, n *layers.Network) string {
	t.Helper()
	rows := readRows(t, filepath.Join(dir, v.Name+".rows.npy"))
	text, err := os.ReadFile(filepath.Join(dir, v.Name+".answers.txt"))
	if err != nil {
		t.Fatal(err)
	}
	answers := strings.Fields(string(text))
	var scores *Rows
	if _, err := os.Stat(filepath.Join(dir, v.Name+".scores.npy")); err == nil {
		scores = readRows(t, filepath.Join(dir, v.Name+".scores.npy"))
	}
	for i := range rows.Len() {
		have, err := n.Forward(rows.Row(i), nil)
		if err != nil {
			return err.Error()
		}
		best := slices.Index(have, slices.Max(have))
		label := fmt.Sprint(best)
		if n.Labels != nil {
			label = n.Labels[best]
		}
		sorted := slices.Sorted(slices.Values(have))
		gap := sorted[len(sorted)-1] - sorted[len(sorted)-2]
		if label != strings.TrimSuffix(answers[i], ".0") && gap > 1e-4*(1+math.Abs(sorted[0])) {
			return fmt.Sprintf("row %d: %s, onnxruntime says %s; scores %.5v", i, label, answers[i], have)
		}
		if scores != nil && !sameScores(n, have, scores.Row(i)) {
			return fmt.Sprintf("row %d: scores %.5v, onnxruntime has %.5v", i, have, scores.Row(i))
		}
	}
	return ""
}

// sameScores compares scores, their softmax or its logarithm with a file's.
func sameScores(n *layers.Network, have, want []float64) bool {
	logistic := slices.Clone(have) // of each class for itself, which leaves their order
	for i, v := range have {
		logistic[i] = 1 / (1 + math.Exp(-v))
	}
	forms := [][]float64{have, logistic}
	if n.Probabilities {
		logs, top, sum := slices.Clone(have), slices.Max(have), 0.0
		for _, v := range have {
			sum += math.Exp(v - top)
		}
		for i := range logs {
			logs[i] -= top + math.Log(sum)
		}
		forms = [][]float64{probabilities(have), logs}
	}
	return slices.ContainsFunc(forms, func(form []float64) bool {
		if len(want) == 1 {
			form = form[len(form)-1:]
		}
		if len(form) != len(want) {
			return false
		}
		for i := range form {
			if !(math.Abs(form[i]-want[i]) <= 1e-3*(1+math.Abs(want[i]))) {
				return false
			}
		}
		return true
	})
}
