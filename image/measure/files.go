package measure

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/policy/publication"
)

// ReasonFile means that a file which the description names is larger than its kind ever is.
const ReasonFile refusal.Reason = "input-too-large"

// files reads inputs below a directory and remembers what it read.
type files struct {
	dir    string
	inputs []publication.Input
}

func (f *files) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(f.dir, name)
}

// read reads a file for a role, which names it in the statement beside its base name.
func (f *files) read(role, name string, most int64) ([]byte, error) {
	file, err := os.Open(f.path(name))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", role, err)
	}
	defer file.Close() // read only
	data, err := io.ReadAll(io.LimitReader(file, most+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", role, err)
	case int64(len(data)) > most:
		return nil, refusal.New(ReasonFile, "%s: %s has more than %d bytes", role, name, most)
	}
	sum := sha256.Sum256(data)
	f.add(role, name, sum[:], int64(len(data)))
	return data, nil
}

// stream shows a file, which may be large, to use, and remembers its digest.
func (f *files) stream(role, name string, use func(io.ReaderAt) error) error {
	file, err := os.Open(f.path(name))
	if err != nil {
		return fmt.Errorf("%s: %w", role, err)
	}
	defer file.Close() // read only
	if err := use(file); err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(h, file)
	if err != nil {
		return fmt.Errorf("%s: %w", role, err)
	}
	f.add(role, name, h.Sum(nil), n)
	return nil
}

func (f *files) add(role, name string, sum []byte, n int64) {
	in := publication.Input{Name: role + " " + filepath.Base(name), SHA256: hex.EncodeToString(sum), Bytes: n}
	if !slices.Contains(f.inputs, in) {
		f.inputs = append(f.inputs, in)
	}
	slices.SortFunc(f.inputs, func(a, b publication.Input) int { return cmp.Compare(a.Name, b.Name) })
}
