package build

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/image/initrd"
)

var when = time.Unix(1_700_000_000, 0)

// packed is an archive of files by name; a name with a slash at its end is a directory, "a -> b" a symbolic link, "a = b" a hard one.
func packed(tb testing.TB, files map[string]string) io.Reader {
	tb.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Name: "./" + name, Mode: 0o755, Typeflag: tar.TypeReg, Size: int64(len(files[name])), ModTime: time.Unix(int64(len(name)), 0)}
		if from, to, is := strings.Cut(name, " -> "); is {
			h.Name, h.Linkname, h.Typeflag = from, to, tar.TypeSymlink
		} else if from, to, is := strings.Cut(name, " = "); is {
			h.Name, h.Linkname, h.Typeflag = from, "./"+to, tar.TypeLink
		} else if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(w, files[name]); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return &out
}

func read(tb testing.TB, files map[string]string) *Tree {
	tb.Helper()
	t, err := ReadTree(packed(tb, files))
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// listed is what an archive holds, by name.
func listed(tb testing.TB, archive []byte) map[string]*tar.Header {
	tb.Helper()
	all := map[string]*tar.Header{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			tb.Fatal(err)
		}
		all[strings.Trim(strings.TrimPrefix(h.Name, "."), "/")] = h
	}
}

func TestTreeIsWrittenInOneWay(t *testing.T) {
	files := map[string]string{"etc/": "", "etc/a": "1", "usr/b": "2", "usr/c = etc/a": "", "d -> usr/b": ""}
	var first, second bytes.Buffer
	tree := read(t, files)
	if err := tree.Write(&first, when); err != nil {
		t.Fatal(err)
	}
	if err := read(t, files).Write(&second, when); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("written twice, it differs", err)
	}
	all := listed(t, first.Bytes())
	if len(all) != 5 || all["usr/c"].Typeflag != tar.TypeReg || all["usr/c"].Size != 1 || all["d"].Linkname != "usr/b" {
		t.Errorf("got %v", all)
	}
	for name, h := range all {
		if !h.ModTime.Equal(when) {
			t.Errorf("%s is of %s", name, h.ModTime)
		}
	}
}

func TestTreeRefuses(t *testing.T) {
	for what, files := range map[string]map[string]string{
		"a hard link to nothing":  {"a = b": ""},
		"a name twice":            {"a": "", "a -> b": ""},
		"a link to a link's name": {"a -> c": "", "b = a": ""},
	} {
		if _, err := ReadTree(packed(t, files)); err == nil {
			t.Errorf("%s is read", what)
		}
	}
	if _, err := ReadTree(strings.NewReader("no archive of any kind" + strings.Repeat("x", 1024))); err == nil {
		t.Error("what is no archive is read")
	}
}

func TestRemove(t *testing.T) {
	files := map[string]string{"usr/": "", "usr/a/b": "", "usr/a/c": "", "usr/ab": "", "var/": "", "var/x/y": ""}
	for pattern, want := range map[string][]string{
		"usr/a":  {"usr", "usr/ab", "var", "var/x/y"},
		"usr/a*": {"usr", "var", "var/x/y"},
		"var/":   {"usr", "usr/a/b", "usr/a/c", "usr/ab", "var"},
		"var":    {"usr", "usr/a/b", "usr/a/c", "usr/ab"},
		"opt":    {"usr", "usr/a/b", "usr/a/c", "usr/ab", "var", "var/x/y"},
	} {
		tree := read(t, files)
		// What is below a pattern that has no entry itself goes with it in archives that have every directory.
		tree.Directory("usr/a")
		if err := tree.Remove(pattern); err != nil {
			t.Fatal(err)
		}
		delete(tree.entries, "usr/a")
		if got := slices.Sorted(maps.Keys(tree.entries)); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", pattern, got, want)
		}
	}
	if err := read(t, files).Remove("["); err == nil {
		t.Error("a malformed pattern removes nothing, and says nothing")
	}
}

// base has what an image needs, and what it must not have.
func base() map[string]string {
	return map[string]string{
		"boot/": "", "boot/vmlinuz-6.12.1": "kernel", "etc/": "", "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
		"etc/shadow":                "root:$y$secret:20400:0:99999:7:::\ndaemon:*:20401:0:99999:7:::\n",
		"etc/gshadow":               "root:*::\n",
		"etc/machine-id":            "0123456789abcdef0123456789abcdef\n",
		"usr/":                      "",
		"usr/lib/":                  "",
		"usr/lib/systemd/":          "",
		"usr/lib/systemd/systemd":   "manager",
		"usr/sbin/":                 "",
		"usr/sbin/agetty":           "getty",
		"usr/bin/":                  "",
		"usr/bin/login":             "login",
		"usr/bin/dpkg":              "dpkg",
		"usr/share/doc/a/":          "",
		"usr/share/doc/a/README":    "text",
		"usr/share/doc/a/copyright": "licence",
		"usr/lib/systemd/system-generators/systemd-debug-generator": "",
		"usr/lib/systemd/system-generators/systemd-tpm2-generator":  "",
		"usr/lib/systemd/system/debug-shell.service":                "",
		"usr/lib/systemd/system/serial-getty@.service":              "",
		"usr/lib/udev/rules.d/60-sensor.rules":                      "",
		"usr/lib/udev/rules.d/80-drivers.rules":                     "",
		"var/":                                                      "", "var/lib/": "", "var/lib/dpkg/": "", "var/lib/dpkg/status": "Package: a\nStatus: install ok installed\nVersion: 1-2\n\nPackage: b\nStatus: deinstall ok config-files\nVersion: 3\n",
		"var/log/": "", "var/log/x": "",
	}
}

func TestCleanUp(t *testing.T) {
	tree := read(t, base())
	tree.Put("usr/bin/mount", 0o4755, nil)
	if err := cleanUp(tree); err != nil {
		t.Fatal(err)
	}
	if mode := tree.entries["usr/bin/mount"].Mode; mode != 0o755 {
		t.Errorf("mount has the mode %o", mode)
	}
	for _, gone := range []string{"boot/vmlinuz-6.12.1", "usr/sbin/agetty", "usr/bin/login", "usr/bin/dpkg", "usr/share/doc/a/README", "var/log", "var/lib", "usr/lib/systemd/system-generators/systemd-debug-generator",
		"usr/lib/systemd/system/debug-shell.service", "usr/lib/systemd/system/serial-getty@.service", "usr/lib/udev/rules.d/60-sensor.rules"} {
		if tree.entries[gone] != nil {
			t.Errorf("%s is there", gone)
		}
	}
	for name, want := range map[string]string{"etc/machine-id": "", "etc/shadow": "root:!*::0:99999:7:::\ndaemon:!*::0:99999:7:::\n", "etc/gshadow": "root:!*::\n", "usr/share/doc/a/copyright": "licence", "usr/lib/systemd/systemd": "manager"} {
		if got, err := tree.File(name); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
	for name, want := range map[string]string{"etc/systemd/system/emergency.service": "/dev/null", "etc/systemd/system/multi-user.target.wants/anchorhold-agent.service": "/usr/lib/systemd/system/anchorhold-agent.service",
		"etc/systemd/system/local-fs.target.wants/var.mount": "/usr/lib/systemd/system/var.mount"} {
		if e := tree.entries[name]; e == nil || e.Linkname != want {
			t.Errorf("%s: got %+v, want a link to %s", name, e, want)
		}
	}
	if status, err := tree.File("usr/lib/anchorhold-image/dpkg-status"); err != nil || len(packagesIn(string(status))) != 1 {
		t.Error(string(status), err)
	}
}

func TestCleanUpFails(t *testing.T) {
	for _, without := range []string{"var/lib/dpkg/status", "etc/shadow", "etc/gshadow"} {
		files := base()
		delete(files, without)
		if err := cleanUp(read(t, files)); err == nil || !strings.Contains(err.Error(), without) {
			t.Errorf("without %s: %v", without, err)
		}
	}
	files := base()
	files["etc/shadow"] = "root:x\n"
	if err := cleanUp(read(t, files)); err == nil {
		t.Error("a line of two fields is taken")
	}
}

// TestListsAreConsistent: a unit that is masked must not be enabled, and no list names a thing twice.
func TestListsAreConsistent(t *testing.T) {
	all := masked()
	for _, units := range enabled() {
		all = append(all, units...)
	}
	seen := map[string]bool{}
	for _, unit := range all {
		if seen[unit] {
			t.Errorf("%s comes twice", unit)
		}
		seen[unit] = true
	}
}

func TestFilesOfThePublisher(t *testing.T) {
	tree := read(t, base())
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"etc/anchorhold/agent.yaml": 0o600, "usr/bin/program": 0o700} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/run/x", filepath.Join(dir, "etc", "link")); err != nil {
		t.Fatal(err)
	}
	if err := addFS(tree, os.DirFS(dir), "."); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]int64{"etc/anchorhold/agent.yaml": 0o644, "usr/bin/program": 0o755} {
		if e := tree.entries[name]; e == nil || string(e.data) != name || e.Mode != mode || e.Uid != 0 {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if e := tree.entries["etc/link"]; e == nil || e.Linkname != "/run/x" {
		t.Errorf("%+v", e)
	}
	if err := addFS(tree, fstest.MapFS{"pipe": {Mode: os.ModeNamedPipe}}, "."); err == nil {
		t.Error("a pipe is added")
	}
}

func TestLoadOrder(t *testing.T) {
	const dep = "kernel/md/dm-verity.ko.xz: kernel/md/dm-bufio.ko.xz kernel/md/dm-mod.ko.xz kernel/lib/rs.ko.xz\nkernel/md/dm-bufio.ko.xz: kernel/md/dm-mod.ko.xz\nkernel/md/dm-mod.ko.xz:\nkernel/lib/rs.ko.xz:\nkernel/fs/erofs.ko.xz: kernel/lib/crc.ko.xz\nkernel/lib/crc.ko.xz:\n"
	got, err := loadOrder(dep, "kernel/drivers/virtio/virtio-pci.ko\n", []string{"virtio_pci", "erofs", "dm_verity", "dm_mod"})
	want := []string{"kernel/lib/crc.ko.xz", "kernel/fs/erofs.ko.xz", "kernel/lib/rs.ko.xz", "kernel/md/dm-mod.ko.xz", "kernel/md/dm-bufio.ko.xz", "kernel/md/dm-verity.ko.xz"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := loadOrder(dep, "", []string{"virtio_pci"}); err == nil || !strings.Contains(err.Error(), "virtio_pci") {
		t.Error(err)
	}
	if _, err := loadOrder("no colon\n", "", nil); err == nil {
		t.Error("a line without a colon is read")
	}
}

// TestInitialRAMDisk reads the archive as the kernel does.
func TestInitialRAMDisk(t *testing.T) {
	raw := makeInitrd([]byte("program"), []module{{"one", []byte("1")}, {"two", []byte("22")}}, when.Unix())
	got := map[string]string{}
	for at := 0; ; {
		if string(raw[at:at+6]) != "070701" {
			t.Fatalf("no header at %d", at)
		}
		var field [13]int
		for i := range field {
			if _, err := fmt.Sscanf(string(raw[at+6+8*i:at+14+8*i]), "%x", &field[i]); err != nil {
				t.Fatal(err)
			}
		}
		const mode, mtime, fileSize, nameSize = 1, 5, 6, 11
		name := string(raw[at+110 : at+110+field[nameSize]-1])
		data := (at + 110 + field[nameSize] + 3) &^ 3
		if name == "TRAILER!!!" {
			break
		}
		if field[mtime] != int(when.Unix()) {
			t.Errorf("%s is of %d", name, field[mtime])
		}
		got[name] = fmt.Sprintf("%o %s", field[mode], raw[data:data+field[fileSize]])
		at = (data + field[fileSize] + 3) &^ 3
	}
	want := map[string]string{"init": "100755 program", "modules/00-one.ko": "100644 1", "modules/01-two.ko": "100644 22"}
	for _, dir := range []string{"dev", "modules", "proc", "root", "run", "sys"} {
		want[dir] = "40755 "
	}
	if !maps.Equal(got, want) || len(raw)%512 != 0 {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestOneKernel(t *testing.T) {
	tree := read(t, base())
	if version, kernel, err := kernelOf(tree); err != nil || version != "6.12.1" || string(kernel) != "kernel" {
		t.Error(version, err)
	}
	tree.Put("boot/vmlinuz-7", fileMode, nil)
	if _, _, err := kernelOf(tree); err == nil || !strings.Contains(err.Error(), "2 kernels") {
		t.Error(err)
	}
}

// TestTheGuestTakesTheCommandLine, and an option that it would refuse is refused before anything is built.
func TestTheGuestTakesTheCommandLine(t *testing.T) {
	i := Image{Name: "web-7", Options: []string{"mitigations=auto"}}
	i.hash[5] = 7
	if c, err := initrd.ParseCommandLine(i.commandLine()); err != nil || c.RootHash != i.hash {
		t.Error(c, err)
	}
	if words := strings.Fields(i.commandLine()); !slices.Contains(words, "init_on_free=1") {
		t.Errorf("%q leaves what processes had in memory", words)
	}
	i.Options = []string{"init=/bin/sh"}
	_, err := i.Build(t.Context())
	refusaltest.Want(t, "a shell", err, initrd.ReasonOption)
}

func TestNamesAndTools(t *testing.T) {
	for _, name := range []string{"", "Web", "-x", "a/b", "a b", strings.Repeat("a", 32)} {
		if _, err := (&Image{Name: name}).Build(t.Context()); err == nil || !strings.Contains(err.Error(), "the name") {
			t.Errorf("%q: %v", name, err)
		}
	}
	empty := Tools{Tree: t.TempDir(), When: when}
	if err := empty.Check(); err == nil || !strings.Contains(err.Error(), "erofs-utils") || !strings.Contains(err.Error(), "systemd-boot-efi") {
		t.Error(err)
	}
	if _, err := empty.Inside("/elsewhere"); err == nil {
		t.Error("a directory outside the tree is inside")
	}
	if at, err := empty.Inside(filepath.Join(empty.Tree, "tmp", "x")); err != nil || at != "/tmp/x" {
		t.Error(at, err)
	}
	if at, err := (Tools{}).Inside("/elsewhere"); err != nil || at != "/elsewhere" {
		t.Error(at, err)
	}
	if got := quote("it's"); got != `'it'\''s'` {
		t.Error(got)
	}
	a, b := (&Image{Name: "a"}).uuid("root"), (&Image{Name: "b"}).uuid("root")
	if a == b || a == (&Image{Name: "a"}).uuid("disk") || a.String()[14] != '8' {
		t.Error(a, b)
	}
}

// TestInputsAreCheckedFirst: installing the packages takes most of the time, and a path is quickly mistyped.
func TestInputsAreCheckedFirst(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good := func() *Image {
		return &Image{Name: "a", Base: file, Packages: []string{file, file}, Files: dir, Initrd: file, Tools: Tools{When: when}}
	}
	if err := good().checkInputs(); err != nil {
		t.Error(err)
	}
	for want, spoil := range map[string]func(*Image){
		"base: stat " + dir + "/none":                            func(i *Image) { i.Base = dir + "/none" },
		"base: " + dir + " is not a file":                        func(i *Image) { i.Base = dir },
		"package: stat " + dir + "/none":                         func(i *Image) { i.Packages[1] = dir + "/none" },
		"files: stat " + dir + "/none":                           func(i *Image) { i.Files = dir + "/none" },
		"files: " + file + " is not a directory":                 func(i *Image) { i.Files = file },
		"program of the initial RAM disk: stat " + dir + "/none": func(i *Image) { i.Initrd = dir + "/none" },
	} {
		i := good()
		spoil(i)
		i.Out = filepath.Join(dir, "out")
		if _, err := i.Build(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if _, err := os.Lstat(i.Out); err == nil {
			t.Errorf("%q left a directory for results", want)
		}
	}
}

func TestResultsGoIntoANewDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	broken := errors.New("a tool failed")
	if _, err := intoNew(dir, func() (*Manifest, error) {
		return nil, os.WriteFile(filepath.Join(dir, "half"), nil, 0o600)
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := intoNew(dir, func() (*Manifest, error) { t.Error("results go into a directory that is in use"); return nil, broken }); err == nil || !strings.Contains(err.Error(), "never replaced") {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "half")); err != nil {
		t.Error("what was there is gone:", err)
	}
	fresh := dir + "-2"
	if _, err := intoNew(fresh, func() (*Manifest, error) {
		return nil, errors.Join(broken, os.WriteFile(filepath.Join(fresh, "half"), nil, 0o600))
	}); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := os.Stat(fresh); err == nil {
		t.Error("a directory without results was left behind")
	}
}

// TestTheOtherWayHasTheSamePackages: image/mkosi repeats the list, since mkosi reads no other file.
func TestTheOtherWayHasTheSamePackages(t *testing.T) {
	list, err := os.ReadFile("packages.txt")
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile("../mkosi/mkosi.conf")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(config), "\nPackages=\n")
	theirs, _, found := strings.Cut(rest, "\nVolatilePackages=")
	var ours []string
	for line := range strings.Lines(string(list)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			ours = append(ours, line)
		}
	}
	if !found || len(ours) < 5 || !slices.Equal(ours, strings.Fields(theirs)) {
		t.Errorf("packages.txt has %q, mkosi.conf %q", ours, strings.Fields(theirs))
	}
}
