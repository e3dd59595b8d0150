package quantize

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/layers"
	"github.com/anchorhold/anchorhold/runtime/onnx"
)

// exported is the list that packaging/classifiers/exports.py writes.
type exported struct {
	Format  int
	Exports []export
	Missing []string
}

// export is a file as an exporter wrote it, or why it did not.
type export struct {
	Name, Model, Exporter, Data string
	NotExported                 string `json:"not_exported"`
	NotRun                      string `json:"not_run"`
}

// exports finds the files of packaging/classifiers/exports.py.
func exports(t testing.TB) (dir string, list exported) {
	t.Helper()
	dir = filepath.Join(zkPeers(t), "exports")
	b, err := os.ReadFile(filepath.Join(dir, "exports.json"))
	if err != nil {
		t.Skip("what the exporters write is not there; make it with .ci/peers-zk: ", err)
	}
	if err := json.Unmarshal(b, &list); err != nil || list.Format != 2 {
		t.Fatalf("%s: %v; run .ci/peers-zk again", dir, err)
	}
	for _, m := range list.Missing {
		t.Log("not made: ", m)
	}
	return dir, list
}

// load imports an export.
func (x *export) load(dir string) (*layers.Network, error) {
	m, err := onnx.ParseFile(filepath.Join(dir, x.Name+".onnx"))
	if err != nil {
		return nil, err
	}
	n, err := layers.FromONNX(m)
	if err != nil {
		return nil, err
	}
	return n, Check(n)
}

// TestExportsAnswerAsOnnxruntime: of each file that is accepted, the label of every row and
// the file's own scores; and INT8 keeps the answers.
func TestExportsAnswerAsOnnxruntime(t *testing.T) {
	longtest.WithoutRace(t, "networks compute thousands of answers")
	dir, list := exports(t)
	accepted := 0
	for _, x := range list.Exports {
		if x.NotExported != "" {
			continue
		}
		n, err := x.load(dir)
		if err != nil {
			continue
		}
		accepted++
		t.Run(x.Name, func(t *testing.T) {
			if x.NotRun != "" {
				t.Fatalf("onnxruntime does not run it: %s", x.NotRun)
			}
			rows := readRows(t, filepath.Join(dir, x.Data+".rows.npy"))
			answers, err := os.ReadFile(filepath.Join(dir, x.Name+".answers.txt"))
			if err != nil {
				t.Fatal(err)
			}
			var scores *Rows
			if _, err := os.Stat(filepath.Join(dir, x.Name+".scores.npy")); err == nil {
				scores = readRows(t, filepath.Join(dir, x.Name+".scores.npy"))
			}
			compareWithOracle(t, n, rows, strings.Fields(string(answers)), scores)
			calibration := readRows(t, filepath.Join(dir, x.Data+".calibration.npy"))
			d, p, err := Convert(n, calibration)
			if err != nil {
				t.Fatal(err)
			}
			report, err := Compare(n, d, p, rows, nil)
			if err != nil {
				t.Fatal(err)
			}
			ranges, err := MeasureRanges(n, d, p, calibration, rows)
			if err != nil || ranges.Check() != nil {
				t.Errorf("%v, %v", err, ranges)
			}
			// Files whose scores are close together are warned of.
			if report.Agreed < 0.9 || report.Agreed < 0.95 && len(report.Warnings("test")) == 0 {
				t.Errorf("INT8 has the same answer for %.3f of the rows", report.Agreed)
			}
			t.Logf("INT8 agrees in %.3f, clipped: calibration %v, test %v, %d warnings", report.Agreed, ranges.Calibration, ranges.Test, len(ranges.Warnings()))
		})
	}
	if accepted < 40 {
		t.Errorf("only %d files are accepted", accepted)
	}
}

func readRows(t testing.TB, path string) *Rows {
	t.Helper()
	r, err := ReadRows(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// compareWithOracle compares answers and scores with those of the file. scores are all of
// the file's or those of its last class, and may be nil.
func compareWithOracle(t *testing.T, n *layers.Network, rows *Rows, answers []string, scores *Rows) {
	t.Helper()
	if len(answers) != rows.Len() {
		t.Fatalf("%d answers of %d rows", len(answers), rows.Len())
	}
	worst, close := 0.0, 0
	for i := range rows.Len() {
		have, err := n.Forward(rows.Row(i), nil)
		if err != nil {
			t.Fatal(err)
		}
		best := slices.Index(have, slices.Max(have))
		label := fmt.Sprint(best)
		if n.Labels != nil {
			label = n.Labels[best]
		}
		if label != strings.TrimSuffix(answers[i], ".0") {
			// The file computes in float32: what it cannot tell apart may fall to either side.
			sorted := slices.Sorted(slices.Values(have))
			if gap := sorted[len(sorted)-1] - sorted[len(sorted)-2]; gap > 1e-4*(1+math.Abs(sorted[0])) {
				t.Errorf("row %d: %s, onnxruntime says %s; scores %.4v", i, label, answers[i], have)
			}
			close++
		}
		if scores == nil {
			continue
		}
		want, got := scores.Row(i), have
		if n.Probabilities {
			got = probabilities(have)
			if slices.Max(want) <= 0 && len(want) > 1 { // logarithms of probabilities
				for k := range got {
					got[k] = math.Log(got[k])
				}
			}
		}
		if len(want) == 1 {
			got = got[len(got)-1:]
		}
		if len(want) != len(got) {
			t.Fatalf("%d scores, the file has %d", len(got), len(want))
		}
		for k := range want {
			worst = max(worst, math.Abs(want[k]-got[k])/(1+math.Abs(want[k])))
		}
	}
	if worst > 1e-3 || close > 1 {
		t.Errorf("scores differ from onnxruntime's by %g, %d answers are too close to call", worst, close)
	}
	t.Logf("%d rows, labels %.20q, largest difference %.2g, %d too close to call", rows.Len(), n.Labels, worst, close)
}

// The table of docs/classifiers.md lies between these lines.
const (
	tablePath  = "../../docs/classifiers.md"
	tableBegin = "<!-- exports: written by ANCHORHOLD_WRITE_TABLE=1 go test ./runtime/quantize -run TableOfExports -->\n"
	tableEnd   = "<!-- end of exports -->\n"
)

// TestTableOfExports: the documented verdict on each file is the one that it gets.
func TestTableOfExports(t *testing.T) {
	dir, list := exports(t)
	doc, err := os.ReadFile(tablePath)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(doc), tableBegin)
	have, after, found := strings.Cut(rest, tableEnd)
	if !ok || !found {
		t.Fatalf("%s has no table between %q and %q", tablePath, tableBegin, tableEnd)
	}
	want := table(dir, list)
	switch {
	case os.Getenv("ANCHORHOLD_WRITE_TABLE") != "" && len(list.Missing) == 0:
		if err := os.WriteFile(tablePath, []byte(before+tableBegin+want+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
	case len(list.Missing) > 0: // without PyTorch: the rest of the table
		for line := range strings.Lines(want) {
			if strings.HasPrefix(line, "| `") && !strings.Contains(have, line) {
				t.Errorf("the table lacks %s", line)
			}
		}
		t.Skip("what PyTorch's exporters write was not compared: ", list.Missing)
	case have != want:
		for line := range strings.Lines(want) {
			if !strings.Contains(have, line) {
				t.Errorf("the table lacks %s", line)
			}
		}
		t.Errorf("%s is not what the files get: write it again, see its line %q", tablePath, tableBegin)
	}
}

// table is the verdict on each file, by exporter.
func table(dir string, list exported) string {
	var b strings.Builder
	var exporters []string
	accepted, refused, not := 0, 0, 0
	rows := map[string]string{}
	for _, x := range list.Exports {
		verdict, says := "", ""
		switch n, err := x.load(dir); {
		case x.NotExported != "":
			verdict, says = "not exported", x.NotExported
			not++
		case err == nil:
			verdict, says = "accepted", shapeText(n)
			accepted++
		default:
			verdict, says = "refused", refusalText(err)
			refused++
		}
		if !slices.Contains(exporters, x.Exporter) {
			exporters = append(exporters, x.Exporter)
		}
		_, name, _ := strings.Cut(strings.TrimPrefix(x.Name, "torch-"), "-")
		rows[x.Exporter] += fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, x.Model, verdict, strings.NewReplacer("|", "\\|", "<", "&lt;").Replace(says))
	}
	fmt.Fprintf(&b, "\n%d files are accepted, %d refused; %d more the exporters refuse to write.\n", accepted, refused, not)
	for _, e := range exporters {
		fmt.Fprintf(&b, "\n### %s\n\n| file | model | result | layers, or the sentence |\n|---|---|---|---|\n%s", e, rows[e])
	}
	return b.String() + "\n"
}

// shapeText names a network's layers.
func shapeText(n *layers.Network) string {
	var parts []string
	for _, l := range n.Layers {
		kind := map[layers.Kind]string{layers.Dense: "dense", layers.Conv: "convolution", layers.MaxPool: "largest", layers.AveragePool: "average"}[l.Kind]
		if l.Kind == layers.Conv && l.Groups > 1 {
			kind += fmt.Sprintf(" in %d groups", l.Groups)
		}
		if l.Pools() {
			parts = append(parts, fmt.Sprintf("%s of %dx%d", kind, l.Window.Kernel.H, l.Window.Kernel.W))
			continue
		}
		parts = append(parts, fmt.Sprintf("%s %d", kind, l.Out))
	}
	return strings.Join(parts, ", ")
}

// refusalText is the first reason, and how many there are besides.
func refusalText(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	if r, ok := errors.AsType[*layers.Refused](err); ok && len(r.Reasons) > 1 {
		first += fmt.Sprintf(" (and %d more)", len(r.Reasons)-1)
	}
	code, text, _ := strings.Cut(first, ": ")
	return "`" + code + "`: " + text
}
