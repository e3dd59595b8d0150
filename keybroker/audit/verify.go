package audit

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/anchorhold/anchorhold/crypto/identity"
)

// errStop ends a scan early.
var errStop = errors.New("stop")

// scan visits the entries of a stream on disk without changing anything. It
// reports whether a torn write, never acknowledged, stands at the end.
func scan(fs fileSystem, dir, prefix string, visit func(index uint64, entry []byte) error) (at position, torn bool, err error) {
	names, err := segmentNames(fs, dir, prefix)
	if err != nil {
		return at, false, err
	}
	for i, name := range names {
		if want := fmt.Sprintf("%s%016x.seg", prefix, at.next); name != want {
			return at, false, tampered("segment %s is missing or misnamed", want)
		}
		f, err := fs.open(filepath.Join(dir, name), false)
		if err != nil {
			return at, false, err
		}
		_, at, err = readSegment(f, at, visit)
		f.Close()
		if errors.Is(err, errTorn) && i == len(names)-1 {
			return at, true, nil
		}
		if errors.Is(err, errTorn) {
			return at, false, tampered("%s ends inside a frame, and another segment follows", name)
		}
		if err != nil {
			return at, false, fmt.Errorf("%s: %w", name, err)
		}
	}
	return at, false, nil
}

// Report is what Verify found in a sound log.
type Report struct {
	// Records is the number of records.
	Records uint64 `json:"records"`
	// Checkpoints is the number of signed checkpoints; each was checked.
	Checkpoints uint64 `json:"checkpoints"`
	// Last is the last checkpoint.
	Last Checkpoint `json:"last"`
	// Unsigned is the number of records behind the last checkpoint. They are
	// chained but nobody has signed for them yet.
	Unsigned uint64 `json:"unsigned"`
	// TornTail reports a write that a crash cut short; it was never acknowledged.
	TornTail bool `json:"torn_tail"`
	// Root is the Merkle root over all records.
	Root Digest `json:"root"`
}

// Verify reads the log in dir and checks every record, the chain, and every
// checkpoint's signature with the audit keys that the caller trusts. It
// changes nothing. A flipped bit, a removed, reordered or inserted record, and
// a log cut off behind a checkpoint are ErrTampered.
func Verify(dir string, keys ...identity.Public) (Report, error) {
	if len(keys) == 0 {
		return Report{}, fmt.Errorf("verify audit log: %w: no audit key to verify with", ErrCheckpoint)
	}
	r, err := verify(readOnly{}, dir, keys)
	if err != nil {
		return r, fmt.Errorf("verify audit log: %w", err)
	}
	return r, nil
}

func verify(fs fileSystem, dir string, keys []identity.Public) (Report, error) {
	var r Report
	var checkpoints []Checkpoint
	_, _, err := scan(fs, dir, checkpointPrefix, func(_ uint64, e []byte) error {
		c, err := ParseCheckpoint(e)
		if err == nil {
			err = c.Verify(keys...)
		}
		if err == nil && len(checkpoints) > 0 && checkpoints[len(checkpoints)-1].Size >= c.Size {
			err = tampered("checkpoints do not grow")
		}
		c.Signature = nil // checked; only the sizes and roots are needed below
		checkpoints = append(checkpoints, c)
		return err
	})
	if err != nil {
		return r, err
	}
	var t tree
	open := checkpoints
	_, r.TornTail, err = scan(fs, dir, recordPrefix, func(i uint64, e []byte) error {
		if _, err := ParseRecord(e); err != nil {
			return tampered("record %d: %v", i, err)
		}
		t.add(leafHash(e))
		if len(open) > 0 && open[0].Size == t.size {
			if t.root() != open[0].Root {
				return tampered("the records up to %d are not those of their checkpoint", t.size)
			}
			open = open[1:]
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	if len(open) > 0 {
		return r, tampered("a checkpoint counts %d records, the log has %d", open[len(open)-1].Size, t.size)
	}
	r.Records, r.Checkpoints, r.Root = t.size, uint64(len(checkpoints)), t.root()
	if len(checkpoints) > 0 {
		r.Last = checkpoints[len(checkpoints)-1]
	}
	r.Unsigned = t.size - r.Last.Size
	return r, nil
}

// Entry is one record with its place.
type Entry struct {
	Leaf
	Record Record `json:"record"`
}

// Iterate gives the records of the log in dir to visit, in order, until visit
// returns false. It checks the chain as it goes and may run beside a writer:
// a frame that is still being written counts as not there.
func Iterate(dir string, visit func(Entry) bool) error {
	_, _, err := scan(readOnly{}, dir, recordPrefix, func(i uint64, e []byte) error {
		r, err := ParseRecord(e)
		if err != nil {
			return tampered("record %d: %v", i, err)
		}
		if !visit(Entry{Leaf{Index: i, Hash: leafHash(e)}, r}) {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// Prove returns the inclusion proof of record index in the tree of size
// records, normally a checkpoint's.
func Prove(dir string, index, size uint64) (Proof, error) {
	if index >= size {
		return Proof{}, fmt.Errorf("record %d is not among the first %d", index, size)
	}
	p := newProver(index, size)
	_, _, err := scan(readOnly{}, dir, recordPrefix, func(i uint64, e []byte) error {
		if i >= size {
			return errStop
		}
		p.add(leafHash(e))
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return Proof{}, err
	}
	return p.proof()
}

// rootAt returns the Merkle root over the first size records on disk.
func rootAt(fs fileSystem, dir string, size uint64) (Digest, error) {
	var t tree
	_, _, err := scan(fs, dir, recordPrefix, func(i uint64, e []byte) error {
		if i >= size {
			return errStop
		}
		t.add(leafHash(e))
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return Digest{}, err
	}
	return t.root(), nil
}
