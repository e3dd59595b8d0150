package packages

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/filelist"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

var when = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestVersionsHaveTheirPlaceInTheOrder(t *testing.T) {
	ordered := []string{"", "v0.2.0-rc.1", "v0.2.0", "v0.2.0-5-gabcdef0", "v0.2.1", "v0.10.0-rc.2-3-g1234567", "v0.10.0"}
	want := []string{"0~20260102030405.gabcdef0", "0.2.0~rc.1", "0.2.0", "0.2.0+5.gabcdef0", "0.2.1", "0.10.0~rc.2+3.g1234567", "0.10.0"}
	ordered[0] = "abcdef0"
	for i, v := range ordered {
		if got, err := Version(v, when); err != nil || got != want[i] {
			t.Errorf("%s: got %q, %v, want %q", v, got, err, want[i])
		}
	}
	cmd := exec.Command("sort", "-V") // as the scripts of the packages do
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	shuffled := slices.Clone(want)
	slices.Reverse(shuffled)
	cmd.Stdin = strings.NewReader(strings.Join(shuffled, "\n") + "\n")
	if out, err := cmd.Output(); err != nil || string(out) != strings.Join(want, "\n")+"\n" {
		t.Errorf("sort -V says %s, %v", out, err)
	}
	for _, v := range []string{"", "v1", "v1.2", "v1.2.3 ", "main", "v1.2.3-dirty space", "1.2.3;rm", "v1.2.3-4", "abcdeg0", "v1.2.3+meta"} {
		if got, err := Version(v, when); err == nil {
			t.Errorf("%q: got %q", v, got)
		}
	}
}

// TestEveryPackageCanBeOnTheSignedList: the list refuses names that others would rename.
func TestEveryPackageCanBeOnTheSignedList(t *testing.T) {
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	for _, release := range []string{"v0.2.0", "v0.2.0-rc.1", "v0.2.0-rc.1-5-gabcdef0", "abcdef0"} {
		version, err := Version(release, when)
		if err != nil {
			t.Fatal(err)
		}
		list := filelist.List{Version: release, Commit: strings.Repeat("a", 40)}
		for _, p := range all {
			for _, f := range formats {
				l := layout{pkg: p, format: f, version: version}
				list.Files = append(list.Files, filelist.File{Name: l.fileName("x")})
			}
		}
		slices.SortFunc(list.Files, func(a, b filelist.File) int { return strings.Compare(a.Name, b.Name) })
		if _, err := filelist.Sign(key, list); err != nil {
			t.Errorf("%s: %v", release, err)
		}
	}
}

// treeFiles are the files that a release takes from the tree.
func treeFiles(t testing.TB) map[string][]byte {
	t.Helper()
	files := map[string][]byte{"THIRD-PARTY-NOTICES.txt": []byte("notices\n")}
	root := filepath.Join("..", "..")
	for _, pattern := range []string{"docs/*.md", "docs/*.svg", "systemd/*.service", "systemd/*.socket", "systemd/*.slice", "systemd/*.sysusers", "systemd/*.tmpfiles", "systemd/*.rules", "systemd/*.d/*.example"} {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %q, %v", pattern, names, err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files[filepath.ToSlash(strings.TrimPrefix(name, root+string(filepath.Separator)))] = data
		}
	}
	return files
}

var programs = []string{"anchorhold", "anchorhold-agent", "anchorhold-aggregator", "anchorhold-broker", "anchorhold-image", "anchorhold-initrd", "anchorhold-measure", "anchorhold-verify", "anchorhold-worker"}

// standIns are a release whose programs and pages are stand-ins.
func standIns(t testing.TB, version string) Release {
	t.Helper()
	files := treeFiles(t)
	for _, name := range programs {
		files["bin/"+name] = []byte("program " + name)
	}
	for _, page := range []string{"anchorhold.1", "anchorhold-image.1", "anchorhold-measure.1", "anchorhold-verify.1", "anchorhold-agent.8", "anchorhold-worker.8", "anchorhold-broker.8", "anchorhold-aggregator.8"} {
		files["man/"+page] = []byte(".TH X 1\n")
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		files["completions/anchorhold."+shell] = []byte("# " + shell + "\n")
	}
	return Release{Version: version, When: when, Arch: "amd64", Files: files}
}

// staged lays a package out without nfpm.
func staged(t *testing.T, r Release, p pkg, f format) (*layout, error) {
	t.Helper()
	l := &layout{release: r, pkg: p, format: f, version: "1", dir: t.TempDir(), staged: map[string]string{}}
	return l, l.stage()
}

// TestEveryFileOfAReleaseIsInOnePackage: what a release ships and no package has, or two have,
// is a mistake.
func TestEveryFileOfAReleaseIsInOnePackage(t *testing.T) {
	r := standIns(t, "v1.0.0")
	unzipped := func(file string) string {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, f := range formats {
		owner, used := map[string]string{}, map[string]bool{}
		for _, p := range all {
			l, err := staged(t, r, p, f)
			if err != nil {
				t.Fatal(err)
			}
			for place := range l.staged {
				if owner[place] != "" {
					t.Errorf("%s is in %s and in %s", place, owner[place], p.name)
				}
				owner[place] = p.name
			}
			if text := unzipped(l.staged["/usr/share/doc/"+p.name+"/changelog.gz"]); !strings.HasPrefix(text, p.name+" (1) stable") {
				t.Errorf("%s: the changelog is %q", p.name, text)
			}
			for _, pattern := range p.files {
				names, err := r.match(pattern.from)
				if err != nil {
					t.Fatal(err)
				}
				for _, n := range names {
					used[n] = true
				}
			}
		}
		for name := range r.Files {
			if !used[name] && name != "THIRD-PARTY-NOTICES.txt" {
				t.Errorf("%s is in no %s", name, f.name)
			}
		}
		for place, from := range map[string]string{
			"/usr/lib/sysusers.d/anchorhold.conf": common, "/usr/lib/tmpfiles.d/anchorhold.conf": common, "/usr/share/doc/anchorhold/operations.md": common,
			"/usr/lib/systemd/system/anchorhold-worker@.service": "anchorhold-agent", "/usr/lib/udev/rules.d/70-anchorhold-agent.rules": "anchorhold-agent",
			"/usr/share/doc/anchorhold-agent/examples/tpm.conf": "anchorhold-agent", "/usr/share/man/man8/anchorhold-broker.8.gz": "anchorhold-broker",
			"/usr/bin/anchorhold-verify": "anchorhold-tools", "/usr/share/man/man1/anchorhold.1.gz": "anchorhold-tools",
		} {
			if owner[place] != from {
				t.Errorf("%s: %s is in %q, want %s", f.name, place, owner[place], from)
			}
		}
	}
}

func TestAFileThatIsMissingIsNoPackage(t *testing.T) {
	for _, name := range []string{"bin/anchorhold-worker", "systemd/anchorhold-agent.rules", "man/anchorhold-agent.8", "THIRD-PARTY-NOTICES.txt"} {
		r := standIns(t, "v1.0.0")
		delete(r.Files, name)
		i := slices.IndexFunc(all, func(p pkg) bool { return p.name == "anchorhold-agent" })
		if _, err := staged(t, r, all[i], formats[0]); err == nil || !strings.Contains(err.Error(), "has no file") {
			t.Errorf("without %s: %v", name, err)
		}
	}
	r := standIns(t, "v1.0.0")
	r.Arch = "riscv64"
	if _, err := r.Make(t.Context(), t.TempDir(), "deb"); err == nil || !strings.Contains(err.Error(), `architecture "riscv64"`) {
		t.Errorf("another architecture: %v", err)
	}
	if _, err := standIns(t, "v1.0.0").Make(t.Context(), t.TempDir(), "apk"); err == nil || !strings.Contains(err.Error(), `not "apk"`) {
		t.Errorf("another kind: %v", err)
	}
}

// TestNoScriptStartsOrEnables: a package that serves before somebody has said whom is a hole.
func TestNoScriptStartsOrEnables(t *testing.T) {
	for _, p := range all {
		for debian := range scriptNames {
			text, err := p.script(debian, "1.2.3")
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(text) {
				if strings.HasPrefix(strings.TrimSpace(line), "#") {
					continue
				}
				for _, word := range []string{"systemctl start", "systemctl enable", "systemctl restart", "enable --now", "preset", "unmask"} {
					if strings.Contains(line, word) {
						t.Errorf("%s, %s: %s", p.name, debian, line)
					}
				}
			}
			if text != "" {
				cmd := exec.Command("sh", "-n")
				cmd.Stdin = strings.NewReader(text)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s, %s: %v\n%s", p.name, debian, err, out)
				}
			}
		}
	}
}

// TestPreinstRefusesToGoBack runs the script on markers in a directory of its own.
func TestPreinstRefusesToGoBack(t *testing.T) {
	broker := all[slices.IndexFunc(all, func(p pkg) bool { return p.name == "anchorhold-broker" })]
	text, err := broker.script("preinst", "0.2.0")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := strings.ReplaceAll(text, "/var/lib/anchorhold", dir)
	for name, c := range map[string]struct{ marker, word, want string }{
		"nothing there":          {"", "install", ""},
		"the same":               {"0.2.0\n", "upgrade", ""},
		"an older one":           {"0.1.9\n", "upgrade", ""},
		"a candidate of it":      {"0.2.0~rc.1\n", "upgrade", ""},
		"a newer one":            {"0.2.1\n", "upgrade", "0.2.0 is older than 0.2.1"},
		"a newer one, reinstall": {"0.10.0\n", "install", "0.2.0 is older than 0.10.0"},
		"a newer one, rpm":       {"0.2.0+1.gabc\n", "2", "is older than"},
		"a newer one, rpm first": {"0.2.0+1.gabc\n", "1", "is older than"},
		"dpkg goes back itself":  {"0.2.1\n", "abort-upgrade", ""},
		"no version":             {"what?\n", "upgrade", "does not name the version"},
		"an empty marker":        {"\n", "upgrade", "does not name the version"},
		"a command":              {"1$(touch x)\n", "upgrade", "does not name the version"},
	} {
		marker := filepath.Join(dir, "broker.version")
		if err := os.RemoveAll(marker); err != nil {
			t.Fatal(err)
		}
		if c.marker != "" {
			if err := os.WriteFile(marker, []byte(c.marker), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("sh", "-s", c.word, "0.0.1")
		cmd.Stdin = strings.NewReader(script)
		out, err := cmd.CombinedOutput()
		if (err == nil) != (c.want == "") || !strings.Contains(string(out), c.want) || c.want == "" && len(out) > 0 {
			t.Errorf("%s: %v, %q, want %q", name, err, out, c.want)
		}
	}
}

func TestAPlaceholderWithoutAValueIsAnError(t *testing.T) {
	for _, p := range all {
		for debian := range scriptNames {
			if text, err := p.script(debian, "1"); err != nil || strings.Contains(text, "@") {
				t.Errorf("%s, %s: %v\n%s", p.name, debian, err, text)
			}
		}
	}
}

func nfpm(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "nfpm")
	if err := BuildNfpm(t.Context(), filepath.Join("..", ".."), program, nil); err != nil {
		t.Fatal(err)
	}
	return program
}

func made(t *testing.T, r Release, dir string, kinds ...string) map[string][]byte {
	t.Helper()
	names, err := r.Make(t.Context(), dir, kinds...)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, name := range names {
		if files[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// TestPackagesAreTheSameBytesTwice makes all of them twice, under another umask, zone and
// temporary directory, and compares what dpkg and rpm unpack with the list.
func TestPackagesAreTheSameBytesTwice(t *testing.T) {
	longtest.Run(t, "it builds nfpm")
	r := standIns(t, "v1.2.3")
	r.Nfpm = nfpm(t)
	for _, arch := range []string{"amd64", "arm64"} {
		r.Arch = arch
		first := made(t, r, t.TempDir(), "deb", "rpm")
		elsewhere := t.TempDir()
		t.Setenv("TMPDIR", elsewhere)
		t.Setenv("TZ", "Pacific/Kiritimati")
		t.Setenv("SOURCE_DATE_EPOCH", "1")
		second := made(t, r, t.TempDir(), "deb", "rpm")
		if len(first) != 2*len(all) || len(second) != len(first) {
			t.Errorf("%d and %d packages, want %d", len(first), len(second), 2*len(all))
		}
		for name := range first {
			if !bytes.Equal(first[name], second[name]) {
				t.Errorf("%s differs", name)
			}
		}
	}
	dir := t.TempDir()
	made(t, r, dir, "deb", "rpm")
	for _, f := range formats {
		if _, err := exec.LookPath(map[string]string{"deb": "dpkg-deb", "rpm": "rpm2cpio"}[f.name]); err != nil {
			t.Logf("NOT UNPACKED: %v", err)
			continue
		}
		for _, p := range all {
			compareUnpacked(t, r, dir, p, f)
		}
	}
}

// compareUnpacked has the distribution's own tool unpack a package and compares every file.
func compareUnpacked(t *testing.T, r Release, dir string, p pkg, f format) {
	t.Helper()
	arch := f.arch[r.Arch]
	if p.everywhere {
		arch = f.all
	}
	file := filepath.Join(dir, f.join(p.name, "1.2.3", arch))
	root := t.TempDir()
	cmd := exec.Command("dpkg-deb", "-x", file, root)
	if f.name == "rpm" {
		// The names in an rpm begin with a slash: without the option they would be this machine's.
		cmd = exec.Command("sh", "-c", `rpm2cpio "$1" | cpio -idm --quiet --no-absolute-filenames`, "sh", file)
		cmd.Dir = root
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", file, err, out)
		return
	}
	l, err := staged(t, r, p, f)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		place := "/" + filepath.ToSlash(strings.TrimPrefix(name, root+string(filepath.Separator)))
		want, known := l.staged[place]
		if !known {
			t.Errorf("%s has %s, which is not on the list", file, place)
			return nil
		}
		delete(l.staged, place)
		return compareFile(name, want, place, d)
	})
	if err != nil {
		t.Error(file, err)
	}
	for place := range l.staged {
		t.Errorf("%s has no %s", file, place)
	}
}

func compareFile(got, want, place string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if dir := path.Dir(place); dir == "/usr/bin" || dir == "/usr/lib/anchorhold" {
		mode = 0o755
	}
	// cpio writes no time that only the header of an rpm has.
	if info.Mode() != mode || !info.ModTime().Equal(when) && info.ModTime().Unix() != 0 {
		return fmt.Errorf("%s: %s of %s, want %s of %s", place, info.Mode(), info.ModTime(), mode, when)
	}
	a, err := os.ReadFile(got)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(want)
	if err == nil && path.Base(place) != "changelog.gz" && !bytes.Equal(a, b) {
		err = fmt.Errorf("%s has other content", place)
	}
	return err
}
