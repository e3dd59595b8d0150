package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	_ "embed" // gcflags
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
)

// gcflags are flags of the compiler for packages that wait more than they compute: the Makefile
// builds with the same. Functions of these are not inlined, which makes the agent 0.35 MiB smaller.
//
//go:embed gcflags
var gcflags string

// target is a system and an architecture that releases are built for.
type target struct{ system, architecture string }

// String is the name that files have.
func (t target) String() string { return t.system + "-" + t.architecture }

var targets = []target{{"linux", "amd64"}, {"linux", "arm64"}}

// contents are what a release consists of.
type contents struct {
	programs []string // main packages, below the module
	files    []string // files of the tree, as patterns of package path
	packaged bool     // with manual pages, completions, and packages for distributions
}

// anchorhold is what our releases consist of. A pattern that nothing fits is an error: a file
// that was renamed must not go missing in silence.
var anchorhold = contents{
	programs: []string{
		"agent/cmd/anchorhold", "agent/cmd/anchorhold-agent", "agent/cmd/anchorhold-verify", "agent/cmd/anchorhold-worker",
		"keybroker/cmd/anchorhold-aggregator", "keybroker/cmd/anchorhold-broker",
		"image/cmd/anchorhold-image", "image/cmd/anchorhold-initrd", "image/cmd/anchorhold-measure",
	},
	files: []string{
		"LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md", "docs/*.md", "docs/*.svg",
		"systemd/*.service", "systemd/*.socket", "systemd/*.slice", "systemd/*.sysusers", "systemd/*.tmpfiles", "systemd/*.rules", "systemd/*.d/*.example",
	},
	packaged: true,
}

// releaseTags keep the software TEE out at compile time, and HTTP/2, which nothing here speaks:
// the agent is half a megabyte smaller.
const releaseTags = "release,nethttpomithttp2"

// program is one built program.
type program struct {
	name string // as in bin/
	file string
	info *debug.BuildInfo // read from the file
}

// built is what one target's build made.
type built struct {
	target   target
	programs []program
	packages []linkedPackage
	goRoot   string
}

// build compiles the programs of one target and believes only what it reads in the files.
func (r *release) build(ctx context.Context, p place, tree string, t target) (*built, error) {
	bin := filepath.Join(p.dir, "bin", t.String())
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return nil, err
	}
	toolexec, err := p.toolexec()
	if err != nil {
		return nil, err
	}
	args := []string{"build", "-trimpath", toolexec, "-buildvcs=false", "-mod=readonly", "-tags", releaseTags}
	for line := range strings.FieldsSeq(gcflags) {
		args = append(args, "-gcflags="+line)
	}
	args = append(args, "-ldflags", "-s -w -buildid= -funcalign=16 -X main.version="+r.version, "-o", bin+string(filepath.Separator))
	for _, name := range r.programs {
		args = append(args, "./"+name)
	}
	if out, err := p.command(ctx, tree, r.toolchain, t, args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	sums, err := readSums(filepath.Join(tree, "go.sum"))
	if err != nil {
		return nil, err
	}
	b := &built{target: t}
	for _, name := range r.programs {
		prog := program{name: path.Base(name), file: filepath.Join(bin, path.Base(name))}
		if prog.info, err = buildinfo.ReadFile(prog.file); err != nil {
			return nil, err
		}
		if err := checkProgram(prog.info, name, r.toolchain, t, sums); err != nil {
			return nil, fmt.Errorf("%s: %w", prog.name, err)
		}
		b.programs = append(b.programs, prog)
	}
	return b, r.linked(ctx, p, tree, b)
}

// checkProgram compares what a program says of itself with what was asked for, and each module
// in it with go.sum.
func checkProgram(info *debug.BuildInfo, name, toolchain string, t target, sums map[string]string) error {
	if want := info.Main.Path + "/" + name; info.Path != want {
		return fmt.Errorf("got %s, want %s", info.Path, want)
	}
	if info.GoVersion != toolchain {
		return fmt.Errorf("built with %s, want %s", info.GoVersion, toolchain)
	}
	want := map[string]string{"CGO_ENABLED": "0", "GOOS": t.system, "GOARCH": t.architecture, "-tags": releaseTags, "-trimpath": "true", "-buildmode": "exe", "-compiler": "gc"}
	for _, s := range info.Settings {
		if v, ok := want[s.Key]; ok && v != s.Value {
			return fmt.Errorf("built with %s=%s, want %s", s.Key, s.Value, v)
		} else if strings.HasPrefix(s.Key, "vcs") {
			return fmt.Errorf("it holds %s, which depends on the checkout", s.Key)
		}
		delete(want, s.Key)
	}
	for key := range want {
		return fmt.Errorf("it has no record of how it was built: %s is missing", key)
	}
	for _, m := range info.Deps {
		switch sum := sums[m.Path+" "+m.Version]; {
		case m.Replace != nil:
			return fmt.Errorf("%s is replaced, so go.sum does not vouch for it", m.Path)
		case sum == "":
			return fmt.Errorf("go.sum does not name %s %s", m.Path, m.Version)
		case sum != m.Sum:
			return fmt.Errorf("%s %s has sum %s, go.sum says %s", m.Path, m.Version, m.Sum, sum)
		}
	}
	return nil
}

// readSums reads go.sum: the sum of each module's files, by "path version".
func readSums(name string) (map[string]string, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	sums := map[string]string{}
	for line := range bytes.Lines(data) {
		f := strings.Fields(string(line))
		if len(f) != 3 {
			return nil, fmt.Errorf("%s: malformed line %q", name, line)
		}
		if !strings.HasSuffix(f[1], "/go.mod") {
			sums[f[0]+" "+f[1]] = f[2]
		}
	}
	return sums, nil
}

// modules are the modules that are linked into any of the programs, sorted.
func (b *built) modules() []debug.Module {
	found := map[string]debug.Module{}
	for _, p := range b.programs {
		for _, m := range p.info.Deps {
			found[m.Path] = *m
		}
	}
	list := make([]debug.Module, 0, len(found))
	for _, m := range found {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b debug.Module) int { return strings.Compare(a.Path, b.Path) })
	return list
}

// linkedPackage is a third-party package whose code is in the programs, and where it is.
type linkedPackage struct{ module, version, moduleDir, dir string }

// linked finds the packages of the programs, for their licences.
func (r *release) linked(ctx context.Context, p place, tree string, b *built) error {
	const form = `{{with .Module}}{{if not .Main}}{{.Path}}{{"\t"}}{{.Version}}{{"\t"}}{{.Dir}}{{"\t"}}{{$.Dir}}{{end}}{{end}}`
	args := []string{"list", "-deps", "-mod=readonly", "-tags", releaseTags, "-f", form}
	for _, name := range r.programs {
		args = append(args, "./"+name)
	}
	out, err := p.command(ctx, tree, r.toolchain, b.target, args...).Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) != 4 {
			continue // of the standard library, or ours
		}
		b.packages = append(b.packages, linkedPackage{f[0], f[1], f[2], f[3]})
	}
	root, err := p.command(ctx, tree, r.toolchain, b.target, "env", "GOROOT").Output()
	b.goRoot = strings.TrimSpace(string(root))
	if err == nil && b.goRoot == "" {
		err = errors.New("go env: no GOROOT")
	}
	return err
}
