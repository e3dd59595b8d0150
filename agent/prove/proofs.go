package prove

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// stored is a proof on disk.
type stored struct {
	Owner  uint32         `json:"owner"`
	Bundle receipt.Bundle `json:"bundle"`
	// Sent says that the registry has it.
	Sent bool `json:"sent"`
}

// proof returns the proof of an answer of this user.
func (st *store) proof(uid uint32, id digest.ReceiptID) (p stored, err error) {
	raw, err := st.files.read(proofFolder, id)
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return p, err
	}
	if uid != 0 && uid != p.Owner {
		return stored{}, unknown(id)
	}
	return p, nil
}

// hasProof says whether an answer is proven.
func (st *store) hasProof(id digest.ReceiptID) bool {
	_, err := os.Stat(st.files.path(proofFolder, id))
	return err == nil
}

func (st *store) writeProof(p stored) error {
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return st.files.write(proofFolder, p.Bundle.Receipt.Body.ID, raw, true)
}

// removeProof removes a proof, and forgets the job that made it.
func (st *store) removeProof(id digest.ReceiptID) error {
	if err := st.files.remove(proofFolder, id); err != nil {
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	delete(st.jobs, id)
	return nil
}

// proofs lists the answers that are proven.
func (st *store) proofs() (list []digest.ReceiptID, err error) {
	entries, err := os.ReadDir(filepath.Join(st.files.dir, proofFolder))
	for _, e := range entries {
		if id, err := digest.ParseID[digest.Receipt](e.Name()); err == nil { // or it is being written
			list = append(list, id)
		}
	}
	return list, err
}

// dated is the file of an answer, a witness or a proof, and when it was made.
type dated struct {
	id   digest.ReceiptID
	made time.Time
}

func oldestFirst(list []*dated) []*dated {
	slices.SortFunc(list, func(a, b *dated) int { return a.made.Compare(b.made) })
	return list
}

// proofFiles lists the proofs, oldest first.
func (st *store) proofFiles() (list []*dated, err error) {
	entries, err := os.ReadDir(filepath.Join(st.files.dir, proofFolder))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		id, err := digest.ParseID[digest.Receipt](e.Name())
		if err != nil {
			continue // one that is being written
		}
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, &dated{id, info.ModTime()})
	}
	return oldestFirst(list), nil
}

// expire removes the proofs that are too old, and the oldest of those that are too many, but
// none of these that is not delivered. It returns those that are gone.
func (st *store) expire(now time.Time, delivered func(digest.ReceiptID) bool) (gone []digest.ReceiptID, err error) {
	files, err := st.proofFiles()
	if err != nil {
		return nil, err
	}
	surplus := len(files) - st.most
	for _, f := range files {
		old := now.Sub(f.made) > st.age
		if !old && (surplus <= 0 || !delivered(f.id)) {
			continue
		}
		if e := st.removeProof(f.id); e != nil {
			err = errors.Join(err, e)
			continue
		}
		surplus--
		gone = append(gone, f.id)
	}
	return gone, err
}
