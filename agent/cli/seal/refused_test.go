package seal

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/runtime/onnx/onnxtest"
)

// TestEveryRefusalOfClassifiersIsShown: docs/models.md has a table of ONNX files and of what
// `seal --check` says of each, with one for each reason that the packages that read them have.
func TestEveryRefusalOfClassifiersIsShown(t *testing.T) {
	table := "| file | what `seal --check` says |\n|---|---|\n"
	shown := map[string]bool{}
	for _, v := range onnxtest.Variants() {
		path := filepath.Join(t.TempDir(), "model.onnx")
		if err := os.WriteFile(path, v.File, 0o600); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		err := checkFile(t.Context(), &cli.Invocation{Out: &out, Err: &strings.Builder{}, AsJSON: true}, []string{path})
		var verdict Verdict
		if unmarshal := json.Unmarshal([]byte(out.String()), &verdict); err == nil || unmarshal != nil || verdict.Servable || len(verdict.Findings) == 0 {
			t.Errorf("%s: %v, %v, %s", v.Name, err, unmarshal, out.String())
			continue
		}
		if got := string(verdict.Findings[0].Code); got != v.Want {
			t.Errorf("%s: %s, want %s: %s", v.Name, got, v.Want, verdict.Findings[0].Detail)
		}
		var says []string
		for _, f := range verdict.Findings {
			shown[string(f.Code)] = true
			says = append(says, fmt.Sprintf("`%s`: %s", f.Code, strings.ReplaceAll(f.Detail, "|", `\|`)))
		}
		table += fmt.Sprintf("| %s | %s |\n", v.Name, strings.Join(says, "<br>"))
	}
	for _, reason := range reasonsOf(t, "../../../runtime/onnx/model.go", "../../../runtime/layers/refusal.go") {
		if !shown[reason] {
			t.Errorf("no file is refused for %s", reason)
		}
	}
	const path, begin, end = "../../../docs/models.md", "<!-- classifiers -->\n", "<!-- end of classifiers -->"
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(raw), begin)
	old, after, ok2 := strings.Cut(rest, end)
	switch {
	case !ok || !ok2:
		t.Errorf("%s has no part classifiers", path)
	case old == table:
	case os.Getenv("UPDATE") == "":
		t.Errorf("%s is stale in its part classifiers: UPDATE=1 go test ./agent/cli/seal", path)
	default:
		if err := os.WriteFile(path, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// reasonsOf are the reason codes that files of the source define.
func reasonsOf(t *testing.T, paths ...string) (list []string) {
	t.Helper()
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`refusal\.Reason = "([^"]+)"`).FindAllStringSubmatch(string(raw), -1) {
			list = append(list, m[1])
		}
	}
	if len(list) < 20 {
		t.Fatalf("%d reasons", len(list))
	}
	slices.Sort(list)
	return list
}
