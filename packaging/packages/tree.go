package packages

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// FromTree makes deb packages of a checkout's files and of the programs in bin, which this machine can run: for tests,
// and for images of a checkout. A release does more: it builds everything twice and lists what is linked.
func FromTree(ctx context.Context, tree, bin, out, version string, when time.Time) (names []string, err error) {
	scratch, err := os.MkdirTemp("", "anchorhold-nfpm-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	r := Release{Version: version, When: when, Arch: runtime.GOARCH, Nfpm: filepath.Join(scratch, "nfpm")}
	if r.Files, err = TreeFiles(tree); err != nil {
		return nil, err
	}
	pages, err := HelpPages(ctx, bin, version)
	if err != nil {
		return nil, err
	}
	maps.Copy(r.Files, pages)
	r.Files["THIRD-PARTY-NOTICES.txt"] = []byte("The notices are in the packages of a release.\n")
	programs, err := filepath.Glob(filepath.Join(bin, "anchorhold*"))
	if err != nil {
		return nil, err
	}
	for _, name := range programs {
		if r.Files["bin/"+filepath.Base(name)], err = os.ReadFile(name); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(BuildNfpm(ctx, tree, r.Nfpm, nil), os.MkdirAll(out, 0o755)); err != nil {
		return nil, err
	}
	return r.Make(ctx, out, "deb")
}
