//go:build !release

// Package kept keeps what an emulator of hardware makes once, such as keys, in a file. Guests of one
// machine share its directory, also when they start at once. The emulators of guest call it.
package kept

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// File returns what is in a file of a directory. If there is none it is made, with the directory: a
// lock lets one process do so while the others wait. The file is private, and there whole or not at
// all, after a crash, too.
func File(dir, name string, make func() ([]byte, error)) ([]byte, error) {
	if dir == "" {
		return nil, errors.New("a directory is required")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name)
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	data, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	if data, err = make(); err != nil {
		return nil, err
	}
	return data, writeWhole(path, data)
}

func writeWhole(path string, data []byte) error {
	draft := path + ".new" // the lock's owner alone writes it
	f, err := os.OpenFile(draft, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(draft))
	}
	return os.Rename(draft, path)
}
