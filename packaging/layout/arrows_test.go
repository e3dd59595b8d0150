package layout

import (
	"slices"
	"strings"
	"testing"
)

// reach says what the packages of a folder may import of ours; the longest prefix that fits
// a package counts. docs/architecture.md shows every arrow there is.
var reach = map[string][]string{
	"crypto":               {"crypto"},
	"systemd":              {"systemd"},
	"guest":                {"guest", "crypto/refusal"},
	"runtime":              {"runtime", "crypto", "guest/evidence"},
	"keybroker":            {"keybroker", "crypto", "guest/evidence", "systemd"},
	"keybroker/brokertest": {"keybroker", "crypto", "guest", "systemd"},
	"agent":                {"agent", "keybroker", "crypto", "guest", "runtime", "systemd"},
	// Nothing may import image: what it computes reaches others as a signed file (keybroker/policy/publication).
	"image": {"image", "crypto", "guest/evidence", "keybroker/policy", "keybroker/appraise/eventlog", "systemd/config"},
	// the command has the exit statuses, flags for keys and output of anchorhold's
	"image/cmd": {"image", "agent/cli", "crypto", "guest/evidence", "keybroker/policy"},
	// which workers tests run depends on whether all tests run
	"agent/worker/workertest": {"agent", "packaging/longtest"},
	"packaging":               {"agent", "keybroker", "crypto", "guest", "runtime", "systemd", "packaging"},
}

// Limits of what a reader has to hold in mind: a package's imports of ours, and the longest
// way from a main to a leaf, both ends counted.
const (
	maxImports = 13
	maxChain   = 9
)

// ours are a package's imports of this module.
func ours(p goPackage) (to []string) {
	for _, imp := range p.Imports {
		if rest, ok := strings.CutPrefix(imp, module+"/"); ok {
			to = append(to, rest)
		}
	}
	return to
}

// within says whether a package is a folder's, or the folder itself.
func within(folder, pkg string) bool {
	return pkg == folder || strings.HasPrefix(pkg, folder+"/")
}

// checkReach reports every import of a package of ours that its folder may not have, and
// every import of others' that belongs to another package.
func checkReach(p goPackage) (bad []string) {
	self := strings.TrimPrefix(p.ImportPath, module+"/")
	folder := ""
	for prefix := range reach {
		if within(prefix, self) && len(prefix) > len(folder) {
			folder = prefix
		}
	}
	if folder == "" {
		return []string{self + ": in no folder that may have packages"}
	}
	for _, to := range ours(p) {
		if !slices.ContainsFunc(reach[folder], func(f string) bool { return within(f, to) }) {
			bad = append(bad, self+" -> "+to+": "+folder+" may not import it")
		}
	}
	for _, imp := range p.Imports {
		if !strings.HasPrefix(imp, module+"/") {
			bad = append(bad, checkOwner(self, imp)...)
		}
	}
	return bad
}

func TestArrowsPointOneWay(t *testing.T) {
	for _, tags := range []string{"", "release", "softtee", "oracle"} {
		for _, p := range goList(t, "-tags="+tags, "./...") {
			for _, bad := range checkReach(p) {
				t.Errorf("tags %q: %s", tags, bad)
			}
		}
	}
}

func TestArrowCheckBites(t *testing.T) {
	cases := []goPackage{
		{ImportPath: module + "/crypto/keybuf", Imports: []string{module + "/agent"}},
		{ImportPath: module + "/runtime/infer", Imports: []string{module + "/keybroker/client"}},
		{ImportPath: module + "/keybroker/rounds", Imports: []string{module + "/guest/teesim"}},
		{ImportPath: module + "/keybroker/rounds", Imports: []string{module + "/guest/evidenced"}},
		{ImportPath: module + "/keybroker/policy", Imports: []string{module + "/image/measure"}},
		{ImportPath: module + "/image/measure", Imports: []string{module + "/keybroker/protocol"}},
		{ImportPath: module + "/image/measure", Imports: []string{module + "/agent/cli"}},
		{ImportPath: module + "/agent/localapi", Imports: []string{"github.com/cloudflare/circl/sign"}},
		{ImportPath: module + "/agent/localapi", Imports: []string{"golang.org/x/mod/sumdb/tlog"}},
		{ImportPath: module + "/unheard/of"},
		{ImportPath: module + "/runtime/gguf", Imports: []string{"example.org/unknown"}},
	}
	for _, p := range cases {
		if len(checkReach(p)) == 0 {
			t.Errorf("%s importing %v passed", p.ImportPath, p.Imports)
		}
	}
}

// checkImports reports a package that imports too many of ours.
func checkImports(p goPackage) string {
	if len(ours(p)) <= maxImports {
		return ""
	}
	return strings.TrimPrefix(p.ImportPath, module+"/") + ": imports too many packages of ours: " + strings.Join(ours(p), ", ")
}

func TestPackagesImportFewOfOurs(t *testing.T) {
	for _, p := range goList(t, "./...") {
		if bad := checkImports(p); bad != "" {
			t.Error(bad)
		}
	}
	most := goPackage{ImportPath: module + "/a"}
	for range maxImports {
		most.Imports = append(most.Imports, module+"/b")
	}
	many := goPackage{ImportPath: module + "/a", Imports: append(most.Imports, module+"/c")}
	if checkImports(most) != "" || checkImports(many) == "" {
		t.Error("the check of imports does not count")
	}
}

// chain is the longest way from a package to one that imports none of ours.
func chain(of string, imports map[string][]string, known map[string][]string) []string {
	if c, ok := known[of]; ok {
		return c
	}
	var longest []string
	for _, to := range imports[of] {
		if c := chain(to, imports, known); len(c) > len(longest) {
			longest = c
		}
	}
	known[of] = append([]string{of}, longest...)
	return known[of]
}

func TestImportChainsAreShort(t *testing.T) {
	imports, known := map[string][]string{}, map[string][]string{}
	for _, p := range goList(t, "./...") {
		imports[strings.TrimPrefix(p.ImportPath, module+"/")] = ours(p)
	}
	for of := range imports {
		if c := chain(of, imports, known); len(c) > maxChain {
			t.Errorf("%d packages long (at most %d): %s", len(c), maxChain, strings.Join(c, " -> "))
		}
	}
	if c := chain("a", map[string][]string{"a": {"b", "c"}, "b": {"c"}}, map[string][]string{}); len(c) != 3 {
		t.Errorf("the longest of a -> b -> c and a -> c is %v", c)
	}
}
