package layout

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDocumentListsEveryVector: another implementation finds no vector that is not listed.
func TestDocumentListsEveryVector(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs", "vectors.md"))
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, depth := range []string{"*/*", "*/*/*"} {
		found, err := filepath.Glob(filepath.Join(root, depth, "testdata", "vectors", "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 20 {
		t.Errorf("only %d vectors were found: the search is broken", len(files))
	}
	for _, file := range files {
		link := "(../" + filepath.ToSlash(strings.TrimPrefix(file, root+string(filepath.Separator))) + ")"
		if n := strings.Count(string(doc), link); n != 1 {
			t.Errorf("docs/vectors.md links %d times to %s, want once", n, link)
		}
	}
}
