// Package packages makes the deb and rpm packages of a release from the files of its archive and
// from nothing else: what an archive holds is built twice and compared, and a package of it depends
// on these bytes and the commit's time alone. nfpm lays them out, at the version that the module in
// nfpm/ pins with its checksums; the product's go.mod knows nothing of it.
//
// The packages start and enable nothing. An update restarts the daemons that run, a package refuses
// to go below the version that wrote the state it finds, removal keeps the state, and a purge
// deletes it and says which keys went with it (scripts/).
//
// Package release calls it for each architecture; docs/packages.md is for those who install them.
package packages

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Release is what packages are made of.
type Release struct {
	Version string    // of the release, as git describe writes it
	When    time.Time // of the commit
	Arch    string    // as Go names it
	Files   map[string][]byte
	Nfpm    string // the program: see [BuildNfpm]
}

// BuildNfpm builds nfpm as a checkout pins it. The environment is that of other builds; nil means
// this process's.
func BuildNfpm(ctx context.Context, tree, to string, env []string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-mod=readonly", "-o", to, "github.com/goreleaser/nfpm/v2/cmd/nfpm")
	cmd.Dir, cmd.Env = filepath.Join(tree, "packaging", "packages", "nfpm"), env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build nfpm: %w\n%s", err, out)
	}
	return nil
}

// Make writes the packages of one architecture into a directory, as deb, rpm or both, and returns
// their names.
func (r Release) Make(ctx context.Context, out string, kinds ...string) (names []string, err error) {
	version, err := Version(r.Version, r.When)
	if err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp("", "anchorhold-packages-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	for _, p := range all {
		for _, kind := range kinds {
			f, err := formatOf(kind)
			if err != nil {
				return nil, err
			}
			l := layout{release: r, pkg: p, format: f, version: version, dir: filepath.Join(scratch, p.name+"."+f.name), staged: map[string]string{}}
			name, err := l.make(ctx, out)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", p.name, f.name, err)
			}
			names = append(names, name)
		}
	}
	return names, nil
}

// format is a kind of package.
type format struct {
	name string
	arch map[string]string // by Go's names
	all  string            // for packages that fit every architecture
	join func(name, version, arch string) string

	equal, least string // how a package and its version are required
}

func formatOf(kind string) (format, error) {
	i := slices.IndexFunc(formats, func(f format) bool { return f.name == kind })
	if i < 0 {
		return format{}, fmt.Errorf("packages are deb or rpm, not %q", kind)
	}
	return formats[i], nil
}

// oldestSystemd is the oldest version that the units are written for.
const oldestSystemd = "252"

var formats = []format{
	{"deb", map[string]string{"amd64": "amd64", "arm64": "arm64"}, "all", func(name, version, arch string) string { return name + "_" + version + "_" + arch + ".deb" }, "%s (= %s)", "%s (>= %s)"},
	{"rpm", map[string]string{"amd64": "x86_64", "arm64": "aarch64"}, "noarch", func(name, version, arch string) string { return name + "-" + version + "-1." + arch + ".rpm" }, "%s = %s", "%s >= %s"},
}

// layout is one package in the making: files that are staged, and what nfpm is told of them.
type layout struct {
	release  Release
	pkg      pkg
	format   format
	version  string
	dir      string
	staged   map[string]string // place in the package: staged file
	contents []content
}

// content is an entry of nfpm's list.
type content struct {
	Src      string   `json:"src"`
	Dst      string   `json:"dst"`
	FileInfo fileInfo `json:"file_info"`
}

type fileInfo struct {
	Mode  uint32 `json:"mode"`
	Mtime string `json:"mtime"`
	Owner string `json:"owner"`
	Group string `json:"group"`
}

func (l *layout) make(ctx context.Context, out string) (string, error) {
	arch, known := l.format.arch[l.release.Arch]
	if !known {
		return "", fmt.Errorf("no %s is made for the architecture %q", l.format.name, l.release.Arch)
	}
	if l.pkg.everywhere {
		arch = l.format.all
	}
	if err := os.Mkdir(l.dir, 0o755); err != nil {
		return "", err
	}
	if err := l.stage(); err != nil {
		return "", err
	}
	config, err := l.config(arch)
	if err != nil {
		return "", err
	}
	name := l.fileName(arch)
	cmd := exec.CommandContext(ctx, l.release.Nfpm, "package", "--config", config, "--packager", l.format.name, "--target", filepath.Join(out, name))
	cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", l.release.When.Unix()), "TZ=UTC")
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("nfpm: %w\n%s", err, said)
	}
	return name, os.Chmod(filepath.Join(out, name), 0o644)
}

// fileName is how the package's file is called. A tilde is on no signed list, and places that host
// releases rename such files.
func (l *layout) fileName(arch string) string {
	return l.format.join(l.pkg.name, strings.ReplaceAll(l.version, "~", "."), arch)
}

// stage writes every file of the package below the scratch directory.
func (l *layout) stage() error {
	for _, f := range l.pkg.files {
		names, err := l.release.match(f.from)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := l.add(f.place(name, l.format.name), l.release.Files[name], f.mode()); err != nil {
				return err
			}
		}
	}
	doc := "/usr/share/doc/" + l.pkg.name + "/"
	err := errors.Join(l.add(doc+"copyright", []byte(copyright), 0o644), l.add(doc+"changelog.gz", l.changelog(), 0o644))
	if !l.pkg.everywhere { // which has no program, so nothing is linked into it
		const notices = "THIRD-PARTY-NOTICES.txt"
		_, merr := l.release.match(notices)
		err = errors.Join(err, merr, l.add(doc+notices+".gz", l.release.Files[notices], 0o644))
	}
	if l.format.name == "deb" && l.pkg.lintian != "" {
		err = errors.Join(err, l.add("/usr/share/lintian/overrides/"+l.pkg.name, []byte(strings.ReplaceAll(l.pkg.lintian, "%s", l.pkg.name)), 0o644))
	}
	return err
}

// match are the release's files that fit a pattern. None is an error: what was renamed must not
// go missing in silence.
func (r Release) match(pattern string) (names []string, err error) {
	for name := range r.Files {
		if fits, err := path.Match(pattern, name); err != nil {
			return nil, err
		} else if fits {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("the release has no file %s", pattern)
	}
	slices.Sort(names)
	return names, nil
}

// add stages one file. Documents that readers have compressed are compressed here, without a
// time and without a name.
func (l *layout) add(place string, data []byte, mode fs.FileMode) error {
	if _, twice := l.staged[place]; twice {
		return fmt.Errorf("%s is in the package twice", place)
	}
	if strings.HasSuffix(place, ".gz") {
		var err error
		if data, err = compress(data); err != nil {
			return err
		}
	}
	file := filepath.Join(l.dir, fmt.Sprintf("file-%03d", len(l.staged)))
	l.staged[place] = file
	l.contents = append(l.contents, content{file, place, fileInfo{uint32(mode), l.release.When.Format(time.RFC3339), "root", "root"}})
	return os.WriteFile(file, data, 0o600)
}

func compress(data []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(data)
	err = errors.Join(err, w.Close()) // which writes, too
	return out.Bytes(), err
}

func (l *layout) changelog() []byte {
	return fmt.Appendf(nil, "%s (%s) stable; urgency=medium\n\n  * Anchorhold %s. CHANGELOG.md of the release says what changed.\n\n -- %s  %s\n",
		l.pkg.name, l.version, l.release.Version, maintainer, l.release.When.UTC().Format(time.RFC1123Z))
}

// config writes nfpm's file. JSON is YAML, and quotes everything.
func (l *layout) config(arch string) (string, error) {
	scripts, err := l.scripts()
	if err != nil {
		return "", err
	}
	var depends []string
	for _, d := range l.pkg.depends {
		if d == common {
			depends = append(depends, fmt.Sprintf(l.format.equal, d, l.version))
		} else {
			depends = append(depends, fmt.Sprintf(l.format.least, d, oldestSystemd))
		}
	}
	config := map[string]any{
		"name": l.pkg.name, "arch": arch, "platform": "linux", "version": l.version, "version_schema": "none",
		"maintainer": maintainer, "vendor": "Anchorhold", "homepage": homepage, "section": "admin", "priority": "optional",
		"description": l.pkg.summary + "\n" + l.pkg.description, "mtime": l.release.When.Format(time.RFC3339),
		"umask": 0o022, "depends": depends, "contents": l.contents, "scripts": scripts,
		"deb": map[string]any{"compression": "gzip"},
		"rpm": map[string]any{"compression": "gzip", "summary": l.pkg.summary, "buildhost": "anchorhold"},
	}
	if l.format.name == "rpm" {
		config["release"], config["license"] = "1", "Apache-2.0" // a deb's is in its copyright file
	}
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return "", err
	}
	file := filepath.Join(l.dir, "nfpm.yaml")
	return file, os.WriteFile(file, text, 0o600)
}
