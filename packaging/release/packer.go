package main

import (
	"context"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/anchorhold/anchorhold/packaging/packages"
)

// packer makes packages in one place: with an nfpm that was built there, and with pages that the
// programs built there print.
type packer struct {
	nfpm  string
	pages []entry
}

// newPacker builds nfpm, and has the programs print their pages that were built for this machine.
func (r *release) newPacker(ctx context.Context, p place, tree string, all []*built) (*packer, error) {
	here := target{runtime.GOOS, runtime.GOARCH}
	x := &packer{nfpm: filepath.Join(p.dir, "nfpm")}
	if err := packages.BuildNfpm(ctx, tree, x.nfpm, p.environment(r.toolchain, here)); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(all, func(b *built) bool { return b.target == here }) {
		if _, err := r.compile(ctx, p, tree, here); err != nil {
			return nil, err
		}
	}
	pages, err := packages.HelpPages(ctx, filepath.Join(p.dir, "bin", here.String()), r.version)
	if err != nil {
		return nil, err
	}
	for name, data := range pages {
		x.pages = append(x.pages, entry{name, data, 0o644})
	}
	return x, nil
}

// pack makes the packages of a target from what is in its archive.
func (x *packer) pack(ctx context.Context, r *release, t target, entries []entry, made string) error {
	of := packages.Release{Version: r.version, When: r.when, Arch: t.architecture, Nfpm: x.nfpm, Files: map[string][]byte{}}
	for _, e := range entries {
		of.Files[e.name] = e.data
	}
	names, err := of.Make(ctx, made, "deb", "rpm")
	if err == nil {
		r.say("%s: %d packages", t, len(names))
	}
	return err
}
