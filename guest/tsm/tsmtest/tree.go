// Package tsmtest is configfs-tsm in memory, for tests of the collectors: a [Tree] behaves as the
// kernel's drivers/virt/coco/guest/report.c does, with hooks for everything that can go wrong.
package tsmtest

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Tree is a filesystem with one directory of configfs-tsm and, beside it, plain files. An entry
// has a generation that counts writes, and a report that is made when it is first read after one.
type Tree struct {
	mu      sync.Mutex
	entries map[string]*entry
	inUse   int
	most    int

	// Provider is what entries say their provider is.
	Provider string
	// Make makes the report for what was written to the entry, as the TEE's driver does.
	Make func(inblob []byte, privilege uint) ([]byte, error)
	// Aux is the supplement; NoAux hides the attribute.
	Aux   []byte
	NoAux bool
	// Levels shows the attributes of privilege levels, of which Floor is the lowest allowed.
	Levels bool
	Floor  uint
	// Unprivileged is the kernel for a user who is not root: all files of entries are root's, also of
	// those that the user made. Only what Prepare made can be written.
	Unprivileged bool
	// MkdirErr fails the making of entries.
	MkdirErr error
	// Before is asked before every step ("mkdir" excepted), and may fail it. It has the tree's
	// lock and must not call its methods, except those that say so.
	Before func(step, name string) error
	// Plain are files beside the entries, by their whole name.
	Plain map[string][]byte
}

type entry struct {
	given         bool // to the user who is not root
	written, made uint64
	inblob        []byte
	report        []byte
	privilege     uint
}

// New returns an empty tree of one provider.
func New(provider string, make func(inblob []byte, privilege uint) ([]byte, error)) *Tree {
	return &Tree{entries: map[string]*entry{}, Provider: provider, Make: make, Plain: map[string][]byte{}}
}

// Entries is the number of entries that are there.
func (t *Tree) Entries() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.entries)
}

// Most is the largest number of entries that held a request at any time.
func (t *Tree) Most() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.most
}

// Overtake writes to the entry that a file belongs to, as another process would. It is for Before.
func (t *Tree) Overtake(name string) { t.entries[path.Dir(name)].written++ }

func (t *Tree) step(step, name string) (*entry, string, error) {
	if t.Before != nil {
		if err := t.Before(step, name); err != nil {
			return nil, "", &fs.PathError{Op: step, Path: name, Err: err}
		}
	}
	e := t.entries[path.Dir(name)]
	if e == nil {
		return nil, "", &fs.PathError{Op: step, Path: name, Err: fs.ErrNotExist}
	}
	return e, path.Base(name), nil
}

// Mkdir makes an entry.
func (t *Tree) Mkdir(name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.MkdirErr != nil {
		return t.MkdirErr
	}
	if t.entries[name] != nil {
		return fs.ErrExist
	}
	t.entries[name] = &entry{}
	return nil
}

// Prepare makes an entry as root, and gives its files to the user.
func (t *Tree) Prepare(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entries[name] = &entry{given: true}
}

// Remove removes an entry.
func (t *Tree) Remove(name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[name]
	if e == nil {
		return fs.ErrNotExist
	}
	if t.Before != nil {
		if err := t.Before("remove", name); err != nil {
			return err
		}
	}
	if e.inblob != nil {
		t.inUse--
	}
	delete(t.entries, name)
	return nil
}

// Write writes an attribute.
func (t *Tree) Write(name string, data []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, file, err := t.step("write", name)
	if err != nil {
		return err
	}
	switch {
	case t.Unprivileged && !e.given:
		return &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	case file == "inblob":
		if len(data) > 64 {
			return unix.EINVAL
		}
		if e.inblob == nil {
			t.inUse++
			t.most = max(t.most, t.inUse)
		}
		e.inblob = bytes.Clone(data)
	case file == "privlevel" && t.Levels:
		level, err := strconv.ParseUint(string(bytes.TrimSuffix(data, []byte("\n"))), 0, 32)
		if err != nil || uint(level) < t.Floor || level > 3 {
			return unix.EINVAL
		}
		e.privilege = uint(level)
	default:
		return fs.ErrNotExist
	}
	e.written++
	return nil
}

// Read reads an attribute, or a plain file.
func (t *Tree) Read(name string, limit int64) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, plain := t.Plain[name]; plain {
		if t.Before != nil {
			if err := t.Before("read", name); err != nil {
				return nil, &fs.PathError{Op: "read", Path: name, Err: err}
			}
		}
		return cut(t.Plain[name], limit), nil // as it is now: Before may have changed it
	}
	e, file, err := t.step("read", name)
	if err != nil {
		return nil, err
	}
	data, err := t.attribute(e, file)
	return cut(data, limit), err
}

func cut(data []byte, limit int64) []byte {
	return bytes.Clone(data[:min(int64(len(data)), limit)])
}

func (t *Tree) attribute(e *entry, file string) ([]byte, error) {
	switch {
	case file == "provider":
		return []byte(t.Provider + "\n"), nil
	case file == "generation":
		return fmt.Appendf(nil, "%d\n", e.written), nil
	case file == "privlevel_floor" && t.Levels:
		return fmt.Appendf(nil, "%d\n", t.Floor), nil
	case file == "outblob" || file == "auxblob" && !t.NoAux:
		if err := t.ready(e); err != nil {
			return nil, err
		}
		if file == "auxblob" {
			return t.Aux, nil
		}
		return e.report, nil
	}
	return nil, fs.ErrNotExist
}

// ready makes the report unless it is there since the last write. The firmware refuses levels
// below the guest's own.
func (t *Tree) ready(e *entry) error {
	if len(e.inblob) == 0 {
		return unix.EINVAL
	}
	if e.report != nil && e.made == e.written {
		return nil
	}
	if t.Levels && e.privilege < t.Floor {
		return unix.EINVAL
	}
	report, err := t.Make(bytes.Clone(e.inblob), e.privilege)
	if err != nil {
		return err
	}
	e.report, e.made = report, e.written
	return nil
}
