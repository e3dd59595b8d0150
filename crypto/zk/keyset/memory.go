package keyset

import (
	"errors"
	"fmt"
	"os"

	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// A proof's memory, by the sizes of its files: what was measured (docs/performance.md,
// "Memory of a proof"), with a quarter and more to spare.
const (
	memoryBase       = 48 << 20 // the process, and what grows with neither
	memoryCircuit    = 2        // its file, and what it is decoded to
	memoryKeyGroth16 = 6        // for each byte of a proving key: points, and scalars in several forms
	memoryKeyPLONK   = 20       // a key has two points for each constraint, a proof dozens of polynomials
)

// ProvingMemory is an upper bound of the memory, in bytes, that a process needs for one proof
// with this set. The error is ErrMissing, or a failure to look at a file.
func (s Set) ProvingMemory() (int64, error) {
	key := int64(memoryKeyGroth16)
	if s.Record.System == statement.PLONK {
		key = memoryKeyPLONK
	}
	total := int64(memoryBase)
	for _, part := range []struct {
		what, path string
		times      int64
	}{{"circuit", s.path(s.Record.Circuit, extCircuit), memoryCircuit}, {"proving key", s.path(s.Record.ProvingKey, extProving), key}} {
		info, err := os.Stat(part.path)
		if errors.Is(err, os.ErrNotExist) {
			return 0, fmt.Errorf("%s of circuit %s: %w", part.what, s.Record.Circuit, ErrMissing)
		}
		if err != nil {
			return 0, err
		}
		if info.Size() > maxProvingFile {
			return 0, fmt.Errorf("%s of circuit %s has %d bytes, more than %d: %w", part.what, s.Record.Circuit, info.Size(), int64(maxProvingFile), ErrChanged)
		}
		total += part.times * info.Size()
	}
	return total, nil
}

// maxProvingFile bounds a circuit's or a proving key's file.
const maxProvingFile = 16 << 30
