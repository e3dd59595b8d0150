package keyset

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// maxEntries bounds a directory of keys.
const maxEntries = 4096

// Files are the verifying keys and records of somebody who only verifies: files of any name, and
// directories in which each file is named as in a set. Circuits and proving keys can be absent.
type Files struct {
	maxKey  int64
	keys    map[digest.Digest]string            // their paths
	records map[digest.Digest]*statement.Record // by verifying key
}

// NewFiles returns an empty list of files. maxKey bounds a verifying key, in bytes.
func NewFiles(maxKey int) *Files {
	return &Files{maxKey: int64(maxKey), keys: map[digest.Digest]string{}, records: map[digest.Digest]*statement.Record{}}
}

// AddKeys adds a verifying key's file, or the keys and records of a directory. A key in a
// directory is read when an envelope first needs it.
func (f *Files) AddKeys(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		raw, err := readBounded(path, f.maxKey)
		if err != nil {
			return err
		}
		f.keys[sha256.Sum256(raw)] = path
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close() // read only
	names, err := d.Readdirnames(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if len(names) > maxEntries {
		return fmt.Errorf("%s has more than %d files; name the key files themselves", path, maxEntries)
	}
	for _, name := range names {
		if stem, ok := strings.CutSuffix(name, extVerify); ok {
			sum, err := digest.Parse(stem)
			if err != nil {
				return fmt.Errorf("%s: a key in a directory must be named by its digest", filepath.Join(path, name))
			}
			f.keys[sum] = filepath.Join(path, name)
		} else if strings.HasSuffix(name, extRecord) {
			if err := f.AddRecord(filepath.Join(path, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// AddRecord adds a record's file, in either form.
func (f *Files) AddRecord(path string) error {
	raw, err := readBounded(path, statement.MaxRecordBytes)
	if err != nil {
		return err
	}
	r, err := statement.OpenRecord(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if other, known := f.records[r.VerifyingKey]; known {
		a, err := other.Digest()
		b, err2 := r.Digest()
		if err != nil || err2 != nil || a != b {
			return fmt.Errorf("%s: another record contradicts this one about key %s; remove one of them", path, r.VerifyingKey)
		}
	}
	f.records[r.VerifyingKey] = r
	return nil
}

// Ring returns a ring of these files, without a limit on the time of a verification. If
// something is wrong with a key or its record, an envelope that names the key gets the error.
func (f *Files) Ring(w Waivers, parsers Parsers) *Ring {
	r := &Ring{keys: map[digest.Digest]*ringKey{}, waivers: w, parsers: parsers}
	for key := range f.keys {
		r.keys[key] = &ringKey{record: f.records[key], read: func() ([]byte, error) { return f.read(key) }}
	}
	for key, record := range f.records {
		if r.keys[key] == nil {
			r.keys[key] = &ringKey{record: record, read: func() ([]byte, error) { return nil, unknownKey(key) }}
		}
	}
	return r
}

func (f *Files) read(key digest.Digest) ([]byte, error) {
	raw, err := readBounded(f.keys[key], f.maxKey)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", unknownKey(key), err)
	}
	if sha256.Sum256(raw) != key {
		return nil, fmt.Errorf("%s as verifying key %s: %w", f.keys[key], key, ErrChanged)
	}
	return raw, nil
}
