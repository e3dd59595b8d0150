package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// source is the commit that is built.
type source struct {
	tree      string // the checkout
	commit    string // 40 hexadecimal digits
	described string // what git describe calls it
	when      time.Time
	changed   bool // the checkout has changes that are not committed
}

func git(ctx context.Context, tree string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", tree}, args...)...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git %s: %w: %s", args[0], err, bytes.TrimSpace(complaint.Bytes()))
	}
	return out, nil
}

// readSource asks git what the last commit is.
func readSource(ctx context.Context, tree string) (source, error) {
	s := source{tree: tree}
	answers := map[*string][]string{
		&s.commit:    {"rev-parse", "--verify", "HEAD^{commit}"},
		&s.described: {"describe", "--tags", "--always"},
	}
	for into, args := range answers {
		out, err := git(ctx, tree, args...)
		if err != nil {
			return source{}, err
		}
		*into = strings.TrimSpace(string(out))
	}
	seconds, err := git(ctx, tree, "show", "--no-patch", "--format=%ct", "HEAD")
	if err != nil {
		return source{}, err
	}
	at, err := strconv.ParseInt(strings.TrimSpace(string(seconds)), 10, 64)
	if err != nil {
		return source{}, fmt.Errorf("the commit's time: %w", err)
	}
	s.when = time.Unix(at, 0).UTC()
	status, err := git(ctx, tree, "status", "--porcelain")
	s.changed = len(status) > 0
	return s, err
}

// export writes the files of the commit below dir. What git itself would decide by the
// machine's configuration, modes and line ends, is decided here.
func (s source) export(ctx context.Context, dir string) error {
	data, err := git(ctx, s.tree, "-c", "core.autocrlf=false", "-c", "core.eol=lf", "archive", "--format=tar", s.commit)
	if err != nil {
		return err
	}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := exportEntry(dir, h, r); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func exportEntry(dir string, h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader || h.Typeflag == tar.TypeDir {
		return nil
	}
	name := filepath.Join(dir, h.Name)
	linked := h.Typeflag == tar.TypeSymlink && filepath.IsLocal(filepath.Join(filepath.Dir(h.Name), h.Linkname))
	if h.Typeflag != tar.TypeReg && !linked || !filepath.IsLocal(h.Name) {
		return errors.New("neither a file in the commit nor a link to one")
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if linked {
		return os.Symlink(h.Linkname, name)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, os.FileMode(h.Mode&0o100|0o644))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

var goLine = regexp.MustCompile(`(?m)^(?:toolchain go|go )([0-9]+\.[0-9]+\.[0-9]+)$`)

// toolchainOf returns the Go release that go.mod names. Everybody who repeats the build gets
// the same compiler, whatever is installed.
func toolchainOf(tree string) (string, error) {
	mod, err := os.ReadFile(filepath.Join(tree, "go.mod"))
	if err != nil {
		return "", err
	}
	lines := goLine.FindAllSubmatch(mod, -1)
	if len(lines) == 0 {
		return "", errors.New("go.mod names no Go release, as go 1.26.8 does")
	}
	return "go" + string(lines[len(lines)-1][1]), nil // the toolchain line stands behind the go line
}
