package jobs

import (
	"bytes"
	"context"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Submit adds a job, durably. A job that is there already is returned as it stands,
// with false; priority and bounds stay those of the first submission.
func (q *Queue) Submit(ctx context.Context, j Job) (Info, bool, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, false, err
	}
	if err := j.check(); err != nil {
		return Info{}, false, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped != nil {
		return Info{}, false, q.stopped
	}
	id := j.id()
	if held, ok := q.jobs[id]; ok {
		return held.clone(), false, nil
	}
	j.Spec = bytes.Clone(j.Spec)
	now := q.opt.Now().UTC()
	info := &Info{ID: id, Job: j, Seq: q.next, State: Queued, Created: now, Updated: now}
	if err := q.admits(info.bytes()); err != nil {
		return Info{}, false, err
	}
	gone := q.surplus(info.bytes(), info)
	if err := q.update(func(tx *bolt.Tx) error {
		if err := q.remove(tx, gone); err != nil {
			return err
		}
		return q.put(tx, info)
	}); err != nil {
		return Info{}, false, err
	}
	q.forget(gone)
	q.next++
	q.jobs[id] = info
	q.signal()
	return info.clone(), true, nil
}

// bytes is what a job counts against MaxBytes.
func (i *Info) bytes() int64 {
	if i.Final() {
		return int64(len(i.Spec) + len(i.Result))
	}
	return int64(len(i.Spec) + MaxResultBytes)
}

// admits says whether one more job that is not final has room, if final ones give way.
func (q *Queue) admits(size int64) error {
	jobs := 0
	for _, info := range q.jobs {
		if !info.Final() {
			jobs++
			size += info.bytes()
		}
	}
	if jobs >= q.opt.MaxJobs {
		return evidence.Refuse(ReasonFull, "%d jobs wait or run; try again when some are done", jobs)
	}
	if size > q.opt.MaxBytes {
		return evidence.Refuse(ReasonFull, "the jobs that wait or run would have %d bytes, more than %d; try again when some are done", size, q.opt.MaxBytes)
	}
	return nil
}

// surplus is the oldest final jobs, but except, that give way to size more bytes and to
// MaxKept.
func (q *Queue) surplus(size int64, except *Info) (gone []*Info) {
	var kept []*Info
	for _, info := range q.jobs {
		size += info.bytes()
		if info.Final() && info != except {
			kept = append(kept, info)
		}
	}
	sortByEnd(kept)
	for len(kept) > q.opt.MaxKept || size > q.opt.MaxBytes && len(kept) > 0 {
		size -= kept[0].bytes()
		gone, kept = append(gone, kept[0]), kept[1:]
	}
	return gone
}

// Prune forgets the jobs that ended longer ago than age and returns their number.
// Submitting one of them again does it again; what must not happen again is in the
// journal.
func (q *Queue) Prune(ctx context.Context, age time.Duration) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped != nil {
		return 0, q.stopped
	}
	var gone []*Info
	before := q.opt.Now().Add(-age)
	for _, info := range q.jobs {
		if info.Final() && info.Updated.Before(before) {
			gone = append(gone, info)
		}
	}
	if len(gone) == 0 {
		return 0, nil
	}
	if err := q.update(func(tx *bolt.Tx) error { return q.remove(tx, gone) }); err != nil {
		return 0, err
	}
	q.forget(gone)
	q.signal()
	return len(gone), nil
}

func (q *Queue) remove(tx *bolt.Tx, gone []*Info) error {
	for _, info := range gone {
		if err := tx.Bucket([]byte(bucketJobs)).Delete(info.ID[:]); err != nil {
			return err
		}
	}
	return nil
}

func (q *Queue) forget(gone []*Info) {
	for _, info := range gone {
		delete(q.jobs, info.ID)
	}
}
