package jobs

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Submit adds a job, durably. A job that is there already is returned as it stands,
// with false; priority and bounds stay those of the first submission.
func (q *Queue) Submit(ctx context.Context, j Job) (Info, bool, error) {
	return q.submit(ctx, j, true)
}

// SubmitForAgent is Submit for what the agent has to do, whoever's job it is: the owner's
// part does not bind it, or a user who fills his could keep it from being done.
func (q *Queue) SubmitForAgent(ctx context.Context, j Job) (Info, bool, error) {
	return q.submit(ctx, j, false)
}

func (q *Queue) submit(ctx context.Context, j Job, bound bool) (Info, bool, error) {
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
	if bound {
		if err := q.ownerHasRoom(info.Owner, info.bytes()); err != nil {
			return Info{}, false, err
		}
	}
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

// ownerHasRoom refuses what is more than the part of one owner.
func (q *Queue) ownerHasRoom(owner uint32, size int64) error {
	jobs, bytes := 1, size
	for _, info := range q.jobs {
		if info.Owner == owner && !info.Final() {
			jobs++
			bytes += info.bytes()
		}
	}
	if jobs > q.opt.OwnerJobs || bytes > q.opt.OwnerBytes {
		return refusal.New(ReasonOwner, "user %d would have %d unfinished jobs with %d bytes; the limits for one user are %d and %d; try again when some are done", owner, jobs, bytes, q.opt.OwnerJobs, q.opt.OwnerBytes)
	}
	return nil
}

// admit says whether one more job that is not final has room, and which final ones give
// way to it: those that are too old, then the oldest of whoever has the most. The job
// except is final and does not.
func (q *Queue) admit(size int64, except *Info) (gone []*Info, err error) {
	t := q.total()
	if t.unfinished >= q.opt.MaxJobs {
		return nil, refusal.New(ReasonFull, "%d jobs are waiting or running, the most allowed; try again when some are done", t.unfinished)
	}
	if t.reserved+size > q.opt.MaxBytes {
		return nil, refusal.New(ReasonFull, "the unfinished jobs would have %d bytes, at most %d are allowed; try again when some are done", t.reserved+size, q.opt.MaxBytes)
	}
	of := map[uint32][]*Info{} // the oldest first
	kept, count := t.kept, 0
	if except != nil {
		kept -= except.bytes()
	}
	for _, info := range q.finals(except) {
		if q.old(info, q.opt.KeptAge) {
			gone = append(gone, info)
			kept -= info.bytes()
			continue
		}
		of[info.Owner] = append(of[info.Owner], info)
		count++
	}
	for count > 0 {
		short := t.reserved+kept+size > q.opt.MaxBytes
		if !short && count <= q.opt.MaxKept {
			break
		}
		owner := heaviest(of, short)
		oldest := of[owner][0]
		of[owner] = of[owner][1:]
		gone = append(gone, oldest)
		kept -= oldest.bytes()
		count--
	}
	return gone, nil
}

// heaviest is the owner of the most jobs, or bytes; of equals that of the oldest job.
func heaviest(of map[uint32][]*Info, bytes bool) (owner uint32) {
	var most int64
	for uid, list := range of {
		weight := int64(len(list))
		if bytes && weight > 0 {
			weight = 1 // one without bytes gives way after those that have some
			for _, info := range list {
				weight += info.bytes()
			}
		}
		if weight > most || weight > 0 && weight == most && list[0].endedBefore(of[owner][0]) {
			owner, most = uid, weight
		}
	}
	return owner
}

// endedBefore orders final jobs.
func (i *Info) endedBefore(other *Info) bool {
	return cmp.Or(i.Updated.Compare(other.Updated), cmp.Compare(i.Seq, other.Seq)) < 0
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

// old says whether a final job ended longer ago than age.
func (q *Queue) old(info *Info, age time.Duration) bool {
	return info.Updated.Before(q.opt.Now().Add(-age))
}

// Expire forgets the final jobs that are older than KeptAge, as Prune does.
func (q *Queue) Expire(ctx context.Context) (int, error) { return q.Prune(ctx, q.opt.KeptAge) }

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
	for _, info := range q.jobs {
		if info.Final() && q.old(info, age) {
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
