package fed

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
)

// directories are where files of users lie.
var directories = [...]string{"spool", "uploads", "results"}

// temporary is how a file is named that is being written.
const temporary = ".new-"

// contributing lists the jobs that contribute, with their specifications.
func (s *Service) contributing(each func(jobs.Info, contributeSpec)) {
	for _, info := range s.cfg.Queue.List(func(i *jobs.Info) bool { return i.Class == fedtask.ClassContribute }) {
		var spec contributeSpec
		if json.Unmarshal(info.Spec, &spec) == nil {
			each(info, spec)
		}
	}
}

// usage is what is stored, and what jobs that wait have still to write. Files that are
// being written hold their room themselves.
func (s *Service) usage(uid uint32) (u spool.Usage, err error) {
	size := map[string]int64{}
	for _, dir := range directories {
		entries, err := os.ReadDir(s.path(dir))
		if err != nil {
			return u, err
		}
		for _, e := range entries {
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) || strings.HasPrefix(e.Name(), temporary) {
				continue
			}
			if err != nil {
				return u, err
			}
			size[dir+"/"+e.Name()] = info.Size()
			u.Total += info.Size()
		}
	}
	s.contributing(func(info jobs.Info, spec contributeSpec) {
		blocks, written := size["uploads/"+spec.Round.String()+".blocks"]
		if !written && !info.Final() {
			blocks = spec.Upload
			u.Total += blocks
		}
		if info.Owner == uid {
			u.Owner += size["spool/"+spec.Vector] + blocks
		}
	})
	return u, nil
}

// roomForValues reserves the values of a round, which are 8 bytes each.
func (s *Service) roomForValues(uid uint32, h held) (release func(), err error) {
	return s.room.Reserve(uid, 8*int64(h.Length), func() (spool.Usage, error) { return s.usage(uid) })
}

const (
	// tidyEvery is how often files are removed that nobody needs, and how old they are
	// then at least: a vector is stored before its job is there.
	tidyEvery = 10 * time.Minute
	// keptFor is how long what was signed is kept: with it a job can go on where it was.
	keptFor = 30 * 24 * time.Hour
)

// keepTidy tidies until ctx ends.
func (s *Service) keepTidy(ctx context.Context) {
	t := time.NewTicker(tidyEvery)
	defer t.Stop()
	for {
		if n, err := s.tidy(time.Now()); err != nil {
			s.cfg.Logger.Error("files of long work were not removed", "err", err)
		} else if n > 0 {
			s.cfg.Logger.Info("files of long work removed", "files", n)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// tidy removes files that no job needs: vectors and ciphertexts of jobs that are done,
// cancelled or forgotten, what a crash left half written, and in time what was signed.
func (s *Service) tidy(now time.Time) (gone int, err error) {
	needed := map[string]bool{}
	s.contributing(func(info jobs.Info, spec contributeSpec) {
		if !info.Final() || info.State == jobs.Dead { // a dead one can be retried
			needed["spool/"+spec.Vector] = true
			for _, part := range []string{".blocks", ".manifest", ".again", ".result", ".proof"} {
				needed["uploads/"+spec.Round.String()+part] = true
			}
		}
	})
	for _, dir := range directories {
		entries, e := os.ReadDir(s.path(dir))
		err = errors.Join(err, e)
		for _, entry := range entries {
			info, e := entry.Info()
			if e != nil || needed[dir+"/"+entry.Name()] || now.Sub(info.ModTime()) < tidyEvery {
				continue
			}
			signed := dir == "uploads" && !strings.HasSuffix(entry.Name(), ".blocks") && !strings.HasPrefix(entry.Name(), temporary)
			if signed && now.Sub(info.ModTime()) < keptFor {
				continue
			}
			if e := os.Remove(s.path(dir, entry.Name())); e != nil && !errors.Is(e, fs.ErrNotExist) {
				err = errors.Join(err, e)
				continue
			}
			gone++
		}
	}
	return gone, err
}
