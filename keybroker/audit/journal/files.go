package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// FileSystem is the little that a journal asks of a disk. Tests replace it with
// one that forgets everything unsynced when the power fails.
type FileSystem interface {
	// Open opens name for reading and writing; with create it must not exist.
	Open(name string, create bool) (File, error)
	// List returns the names in the directory that start with prefix, sorted.
	List(dir, prefix string) ([]string, error)
	// Rename moves a file and makes its new name durable, and that the old is gone.
	Rename(from, to string) error
	// MakeDir makes a directory, durably; one that is there is no error.
	MakeDir(name string) error
	// Remove deletes a file; a missing one is not an error.
	Remove(name string) error
}

// File is one open file. Sync returns only when every byte written before is
// on stable storage.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
	Size() (int64, error)
}

// Disk is the real file system.
type Disk struct{}

type diskFile struct{ *os.File }

// Open opens a file, or creates it with mode 0600.
func (Disk) Open(name string, create bool) (File, error) {
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

// Size returns the length in bytes.
func (f diskFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// List reads the directory.
func (Disk) List(dir, prefix string) ([]string, error) {
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

// Rename renames, then syncs the directories.
func (Disk) Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(to)); err != nil || filepath.Dir(from) == filepath.Dir(to) {
		return err
	}
	return syncDir(filepath.Dir(from))
}

// MakeDir makes a directory of mode 0700.
func (Disk) MakeDir(name string) error {
	if err := os.Mkdir(name, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	return syncDir(filepath.Dir(name))
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Remove deletes name if it is there.
func (Disk) Remove(name string) error {
	err := os.Remove(name)
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// ReadOnly opens files for reading and changes nothing.
type ReadOnly struct{ Disk }

// Open opens a regular file for reading only: a copy of a log comes from elsewhere, and whoever
// reads it must not wait for the writer of a pipe, nor for the end of a device.
func (ReadOnly) Open(name string, _ bool) (File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe opens at once
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return diskFile{f}, nil
}
