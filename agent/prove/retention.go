package prove

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// expireEvery is how often proofs that are too old or too many are removed.
const expireEvery = time.Hour

func (s *Service) expireProofs(ctx context.Context) {
	t := time.NewTicker(expireEvery)
	defer t.Stop()
	for {
		n, err := s.expire(time.Now())
		if err != nil {
			s.cfg.Logger.Error("old proofs were not removed", "err", err)
		}
		if n > 0 {
			s.cfg.Logger.Info("old proofs removed", "proofs", n)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// proofFile is a proof on disk.
type proofFile struct {
	id   receipt.ID
	made time.Time
}

// expire removes the proofs that are older than KeptAge, and the oldest of those that are
// more than Kept, but none of these that the registry has still to take.
func (s *Service) expire(now time.Time) (gone int, err error) {
	files, err := s.proofFiles()
	if err != nil {
		return 0, err
	}
	surplus := len(files) - s.cfg.Kept
	for _, f := range files {
		old := now.Sub(f.made) > s.cfg.KeptAge
		if !old && (surplus <= 0 || !s.delivered(f.id)) {
			continue
		}
		if e := s.remove("proof", f.id); e != nil {
			err = errors.Join(err, e)
			continue
		}
		s.mu.Lock()
		delete(s.handed, f.id)
		delete(s.queued, f.id)
		s.mu.Unlock()
		surplus--
		gone++
	}
	return gone, err
}

// proofFiles lists the proofs, oldest first.
func (s *Service) proofFiles() (list []proofFile, err error) {
	dir := filepath.Join(s.cfg.Dir, "proof")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		id, err := receipt.ParseID(e.Name())
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
		list = append(list, proofFile{id, info.ModTime()})
	}
	slices.SortFunc(list, func(a, b proofFile) int { return a.made.Compare(b.made) })
	return list, nil
}

// delivered says whether nothing is lost with a proof that is here.
func (s *Service) delivered(id receipt.ID) bool {
	if s.cfg.Registry == nil || s.sent(id) {
		return true
	}
	st, err := s.stored(0, id)
	return err == nil && st.Sent
}
