package filelist

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Of lists the files in a directory, except the list itself and the public keys beside it. The
// caller adds version and commit.
func Of(dir string) (List, error) {
	names, err := namesIn(dir)
	if err != nil {
		return List{}, err
	}
	var l List
	for _, name := range names {
		digest, err := digestOf(filepath.Join(dir, name))
		if err != nil {
			return List{}, err
		}
		l.Files = append(l.Files, File{Name: name, Digest: digest})
	}
	return l, nil
}

// Check verifies the signed list in a directory and every file on it, and refuses files that
// are not on it.
func Check(dir string, publisher identity.Public) (List, error) {
	l, err := OpenFile(filepath.Join(dir, NoteName), publisher)
	if err != nil {
		return List{}, err
	}
	names, err := namesIn(dir)
	if err != nil {
		return List{}, err
	}
	for _, name := range names {
		if _, ok := l.find(name); !ok {
			return List{}, refusal.New(ReasonUnlisted, "%s is not on the list for %s", name, l.Version)
		}
	}
	for _, f := range l.Files {
		if err := l.CheckFile(filepath.Join(dir, f.Name)); err != nil {
			return List{}, err
		}
	}
	// Whoever runs sha256sum -c reads the unsigned list.
	sums, err := os.ReadFile(filepath.Join(dir, SumsName))
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	} else if err != nil {
		return List{}, err
	}
	if !bytes.Equal(sums, l.Sums()) {
		return List{}, ErrSums(filepath.Join(dir, SumsName))
	}
	return l, nil
}

// ErrSums returns the refusal of a checksum file that does not match the list.
func ErrSums(path string) error {
	return refusal.New(ReasonFile, "%s does not match the files beside it", path)
}

// OpenFile is Open for a file.
func OpenFile(name string, publisher identity.Public) (List, error) {
	f, err := os.Open(name)
	if err != nil {
		return List{}, err
	}
	defer f.Close() // read only
	signed, err := io.ReadAll(io.LimitReader(f, maxNoteBytes+1))
	if err != nil {
		return List{}, err
	}
	l, err := Open(signed, publisher)
	if err != nil {
		return List{}, fmt.Errorf("%s: %w", name, err)
	}
	return l, nil
}

// CheckFile compares one file with the line for its name.
func (l List) CheckFile(path string) error {
	want, ok := l.find(filepath.Base(path))
	if !ok {
		return refusal.New(ReasonUnlisted, "%s is not on the list for %s", filepath.Base(path), l.Version)
	}
	got, err := digestOf(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refusal.New(ReasonFile, "%s is missing", path)
	case err != nil:
		return err
	case got != want.Digest:
		return refusal.New(ReasonFile, "%s has the SHA-256 %x, want %x", path, got, want.Digest)
	}
	return nil
}

// namesIn returns the names of the files that a list of the directory holds, sorted.
func namesIn(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case name == NoteName, name == SumsName, filepath.Ext(name) == ".pub":
		case !e.Type().IsRegular():
			return nil, refusal.New(ReasonUnlisted, "%s is not a regular file; a release holds only regular files", filepath.Join(dir, name))
		default:
			names = append(names, name)
		}
	}
	return names, nil
}

func digestOf(path string) (digest [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return digest, err
	}
	defer f.Close() // read only
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return digest, err
	}
	return [32]byte(h.Sum(nil)), nil
}
