package snp

import (
	"errors"
	"io"
	"os"
)

// system is the operating system's files.
type system struct{}

func (system) Mkdir(name string) error  { return os.Mkdir(name, 0o700) }
func (system) Remove(name string) error { return os.Remove(name) }

func (system) Read(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit))
	return data, errors.Join(err, f.Close())
}

// Write hands the data over in one system call, as the kernel wants it.
func (system) Write(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
