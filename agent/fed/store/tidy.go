package store

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// TidyEvery is how often Tidy should be called. A file is removed only when it is at least as
// old: a vector is stored before its job is there.
const TidyEvery = 10 * time.Minute

// keptFor is how long what was signed is kept: with it a job can go on where it was.
const keptFor = 30 * 24 * time.Hour

// claim is what a job that contributes has on the disk, by its specification.
type claim struct {
	Round  digest.RoundID `json:"round"`
	Vector string         `json:"vector"`
	Upload int64          `json:"upload"`
}

// contributing lists the jobs that contribute, with what they have on the disk.
func (s *Store) contributing(each func(jobs.Info, claim)) {
	for _, info := range s.cfg.Queue.List(func(i *jobs.Info) bool { return i.Class == fedtask.ClassContribute }) {
		var c claim
		if json.Unmarshal(info.Spec, &c) == nil {
			each(info, c)
		}
	}
}

// Tidy removes files that no job needs, and says how many: vectors and ciphertexts of jobs that
// are done, cancelled or forgotten, what a crash left half written, and in time what was signed.
func (s *Store) Tidy(now time.Time) (gone int, err error) {
	needed := map[string]bool{}
	s.contributing(func(info jobs.Info, c claim) {
		if !info.Final() || info.State == jobs.Dead { // a dead one can be retried
			needed[s.path(vectors, c.Vector)] = true
			for _, part := range []Part{Blocks, Manifest, Restated, Result, Proof} {
				needed[s.UploadPath(c.Round, part)] = true
			}
		}
	})
	for _, dir := range directories {
		entries, e := os.ReadDir(s.path(dir, ""))
		err = errors.Join(err, e)
		for _, entry := range entries {
			path := s.path(dir, entry.Name())
			info, e := entry.Info()
			if e != nil || needed[path] || now.Sub(info.ModTime()) < ageOf(dir, path) {
				continue
			}
			if disk.Unfinished(path) { // a worker may take its time with it
				used, e := disk.InUse(path)
				if used || e != nil {
					if !errors.Is(e, fs.ErrNotExist) {
						err = errors.Join(err, e)
					}
					continue
				}
			}
			if e := os.Remove(path); e != nil && !errors.Is(e, fs.ErrNotExist) {
				err = errors.Join(err, e)
				continue
			}
			gone++
		}
	}
	return gone, err
}

// ageOf is how old a file must be before it is removed, if no job needs it.
func ageOf(dir, path string) time.Duration {
	if dir == uploads && filepath.Ext(path) != string(Blocks) && !disk.Unfinished(path) {
		return keptFor
	}
	return TidyEvery
}
