package audit

import (
	"errors"
	"fmt"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

// errStop ends a scan early.
var errStop = errors.New("stop")

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
	r, err := verify(journal.ReadOnly{}, dir, keys)
	if err != nil {
		return r, fmt.Errorf("verify audit log: %w", err)
	}
	return r, nil
}

func verify(fs journal.FileSystem, dir string, keys []identity.Public) (Report, error) {
	var r Report
	var checkpoints []Checkpoint
	_, _, err := journal.Scan(fs, dir, checkpointPrefix, func(_ uint64, e []byte) error {
		c, err := ParseCheckpoint(e)
		if err == nil {
			err = c.Verify(keys...)
		}
		if err == nil && len(checkpoints) > 0 && checkpoints[len(checkpoints)-1].Size >= c.Size {
			err = journal.Tampered("checkpoints do not grow")
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
	_, r.TornTail, err = journal.Scan(fs, dir, recordPrefix, func(i uint64, e []byte) error {
		if _, err := ParseRecord(e); err != nil {
			return journal.Tampered("record %d: %v", i, err)
		}
		t.add(leafHash(e))
		if len(open) > 0 && open[0].Size == t.size {
			if t.root() != open[0].Root {
				return journal.Tampered("the records up to %d are not those of their checkpoint", t.size)
			}
			open = open[1:]
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	if len(open) > 0 {
		return r, journal.Tampered("a checkpoint counts %d records, the log has %d", open[len(open)-1].Size, t.size)
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
	_, _, err := journal.Scan(journal.ReadOnly{}, dir, recordPrefix, func(i uint64, e []byte) error {
		r, err := ParseRecord(e)
		if err != nil {
			return journal.Tampered("record %d: %v", i, err)
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
	_, _, err := journal.Scan(journal.ReadOnly{}, dir, recordPrefix, func(i uint64, e []byte) error {
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
func rootAt(fs journal.FileSystem, dir string, size uint64) (Digest, error) {
	var t tree
	_, _, err := journal.Scan(fs, dir, recordPrefix, func(i uint64, e []byte) error {
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
