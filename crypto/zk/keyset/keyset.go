// Package keyset keeps circuits and keys of proofs as files named by their digests, each set with
// a record that says what it is for.
//
// A file that was opened for use has the digest in its record, and a set appears as a whole or
// not at all. The package trusts nothing in a directory beyond what the digests say; whether a
// record is registered is the caller's question. It refuses records that are not canonical, and
// files that are missing or changed.
//
// The command line writes sets ([Set]); agents, workers and verifiers read them. A [Ring] verifies
// proofs with the keys of some sets, or of the files that a verifier was given ([Files]). The
// example keeps keys as a set and verifies a proof with them.
package keyset

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// Errors of this package.
var (
	// ErrMissing means that a file of a set is missing.
	ErrMissing = errors.New("keyset: a file is missing")
	// ErrChanged means that a file does not match its record.
	ErrChanged = errors.New("keyset: a file does not match its record")
	// ErrUnknown means that no set has the requested digest.
	ErrUnknown = errors.New("keyset: no such key")
)

// The names of files: a digest and one of these. A record is named by its circuit's
// digest, a circuit too.
const (
	extRecord  = ".record.json"
	extCircuit = ".circuit"
	extProving = ".pk"
	extVerify  = ".vk"
)

// maxVerifyingKey bounds a verifying key's file.
const maxVerifyingKey = 4 << 20

// Set is one circuit with its keys.
type Set struct {
	Record statement.Record
	dir    string
}

// Load reads every record of a directory, sorted by circuit. The large files are checked when
// they are opened.
func Load(dir string) ([]Set, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*"+extRecord))
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var list []Set
	for _, name := range names {
		raw, err := readBounded(name, statement.MaxRecordBytes)
		if err != nil {
			return nil, err
		}
		r, err := statement.ParseRecordJSON(bytes.TrimSuffix(raw, []byte("\n")))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		s := Set{Record: *r, dir: dir}
		if filepath.Base(name) != r.Circuit.String()+extRecord {
			return nil, fmt.Errorf("%s is the record of circuit %s: %w", name, r.Circuit, ErrChanged)
		}
		if _, err := s.VerifyingKey(); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// ForGradients lists the sets that prove the bounds of a gradient of this many coordinates,
// which Groth16 alone does.
func ForGradients(sets []Set, coordinates uint64) (fit []Set) {
	for _, s := range sets {
		if g := s.Record.Gradient; g != nil && uint64(g.Coordinates) == coordinates && s.Record.System == statement.Groth16 {
			fit = append(fit, s)
		}
	}
	return fit
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%s is longer than %d bytes: %w", path, limit, ErrChanged)
	}
	return raw, err
}

func (s Set) path(d digest.Digest, ext string) string {
	return filepath.Join(s.dir, d.String()+ext)
}

// VerifyingKey returns the verifying key's bytes.
func (s Set) VerifyingKey() ([]byte, error) {
	raw, err := readBounded(s.path(s.Record.VerifyingKey, extVerify), maxVerifyingKey)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("verifying key %s: %w", s.Record.VerifyingKey, ErrMissing)
	}
	if err == nil && sha256.Sum256(raw) != s.Record.VerifyingKey {
		err = fmt.Errorf("verifying key %s: %w", s.Record.VerifyingKey, ErrChanged)
	}
	return raw, err
}

// OpenCircuit opens the circuit. Whoever reads it checks its digest, which covers its contents.
func (s Set) OpenCircuit() (*os.File, error) {
	f, err := os.Open(s.path(s.Record.Circuit, extCircuit))
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("circuit %s: %w", s.Record.Circuit, ErrMissing)
	}
	return f, err
}

// OpenProvingKey reads the proving key once, to check its digest, and opens it.
func (s Set) OpenProvingKey() (*os.File, error) {
	f, err := os.Open(s.path(s.Record.ProvingKey, extProving))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("proving key %s: %w", s.Record.ProvingKey, ErrMissing)
	}
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if digest.Sum(h) != s.Record.ProvingKey {
		return nil, errors.Join(fmt.Errorf("proving key %s: %w", s.Record.ProvingKey, ErrChanged), f.Close())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Write writes something, such as a key, to w.
type Write func(w io.Writer) error

// Save writes a set: circuit and proving key as their functions write them, the verifying key,
// and last the record, in which it fills in the digests of both keys. It never replaces other
// keys of the same circuit. It makes the directory, but none above it.
func Save(dir string, r statement.Record, circuit, proving Write, verifying []byte) (Set, error) {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return Set{}, err
	}
	r.VerifyingKey = sha256.Sum256(verifying)
	if err := otherKeys(dir, r); err != nil {
		return Set{}, err
	}
	sum, err := save(dir, proving, func(d digest.Digest) string { return d.String() + extProving })
	if err != nil {
		return Set{}, err
	}
	r.ProvingKey = sum
	s := Set{Record: r, dir: dir}
	if _, err := save(dir, circuit, func(digest.Digest) string { return r.Circuit.String() + extCircuit }); err != nil {
		return Set{}, err
	}
	write := func(data []byte) Write {
		return func(w io.Writer) error { _, err := w.Write(data); return err }
	}
	if _, err := save(dir, write(verifying), func(d digest.Digest) string { return d.String() + extVerify }); err != nil {
		return Set{}, err
	}
	raw, err := r.MarshalJSON()
	if err != nil {
		return Set{}, err
	}
	_, err = save(dir, write(append(raw, '\n')), func(digest.Digest) string { return r.Circuit.String() + extRecord })
	return s, err
}

// otherKeys refuses a directory with other keys of the same circuit: their record would be
// replaced, and proofs made with them verify no more.
func otherKeys(dir string, r statement.Record) error {
	name := filepath.Join(dir, r.Circuit.String()+extRecord)
	raw, err := readBounded(name, statement.MaxRecordBytes)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if old, err := statement.ParseRecordJSON(bytes.TrimSuffix(raw, []byte("\n"))); err != nil || old.VerifyingKey != r.VerifyingKey {
		return fmt.Errorf("%s exists with other keys for this circuit, and keys are never replaced: name another directory", name)
	}
	return nil
}

// save writes a file under the name that its digest gives it, whole or not at all.
func save(dir string, write Write, name func(digest.Digest) string) (d digest.Digest, err error) {
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return d, err
	}
	h := sha256.New()
	err = write(io.MultiWriter(f, h))
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	d = digest.Sum(h)
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name(d)))
	}
	if err != nil {
		return d, errors.Join(err, os.Remove(f.Name()))
	}
	return d, nil
}
