package prove

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// The folders of files, which are also part of what a file is bound to.
const (
	witnessFolder = "witness"
	proofFolder   = "proof"
)

const blobLabel = "anchorhold/proofs/1"

// files are blobs under the queue's key, each named by its receipt and bound to it.
type files struct {
	dir string
	key *keybuf.Buffer
}

func (f files) path(folder string, id digest.ReceiptID) string {
	return filepath.Join(f.dir, folder, id.String())
}

// write writes a whole file or nothing; one that is durable survives a loss of power once
// write returned.
func (f files) write(folder string, id digest.ReceiptID, data []byte, durable bool) error {
	blob, err := chunkseal.SealBlob(f.key, blobLabel, []byte(folder+" "+id.String()), data)
	if err != nil {
		return err
	}
	t, err := os.CreateTemp(filepath.Join(f.dir, folder), ".new-*")
	if err != nil {
		return err
	}
	_, err = t.Write(blob)
	if durable {
		err = errors.Join(err, t.Sync())
	}
	if err = errors.Join(err, t.Close()); err == nil {
		err = os.Rename(t.Name(), f.path(folder, id))
	}
	if err != nil {
		return errors.Join(err, os.Remove(t.Name()))
	}
	if !durable {
		return nil
	}
	d, err := os.Open(filepath.Join(f.dir, folder))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close()) // or the name is lost with the power
}

// read reads a file; one that is not there is refused with ReasonUnknown.
func (f files) read(folder string, id digest.ReceiptID) ([]byte, error) {
	blob, err := os.ReadFile(f.path(folder, id))
	if errors.Is(err, os.ErrNotExist) {
		return nil, unknown(id)
	}
	if err != nil {
		return nil, err
	}
	return chunkseal.OpenBlob(f.key, blobLabel, []byte(folder+" "+id.String()), blob)
}

// remove removes a file, which need not be there.
func (f files) remove(folder string, id digest.ReceiptID) error {
	if err := os.Remove(f.path(folder, id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func unknown(id digest.ReceiptID) error {
	return refusal.New(ReasonUnknown, "no answer or proof with receipt %s is kept here", id)
}
