package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteNew is [WriteStream] of bytes.
func WriteNew(path string, data []byte, mode fs.FileMode) error {
	return WriteStream(path, bytes.NewReader(data), mode)
}

// WriteStream writes a file that must not exist yet, whole or not at all: what a command
// prints into a file can be the only copy of what is there. It makes no directories, which
// would be root's where root runs it and others are to use them.
func WriteStream(path string, from io.Reader, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return ExplainNew(path, err)
	}
	_, err = io.Copy(f, from)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// CheckNew finds out in advance whether [WriteStream] could create a file.
func CheckNew(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return ExplainNew(path, fs.ErrExist)
	}
	_, err := os.Stat(filepath.Dir(path))
	return ExplainNew(path, err)
}

// ExplainNew says what to do about a file that cannot be made.
func ExplainNew(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s exists and is never replaced: name another file, or move it away", path)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the directory %s does not exist: create it first, for the user who will use it", filepath.Dir(path))
	}
	return err
}

// Exact reads exactly Left bytes, and fails if there are fewer or more.
type Exact struct {
	From io.Reader
	Left int64
}

// Read implements io.Reader.
func (e *Exact) Read(p []byte) (int, error) {
	n, err := e.From.Read(p)
	if e.Left -= int64(n); e.Left < 0 || err == io.EOF && e.Left > 0 {
		return n, errors.New("the agent sent values of another length than its result states")
	}
	return n, err
}
