package main

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

const module = "example.org/tiny"

func h1(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "h1:" + base64.StdEncoding.EncodeToString(sum[:])
}

// goodInfo is what a program says that was built as asked.
func goodInfo(name string, deps ...*debug.Module) *debug.BuildInfo {
	return &debug.BuildInfo{GoVersion: "go1.26.8", Path: module + "/" + name, Main: debug.Module{Path: module, Version: "(devel)"}, Deps: deps,
		Settings: []debug.BuildSetting{{Key: "-buildmode", Value: "exe"}, {Key: "-compiler", Value: "gc"}, {Key: "-tags", Value: "release,nethttpomithttp2"}, {Key: "-trimpath", Value: "true"},
			{Key: "CGO_ENABLED", Value: "0"}, {Key: "GOARCH", Value: "amd64"}, {Key: "GOOS", Value: "linux"}, {Key: "GOAMD64", Value: "v1"}}}
}

func setting(info *debug.BuildInfo, key, value string) {
	for i := range info.Settings {
		if info.Settings[i].Key == key {
			info.Settings[i].Value = value
		}
	}
}

// TestProgramsAreWhatWasAskedFor changes one thing at a time.
func TestProgramsAreWhatWasAskedFor(t *testing.T) {
	dep := func() *debug.Module { return &debug.Module{Path: "example.com/dep", Version: "v1.2.3", Sum: h1("dep")} }
	sums := map[string]string{"example.com/dep v1.2.3": h1("dep")}
	for what, c := range map[string]struct {
		change func(*debug.BuildInfo)
		says   string // "": it passes
	}{
		"as built":         {func(*debug.BuildInfo) {}, ""},
		"another program":  {func(i *debug.BuildInfo) { i.Path = module + "/other" }, "want example.org/tiny/one"},
		"another compiler": {func(i *debug.BuildInfo) { i.GoVersion = "go1.26.7" }, "built with go1.26.7"},
		"cgo":              {func(i *debug.BuildInfo) { setting(i, "CGO_ENABLED", "1") }, "CGO_ENABLED=1"},
		"another system":   {func(i *debug.BuildInfo) { setting(i, "GOOS", "darwin") }, "GOOS=darwin"},
		"another machine":  {func(i *debug.BuildInfo) { setting(i, "GOARCH", "arm64") }, "GOARCH=arm64"},
		"software TEE":     {func(i *debug.BuildInfo) { setting(i, "-tags", "softtee") }, "-tags=softtee"},
		"no tags":          {func(i *debug.BuildInfo) { setting(i, "-tags", "") }, "-tags="},
		"paths":            {func(i *debug.BuildInfo) { setting(i, "-trimpath", "false") }, "-trimpath=false"},
		"plugin":           {func(i *debug.BuildInfo) { setting(i, "-buildmode", "pie") }, "-buildmode=pie"},
		"nothing said":     {func(i *debug.BuildInfo) { i.Settings = i.Settings[1:] }, "-buildmode is missing"},
		"the checkout": {func(i *debug.BuildInfo) {
			i.Settings = append(i.Settings, debug.BuildSetting{Key: "vcs.modified", Value: "true"})
		}, "vcs.modified"},
		"replaced":      {func(i *debug.BuildInfo) { i.Deps[0].Replace = &debug.Module{Path: "../dep"} }, "is replaced"},
		"not in go.sum": {func(i *debug.BuildInfo) { i.Deps[0].Version = "v1.2.4" }, "does not name example.com/dep v1.2.4"},
		"another sum":   {func(i *debug.BuildInfo) { i.Deps[0].Sum = h1("other") }, "go.sum says"},
	} {
		info := goodInfo("one", dep())
		c.change(info)
		err := checkProgram(info, "one", "go1.26.8", target{"linux", "amd64"}, sums)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %q", what, err, c.says)
		}
	}
}

func TestGoSumIsReadAsItStands(t *testing.T) {
	name := filepath.Join(t.TempDir(), "go.sum")
	write(t, name, "a.example/x v1.0.0 h1:AAA=\na.example/x v1.0.0/go.mod h1:BBB=\n")
	sums, err := readSums(name)
	if err != nil || len(sums) != 1 || sums["a.example/x v1.0.0"] != "h1:AAA=" {
		t.Errorf("got %v, %v", sums, err)
	}
	write(t, name, "a.example/x v1.0.0\n")
	if _, err := readSums(name); err == nil {
		t.Error("half a line passes")
	}
}

func TestToolchainIsTheOneOfGoMod(t *testing.T) {
	dir := t.TempDir()
	for mod, want := range map[string]string{
		"module x\n\ngo 1.26.8\n":                       "go1.26.8",
		"module x\n\ngo 1.26.0\n\ntoolchain go1.26.8\n": "go1.26.8",
		"module x\n\ngo 1.26\n":                         "",
		"module x\n":                                    "",
	} {
		write(t, filepath.Join(dir, "go.mod"), mod)
		if got, err := toolchainOf(dir); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", mod, got, err, want)
		}
	}
	ours, err := toolchainOf("../..")
	if err != nil || !strings.HasPrefix(ours, "go1.") {
		t.Errorf("ours: got %q, %v", ours, err)
	}
	container, err := os.ReadFile("../../.devcontainer/devcontainer.json")
	if want := `"golang:` + strings.TrimPrefix(ours, "go") + "-"; err != nil || !strings.Contains(string(container), want) {
		t.Errorf("the dev container has not %s, %v", want, err)
	}
}

// TestPlacesHaveNothingInCommon: what a build must not depend on differs in the second place,
// and what changes the compiler's output is set, whatever the caller's environment says.
func TestPlacesHaveNothingInCommon(t *testing.T) {
	for name, value := range map[string]string{"GOFLAGS": "-tags=softtee", "GOAMD64": "v3", "CGO_ENABLED": "1", "LC_TIME": "de_DE", "SOURCE_DATE_EPOCH": "1", "GOPROXY": "https://proxy.example"} {
		t.Setenv(name, value)
	}
	a, err := firstPlace(filepath.Join(t.TempDir(), "a"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := secondPlace(filepath.Join(t.TempDir(), "b"))
	if err != nil {
		t.Fatal(err)
	}
	first, second := environment(a), environment(b)
	for _, name := range []string{"HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "GOCACHE", "GOMODCACHE"} {
		if first[name] == "" || second[name] == "" || first[name] == second[name] {
			t.Errorf("%s is %q and %q", name, first[name], second[name])
		}
	}
	if a.umask == b.umask || a.dir == b.dir {
		t.Errorf("umask %o and %o, directories %s and %s", a.umask, b.umask, a.dir, b.dir)
	}
	for name, want := range map[string]string{"GOFLAGS": "", "GOAMD64": "v1", "GOARM64": "v8.0", "CGO_ENABLED": "0", "GOOS": "linux", "GOARCH": "arm64", "GOENV": "off", "GOWORK": "off",
		"GOEXPERIMENT": "", "GOTOOLCHAIN": "go1.26.8", "GOPROXY": "https://proxy.example"} {
		for _, env := range []map[string]string{first, second} {
			if got, set := env[name]; !set || got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
	}
	for _, name := range []string{"LC_TIME", "SOURCE_DATE_EPOCH"} {
		if v, set := first[name]; set {
			t.Errorf("%s=%s is passed on", name, v)
		}
	}
}

// environment is the environment as a process sees it: the last setting counts.
func environment(p place) map[string]string {
	env := map[string]string{}
	for _, v := range p.environment("go1.26.8", target{"linux", "arm64"}) {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	return env
}

func TestUmaskIsSetBack(t *testing.T) {
	p, err := secondPlace(filepath.Join(t.TempDir(), "b"))
	if err != nil {
		t.Fatal(err)
	}
	restore := p.enter()
	inside := filepath.Join(t.TempDir(), "inside")
	write(t, inside, "")
	restore()
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, outside, "")
	modes := map[string]os.FileMode{}
	for _, name := range []string{inside, outside} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		modes[filepath.Base(name)] = info.Mode().Perm()
	}
	if modes["inside"] != 0o600 || modes["outside"] == 0o600 {
		t.Errorf("got %v", modes)
	}
}

// TestMain stands in for the program where go build starts it in the place of a tool.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == toolCommand {
		if err := runTool(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestIncludedFilesLeaveNoPath assembles a file that includes one of another package, as code
// of gnark-crypto does: without our tool the module cache's path is in the object.
func TestIncludedFilesLeaveNoPath(t *testing.T) {
	modules := filepath.Join(t.TempDir(), "modules")
	pkg := filepath.Join(modules, "dep@v1.0.0", "pkg")
	write(t, filepath.Join(modules, "dep@v1.0.0", "inc", "body.s"), "TEXT ·f(SB), 4, $0-0\n\tRET\n")
	write(t, filepath.Join(pkg, "f.s"), "#include \"../inc/body.s\"\n")
	out, err := exec.Command("go", "env", "GOTOOLDIR").Output()
	if err != nil {
		t.Fatal(err)
	}
	asm := filepath.Join(strings.TrimSpace(string(out)), "asm")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	assemble := func(name string, args ...string) string {
		object := filepath.Join(t.TempDir(), "f.o")
		cmd := exec.Command(name, append(args, "-p", "dep/pkg", "-trimpath", pkg+"=>dep@v1.0.0/pkg", "-o", object, "./f.s")...)
		cmd.Dir, cmd.Env = pkg, append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "PWD="+pkg)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		data, err := os.ReadFile(object)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if plain := assemble(asm); !strings.Contains(plain, modules) {
		t.Log("the assembler itself leaves no path any more: the tool can go")
	}
	if ours := assemble(self, toolCommand, modules, asm); strings.Contains(ours, modules) || !strings.Contains(ours, "dep@v1.0.0/inc/body.s") {
		t.Errorf("the module cache's path is in the object")
	}
	version, err := exec.Command(self, toolCommand, modules, asm, "-V=full").Output()
	if err != nil || !strings.HasPrefix(string(version), "asm version go") || !strings.HasSuffix(string(version), toolMark+"\n") {
		t.Errorf("got %q, %v", version, err)
	}
	if err := exec.Command(self, toolCommand, modules, asm, "-o", os.DevNull, "./f.s").Run(); err == nil {
		t.Error("without -trimpath it passes")
	}
}

func TestNoticesNameEveryProject(t *testing.T) {
	root, mod := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		filepath.Join(root, "LICENSE"): "Go's licence", filepath.Join(mod, "LICENSE.md"): "the module's licence",
		filepath.Join(mod, "inner", "COPYING"): "a part's licence", filepath.Join(mod, "unused", "LICENSE"): "not linked",
		filepath.Join(mod, "licenses.go"): "package x",
	} {
		write(t, name, text)
	}
	b := &built{goRoot: root, programs: []program{{info: goodInfo("one", &debug.Module{Path: "example.com/dep", Version: "v1.2.3", Sum: h1("dep")})}},
		packages: []linkedPackage{{"example.com/dep", "v1.2.3", mod, filepath.Join(mod, "inner")}, {"example.com/dep", "v1.2.3", mod, mod}}}
	got, err := b.notices()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int{"Go 1.26.8, LICENSE": 1, "Go's licence": 1, "example.com/dep v1.2.3, LICENSE.md": 1, "the module's licence": 1,
		"example.com/dep v1.2.3, inner/COPYING": 1, "a part's licence": 1, "not linked": 0, "package x": 0} {
		if n := strings.Count(string(got), text); n != want {
			t.Errorf("%q stands there %d times, want %d", text, n, want)
		}
	}
	if err := os.Remove(filepath.Join(mod, "LICENSE.md")); err != nil {
		t.Fatal(err)
	}
	b.packages = b.packages[1:]
	if _, err := b.notices(); err == nil || !strings.Contains(err.Error(), "no licence") {
		t.Errorf("a module without a licence: %v", err)
	}
	b.packages = nil
	if _, err := b.notices(); err == nil {
		t.Error("a module that go list does not name passes")
	}
}
