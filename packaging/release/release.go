package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/anchorhold/anchorhold/crypto/filelist"
)

// options are the command line.
type options struct {
	tree, out, version string
	key, credential    string
}

// versionForm is what may stand in the names of files.
var versionForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._+-]{0,63}$`)

// release is one release in the making.
type release struct {
	source
	version   string
	toolchain string // as GOTOOLCHAIN names it: the one that go.mod asks for
	contents
	targets []target
	compile func(ctx context.Context, p place, tree string, t target) (*built, error)
	say     func(format string, args ...any)
}

// run makes the release that the options describe.
func run(ctx context.Context, o options, out io.Writer) error {
	start := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(out, "release: %4.0f s  "+format+"\n", append([]any{time.Since(start).Seconds()}, args...)...)
	}
	publisher, err := openPublisher(o) // first: a wrong key is known before minutes of building
	if err != nil {
		return err
	}
	defer publisher.key.Wipe()
	if _, err := os.Lstat(o.out); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s exists: move it away, because a release needs a new directory", o.out)
	}
	r, err := newRelease(ctx, o, say)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "anchorhold-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	made, err := r.twice(ctx, scratch)
	if err != nil {
		return err
	}
	return r.publish(made, o.out, publisher)
}

// newRelease finds out what is to be built.
func newRelease(ctx context.Context, o options, say func(string, ...any)) (*release, error) {
	src, err := readSource(ctx, o.tree)
	if err != nil {
		return nil, err
	}
	r := &release{source: src, version: o.version, contents: anchorhold, targets: targets, say: say}
	r.compile = r.build
	if r.version == "" {
		r.version = src.described
	}
	if !versionForm.MatchString(r.version) {
		return nil, fmt.Errorf("the version %q cannot be part of a file name", r.version)
	}
	if r.toolchain, err = toolchainOf(src.tree); err != nil {
		return nil, err
	}
	say("%s, commit %s, built with %s", r.version, r.commit, r.toolchain)
	if src.changed {
		say("uncommitted changes in the checkout are NOT included")
	}
	return r, nil
}

// twice builds and assembles everything in two places and compares byte for byte.
func (r *release) twice(ctx context.Context, scratch string) (string, error) {
	here, err := firstPlace(filepath.Join(scratch, "a"))
	if err != nil {
		return "", err
	}
	there, err := secondPlace(filepath.Join(scratch, "a-second-place", "with spaces and ü"))
	if err != nil {
		return "", err
	}
	var made [2]string
	for i, p := range []place{here, there} {
		if made[i], err = r.once(ctx, p); err != nil {
			return "", fmt.Errorf("build %d: %w", i+1, err)
		}
	}
	n, err := compareTrees(made[0], made[1])
	if err != nil {
		return "", fmt.Errorf("the two builds differ, so this is no release: %w", err)
	}
	r.say("%d files, equal byte for byte in both builds", n)
	return made[0], nil
}

// once builds and assembles everything in one place and returns the directory.
func (r *release) once(ctx context.Context, p place) (string, error) {
	restore := p.enter()
	defer restore()
	r.say("building in %s, umask %03o, TZ=%s, LC_ALL=%s, %s", p.dir, p.umask, p.zone, p.locale, p.cacheState())
	tree := filepath.Join(p.dir, "source")
	if err := r.export(ctx, tree); err != nil {
		return "", err
	}
	made := filepath.Join(p.dir, "made")
	if err := os.MkdirAll(made, 0o755); err != nil {
		return "", err
	}
	var all []*built
	for _, t := range r.targets {
		b, err := r.compile(ctx, p, tree, t)
		if err != nil {
			return "", fmt.Errorf("%s: %w", t, err)
		}
		all = append(all, b)
	}
	var extra *packer
	if r.packaged {
		var err error
		if extra, err = r.newPacker(ctx, p, tree, all); err != nil {
			return "", err
		}
	}
	for _, b := range all {
		if err := r.assemble(ctx, tree, made, b, extra); err != nil {
			return "", fmt.Errorf("%s: %w", b.target, err)
		}
		r.say("%s: %d programs, %d modules", b.target, len(b.programs), len(b.modules()))
	}
	return made, nil
}

// publish signs what was made, moves it to out, and checks it there as everybody else does.
func (r *release) publish(made, out string, by *publisher) error {
	list, err := filelist.Of(made)
	if err != nil {
		return err
	}
	list.Version, list.Commit = r.version, r.commit
	signed, err := filelist.Sign(by.key, list)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{filelist.SumsName: list.Sums(), filelist.NoteName: signed} {
		if err := os.WriteFile(filepath.Join(made, name), data, 0o644); err != nil {
			return err
		}
	}
	if err := by.writePublic(made); err != nil {
		return err
	}
	if err := copyTree(made, out); err != nil {
		return err
	}
	if _, err := filelist.Check(out, by.key.Public()); err != nil {
		return fmt.Errorf("the finished release does not verify: %w", err)
	}
	for _, f := range list.Files {
		r.say("%x  %s", f.Digest, f.Name)
	}
	r.say("signed by %s%s", by.key.Public(), by.remark())
	r.say("%s holds the release; check it with: anchorhold release verify --publisher %s %s", out, filepath.Join(out, by.publicName()), out)
	return nil
}
