package daemon

import (
	"context"
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

// Supplied is an appraiser that renews what it judges with until the context ends, and that has
// something to close. An appraiser need not be one.
type Supplied interface {
	Run(ctx context.Context) error
	Close()
	Metrics() map[string]int64
}

// lists are the files of revocation lists, and what they were when they were read last.
type lists struct {
	paths []string
	seen  []version
}

// version is what tells that a file was replaced.
type version struct {
	size     int64
	modified time.Time
	missing  bool
}

// versions looks at the files without reading them.
func (l *lists) versions() []version {
	out := make([]version, len(l.paths))
	for i, path := range l.paths {
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
	r, ok := d.verifier.(Revocable)
	if !ok || len(d.lists.paths) == 0 {
		return nil
	}
	seen := d.lists.versions() // before they are read: a change meanwhile is seen next time
	raw, err := settings.ReadDER(d.lists.paths)
	if err == nil {
		err = r.SetRevocationLists(raw)
	}
	d.lists.seen = seen // a file that is wrong is not read again until it changes
	return err
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
	d.opts.Logger.Info("revocation lists reloaded", "files", len(d.lists.paths))
}
