package build

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// Tree is a root file system in memory: entries by their path without a leading slash.
type Tree struct{ entries map[string]*entry }

type entry struct {
	tar.Header
	data []byte
}

// Limits of a tree, which is held in memory.
const (
	maxTreeBytes   = 2 << 30
	maxTreeEntries = 200_000
)

// ReadTree reads an archive. A path that leaves the root, or comes twice, is an error.
func ReadTree(r io.Reader) (*Tree, error) {
	t := &Tree{entries: map[string]*entry{}}
	var total int64
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return t, t.checkLinks()
		}
		if err != nil {
			return nil, fmt.Errorf("read the root's archive: %w", err)
		}
		name := clean(h.Name)
		if total += h.Size; total > maxTreeBytes || len(t.entries) >= maxTreeEntries {
			return nil, fmt.Errorf("the root has more than %d bytes or %d entries", int64(maxTreeBytes), maxTreeEntries)
		}
		if t.entries[name] != nil || strings.HasPrefix(name, "../") {
			return nil, fmt.Errorf("the root's archive has %q twice, or outside the root", h.Name)
		}
		e := &entry{Header: *h}
		if e.data, err = io.ReadAll(archive); err != nil {
			return nil, fmt.Errorf("read the root's archive: %s: %w", name, err)
		}
		t.entries[name] = e
	}
}

// clean is a path as the tree has it; the root is "".
func clean(name string) string {
	return strings.TrimPrefix(path.Clean("/"+strings.TrimPrefix(name, "./")), "/")
}

// checkLinks makes the first name of each hard link a file of its own contents, so that the removal of one name never takes another's.
func (t *Tree) checkLinks() error {
	for name, e := range t.entries {
		if e.Typeflag != tar.TypeLink {
			continue
		}
		to := t.entries[clean(e.Linkname)]
		if to == nil || to.Typeflag != tar.TypeReg {
			return fmt.Errorf("%s is a hard link to %s, which is no file", name, e.Linkname)
		}
		e.Typeflag, e.Linkname, e.data, e.Size = tar.TypeReg, "", to.data, to.Size
		e.Mode, e.Uid, e.Gid, e.PAXRecords = to.Mode, to.Uid, to.Gid, to.PAXRecords
	}
	return nil
}

// Names are the paths that match a pattern of path.Match, in order.
func (t *Tree) Names(pattern string) (names []string, err error) {
	for name := range t.entries {
		ok, err := path.Match(pattern, name)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", pattern, err)
		}
		if ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// File returns a file's contents, or an error that names it.
func (t *Tree) File(name string) ([]byte, error) {
	e := t.entries[name]
	if e == nil || e.Typeflag != tar.TypeReg {
		return nil, fmt.Errorf("the root has no file /%s", name)
	}
	return e.data, nil
}

// Remove removes what matches a pattern, and all below it. With a slash at its end it keeps the directory itself.
func (t *Tree) Remove(pattern string) error {
	only, below := strings.CutSuffix(pattern, "/")
	names, err := t.Names(only)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !below {
			delete(t.entries, name)
		}
		maps.DeleteFunc(t.entries, func(other string, _ *entry) bool { return strings.HasPrefix(other, name+"/") })
	}
	return nil
}

// Modes of what is added.
const (
	fileMode      = 0o644
	directoryMode = 0o755
)

// Put adds a file of root's, and the directories above it, or replaces one.
func (t *Tree) Put(name string, mode int64, data []byte) {
	t.add(name, &entry{Header: tar.Header{Typeflag: tar.TypeReg, Mode: mode}, data: data})
}

// Link adds a symbolic link, or replaces what is there.
func (t *Tree) Link(name, to string) {
	const linkMode = 0o777
	t.add(name, &entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Mode: linkMode, Linkname: to}})
}

func (t *Tree) add(name string, e *entry) {
	t.Directory(path.Dir(name))
	t.entries[name] = e
}

// Directory adds a directory and those above it, where there is none. Below a symbolic link such as /lib it adds nothing that the
// link would hide: callers name paths below /usr.
func (t *Tree) Directory(name string) {
	for ; name != "." && name != ""; name = path.Dir(name) {
		if t.entries[name] == nil {
			t.entries[name] = &entry{Header: tar.Header{Typeflag: tar.TypeDir, Mode: directoryMode}}
		}
	}
}

// Write writes the tree as an archive, in the order of paths, with one time for everything. What is neither a file, a
// directory nor a symbolic link is left out: the kernel makes devices, and programs make sockets.
func (t *Tree) Write(w io.Writer, when time.Time) error {
	archive := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(t.entries)) {
		e := t.entries[name]
		h := tar.Header{Typeflag: e.Typeflag, Mode: e.Mode, Uid: e.Uid, Gid: e.Gid, Linkname: e.Linkname, Size: int64(len(e.data)), ModTime: when, Name: "./" + name, Format: tar.FormatPAX}
		for key, value := range e.PAXRecords {
			if strings.HasPrefix(key, "SCHILY.xattr.") {
				if h.PAXRecords == nil {
					h.PAXRecords = map[string]string{}
				}
				h.PAXRecords[key] = value
			}
		}
		switch e.Typeflag {
		case tar.TypeReg, tar.TypeSymlink:
		case tar.TypeDir:
			h.Name += "/"
		default:
			continue
		}
		if err := archive.WriteHeader(&h); err != nil {
			return fmt.Errorf("write /%s: %w", name, err)
		}
		if _, err := archive.Write(e.data); err != nil {
			return fmt.Errorf("write /%s: %w", name, err)
		}
	}
	return archive.Close()
}
