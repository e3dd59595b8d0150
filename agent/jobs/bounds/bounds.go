// Package bounds reads from the configuration what keeps an agent's long work within what its
// machine has: the queue and what is stored for its jobs, and the workers that do them.
//
// Every family of long work asks it, so that all of them share one directory, one set of
// limits and one pool of workers. It trusts the configuration.
package bounds

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/session"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/keybroker/client"
)

// Opening is the queue that a lease opens. It takes the queue's key out of the lease's.
func Opening(cfg settings.Config, keys map[string]client.Key, logger *slog.Logger) (session.Opening, error) {
	j := cfg.Jobs
	o := session.Opening{Dir: filepath.Join(cfg.Guest.StateDir, "jobs"), Options: jobs.Options{
		Logger: logger, MemoryCeiling: 4 * max(cfg.WorkerMemory(), cfg.ProofMemory()),
		MaxJobs: j.Waiting, OwnerJobs: j.WaitingPerUID, MaxKept: j.Kept, KeptAge: time.Duration(j.KeptDays) * 24 * time.Hour, MaxBytes: int64(j.SizeMB) << 20}}
	name := cfg.Federation.QueueKey
	if name == "" {
		return o, nil
	}
	k, ok := keys[name]
	if !ok || k.Key.Len() != 32 {
		return session.Opening{}, fmt.Errorf("federation.queue_key: %s is not a key of 32 bytes", name)
	}
	delete(keys, name)
	o.Key = k.Key
	return o, nil
}

// Spool bounds what is stored for users.
func Spool(cfg settings.Config) spool.Limits {
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

// Room says whether so many bytes may be written to a directory.
func Room(cfg settings.Config, dir string) func(need int64) error {
	return spool.NewRoom(dir, Spool(cfg)).Above
}

// Workers are the processes that do the work.
type Workers struct {
	// Runner starts them.
	Runner worker.Runner
	// Pool bounds those that work on jobs.
	Pool *worker.Pool
	// Encrypting bounds each worker of a federated round, Proving each that proves.
	Encrypting, Proving worker.Limits
}

// NewWorkers finds the program of the workers.
func NewWorkers(cfg settings.Config, logger *slog.Logger) (*Workers, error) {
	runner, err := newRunner(cfg)
	if err != nil {
		return nil, err
	}
	count := max(cfg.Workers.Count, 1)
	pool, err := worker.NewPool(runner, count, logger)
	if err != nil {
		return nil, err
	}
	memory := int64(count) * cfg.WorkerMemory()
	if cfg.Proofs.Keys != "" {
		memory = max(memory, cfg.ProofMemory())
	}
	pool.Bound(memory)
	return &Workers{Runner: runner, Pool: pool, Encrypting: worker.Limits{Memory: cfg.WorkerMemory(), Time: cfg.WorkerTime()},
		Proving: worker.Limits{Memory: cfg.ProofMemory(), Time: cfg.WorkerTime()}}, nil
}

func newRunner(cfg settings.Config) (worker.Runner, error) {
	if cfg.Workers.Socket != "" {
		return worker.Socket{Path: cfg.Workers.Socket}, nil
	}
	path := cfg.Workers.Path
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("workers.path is not set: %w", err)
		}
		path = filepath.Join(filepath.Dir(self), "anchorhold-worker")
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("workers.path: %w", err)
	}
	return worker.Exec{Path: path}, nil
}
