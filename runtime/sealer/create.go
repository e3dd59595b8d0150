package sealer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrBusy means that another process is sealing to the same name.
var ErrBusy = errors.New("sealer: another process is writing this file")

// ErrExists means that the name is taken: agents may be serving that file, and only its
// publisher's version says which of two is newer.
var ErrExists = errors.New("sealer: the file exists, and sealed files are never replaced: choose another name, or move it away")

// create lets write fill a file beside path, syncs it, and renames it to path
// as the last step. The file beside has a fixed name and is locked while it is
// written, so that what a crash left is found and written over, never kept. The name
// is looked at before the work and, under the lock that other sealers wait for, after it.
func create(path string, write func(*os.File) error) error {
	dir, base := filepath.Split(path)
	if base == "" {
		return fmt.Errorf("sealer: %q does not name a file", path)
	}
	if err := absent(path); err != nil {
		return err
	}
	f, err := openBeside(filepath.Join(dir, "."+base+".sealing"))
	if err != nil {
		return err
	}
	defer f.Close() // a second close after success only returns an error
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = absent(path)
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return errors.Join(syncDir(filepath.Dir(path)), f.Close())
}

func absent(path string) error {
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return fmt.Errorf("%w: %s", ErrExists, path)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("sealer: %w", err)
}

// openBeside opens and locks the file, empty.
func openBeside(name string) (*os.File, error) {
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
		if err != nil {
			return nil, fmt.Errorf("sealer: %w", err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			_ = f.Close() // nothing was written
			return nil, fmt.Errorf("%w: %s", ErrBusy, name)
		}
		if sameFile(f, name) {
			if err := f.Truncate(0); err != nil {
				return nil, errors.Join(fmt.Errorf("sealer: %w", err), f.Close())
			}
			return f, nil
		}
		_ = f.Close() // its owner renamed it between open and lock: try again
	}
}

func sameFile(f *os.File, name string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(name)
	return err == nil && os.SameFile(a, b)
}

// syncDir makes the rename durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sealer: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
