package tenure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

const (
	// lookGrace is how long a renewal waits for the disk to say which files are installed,
	// when it can name what is open without it.
	lookGrace = 2 * time.Second
	// firstLookGrace is how long it waits while nothing is open: without the files' names the
	// broker sends the newest keys, which may be those of files that are not here yet.
	firstLookGrace = 30 * time.Second
)

// opened is a sealed file that is open, and the key's resource.
type opened struct {
	resource string
	file     protocol.File
	path     string // of one that is installed
	stamp    stamp
	unfit    error // why the agent would refuse it; then it has no file
}

// stamp tells a file from another that is put in its place.
type stamp struct {
	device, inode uint64
	size          int64
	written       time.Time
}

// files says which sealed files the keys of a lease should open, so that the broker sends
// the key of each and not a newer one: those that are installed, then those that are open.
// A file that this agent would refuse is not named, so that a bad one costs no model that is
// open. A disk that hangs costs lookGrace, and what is open stays open; a slow one delays a
// start by firstLookGrace at most.
type files struct {
	installed func(settings.Config) []opened // installed, or a test's
	looking   chan struct{}                  // closed once the last look has come back; nil before the first
	seen      []opened                       // by the last look that came back in time
	refused   map[string]stamp               // by path: did not open, and is not asked for while another is open
}

// named is what an exchange said of the files that are installed.
type named struct {
	// next has the resources of which a file was named that is not open. Where there is none
	// and the broker sends another key than opened what is open, it grants that no more.
	next map[string]bool
	// trouble is why an installed file was not named; nil if all were.
	trouble error
}

// named says it of what M5 had.
func (f *files) named(sealed []protocol.Sealed, open []opened) named {
	n := named{next: map[string]bool{}, trouble: f.trouble()}
	for _, s := range sealed {
		for _, file := range s.Files {
			if !slices.ContainsFunc(open, func(o opened) bool { return o.resource == s.Resource && o.file.ID == file.ID }) {
				n.next[s.Resource] = true
			}
		}
	}
	return n
}

// trouble says which files of the last look are not asked for, and why.
func (f *files) trouble() error {
	var errs []error
	for _, o := range f.seen {
		why := o.unfit
		if was, ok := f.refused[o.path]; why == nil && ok && was == o.stamp {
			why = errors.New("it did not open")
		}
		if why != nil {
			errs = append(errs, fmt.Errorf("%s: %w", o.path, why))
		}
	}
	return errors.Join(errs...)
}

// refuse notes that the files that the last look saw at these paths do not open.
func (f *files) refuse(paths []string) {
	for _, o := range f.seen {
		if slices.Contains(paths, o.path) {
			if f.refused == nil {
				f.refused = map[string]stamp{}
			}
			f.refused[o.path] = o.stamp
		}
	}
}

// asks says whether to ask for the key of a file that is installed.
func (f *files) asks(o opened, open []opened) bool {
	if o.unfit != nil {
		return false
	}
	was, ok := f.refused[o.path]
	if ok && was != o.stamp {
		delete(f.refused, o.path) // another is in its place
		return true
	}
	return !ok || !slices.ContainsFunc(open, func(have opened) bool { return have.resource == o.resource })
}

// want returns what M5 says of the sealed files that the resources are for.
func (f *files) want(ctx context.Context, cfg settings.Config, resources []string, open []opened) []protocol.Sealed {
	wanted := map[string][]protocol.File{}
	add := func(o opened) {
		known := slices.ContainsFunc(wanted[o.resource], func(have protocol.File) bool { return have.ID == o.file.ID })
		if !known && len(wanted[o.resource]) < protocol.MaxFiles {
			wanted[o.resource] = append(wanted[o.resource], o.file)
		}
	}
	for _, o := range f.look(ctx, cfg, graceWith(open)) {
		if !f.asks(o, open) {
			continue
		}
		// Of one that is open, more is known than the file says.
		if i := slices.IndexFunc(open, func(have opened) bool { return have.resource == o.resource && have.file.ID == o.file.ID }); i >= 0 {
			o = open[i]
		}
		add(o)
	}
	var out []protocol.Sealed
	for _, name := range resources { // sorted
		for _, o := range open {
			if o.resource == name {
				add(o)
			}
		}
		if list := wanted[name]; len(list) > 0 {
			out = append(out, protocol.Sealed{Resource: name, Files: list})
		}
	}
	return out
}

// graceWith is how long a look may take while these files are open.
func graceWith(open []opened) time.Duration {
	if len(open) == 0 {
		return firstLookGrace
	}
	return lookGrace
}

// look reads the public part of every installed file, unless that takes longer than grace or an
// earlier look still hangs.
func (f *files) look(ctx context.Context, cfg settings.Config, grace time.Duration) []opened {
	if f.looking != nil {
		select {
		case <-f.looking:
		default:
			return nil
		}
	}
	back, found := make(chan struct{}), make(chan []opened, 1)
	f.looking = back
	go func() {
		list := f.installed(cfg)
		close(back) // first: who has the list may look again at once
		found <- list
	}()
	wait := time.NewTimer(grace)
	defer wait.Stop()
	select {
	case list := <-found:
		f.seen = list
		return list
	case <-wait.C:
	case <-ctx.Done():
	}
	return nil
}

// installed returns the files that the agent would open with the right key, and why it would
// not open others.
func installed(cfg settings.Config) (list []opened) {
	for _, s := range cfg.Sealed() {
		p, st, err := inspect(s)
		o := opened{resource: s.Resource, path: s.Path, stamp: st, unfit: err}
		if err == nil {
			o.file = fileOf(p.Lock(), [32]byte{}) // a classifier's id is of its weights, too
			if !s.Classifier {
				o.file.Model = p.Root
			}
		}
		list = append(list, o)
	}
	return list
}

func fileOf(l chunkseal.Lock, model [32]byte) protocol.File {
	return protocol.File{ID: l.FileID, Commitment: l.Commitment, Model: model}
}

func inspect(s settings.Sealed) (*chunkseal.Public, stamp, error) {
	p, info, err := s.Inspect()
	if info == nil {
		return nil, stamp{}, err
	}
	st := stamp{size: info.Size(), written: info.ModTime()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		st.device, st.inode = uint64(sys.Dev), sys.Ino
	}
	return p, st, err
}
