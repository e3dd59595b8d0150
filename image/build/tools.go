package build

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Tools are the foreign programs: of this machine, or of a tree that .ci/boot-trees made.
type Tools struct {
	// Tree is the root of the tree; empty is this machine. Entering a tree needs root.
	Tree string
	// When is the only time that they may write.
	When time.Time
}

// packagesOf says which package of Debian has a tool.
var packagesOf = map[string]string{
	"mkfs.erofs": "erofs-utils", "veritysetup": "cryptsetup-bin", "ukify": "systemd-ukify", "mkfs.vfat": "dosfstools", "mmd": "mtools", "mcopy": "mtools",
	"sfdisk": "fdisk", "sh": "dash", "xz": "xz-utils", "mmdebstrap": "mmdebstrap", "dpkg-deb": "dpkg", "tar": "tar",
}

// Check says everything that is missing.
func (t Tools) Check() error {
	var missing []string
	for _, tool := range []string{"mkfs.erofs", "veritysetup", "ukify", "mkfs.vfat", "mmd", "mcopy", "sfdisk", "xz"} {
		if t.find(tool) == "" && !slices.Contains(missing, packagesOf[tool]) {
			missing = append(missing, packagesOf[tool])
		}
	}
	if _, err := os.Stat(t.path(stubFile)); err != nil {
		missing = append(missing, "systemd-boot-efi")
	}
	for _, tool := range []string{"mmdebstrap", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, packagesOf[tool])
		}
	}
	if len(missing) > 0 {
		where := "this machine"
		if t.Tree != "" {
			where = t.Tree
		}
		return fmt.Errorf("%s lacks %s (Debian 13: apt-get install --no-install-recommends %[2]s; or --tools with a tree of .ci/boot-trees)", where, strings.Join(missing, " "))
	}
	return nil
}

func (t Tools) path(name string) string { return filepath.Join("/", t.Tree, name) }

// find looks where the system's programs are, which is not always in an ordinary user's PATH.
func (t Tools) find(tool string) string {
	for _, dir := range []string{"/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin"} {
		if info, err := os.Stat(t.path(filepath.Join(dir, tool))); err == nil && info.Mode()&0o111 != 0 {
			return filepath.Join(dir, tool)
		}
	}
	return ""
}

// Inside is a path as the tools see it.
func (t Tools) Inside(name string) (string, error) {
	if t.Tree == "" {
		return name, nil
	}
	rel, err := filepath.Rel(t.Tree, name)
	if err != nil || strings.HasPrefix(rel, "..") {
		return "", fmt.Errorf("%s is not below %s, which the tools run in", name, t.Tree)
	}
	return filepath.Join("/", rel), nil
}

// run runs a tool in a directory and returns its output; a failure shows all that it said.
func (t Tools) run(ctx context.Context, dir, tool string, args ...string) ([]byte, error) {
	at, err := t.Inside(dir)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, t.find(tool), args...)
	cmd.Dir = dir
	if t.Tree != "" {
		// A change of the root leaves the directory outside; env changes it within.
		cmd = exec.CommandContext(ctx, "chroot", append([]string{t.Tree, "/usr/bin/env", "--chdir=" + at, t.find(tool)}, args...)...)
	}
	cmd.Env = t.environment()
	return output(cmd)
}

// environment is nothing of the caller's: only what makes tools leave time, place and language out.
func (t Tools) environment() []string {
	return []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC", "HOME=/nonexistent", "MTOOLSRC=/dev/null", "MTOOLS_SKIP_CHECK=1", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", t.When.Unix())}
}

func output(cmd *exec.Cmd) ([]byte, error) {
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), err, out, errs.Bytes())
	}
	return out, nil
}
