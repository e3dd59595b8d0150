package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/filelist"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

func write(t testing.TB, name, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o666)); err != nil {
		t.Fatal(err)
	}
}

// tinyRepository is a checkout with one program that imports nothing.
func tinyRepository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module " + module + "\n\ngo 1.26.8\n", "go.sum": "", "LICENSE": "ours",
		"one/main.go": "package main\n\nvar version string\n\nfunc main() { print(version) }\n",
	} {
		write(t, filepath.Join(dir, name), text)
	}
	if err := os.Symlink("../LICENSE", filepath.Join(dir, "one", "LICENSE")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}, {"-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "first", "--date=2026-01-02T03:04:05Z"}} {
		cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	return dir
}

// tinyRelease prepares a release of that program for this machine's system.
func tinyRelease(t *testing.T, tree string) (*release, *strings.Builder) {
	t.Helper()
	var said strings.Builder
	r, err := newRelease(t.Context(), options{tree: tree, version: "v1"}, func(format string, args ...any) { fmt.Fprintf(&said, format+"\n", args...) })
	if err != nil {
		t.Fatal(err)
	}
	r.contents, r.targets = contents{programs: []string{"one"}, files: []string{"LICENSE"}}, targets[:1]
	return r, &said
}

func entriesOf(t *testing.T, archive string) map[string]*tar.Header {
	t.Helper()
	data, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	zipped, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*tar.Header{}
	for r := tar.NewReader(zipped); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		found[h.Name] = h
	}
}

// TestReleaseOfATinyProgram runs every step with the real compiler: built twice, compared,
// packed, signed and verified.
func TestReleaseOfATinyProgram(t *testing.T) {
	longtest.Run(t, "it builds with an empty cache")
	tree := tinyRepository(t)
	r, said := tinyRelease(t, tree)
	made, err := r.twice(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	by, err := openPublisher(options{})
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "dist")
	if err := r.publish(made, out, by); err != nil {
		t.Fatal(err)
	}
	public, err := identity.ReadPublicFile(filepath.Join(out, "THROWAWAY.pub"))
	if err != nil {
		t.Fatal(err)
	}
	list, err := filelist.Check(out, public)
	if err != nil || list.Version != "v1" || list.Commit != r.commit || len(list.Files) != 2 {
		t.Errorf("got %+v, %v", list, err)
	}
	if !strings.Contains(said.String(), "THROWAWAY") || strings.Contains(said.String(), "NOT included") || !strings.Contains(said.String(), "an empty build cache") {
		t.Errorf("it said %s", said)
	}
	entries := entriesOf(t, filepath.Join(out, "anchorhold-v1-linux-amd64.tar.gz"))
	for name, mode := range map[string]int64{"LICENSE": 0o644, "THIRD-PARTY-NOTICES.txt": 0o644, "bin/one": 0o755, "sbom.cdx.json": 0o644} {
		h := entries["anchorhold-v1-linux-amd64/"+name]
		if h == nil || h.Mode != mode || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || !h.ModTime.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
			t.Errorf("%s: %+v", name, h)
		}
	}
	if len(entries) != 4 {
		t.Errorf("%d files", len(entries))
	}
}

// TestBuildsThatDifferAreNoRelease has a compiler that writes where it ran.
func TestBuildsThatDifferAreNoRelease(t *testing.T) {
	r, _ := tinyRelease(t, tinyRepository(t))
	r.compile = func(_ context.Context, p place, _ string, t target) (*built, error) {
		file := filepath.Join(p.dir, "one")
		if err := os.WriteFile(file, []byte(p.dir), 0o600); err != nil {
			return nil, err
		}
		return &built{target: t, goRoot: "../..", programs: []program{{name: "one", file: file, info: goodInfo("one")}}}, nil
	}
	_, err := r.twice(t.Context(), t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "the two builds differ") || !strings.Contains(err.Error(), "anchorhold-v1-linux-amd64.tar.gz: ") {
		t.Errorf("got %v", err)
	}
}

func TestOnlyTheCommitIsBuilt(t *testing.T) {
	tree := tinyRepository(t)
	write(t, filepath.Join(tree, "one", "main.go"), "not Go any more")
	write(t, filepath.Join(tree, "one", "more.go"), "nor is this")
	r, said := tinyRelease(t, tree)
	if !strings.Contains(said.String(), "NOT included") {
		t.Errorf("it said %s", said)
	}
	dir := filepath.Join(t.TempDir(), "x")
	if err := r.export(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	main, err := os.ReadFile(filepath.Join(dir, "one", "main.go"))
	if err != nil || !strings.HasPrefix(string(main), "package main") {
		t.Errorf("got %q, %v", main, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "one", "more.go")); err == nil {
		t.Error("a file that is not committed is in the build")
	}
	if linked, err := os.ReadFile(filepath.Join(dir, "one", "LICENSE")); err != nil || string(linked) != "ours" {
		t.Errorf("the link: got %q, %v", linked, err)
	}
}

func TestExportStaysInside(t *testing.T) {
	for what, h := range map[string]*tar.Header{
		"a parent":       {Typeflag: tar.TypeReg, Name: "../x"},
		"the root":       {Typeflag: tar.TypeReg, Name: "/x"},
		"a link outside": {Typeflag: tar.TypeSymlink, Name: "a/x", Linkname: "../../x"},
		"a device":       {Typeflag: tar.TypeChar, Name: "x"},
	} {
		if exportEntry(t.TempDir(), h, strings.NewReader("")) == nil {
			t.Errorf("%s passes", what)
		}
	}
}

func TestEveryDifferenceIsNamed(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	if _, err := compareTrees(a, b); err == nil {
		t.Error("nothing equals nothing")
	}
	for _, dir := range []string{a, b} {
		write(t, filepath.Join(dir, "same"), "1")
		write(t, filepath.Join(dir, "sub", "other"), "12345"+dir)
	}
	write(t, filepath.Join(a, "first"), "")
	write(t, filepath.Join(b, "second"), "")
	_, err := compareTrees(a, b)
	for _, want := range []string{"first was made by one build only", "second was made by one build only", "other: ", "from byte "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if err := os.RemoveAll(filepath.Join(a, "sub")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(a, "sub", "other"), "12345")
	if _, err = compareTrees(a, b); err == nil || !strings.Contains(err.Error(), "from byte 5 on") {
		t.Errorf("got %v", err)
	}
}

func TestArchiveDependsOnItsEntriesAlone(t *testing.T) {
	when := time.Unix(1_700_000_000, 0)
	list := []entry{{"b", []byte("2"), 0o644}, {"a", []byte("1"), 0o755}}
	first, err := pack("base", when, slices.Clone(list))
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(list)
	second, err := pack("base", when.In(time.FixedZone("x", 3600)), list)
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("order or zone changes the archive: %v", err)
	}
	if _, err := pack("base", when, []entry{{"a", nil, 0o644}, {"a", nil, 0o644}}); err == nil {
		t.Error("one name twice passes")
	}
}

func TestFilesThatAreGoneAreMissed(t *testing.T) {
	if _, err := (contents{files: []string{"LICENSE", "no-such-*.md"}}).shipped(tinyRepository(t)); err == nil || !strings.Contains(err.Error(), "no-such-*.md") {
		t.Errorf("got %v", err)
	}
	list, err := anchorhold.shipped(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"LICENSE", "docs/releases.md", "systemd/anchorhold-agent.service", "systemd/anchorhold-agent.service.d/memory.conf.example"} {
		if !slices.ContainsFunc(list, func(e entry) bool { return e.name == want && len(e.data) > 0 }) {
			t.Errorf("%s is not in the archive", want)
		}
	}
}

// keyFile makes a publisher's key and what opens it.
func keyFile(t *testing.T, level identity.Level) (key, credential string) {
	t.Helper()
	secret, err := keybuf.Random(idfile.MinCredentialBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Wipe()
	k, err := identity.Generate(level)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Wipe()
	dir := t.TempDir()
	key, credential = filepath.Join(dir, "publisher.key"), filepath.Join(dir, "credential")
	if err := errors.Join(os.WriteFile(credential, secret.Bytes(), 0o600), idfile.Write(key, k, idfile.Unlock{Credential: secret})); err != nil {
		t.Fatal(err)
	}
	return key, credential
}

func TestKeyIsAParameter(t *testing.T) {
	key, credential := keyFile(t, identity.LevelEpoch)
	by, err := openPublisher(options{key: key, credential: credential})
	if err != nil || by.throwaway || by.publicName() != "publisher.pub" || by.remark() != "" {
		t.Fatalf("got %+v, %v", by, err)
	}
	root, opens := keyFile(t, identity.LevelRoot)
	_, another := keyFile(t, identity.LevelEpoch)
	for what, o := range map[string]options{
		"no credential":      {key: key},
		"no key":             {credential: credential},
		"another credential": {key: key, credential: another},
		"a root key":         {key: root, credential: opens},
		"no such key":        {key: key + ".none", credential: credential},
		"no such credential": {key: key, credential: credential + ".none"},
	} {
		if by, err := openPublisher(o); err == nil || by != nil {
			t.Errorf("%s: got %v, %v", what, by, err)
		}
	}
	one, err := openPublisher(options{})
	if err != nil || !one.throwaway || one.publicName() != "THROWAWAY.pub" || !strings.Contains(one.remark(), "do not publish") {
		t.Fatalf("got %+v, %v", one, err)
	}
	two, err := openPublisher(options{})
	if err != nil || two.key.Public().Equal(one.key.Public()) {
		t.Errorf("two throwaway keys are the same, %v", err)
	}
}

func TestWrongBeginningsCostNoBuild(t *testing.T) {
	there := t.TempDir()
	for what, c := range map[string]struct {
		o    options
		says string
	}{
		"half a key":      {options{out: filepath.Join(there, "x"), key: "k"}, "required together"},
		"out is there":    {options{out: there, tree: "."}, "exists"},
		"not a checkout":  {options{out: filepath.Join(there, "x"), tree: there}, "git"},
		"a bad version":   {options{out: filepath.Join(there, "x"), tree: tinyRepository(t), version: "v1/2"}, "cannot be part of a file name"},
		"an empty prefix": {options{out: filepath.Join(there, "x"), tree: tinyRepository(t), version: "-v1"}, "cannot be part of a file name"},
	} {
		if err := run(t.Context(), c.o, io.Discard); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %q", what, err, c.says)
		}
	}
}
