package audit

import (
	"io"
	"os"
	"path/filepath"
	"strings"
)

// fileSystem is the little that the log asks of a disk. Tests replace it with
// one that forgets everything unsynced when the power fails.
type fileSystem interface {
	// open opens name for reading and writing; with create it must not exist.
	open(name string, create bool) (file, error)
	// list returns the names in the directory that start with prefix, sorted.
	list(dir, prefix string) ([]string, error)
	// rename moves a file within one directory and makes the new name durable.
	rename(from, to string) error
	// remove deletes a file; a missing one is not an error.
	remove(name string) error
}

// file is one open file. Sync returns only when every byte written before is
// on stable storage.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
	size() (int64, error)
}

// disk is the real file system.
type disk struct{}

type diskFile struct{ *os.File }

func (disk) open(name string, create bool) (file, error) {
	flag := os.O_RDWR
	if create {
		flag |= os.O_CREATE | os.O_EXCL
	}
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (f diskFile) size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (disk) list(dir, prefix string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (disk) rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (disk) remove(name string) error {
	err := os.Remove(name)
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// readOnly serves Verify and Iterate: it opens files for reading and changes nothing.
type readOnly struct{ disk }

func (readOnly) open(name string, _ bool) (file, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}
