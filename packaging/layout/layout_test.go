package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/token"
	"io"
	"maps"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
)

const module = "github.com/anchorhold/anchorhold"

// owners names the one package that may import each third-party module. The
// Go project's own modules under golang.org/x are free to all.
var owners = map[string][]string{
	"github.com/cloudflare/circl":       {"crypto/identity", "crypto/keyseal"},
	"github.com/coreos/go-systemd/v22":  {"systemd/service"},
	"github.com/fxamacker/cbor/v2":      {"agent/cli/valuefile"},          // CoRIM; gnark links it into anchorhold already
	"github.com/goccy/go-yaml":          {},                               // tests alone: a second reading of what systemd/config/yaml reads
	"github.com/google/go-eventlog":     {"packaging/oracletest/vendors"}, // tests alone: second readings
	"github.com/google/go-sev-guest":    {"packaging/oracletest/vendors"},
	"github.com/google/go-tdx-guest":    {"packaging/oracletest/vendors"},
	"github.com/google/go-tpm":          {"guest/vtpm"},
	"github.com/spf13/cobra":            {"agent/cli", "agent/cli/auditlog", "agent/cli/broker", "agent/cli/clitest", "agent/cli/collateral", "agent/cli/convert", "agent/cli/dial", "agent/cli/doctor", "agent/cli/dryrun", "agent/cli/epoch", "agent/cli/evidencelook", "agent/cli/expect", "agent/cli/fed", "agent/cli/guest", "agent/cli/keyfile", "agent/cli/keygen", "agent/cli/manual", "agent/cli/proof", "agent/cli/registry", "agent/cli/release", "agent/cli/round", "agent/cli/score", "agent/cli/seal", "agent/cli/setup", "agent/cmd/anchorhold", "image/cmd/anchorhold-image", "image/cmd/anchorhold-measure"},
	"github.com/spf13/pflag":            {"agent/cli"},
	"go.etcd.io/bbolt":                  {"keybroker/keystore", "keybroker/registry", "keybroker/rounds", "keybroker/volumes", "agent/jobs"},
	"github.com/jackc/pgx/v5":           {"keybroker/database", "keybroker/database/databasetest", "keybroker/rounds", "keybroker/volumes"}, // the first opens it, the others ask
	"filippo.io/mldsa":                  {"crypto/identity"},
	"filippo.io/nistec":                 {"keybroker/appraise"},
	"github.com/tuneinsight/lattigo/v6": {"crypto/he/ckks"},
	"google.golang.org/protobuf":        {"runtime/onnx", "agent/cli/valuefile"},
	"github.com/consensys/gnark":        {"crypto/zk/circuits", "crypto/zk/gadget", "crypto/zk/ceremony", "crypto/zk/plonkverify", "crypto/zk/ptau", "crypto/zk/ptau/ptautest", "crypto/zk/plonkprove", "crypto/zk/zktest"},
	"github.com/consensys/gnark-crypto": {"crypto/zk/scalars", "crypto/zk/groth16verify", "crypto/zk/circuits", "crypto/zk/gadget", "crypto/zk/ceremony", "crypto/zk/plonkverify", "crypto/zk/ptau", "crypto/zk/ptau/ptautest", "crypto/zk/plonkprove", "crypto/zk/zktest"},
	"github.com/rogpeppe/go-internal":   {}, // tests alone: scripts that run commands
	"golang.org/x/mod":                  {"crypto/signednote", "keybroker/audit"},
	"golang.org/x/":                     {"*"},
}

// agentNever may not be linked into the agent, which holds model keys.
var agentNever = []string{
	"github.com/tuneinsight/lattigo", "github.com/consensys/", "github.com/bits-and-blooms/", "github.com/goccy/go-yaml",
	module + "/crypto/zk/groth16verify", module + "/crypto/zk/plonkverify", module + "/crypto/zk/circuits",
	"github.com/google/go-sev-guest", "github.com/google/go-eventlog", "github.com/fxamacker/", module + "/agent/cli/valuefile",
	"github.com/google/go-tdx-guest", "github.com/jackc/pgx", "github.com/spf13/cobra", "golang.org/x/mod", "filippo.io/nistec",
	module + "/keybroker/appraise", module + "/keybroker/policy", module + "/keybroker/keystore", module + "/keybroker/audit",
	module + "/guest/teesim", module + "/guest/azuresim", module + "/guest/gpusim", module + "/guest/tdxsim", module + "/guest/tpmsim", module + "/guest/emulated", module + "/runtime/onnx", module + "/runtime/layers", module + "/runtime/quantize",
}

// brokerNever may not be linked into a broker built for release.
var brokerNever = []string{
	module + "/guest/teesim", module + "/guest/azuresim", module + "/guest/gpusim", module + "/guest/tpmsim", module + "/guest/tdxsim", module + "/guest/emulated", module + "/guest/composite", module + "/guest/device", module + "/guest/snp", module + "/guest/tdx", module + "/guest/tsm", module + "/guest/azure", module + "/guest/vtpm", module + "/runtime/", module + "/agent",
	"github.com/google/go-sev-guest", "github.com/google/go-tdx-guest", "github.com/google/go-eventlog", "github.com/google/go-tpm", "github.com/spf13/cobra",
}

// verifyNever may not be linked into the stand-alone verifier: no compiler of circuits, no
// prover, nothing that holds or speaks for anybody.
var verifyNever = []string{
	"github.com/consensys/gnark/frontend/cs/", "github.com/consensys/gnark/backend/groth16", "github.com/cloudflare/circl", "github.com/spf13/cobra",
	module + "/crypto/zk/gadget", module + "/crypto/zk/circuits", module + "/crypto/zk/zktest", module + "/runtime/", module + "/keybroker", module + "/keybroker/receipt",
}

var bannedNames = []string{"util", "utils", "common", "helpers", "misc", "types", "models", "base", "core", "runtime", "crypto"}

type goPackage struct {
	ImportPath, Name, Doc, Dir  string
	Standard                    bool
	GoFiles, TestGoFiles        []string
	XTestGoFiles                []string
	Imports                     []string
	TestImports, XTestImports   []string
	IgnoredGoFiles, IgnoredMore []string
}

// listed are the answers of go list: most tests ask for the same.
var listed struct {
	sync.Mutex
	of map[string][]goPackage
}

func goList(t *testing.T, args ...string) []goPackage {
	t.Helper()
	listed.Lock()
	defer listed.Unlock()
	args = slices.DeleteFunc(args, func(a string) bool { return a == "-tags=" }) // an ordinary build, asked for twice
	key := strings.Join(args, " ")
	if pkgs, ok := listed.of[key]; ok {
		return pkgs
	}
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Name,Doc,Dir,Standard,GoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports,IgnoredGoFiles"}, args...)...)
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, stderr.String())
	}
	var pkgs []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if listed.of == nil {
		listed.of = map[string][]goPackage{}
	}
	listed.of[key] = pkgs
	return pkgs
}

// checkOwner reports a third-party import outside the package that owns it.
func checkOwner(self, imp string) []string {
	if first, _, _ := strings.Cut(imp, "/"); !strings.Contains(first, ".") {
		return nil // standard library
	}
	owner := "" // the most specific that fits
	for mod := range owners {
		if (imp == mod || strings.HasPrefix(imp, strings.TrimSuffix(mod, "/")+"/")) && len(mod) > len(owner) {
			owner = mod
		}
	}
	if who := owners[owner]; slices.Contains(who, "*") || slices.Contains(who, self) {
		return nil
	} else if owner != "" {
		return []string{self + " -> " + imp + ": belongs to " + strings.Join(who, ", ")}
	}
	return []string{self + " -> " + imp + ": third-party module without an owner"}
}

// vendors are the vendor libraries, which take long to build.
var vendors = []string{"github.com/google/go-sev-guest", "github.com/google/go-tdx-guest", "github.com/google/go-eventlog"}

// TestNoTestBinaryLinksTheVendors: they run in a process of their own (packaging/oracletest), so
// that the first `go test ./...` on a fresh clone does not wait for them.
func TestNoTestBinaryLinksTheVendors(t *testing.T) {
	for _, p := range goList(t, "./...") {
		for _, imp := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			for _, vendor := range vendors {
				if strings.HasPrefix(imp, vendor) {
					t.Errorf("%s imports %s", p.ImportPath, imp)
				}
			}
		}
	}
}

// forTests says whether a package makes what only tests may trust: reference strings and keys
// whose secrets this process knew.
func forTests(imp string) bool {
	return strings.HasPrefix(imp, "github.com/consensys/gnark/test") || strings.HasPrefix(imp, module) && strings.HasSuffix(imp, "test")
}

// checkForTests reports every import of such a package by one that is not for tests itself.
func checkForTests(p goPackage) (bad []string) {
	for _, imp := range p.Imports {
		if forTests(imp) && !forTests(p.ImportPath) {
			bad = append(bad, p.ImportPath+" -> "+imp+": only tests may")
		}
	}
	return bad
}

// The library's own reference string, whose secret everybody knows, reaches no binary; nor
// does anything else that makes keys for tests.
func TestWhatIsForTestsStaysInTests(t *testing.T) {
	for _, p := range goList(t, "./...") {
		for _, bad := range checkForTests(p) {
			t.Error(bad)
		}
	}
	for _, imp := range []string{"github.com/consensys/gnark/test/unsafekzg", module + "/crypto/zk/ptau/ptautest"} {
		if len(checkForTests(goPackage{ImportPath: module + "/crypto/zk/plonkprove", Imports: []string{imp}})) == 0 {
			t.Errorf("an import of %s passes", imp)
		}
	}
}

func TestPackagesAreNamedAndDescribed(t *testing.T) {
	for _, p := range goList(t, "./...") {
		self := strings.TrimPrefix(p.ImportPath, module+"/")
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", self)
		}
		if slices.Contains(bannedNames, p.Name) {
			t.Errorf("%s: the name %q says nothing", self, p.Name)
		}
		if p.Name != "main" && p.Name != path.Base(self) {
			t.Errorf("%s: package is called %s", self, p.Name)
		}
	}
}

func TestBinariesStaySmallWhereTheKeysAre(t *testing.T) {
	never := map[string][]string{"agent/cmd/anchorhold-agent": agentNever, "keybroker/cmd/anchorhold-broker": brokerNever, "agent/cmd/anchorhold-verify": verifyNever}
	for _, tags := range []string{"", "release"} {
		checked := 0
		for main, deps := range linked(t, tags, slices.Sorted(maps.Keys(never))...) {
			checked++
			for _, imp := range deps {
				for _, banned := range never[main] {
					if strings.HasPrefix(imp, banned) {
						t.Errorf("%s (tags %q) links %s", main, tags, imp)
					}
				}
			}
		}
		if checked != len(never) {
			t.Errorf("tags %q: %d programs were listed, want %d", tags, checked, len(never))
		}
	}
}

// linked are the packages in each of some programs.
func linked(t *testing.T, tags string, mains ...string) map[string][]string {
	t.Helper()
	args := []string{"list", "-json=ImportPath,Deps", "-tags=" + tags}
	for _, main := range mains {
		args = append(args, "./"+main)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %v: %v", args, err)
	}
	all := map[string][]string{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Deps       []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(p.ImportPath, module+"/")] = p.Deps
	}
}

func TestReleaseCannotLinkTheSoftwareTEE(t *testing.T) {
	t.Run("agent", func(t *testing.T) { cannotBuild(t, "./agent/cmd/anchorhold-agent", "guest/emulated") })
	t.Run("broker", func(t *testing.T) {
		longtest.Run(t, "it compiles the release's packages of a broker")
		cannotBuild(t, "./keybroker/cmd/anchorhold-broker", "appraisal.SoftwareTEE")
	})
}

// cannotBuild refuses a program that builds as a release with the software TEE, or fails for another reason.
func cannotBuild(t *testing.T, main, because string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-tags", "release,softtee", "-o", t.TempDir(), main)
	cmd.Dir = "../.."
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Errorf("%s builds with the tags release and softtee together", main)
	} else if !bytes.Contains(out, []byte(because)) {
		t.Errorf("%s failed for another reason: %s", main, out)
	}
}

// TestReleasesHaveNoRootsOfSoftwareTEEs is the reason for which the broker cannot be built: what its build
// for development calls is in no file of a release.
func TestReleasesHaveNoRootsOfSoftwareTEEs(t *testing.T) {
	const appraisal, name = "keybroker/daemon/appraisal", "SoftwareTEE"
	made := map[string]bool{} // the package's files, true where the name is declared
	sourceFiles(t, func(path string, _ *token.FileSet, f *ast.File, _ int) {
		if filepath.ToSlash(filepath.Dir(path)) == appraisal {
			made[filepath.Base(path)] = slices.Contains(declared(f), name)
		}
	})
	for tags, want := range map[string]bool{"": true, "release": false} {
		got := false
		for _, p := range goList(t, "-tags="+tags, "./...") {
			if p.ImportPath == module+"/"+appraisal {
				got = got || slices.ContainsFunc(p.GoFiles, func(file string) bool { return made[file] })
			}
		}
		if got != want {
			t.Errorf("tags %q: %s has %s: %t, want %t", tags, appraisal, name, got, want)
		}
	}
}
