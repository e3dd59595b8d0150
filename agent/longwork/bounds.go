package longwork

import (
	"log/slog"
	"time"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// queueOptions are the queue's bounds, as they are configured.
func queueOptions(cfg settings.Config, logger *slog.Logger, holds func(...*keybuf.Buffer)) jobs.Options {
	j := cfg.Jobs
	return jobs.Options{Boot: bootID(), Logger: logger, MemoryCeiling: 4 * max(cfg.WorkerMemory(), cfg.ProofMemory()), Holds: holds,
		MaxJobs: j.Waiting, OwnerJobs: j.WaitingPerUID, MaxKept: j.Kept, KeptAge: time.Duration(j.KeptDays) * 24 * time.Hour, MaxBytes: int64(j.SizeMB) << 20}
}

// spoolLimits are the spool's bounds, as they are configured.
func spoolLimits(cfg settings.Config) spool.Limits {
	c, l := cfg.Spool, spool.Defaults()
	if c.SizeMB != 0 {
		l.Total = int64(c.SizeMB) << 20
		l.PerOwner = l.Total / 2
	}
	if c.SizePerUIDMB != 0 {
		l.PerOwner = int64(c.SizePerUIDMB) << 20
	}
	if c.FreeMB != 0 {
		l.Floor = int64(c.FreeMB) << 20
	}
	return l
}

// expireEvery is how often jobs that are too old are forgotten.
const expireEvery = time.Hour

// expire forgets them until the session ends. A queue that stopped says so to all who use
// it.
func (s *session) expire() {
	t := time.NewTicker(expireEvery)
	defer t.Stop()
	for {
		_, _ = s.queue.Expire(s.run)
		select {
		case <-s.run.Done():
			return
		case <-t.C:
		}
	}
}
