package agent

import (
	"errors"
	"os"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// lookGrace is how long a renewal waits for the disk to say which files are installed.
const lookGrace = 2 * time.Second

// opened is a sealed file that is open, and the key's resource.
type opened struct {
	resource string
	file     protocol.File
}

// files says which sealed files the keys of a lease should open, so that the broker sends
// the key of each and not a newer one: those that are installed, then those that are open.
// A file that this agent would refuse is not named, so that a bad one costs no model that is
// open. A disk that hangs costs lookGrace, and what is open stays open.
type files struct {
	installed func(settings.Config) []opened // installed, or a test's
	looking   chan struct{}                  // closed once the last look has come back; nil before the first
}

// want returns what M5 says of the configuration's sealed files.
func (f *files) want(cfg settings.Config, open []opened) []protocol.Sealed {
	wanted := map[string][]protocol.File{}
	add := func(o opened) {
		known := slices.ContainsFunc(wanted[o.resource], func(have protocol.File) bool { return have.ID == o.file.ID })
		if !known && len(wanted[o.resource]) < protocol.MaxFiles {
			wanted[o.resource] = append(wanted[o.resource], o.file)
		}
	}
	for _, o := range f.look(cfg) {
		// Of one that is open, more is known than the file says.
		if i := slices.IndexFunc(open, func(have opened) bool { return have.resource == o.resource && have.file.ID == o.file.ID }); i >= 0 {
			o = open[i]
		}
		add(o)
	}
	var out []protocol.Sealed
	for _, name := range cfg.Resources() { // sorted
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

// look reads the public part of every installed file, unless an earlier look still hangs.
func (f *files) look(cfg settings.Config) []opened {
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
		defer close(back)
		found <- f.installed(cfg)
	}()
	wait := time.NewTimer(lookGrace)
	defer wait.Stop()
	select {
	case list := <-found:
		return list
	case <-wait.C:
		return nil
	}
}

// installed returns the files that the agent would open with the right key. One that it
// would not says why when it is opened.
func installed(cfg settings.Config) (list []opened) {
	for _, m := range cfg.Models {
		if p, err := inspect(m.Path, m.Publisher, chunkseal.OpenOptions{Name: m.SealedName, MinVersion: m.MinimumVersion}); err == nil {
			list = append(list, opened{m.Resource, fileOf(p.Lock(), p.Root)})
		}
	}
	for _, c := range cfg.Classifiers {
		if p, err := inspect(c.Path, c.Publisher, chunkseal.OpenOptions{Name: c.SealedName, MinVersion: c.MinimumVersion}); err == nil {
			list = append(list, opened{c.Resource, fileOf(p.Lock(), [32]byte{})}) // its id is of its weights, too
		}
	}
	return list
}

func fileOf(l chunkseal.Lock, model [32]byte) protocol.File {
	return protocol.File{ID: l.FileID, Commitment: l.Commitment, Model: model}
}

func inspect(path, publisher string, want chunkseal.OpenOptions) (_ *chunkseal.Public, err error) {
	id, err := settings.Identity(publisher)
	if err != nil {
		return nil, err
	}
	want.Publisher = id
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	p, err := chunkseal.Inspect(file, info.Size())
	if err != nil {
		return nil, err
	}
	return p, p.Acceptable(want)
}
