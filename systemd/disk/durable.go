package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrOther means that the file exists with different contents.
var ErrOther = errors.New("the file already exists with different contents")

// unfinished is how the names of files begin that are not whole yet.
const unfinished = ".new-"

// Write writes a whole file or nothing, and replaces an existing one: a file under its name is
// complete, and survives a loss of power once Write has returned.
func Write(path string, data []byte) error {
	return Stream(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Stream writes a whole file, piece by piece, or nothing if write fails.
func Stream(path string, write func(io.Writer) error) error {
	f, err := create(filepath.Dir(path), unfinished+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		return errors.Join(err, f.Discard())
	}
	return f.Keep(path)
}

// File is an unfinished file. Whoever creates it must end it with Keep or Discard.
type File struct{ *os.File }

// Create creates an unfinished file in a directory.
func Create(dir string) (*File, error) { return create(dir, unfinished+"*") }

func create(dir, pattern string) (*File, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return &File{f}, nil
}

// lock is held until the file is closed, or its process ends.
func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// InUse reports whether an unfinished file is being written by this process or another one.
// A file that a crash left is not.
func InUse(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	err = lock(f)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, f.Close()
	}
	return false, errors.Join(err, f.Close())
}

// Keep closes a complete file and gives it its name, as Write does, replacing an existing one.
// If that fails, the file is removed.
func (f *File) Keep(path string) error {
	err := errors.Join(f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return SyncDir(filepath.Dir(path))
}

// Discard closes and removes the file.
func (f *File) Discard() error { return errors.Join(f.Close(), os.Remove(f.Name())) }

// Unfinished reports whether a file of this name is unfinished, or was when its writer crashed.
func Unfinished(name string) bool { return strings.HasPrefix(filepath.Base(name), unfinished) }

// Once writes a file, or finds it there with the same contents; it returns ErrOther if they
// differ. The caller makes sure that no two calls run at the same time.
func Once(path string, data []byte) error {
	held, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return Write(path, data)
	case err == nil && !bytes.Equal(held, data):
		return fmt.Errorf("%s: %w", filepath.Base(path), ErrOther)
	}
	return err
}

// Sweep deletes the unfinished files that a crash left in directories that match some patterns.
// It must run before anything is written there.
func Sweep(dirs ...string) error {
	var errs []error
	for _, dir := range dirs {
		left, err := filepath.Glob(filepath.Join(dir, unfinished+"*"))
		errs = append(errs, err)
		for _, path := range left {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return errors.Join(errs...)
}

// SweepFile deletes what a crash left of one file, in a directory where others write too. The
// caller lets it run while nobody writes that file.
func SweepFile(path string) error {
	dir, begins := filepath.Dir(path), unfinished+filepath.Base(path)+"-"
	entries, err := os.ReadDir(dir)
	errs := []error{err}
	for _, e := range entries {
		number, ours := strings.CutPrefix(e.Name(), begins)
		if _, err := strconv.ParseUint(number, 10, 64); ours && err == nil { // and not those of "path-x"
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Exists reports whether there is a file of this name.
func Exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// SyncDir makes renames in a directory durable.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
