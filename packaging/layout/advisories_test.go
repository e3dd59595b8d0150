package layout

import (
	"go/ast"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const (
	gnark       = "github.com/consensys/gnark"
	gnarkCrypto = "github.com/consensys/gnark-crypto"
)

// minimum are the lowest versions of libraries for proofs that may be built against: above
// every advisory of theirs that is known, and what proofs were reviewed with.
var minimum = map[string]string{gnark: "v0.16.0", gnarkCrypto: "v0.21.0"}

// advisory is a fault of a library, or of a use of one that others had, with the test of
// ours that fails where it comes back. Without a test the part is not used: see unused.
type advisory struct {
	name, module, fixed string
	dir, test           string
}

var advisories = []advisory{
	{"CVE-2023-44378", gnark, "v0.9.0", "crypto/zk/gadget", "TestChecksHoldAndRefuse"},
	{"GHSA-7p92", gnark, "v0.9.1", "crypto/zk/plonkverify", "TestChangedProofsAreRefused"},
	{"GHSA-rjjm", gnark, "v0.9.2", "crypto/zk/circuits", "TestEachAssertionStopsItsForgery"},
	{"CVE-2024-45039", gnark, "v0.11.0", "crypto/zk/circuits", "TestCVE_2024_45039_OneCommitment"},
	{"CVE-2024-45040", gnark, "v0.11.0", "crypto/zk/circuits", "TestCVE_2024_45040_CommitmentsHide"},
	{"CVE-2024-50354", gnark, "v0.12.0", "crypto/zk/circuits", "TestCVE_2024_50354_LengthsAreNotBelieved"},
	{"CVE-2025-58157", gnark, "v0.13.0", "", ""},
	{"CVE-2025-57801", gnark, "v0.14.0", "", ""},
	{"CVE-2023-44273", gnarkCrypto, "v0.12.0", "", ""},
	{"GHSA-pffg", gnarkCrypto, "v0.12.0", "", ""},
	{"GHSA-fr8m", gnarkCrypto, "v0.12.0", "", ""},
	{"GHSA-fj2x", gnarkCrypto, "v0.19.2", "crypto/zk/circuits", "TestCVE_2024_50354_LengthsAreNotBelieved"},

	// Changes without an advisory, and what went wrong in other proof systems.
	{"powers checked against another string", gnarkCrypto, "v0.21.0", "crypto/zk/ptau", "TestEveryPowerCounts"},
	{"points outside their group", gnarkCrypto, "v0.21.0", "crypto/zk/groth16verify", "TestChangedKeysAreRefused"},
	{"no proof of knowledge of a commitment", "", "", "crypto/zk/groth16verify", "TestKnowledgeIsChecked"},
	{"rewritten Groth16 proofs", "", "", "crypto/zk/groth16verify", "TestRewrittenProofsVerify"},
	{"a set-up that nobody contributed to", "", "", "crypto/zk/groth16verify", "TestUnfinishedSetupsAreRefused"},
	{"public inputs outside a transcript, Groth16", "", "", "crypto/zk/groth16verify", "TestStatementsAreBound"},
	{"public inputs outside a transcript, PLONK", "", "", "crypto/zk/plonkverify", "TestStatementsAreBound"},
	{"a challenge that leaves out a part of the witness", "", "", "crypto/zk/circuits", "TestTheChallengeCoversTheWitness"},
	{"numbers that wrap around the field", "", "", "crypto/zk/circuits", "TestAccumulatorsDoNotWrap"},
	{"values that are not canonical", "", "", "crypto/zk/circuits", "TestCommitmentsAreCanonical"},
	{"a quotient that is not hidden statistically", "", "", "crypto/zk/plonkprove", "TestStatisticalZeroKnowledge"},
}

// unused are parts of the libraries that advisories are about and that nothing here
// imports, tests included: signatures, curves and fields inside circuits, other range
// checks, proofs of layered circuits, batched openings.
var unused = []string{gnark + "/std/signature", gnark + "/std/algebra", gnark + "/std/math", gnark + "/std/rangecheck", gnark + "/std/gkr", gnark + "/std/recursion",
	gnarkCrypto + "/signature", "/ecdsa", "/eddsa", "/twistededwards", "/shplonk", "/fflonk"}

// unusedCalls are methods of the circuit compiler's API, of comparison by bits.
var unusedCalls = []string{"AssertIsLessOrEqual", "ToBinary", "FromBinary"}

func isUnused(path string) bool {
	for _, part := range unused {
		if strings.HasPrefix(part, "/") {
			if strings.HasPrefix(path, gnarkCrypto) && strings.Contains(path+"/", part+"/") {
				return true
			}
		} else if path == part || strings.HasPrefix(path, part+"/") {
			return true
		}
	}
	return false
}

func TestLibraryPartsWithAdvisoriesAreNotUsed(t *testing.T) {
	sourceFiles(t, func(name string, fset *token.FileSet, f *ast.File, _ int) {
		for _, imp := range f.Imports {
			if path, err := strconv.Unquote(imp.Path.Value); err != nil || isUnused(path) {
				t.Errorf("%s imports %s: write down why it is safe, and take it off the list", name, imp.Path.Value)
			}
		}
		if !strings.HasPrefix(name, "crypto/zk/circuits") {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if call := comparison(n); call != "" {
				t.Errorf("%s: %s compares by bits: use package gadget", fset.Position(n.Pos()), call)
			}
			return true
		})
	})
}

// comparison names a call that compares by bits; "" if it is none.
func comparison(n ast.Node) string {
	s, ok := n.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	for _, c := range unusedCalls {
		if s.Sel.Name == c {
			return c
		}
	}
	if x, ok := s.X.(*ast.Ident); ok && x.Name == "api" && s.Sel.Name == "Cmp" {
		return "Cmp"
	}
	return ""
}

func TestAdvisoryChecksBite(t *testing.T) {
	for path, want := range map[string]bool{
		gnark + "/std/rangecheck": true, gnark + "/std/math/cmp": true, gnarkCrypto + "/ecc/bn254/ecdsa": true, gnarkCrypto + "/ecc/bn254/twistededwards/eddsa": true,
		gnarkCrypto + "/signature": true, gnarkCrypto + "/ecc/bn254/fr": false, gnark + "/std": false, "crypto/ecdsa": false, gnark + "/frontend": false,
	} {
		if isUnused(path) != want {
			t.Errorf("%s: %t", path, !want)
		}
	}
	if comparison(&ast.SelectorExpr{X: ast.NewIdent("api"), Sel: ast.NewIdent("Cmp")}) == "" || comparison(&ast.SelectorExpr{X: ast.NewIdent("big"), Sel: ast.NewIdent("Cmp")}) != "" {
		t.Error("comparisons are not told apart")
	}
	for _, c := range []struct {
		a, b string
		less bool
	}{{"v0.9.0", "v0.16.0", true}, {"v0.16.0", "v0.16.0", false}, {"v1.0.0", "v0.16.0", false}, {"v0.16.0-rc1", "v0.16.0", true}, {"v0.21.9", "v0.22.0", true}, {"", "v0.1.0", true}} {
		if older(c.a, c.b) != c.less {
			t.Errorf("%s before %s: %t", c.a, c.b, !c.less)
		}
	}
}

// older says whether a version is below another; what is no release is older than all.
func older(a, b string) bool {
	x, y := strings.Split(strings.TrimPrefix(a, "v"), "."), strings.Split(strings.TrimPrefix(b, "v"), ".")
	for i := range y {
		if i >= len(x) {
			return true
		}
		n, err := strconv.Atoi(x[i])
		m, _ := strconv.Atoi(y[i]) // of our own table
		if err != nil || n != m {
			return err != nil || n < m
		}
	}
	return len(x) != len(y)
}

// The versions that are built against are above every advisory.
func TestLibrariesAreAboveTheirAdvisories(t *testing.T) {
	for module, low := range minimum {
		out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}{{with .Replace}} replaced{{end}}", module).Output()
		version := strings.TrimSpace(string(out))
		if err != nil || older(version, low) {
			t.Errorf("%s %q, want %s or later: %v", module, version, low, err)
		}
	}
	for _, a := range advisories {
		if a.module != "" && older(minimum[a.module], a.fixed) {
			t.Errorf("%s: %s is allowed at %s, it was mended in %s", a.name, a.module, minimum[a.module], a.fixed)
		}
	}
}

// Each has the test that it names, and operators read of it.
func TestAdvisoriesHaveTheirTests(t *testing.T) {
	found := map[string]bool{}
	sourceFiles(t, func(name string, _ *token.FileSet, f *ast.File, _ int) {
		if !strings.HasSuffix(name, "_test.go") {
			return
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				found[filepath.Dir(name)+" "+fn.Name.Name] = true
			}
		}
	})
	threats, err := os.ReadFile("../../docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range advisories {
		if a.test != "" && !found[a.dir+" "+a.test] {
			t.Errorf("%s: %s has no %s", a.name, a.dir, a.test)
		}
		if a.test == "" && a.module == "" {
			t.Errorf("%s: neither a test nor a library", a.name)
		}
		if (strings.HasPrefix(a.name, "CVE-") || strings.HasPrefix(a.name, "GHSA-")) && !strings.Contains(string(threats), a.name) {
			t.Errorf("docs/threat-model.md does not name %s", a.name)
		}
	}
}
