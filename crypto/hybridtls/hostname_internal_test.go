package hybridtls

import (
	"regexp"
	"strings"
	"testing"
)

// FuzzHostNames: a name is what this expression says, without its engine.
func FuzzHostNames(f *testing.F) {
	want := regexp.MustCompile(`^(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$`)
	for _, seed := range []string{"", "a", "a.b", "*.a", "*", "*.", "*.*.a", "a.*", "-a", "a-", "a--b", "_x._y", "a..b", ".a", "a.", "A9", "\n", "a\n", "\u00e9", strings.Repeat("x", 63), strings.Repeat("x", 64) + ".y"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if isHostName(name) != want.MatchString(name) {
			t.Errorf("%q: got %v", name, isHostName(name))
		}
	})
}
