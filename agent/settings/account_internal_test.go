package settings

import (
	"regexp"
	"strings"
	"testing"
)

// FuzzAccounts: a name or number is what this expression says, without its engine.
func FuzzAccounts(f *testing.F) {
	want := regexp.MustCompile(`^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10})$`)
	for _, seed := range []string{"", "root", "_x-9", "9", "0123456789", "01234567890", "9a", "-a", "A", "a b", "a\n", strings.Repeat("x", 32), strings.Repeat("x", 33)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if isAccount(name) != want.MatchString(name) {
			t.Errorf("%q: got %v", name, isAccount(name))
		}
	})
}
