package layout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// verifiesLeases is who looks at a lease certificate without asking what it was granted:
// the guest that it is about. Everybody else asks protocol.VerifyAuthority.
const verifiesLeases = "keybroker/client"

// TestLeasesOfOthersAreAskedForTheirAuthority: no package but the client's calls
// protocol.VerifyLease, so that there is one way to look at another's lease.
func TestLeasesOfOthersAreAskedForTheirAuthority(t *testing.T) {
	found := 0
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "vendor") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok || s.Sel.Name != "VerifyLease" {
				return true
			}
			if found++; filepath.ToSlash(dir) != verifiesLeases {
				t.Errorf("%s uses VerifyLease: ask protocol.VerifyAuthority, with the role, resource and audience that it relies on", path)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found == 0 {
		t.Error("nobody uses VerifyLease, not even the client: this test sees nothing")
	}
}
