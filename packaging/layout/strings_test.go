package layout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// stringUses are the library's names that make or take a reference string of PLONK, and the
// packages which may use them; without any nobody may, tests aside.
var stringUses = []struct {
	library, name string
	who           []string
}{
	{"kzg", "NewSRS", nil}, // of a secret that the caller knows
	{"kzg", "InitializeSetup", nil},
	{"kzg", "MpcSetup", nil},
	{"kzg", "SRS", []string{"crypto/zk/ptau", "crypto/zk/plonkprove"}}, // read from a file, checked by pairings
	{"plonk", "Setup", []string{"crypto/zk/plonkprove"}},
	{"bn254", "Setup", []string{"crypto/zk/plonkprove"}}, // backend/plonk/bn254
}

// checkStrings reports what a file does with reference strings that its package may not.
func checkStrings(name string, fset *token.FileSet, f *ast.File) (bad []string) {
	dir := filepath.ToSlash(filepath.Dir(name))
	if strings.HasSuffix(name, "_test.go") || strings.HasSuffix(dir, "test") {
		return nil
	}
	libraries := map[string]string{}
	for _, imp := range f.Imports {
		p, err := strconv.Unquote(imp.Path.Value)
		if err != nil || !strings.HasPrefix(p, "github.com/consensys/") {
			continue
		}
		local := path.Base(p)
		if imp.Name != nil {
			local = imp.Name.Name
		}
		if libraries[local] = path.Base(p); local == "." {
			bad = append(bad, name+" imports "+p+" without a name")
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		for _, u := range stringUses {
			if libraries[pkg.Name] == u.library && sel.Sel.Name == u.name && !slices.Contains(u.who, dir) {
				bad = append(bad, fset.Position(sel.Pos()).String()+": "+u.library+"."+u.name)
			}
		}
		return true
	})
	return bad
}

// Reference strings come from files of public ceremonies and from nowhere else: what ships
// cannot make one.
func TestNoReferenceStringIsMade(t *testing.T) {
	sourceFiles(t, func(name string, fset *token.FileSet, f *ast.File, _ int) {
		for _, bad := range checkStrings(name, fset, f) {
			t.Error(bad)
		}
	})
}

func TestReferenceStringCheckBites(t *testing.T) {
	const kzg, plonk = "\"github.com/consensys/gnark-crypto/ecc/bn254/kzg\"", "\"github.com/consensys/gnark/backend/plonk/bn254\""
	for name, c := range map[string]struct {
		file, imports, use string
		passes             bool
	}{
		"made":               {"crypto/zk/ptau/x.go", kzg, "kzg.NewSRS(4, nil)", false},
		"by another name":    {"crypto/zk/ptau/x.go", "k " + kzg, "k.NewSRS(4, nil)", false},
		"without a name":     {"crypto/zk/ptau/x.go", ". " + kzg, "NewSRS(4, nil)", false},
		"one's own ceremony": {"agent/x.go", kzg, "kzg.InitializeSetup(4)", false},
		"put together":       {"agent/x.go", kzg, "new(kzg.SRS)", false},
		"keys elsewhere":     {"agent/x.go", "plonk " + plonk, "plonk.Setup(nil, a, b)", false},
		"read from a file":   {"crypto/zk/ptau/x.go", kzg, "new(kzg.SRS)", true},
		"keys":               {"crypto/zk/plonkprove/x.go", "plonk " + plonk, "plonk.Setup(nil, a, b)", true},
		"a test":             {"agent/x_test.go", kzg, "kzg.NewSRS(4, nil)", true},
	} {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, c.file, "package x\nimport "+c.imports+"\nvar _ = "+c.use, 0)
		if err != nil {
			t.Fatal(err)
		}
		if passes := len(checkStrings(c.file, fset, f)) == 0; passes != c.passes {
			t.Errorf("%s: passes %v", name, passes)
		}
	}
}
