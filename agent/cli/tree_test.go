package cli

import (
	"strings"
	"testing"
)

// TestTreesHaveColumns: values begin in one column of each object, which is as wide as its longest key.
func TestTreesHaveColumns(t *testing.T) {
	var out strings.Builder
	PrintTree(&out, []byte(`{"a":"x","a key of more than 18 letters":1.5,"an object whose key is longer than all others":{"b":[1,2]}}`), "  ")
	want := "  a                             x\n  a key of more than 18 letters 1.5\n  an object whose key is longer than all others:\n    b                  2\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
