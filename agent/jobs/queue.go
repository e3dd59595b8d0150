package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Options of a queue. Zero limits take the defaults named.
type Options struct {
	// Boot names this boot of the machine, as /proc/sys/kernel/random/boot_id.
	Boot string
	// MaxJobs that are not final; 1024. MaxKept that are; 4096, of which the
	// oldest are forgotten first.
	MaxJobs, MaxKept int
	// MemoryCeiling is the most memory that a retry may be given; none by default.
	MemoryCeiling int64
	// LeaseTime is how long a lease lasts without a heartbeat; one minute.
	LeaseTime time.Duration
	Now       func() time.Time
	Logger    *slog.Logger
}

// Queue holds jobs. Its methods may be called from any goroutine.
type Queue struct {
	opt Options
	db  *bolt.DB
	key *keybuf.Buffer

	mu      sync.Mutex
	jobs    map[ID]*Info
	expires map[ID]time.Time // of leases in force
	changed chan struct{}    // closed and replaced at each change
	waiting map[ID]context.CancelCauseFunc
}

const (
	bucketJobs = "jobs"
	bucketOnce = "once"
	sealLabel  = "anchorhold/jobs/record/1"
	onceLabel  = "anchorhold/jobs/once/1"
)

// Open opens or makes a queue. Jobs that were leased when the last process ended
// wait again; their try counts.
func Open(path string, key *keybuf.Buffer, opt Options) (*Queue, error) {
	if opt.Logger == nil {
		return nil, errors.New("jobs: a logger is required")
	}
	for v, d := range map[*int]int{&opt.MaxJobs: 1024, &opt.MaxKept: 4096} {
		if *v == 0 {
			*v = d
		}
	}
	if opt.LeaseTime == 0 {
		opt.LeaseTime = time.Minute
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 5 * time.Second, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, fmt.Errorf("open job queue %s: %w", path, err)
	}
	q := &Queue{opt: opt, db: db, key: key, jobs: map[ID]*Info{}, expires: map[ID]time.Time{}, changed: make(chan struct{}), waiting: map[ID]context.CancelCauseFunc{}}
	if err := q.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open job queue %s: %w", path, err), db.Close())
	}
	return q, nil
}

// load reads every job and gives those that were leased back.
func (q *Queue) load() error {
	return q.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(bucketJobs))
		if err != nil {
			return err
		}
		if _, err := tx.CreateBucketIfNotExists([]byte(bucketOnce)); err != nil {
			return err
		}
		if err := b.ForEach(func(k, v []byte) error {
			info, err := q.open(k, v)
			if err == nil {
				q.jobs[info.ID] = info
			}
			return err
		}); err != nil {
			return err
		}
		for _, info := range q.jobs {
			if info.State != Leased {
				continue
			}
			q.lost(info, "the agent ended during the try")
			if err := q.put(tx, info); err != nil {
				return err
			}
		}
		return nil
	})
}

// lost ends a try whose worker is gone.
func (q *Queue) lost(info *Info, detail string) {
	info.end(Crash, q.opt.MemoryCeiling, q.opt.Now())
	info.Detail, info.NotBefore, info.Progress = detail, time.Time{}, nil
}

// Close closes the file.
func (q *Queue) Close() error { return q.db.Close() }

func (q *Queue) put(tx *bolt.Tx, info *Info) error {
	plain, err := json.Marshal(info)
	if err != nil {
		return err
	}
	sealed, err := chunkseal.SealBlob(q.key, sealLabel, info.ID[:], plain)
	if err != nil {
		return err
	}
	return tx.Bucket([]byte(bucketJobs)).Put(info.ID[:], sealed)
}

// open opens a record that must be of the job under whose name it stands.
func (q *Queue) open(id, sealed []byte) (*Info, error) {
	plain, err := chunkseal.OpenBlob(q.key, sealLabel, id, sealed)
	if err != nil {
		return nil, &evidence.Refusal{Reason: ReasonDamaged, Detail: "a record does not open: another key, or the file was changed", Err: err}
	}
	var info Info
	if err := json.Unmarshal(plain, &info); err != nil {
		return nil, &evidence.Refusal{Reason: ReasonDamaged, Detail: "a record is not one of this version", Err: err}
	}
	if string(info.ID[:]) != string(id) {
		return nil, evidence.Refuse(ReasonDamaged, "a record stands under another name")
	}
	return &info, nil
}

// change makes a changed copy of a job durable and takes it over; q.mu is held.
func (q *Queue) change(info *Info, f func(*Info)) error {
	next := *info
	f(&next)
	next.Updated = q.opt.Now().UTC()
	if err := q.db.Update(func(tx *bolt.Tx) error { return q.put(tx, &next) }); err != nil {
		return fmt.Errorf("job %s: %w", info.ID, err)
	}
	*info = next
	q.signal()
	return nil
}

func (q *Queue) signal() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// Submit adds a job, durably. A job that is there already is returned as it stands,
// with false.
func (q *Queue) Submit(_ context.Context, j Job) (Info, bool, error) {
	if err := j.check(); err != nil {
		return Info{}, false, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	id := j.id()
	if held, ok := q.jobs[id]; ok {
		return *held, false, nil
	}
	if n := q.unfinished(); n >= q.opt.MaxJobs {
		return Info{}, false, evidence.Refuse(ReasonFull, "%d jobs wait or run; try again when some are done", n)
	}
	if err := q.forget(); err != nil {
		return Info{}, false, err
	}
	now := q.opt.Now().UTC()
	info := &Info{ID: id, Job: j, State: Queued, Created: now, Updated: now}
	if err := q.db.Update(func(tx *bolt.Tx) error { return q.put(tx, info) }); err != nil {
		return Info{}, false, fmt.Errorf("submit: %w", err)
	}
	q.jobs[id] = info
	q.signal()
	return *info, true, nil
}

// unfinished counts the jobs that are not final.
func (q *Queue) unfinished() (n int) {
	for _, info := range q.jobs {
		if !info.Final() {
			n++
		}
	}
	return n
}

// forget drops the oldest final jobs beyond the number that is kept.
func (q *Queue) forget() error {
	final := 0
	var oldest *Info
	for _, info := range q.jobs {
		if info.Final() {
			final++
			if oldest == nil || info.Updated.Before(oldest.Updated) {
				oldest = info
			}
		}
	}
	if final <= q.opt.MaxKept {
		return nil
	}
	delete(q.jobs, oldest.ID)
	return q.db.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucketJobs)).Delete(oldest.ID[:]) })
}
