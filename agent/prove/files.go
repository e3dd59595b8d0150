package prove

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// The files are blobs under the queue's key, named and bound to their receipt.
func (s *Service) path(dir string, id receipt.ID) string {
	return filepath.Join(s.cfg.Dir, dir, id.String())
}

const blobLabel = "anchorhold/proofs/1"

func (s *Service) write(dir string, id receipt.ID, data []byte, durable bool) error {
	blob, err := chunkseal.SealBlob(s.cfg.Key, blobLabel, []byte(dir+" "+id.String()), data)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Join(s.cfg.Dir, dir), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(blob)
	if durable {
		err = errors.Join(err, f.Sync())
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), s.path(dir, id))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if !durable {
		return nil
	}
	d, err := os.Open(filepath.Join(s.cfg.Dir, dir))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close()) // or the name is lost with the power
}

func (s *Service) read(dir string, id receipt.ID) ([]byte, error) {
	blob, err := os.ReadFile(s.path(dir, id))
	if errors.Is(err, os.ErrNotExist) {
		return nil, unknown(id)
	}
	if err != nil {
		return nil, err
	}
	return chunkseal.OpenBlob(s.cfg.Key, blobLabel, []byte(dir+" "+id.String()), blob)
}

func (s *Service) remove(dir string, id receipt.ID) error {
	if dir == "witness" {
		s.mu.Lock()
		delete(s.agents, id)
		delete(s.owners, id)
		s.mu.Unlock()
	}
	if err := os.Remove(s.path(dir, id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (s *Service) witness(id receipt.ID) (w witness, err error) {
	raw, err := s.read("witness", id)
	if err != nil {
		return w, err
	}
	return w, json.Unmarshal(raw, &w)
}
