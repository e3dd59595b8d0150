package daemon

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/daemon/settings"
)

// pollEvery is how often the files of revocation lists are looked at.
const pollEvery = time.Minute

// Revocable is an appraiser whose revocation lists can be replaced while it works, and
// which says when what it holds ends. An appraiser need not be one.
type Revocable interface {
	SetRevocationLists(raw [][]byte) error
	Ends() []appraise.End
}

// KeyRevocable is an appraiser whose revocation lists of TPMs' attestation keys and of GPUs can be replaced, too. An appraiser
// need not be one.
type KeyRevocable interface {
	SetTPMRevocationLists(raw [][]byte) error
	SetGPURevocationLists(raw [][]byte) error
}

// Supplied is an appraiser that renews what it judges with until the context ends, and that has
// something to close. An appraiser need not be one.
type Supplied interface {
	Run(ctx context.Context) error
	Close()
	Metrics() map[string]int64
}

// lists are the files of revocation lists, and what they were when they were read last.
type lists struct {
	of   settings.Appraisal
	seen []version
}

// paths are all files.
func (l *lists) paths() []string {
	return slices.Concat(l.of.RevocationLists, l.of.TPM.RevocationLists, l.of.GPURevocationLists)
}

// version is what tells that a file was replaced.
type version struct {
	size     int64
	modified time.Time
	missing  bool
}

// versions looks at the files without reading them.
func (l *lists) versions() []version {
	paths := l.paths()
	out := make([]version, len(paths))
	for i, path := range paths {
		st, err := os.Stat(path)
		if out[i].missing = err != nil; err == nil {
			out[i].size, out[i].modified = st.Size(), st.ModTime()
		}
	}
	return out
}

// loadLists has the appraiser take over what the files hold now. What cannot be read
// changes nothing.
func (d *daemon) loadLists() error {
	seen := d.lists.versions() // before they are read: a change meanwhile is seen next time
	var failed []error
	take := func(paths []string, set func([][]byte) error) {
		if len(paths) == 0 {
			return
		}
		raw, err := settings.ReadDER(paths)
		if err == nil {
			err = set(raw)
		}
		failed = append(failed, err)
	}
	if r, ok := d.verifier.(Revocable); ok {
		take(d.lists.of.RevocationLists, r.SetRevocationLists)
	}
	if r, ok := d.verifier.(KeyRevocable); ok {
		take(d.lists.of.TPM.RevocationLists, r.SetTPMRevocationLists)
		take(d.lists.of.GPURevocationLists, r.SetGPURevocationLists)
	}
	d.lists.seen = seen // a file that is wrong is not read again until it changes
	return errors.Join(failed...)
}

// pollLists loads the files if one of them was replaced.
func (d *daemon) pollLists() {
	if slices.Equal(d.lists.versions(), d.lists.seen) {
		return
	}
	if err := d.loadLists(); err != nil {
		d.opts.Logger.Error("revocation lists not reloaded; those that are held stay in use", "err", err)
		return
	}
	d.opts.Logger.Info("revocation lists reloaded", "files", len(d.lists.paths()))
}
