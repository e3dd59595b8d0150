package tsm

import (
	"errors"
	"io"
	"os"
)

// Files is the part of a filesystem that the kernel's interfaces need. Its methods return the
// results of the system calls. The operating system implements it, and in tests a tree in memory
// that behaves like the kernel (package tsmtest).
type Files interface {
	// Mkdir makes an entry and Remove removes it.
	Mkdir(name string) error
	Remove(name string) error
	// Read returns a file's first limit bytes; Write replaces its content.
	Read(name string, limit int64) ([]byte, error)
	Write(name string, data []byte) error
}

// System is the operating system's files.
type System struct{}

// Mkdir makes a directory for its owner alone.
func (System) Mkdir(name string) error { return os.Mkdir(name, 0o700) }

// Remove removes a file or an empty directory.
func (System) Remove(name string) error { return os.Remove(name) }

// Read returns a file's first limit bytes.
func (System) Read(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit))
	return data, errors.Join(err, f.Close())
}

// Write hands the data over in one system call, as the kernel wants it, to a file that exists.
func (System) Write(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
