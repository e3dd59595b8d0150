// Package durable writes the files of an aggregator: whole, or not at all.
//
// It guarantees that a file which is there under its name is complete and survives a
// loss of power once Write returned. It trusts the file system to keep what it
// synced. It refuses to put other bytes in the place of those that Once wrote.
package durable

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrOther means that a file is there with other bytes.
var ErrOther = errors.New("other bytes are there already")

// Write writes a whole file or nothing, in the place of any before.
func Write(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return SyncDir(filepath.Dir(path))
}

// Once writes a file, or finds the same bytes there; ErrOther if they are others.
// The caller lets no two of it run at a time.
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

// Exists says whether there is a file of this name.
func Exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// SyncDir makes what was renamed in a directory durable.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
