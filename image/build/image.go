package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/image/gpt"
	"github.com/anchorhold/anchorhold/image/initrd"
)

// MaxBytes is how large an image may be without the publisher's own files.
const MaxBytes = 250 << 20

const stubFile = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// Image is what an image is made of.
type Image struct {
	// Name is that of the files, such as web-7.
	Name string
	// Base is an archive of a Debian root with the packages of packages.txt.
	Base string
	// Packages are files of packages that are installed into it, in one transaction. Those of the agent must be among them.
	Packages []string
	// Files is a directory whose files are added below /, over those of packages: agent.yaml, public keys, units. All of
	// it is public and measured.
	Files string
	// Initrd is the program anchorhold-initrd.
	Initrd string
	// Options are words that are added to the kernel's command line.
	Options []string
	// Tools are the programs that do it; their time is the image's.
	Tools Tools
	// Out is the directory for the results; it must not exist.
	Out string
	// Say reports each step.
	Say func(format string, args ...any)

	work string // below the tools' tree
	tree *Tree
	list []Package
	hash [sha256.Size]byte // the root hash
}

// names of the results.
func (i *Image) disk() string  { return i.Name + ".raw" }
func (i *Image) uki() string   { return i.Name + ".efi" }
func (i *Image) root() string  { return i.Name + ".root" }
func (i *Image) after() string { return i.Name + ".verity" }

// Build makes the image.
func (i *Image) Build(ctx context.Context) (*Manifest, error) {
	if !regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,30}$`).MatchString(i.Name) {
		return nil, fmt.Errorf("the name %q: want up to 31 lower-case letters, digits, dots and hyphens", i.Name)
	}
	// The guest would refuse it, too, after the rest was built.
	if _, err := initrd.ParseCommandLine(i.commandLine()); err != nil {
		return nil, err
	}
	if err := i.checkInputs(); err != nil {
		return nil, err
	}
	if err := i.Tools.Check(); err != nil {
		return nil, err
	}
	agent, err := i.checkPackages(ctx)
	if err != nil {
		return nil, err
	}
	if i.Files != "" {
		if err := i.checkConfigurations(ctx, agent); err != nil {
			return nil, err
		}
	}
	return intoNew(i.Out, func() (*Manifest, error) { return i.make(ctx) })
}

// intoNew makes the directory that the results go into. If there are none it takes the directory away again, which would
// only be in the way of the next attempt.
func intoNew(dir string, results func() (*Manifest, error)) (*Manifest, error) {
	if err := os.Mkdir(dir, directoryMode); errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s exists and is never replaced: name a new directory for the results, or move it away", dir)
	} else if err != nil {
		return nil, err
	}
	m, err := results()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return m, nil
}

// make takes the steps.
func (i *Image) make(ctx context.Context) (m *Manifest, err error) {
	if i.work, err = os.MkdirTemp(i.Tools.path("tmp"), "anchorhold-image-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(i.work)) }()
	for _, step := range []struct {
		title string
		do    func(context.Context) (detail string, err error)
	}{
		{"packages", i.install}, {"root file system", i.makeRoot}, {"hashes of the root", i.makeHashes},
		{"unified kernel image", i.makeUKI}, {"disk", i.makeDisk},
	} {
		began := time.Now()
		detail, err := step.do(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", step.title, err)
		}
		i.Say("%-22s %5.1f s  %s", step.title, time.Since(began).Seconds(), detail)
	}
	return i.finish()
}

// checkInputs finds what is missing before the minutes that installing packages takes.
func (i *Image) checkInputs() error {
	var errs []error
	want := func(what, path string, directory bool) {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		case directory && !info.IsDir():
			errs = append(errs, fmt.Errorf("%s: %s is not a directory", what, path))
		case !directory && !info.Mode().IsRegular():
			errs = append(errs, fmt.Errorf("%s: %s is not a file", what, path))
		}
	}
	want("base", i.Base, false)
	for _, p := range i.Packages {
		want("package", p, false)
	}
	if i.Files != "" {
		want("files", i.Files, true)
	}
	want("program of the initial RAM disk", i.Initrd, false)
	if i.Tools.Tree != "" && os.Geteuid() != 0 {
		errs = append(errs, fmt.Errorf("tools: entering %s needs root; without root, install the tools on this machine", i.Tools.Tree))
	}
	return errors.Join(errs...)
}

// install unpacks the base and installs the packages, with their scripts, in a root that is this user's own.
func (i *Image) install(ctx context.Context) (string, error) {
	root := filepath.Join(i.work, "root.tar")
	args := []string{"--quiet", "--variant=custom", "--skip=check/empty,update,cleanup", "--setup-hook=tar -C \"$1\" --exclude=\"./dev/*\" -xf " + quote(i.Base)}
	var inside []string
	for n, p := range i.Packages {
		name := fmt.Sprintf("/tmp/%02d.deb", n)
		args = append(args, "--customize-hook=cp "+quote(p)+" \"$1\""+name)
		inside = append(inside, name)
	}
	if len(inside) > 0 {
		args = append(args, "--customize-hook=chroot \"$1\" dpkg --install "+strings.Join(inside, " "))
	}
	if os.Geteuid() != 0 { // mmdebstrap's root is another user then, who must get to what it makes there
		if err := os.Chmod(i.work, 0o711); err != nil {
			return "", err
		}
	}
	cmd := exec.CommandContext(ctx, "mmdebstrap", append(args, "", root)...)
	cmd.Env = append(i.Tools.environment(), "TMPDIR="+i.work)
	if _, err := output(cmd); err != nil {
		return "", err
	}
	f, err := os.Open(root)
	if err != nil {
		return "", err
	}
	defer f.Close() // read only
	if i.tree, err = ReadTree(f); err != nil {
		return "", err
	}
	status, err := i.tree.File("var/lib/dpkg/status")
	if err != nil {
		return "", err
	}
	i.list = packagesIn(string(status))
	return fmt.Sprintf("%d packages", len(i.list)), os.Remove(root)
}

// quote makes one word of a shell's.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (i *Image) makeRoot(ctx context.Context) (string, error) {
	version, kernel, err := kernelOf(i.tree)
	if err != nil {
		return "", err
	}
	modules, err := modulesOf(ctx, i.tree, i.Tools, i.work, version, bootModules())
	if err != nil {
		return "", err
	}
	program, err := os.ReadFile(i.Initrd)
	if err != nil {
		return "", err
	}
	initrd := makeInitrd(program, modules, i.Tools.When.Unix())
	if err := errors.Join(i.write("vmlinuz", kernel), i.write("initrd", initrd), i.write("uname", []byte(version))); err != nil {
		return "", err
	}
	if err := cleanUp(i.tree); err != nil {
		return "", err
	}
	if i.Files != "" {
		if err := addFS(i.tree, os.DirFS(i.Files), "."); err != nil {
			return "", fmt.Errorf("%s: %w", i.Files, err)
		}
	}
	release, err := i.tree.File("usr/lib/os-release")
	if err != nil {
		return "", err
	}
	var archive bytes.Buffer
	if err := errors.Join(i.write("os-release", release), i.tree.Write(&archive, i.Tools.When), i.write("clean.tar", archive.Bytes())); err != nil {
		return "", err
	}
	i.tree = nil // some hundred megabytes
	const label = "anchorhold"
	if _, err := i.Tools.run(ctx, i.work, "mkfs.erofs", "--quiet", "--tar=f", "-L", label, "-U", i.uuid("root").String(), "-T", fmt.Sprint(i.Tools.When.Unix()), i.root(), "clean.tar"); err != nil {
		return "", err
	}
	size, err := i.padded(i.root(), hashBlock)
	return fmt.Sprintf("%s, initial RAM disk %s with %d modules", mebibytes(size), mebibytes(int64(len(initrd))), len(modules)), err
}

const hashBlock = 4096

// uuid is an id for a purpose: of the image's name, so that two images differ, and of nothing else.
func (i *Image) uuid(purpose string) (id gpt.ID) {
	sum := sha256.Sum256([]byte("anchorhold image\x00" + i.Name + "\x00" + purpose))
	copy(id[:], sum[:])
	const versionMask, version, variantMask, variant = 0x0f, 0x80, 0x3f, 0x80 // RFC 9562, version 8
	id[6], id[8] = id[6]&versionMask|version, id[8]&variantMask|variant
	return id
}

var rootHashLine = regexp.MustCompile(`(?m)^Root hash:\s+([0-9a-f]{64})$`)

func (i *Image) makeHashes(ctx context.Context) (string, error) {
	salt := sha256.Sum256([]byte("anchorhold image salt\x00" + i.Name))
	out, err := i.Tools.run(ctx, i.work, "veritysetup", "format", "--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096", "--salt="+hex.EncodeToString(salt[:]),
		"--uuid="+i.uuid("verity").String(), i.root(), i.after())
	if err != nil {
		return "", err
	}
	found := rootHashLine.FindStringSubmatch(string(out))
	if found == nil {
		return "", fmt.Errorf("veritysetup names no root hash:\n%s", out)
	}
	raw, err := hex.DecodeString(found[1])
	copy(i.hash[:], raw)
	return found[1], err
}

// commandLine is the kernel's: what the initial RAM disk requires, the console, and what the publisher adds.
func (i *Image) commandLine() string {
	// init_on_free: what a process leaves in memory is overwritten (docs/threat-model.md, "Where plaintext is").
	words := []string{"roothash=" + hex.EncodeToString(i.hash[:]), "systemd.import_credentials=no", "console=ttyS0", "quiet", "loglevel=4", "panic=-1", "init_on_free=1", "sysctl.kernel.sysrq=0"}
	return strings.Join(append(words, i.Options...), " ")
}

func (i *Image) makeUKI(ctx context.Context) (string, error) {
	release, err := os.ReadFile(filepath.Join(i.work, "uname"))
	if err != nil {
		return "", err
	}
	if _, err := i.Tools.run(ctx, i.work, "ukify", "build", "--linux=vmlinuz", "--initrd=initrd", "--cmdline="+i.commandLine(), "--os-release=@os-release",
		"--uname="+string(release), "--stub="+stubFile, "--output="+i.uki()); err != nil {
		return "", err
	}
	info, err := os.Stat(filepath.Join(i.work, i.uki()))
	if err != nil {
		return "", err
	}
	return mebibytes(info.Size()), nil
}

func (i *Image) write(name string, data []byte) error {
	return os.WriteFile(filepath.Join(i.work, name), data, fileMode)
}

// padded makes a file a multiple of so many bytes long and returns its size.
func (i *Image) padded(name string, to int64) (int64, error) {
	path := filepath.Join(i.work, name)
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	size := (info.Size() + to - 1) / to * to
	return size, os.Truncate(path, size)
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// finish moves the results out and describes them.
func (i *Image) finish() (*Manifest, error) {
	m := &Manifest{Format: 1, Name: i.Name, Made: i.Tools.When.UTC().Format(time.RFC3339), RootHash: hex.EncodeToString(i.hash[:]), CommandLine: i.commandLine(), Packages: i.list}
	for _, name := range []string{i.disk(), i.uki(), i.root(), i.after()} {
		sum, size, err := moveFile(filepath.Join(i.work, name), filepath.Join(i.Out, name))
		if err != nil {
			return nil, err
		}
		m.Files = append(m.Files, File{name, size, sum})
	}
	return m, m.write(filepath.Join(i.Out, i.Name+".json"))
}

// moveFile copies, since the directories may be on two file systems, and removes the first.
func moveFile(from, to string) (sum string, size int64, err error) {
	in, err := os.Open(from)
	if err != nil {
		return "", 0, err
	}
	defer in.Close() // read only
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
	if err != nil {
		return "", 0, err
	}
	h := sha256.New()
	size, err = io.Copy(io.MultiWriter(out, h), in)
	return hex.EncodeToString(h.Sum(nil)), size, errors.Join(err, out.Close(), os.Remove(from))
}
