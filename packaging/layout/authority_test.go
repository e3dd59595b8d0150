package layout

import (
	"go/ast"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// verifiesLeases is who looks at a lease certificate without asking what it was granted:
// the guest that it is about. Everybody else asks protocol.VerifyAuthority.
const verifiesLeases = "keybroker/client"

// anyBroker is where the word of whichever configured root's broker will do
// (docs/protocol.md 15): what an aggregator takes as the beginning of something and who a
// connection says it is; receipts; and a key that is handed to the broker, which verifies
// it anew. Whatever is said about a round asks for the broker of that round.
var anyBroker = []string{"keybroker/protocol", "keybroker/federation", "keybroker/aggregator", "keybroker/aggregator", "keybroker/receipt", "agent/prove/reporting", "agent/cli/partykey"}

// TestLeasesOfOthersAreAskedForTheirAuthority: no package but the client's calls
// protocol.VerifyLease, so that there is one way to look at another's lease.
func TestLeasesOfOthersAreAskedForTheirAuthority(t *testing.T) {
	if found := uses(t, "VerifyLease", func(path, dir string) {
		if dir != verifiesLeases {
			t.Errorf("%s uses VerifyLease: ask protocol.VerifyAuthority, with the broker, role, resource and audience that it relies on", path)
		}
	}); found == 0 {
		t.Error("nobody uses VerifyLease, not even the client: this test sees nothing")
	}
}

// TestAnyBrokerIsWrittenOutWhereItMayBe: nothing else takes the word of any root's broker.
func TestAnyBrokerIsWrittenOutWhereItMayBe(t *testing.T) {
	if found := uses(t, "AnyBroker", func(path, dir string) {
		if !strings.HasSuffix(path, "_test.go") && !slices.Contains(anyBroker, dir) {
			t.Errorf("%s takes the word of any configured root's broker: ask protocol.Of the broker that it is about", path)
		}
	}); found == 0 {
		t.Error("nobody uses AnyBroker: this test sees nothing")
	}
}

// uses calls see for each use of a name of another package, with the file and its
// directory, and returns their number.
func uses(t *testing.T, name string, see func(path, dir string)) int {
	t.Helper()
	found := 0
	sourceFiles(t, func(path string, _ *token.FileSet, f *ast.File, _ int) {
		ast.Inspect(f, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok || s.Sel.Name != name {
				return true
			}
			found++
			see(path, filepath.ToSlash(filepath.Dir(path)))
			return true
		})
	})
	return found
}
