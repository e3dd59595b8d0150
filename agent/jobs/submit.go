package jobs

import (
	"bytes"
	"cmp"
	"context"
	"slices"
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
	gone, err := q.admit(info.bytes(), nil)
	if err != nil {
		return Info{}, false, err
	}
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

// total is what all jobs have together.
type total struct {
	unfinished, final int
	reserved, kept    int64 // bytes of those that are not final, and of those that are
}

func (q *Queue) total() (t total) {
	for _, info := range q.jobs {
		if info.Final() {
			t.final++
			t.kept += info.bytes()
		} else {
			t.unfinished++
			t.reserved += info.bytes()
		}
	}
	return t
}

// admit says whether one more job that is not final has room, and which final ones,
// the oldest first, give way to it. The job except is final and does not.
func (q *Queue) admit(size int64, except *Info) (gone []*Info, err error) {
	t := q.total()
	if t.unfinished >= q.opt.MaxJobs {
		return nil, evidence.Refuse(ReasonFull, "%d jobs wait or run; try again when some are done", t.unfinished)
	}
	if t.reserved+size > q.opt.MaxBytes {
		return nil, evidence.Refuse(ReasonFull, "the jobs that wait or run would have %d bytes, more than %d; try again when some are done", t.reserved+size, q.opt.MaxBytes)
	}
	if except != nil {
		t.final--
		t.kept -= except.bytes()
	}
	fits := func() bool { return t.final <= q.opt.MaxKept && t.reserved+t.kept+size <= q.opt.MaxBytes }
	if fits() {
		return nil, nil
	}
	for _, oldest := range q.finals(except) {
		if fits() {
			break
		}
		gone = append(gone, oldest)
		t.final--
		t.kept -= oldest.bytes()
	}
	return gone, nil
}

// finals are the final jobs but one, those that ended first in front.
func (q *Queue) finals(except *Info) (list []*Info) {
	for _, info := range q.jobs {
		if info.Final() && info != except {
			list = append(list, info)
		}
	}
	slices.SortFunc(list, func(a, b *Info) int { return cmp.Or(a.Updated.Compare(b.Updated), cmp.Compare(a.Seq, b.Seq)) })
	return list
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
		if err := q.set(tx, bucketJobs, info.ID[:], nil); err != nil {
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
