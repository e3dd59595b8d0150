package jobs

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Show returns a job.
func (q *Queue) Show(id ID) (Info, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	info, err := q.find(id)
	if err != nil {
		return Info{}, err
	}
	return q.view(info), nil
}

// view is a job as callers see it.
func (q *Queue) view(info *Info) Info {
	c := info.clone()
	c.Expires = q.expires[info.ID].UTC()
	return c
}

// Wait waits until a job is over and returns it.
func (q *Queue) Wait(ctx context.Context, id ID) (Info, error) {
	for {
		info, changed, err := q.watch(id)
		if err != nil || info.Final() {
			return info, err
		}
		select {
		case <-ctx.Done():
			return info, ctx.Err()
		case <-changed:
		}
	}
}

// watch returns a job and what tells of the next change.
func (q *Queue) watch(id ID) (Info, <-chan struct{}, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	info, err := q.find(id)
	if err != nil {
		return Info{}, nil, err
	}
	if !info.Final() {
		err = q.stopped
	}
	return q.view(info), q.changed, err
}

func (q *Queue) find(id ID) (*Info, error) {
	if info, ok := q.jobs[id]; ok {
		return info, nil
	}
	return nil, refusal.New(ReasonUnknown, "there is no job %s", id)
}

// List returns the jobs that a filter wants, newest first; nil wants all. The filter
// only reads, and calls no method of the queue.
func (q *Queue) List(want func(*Info) bool) []Info { return q.Page(want, math.MaxUint64, math.MaxInt) }

// Page returns, newest first, at most n of the jobs that a filter wants and that were
// submitted before the one with this Seq: a list in pieces, of which nobody holds more than
// one. The filter is that of List.
func (q *Queue) Page(want func(*Info) bool, before uint64, n int) []Info {
	q.mu.Lock()
	defer q.mu.Unlock()
	var page []*Info
	for _, info := range q.jobs {
		if info.Seq >= before || want != nil && !want(info) {
			continue
		}
		i, _ := slices.BinarySearchFunc(page, info.Seq, func(p *Info, seq uint64) int { return cmp.Compare(seq, p.Seq) })
		if i < n {
			page = slices.Insert(page, i, info)
			page = page[:min(n, len(page))]
		}
	}
	list := make([]Info, len(page))
	for i, info := range page {
		list[i] = q.view(info)
	}
	return list
}

// Counts is the number of jobs in each state, for metrics.
func (q *Queue) Counts() map[State]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	counts := map[State]int{Queued: 0, Leased: 0, Done: 0, Dead: 0, Cancelled: 0}
	for _, info := range q.jobs {
		counts[info.State]++
	}
	return counts
}

// Usage is how full the queue is, for metrics.
type Usage struct {
	// Unfinished jobs of MaxJobs; Bytes of MaxBytes, with room for results; Once
	// entries of the journal of MaxOnce.
	Unfinished int   `json:"unfinished"`
	MaxJobs    int   `json:"max_jobs"`
	Bytes      int64 `json:"bytes"`
	MaxBytes   int64 `json:"max_bytes"`
	Once       int   `json:"once"`
	MaxOnce    int   `json:"max_once"`
}

// Usage returns how full the queue is.
func (q *Queue) Usage() Usage {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := q.total()
	return Usage{Unfinished: t.unfinished, MaxJobs: q.opt.MaxJobs, Bytes: t.reserved + t.kept, MaxBytes: q.opt.MaxBytes, Once: q.once, MaxOnce: q.opt.MaxOnce}
}

// Cancel ends a job that is not final; its worker's context ends.
func (q *Queue) Cancel(id ID) (Info, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	info, err := q.find(id)
	if err != nil {
		return Info{}, err
	}
	if info.Final() {
		return info.clone(), refusal.New(ReasonState, "job %s is %s", id, info.State)
	}
	if err := q.change(info, func(i *Info) { i.State, i.Exit, i.Reason, i.Detail = Cancelled, WasCancelled, "", "" }); err != nil {
		return info.clone(), err
	}
	q.drop(id, ErrCancelled)
	return info.clone(), nil
}

// Retry lets a dead job be tried again, from the first try on.
func (q *Queue) Retry(id ID) (Info, error) { return q.retry(id, true) }

// RetryForAgent is Retry as SubmitForAgent is Submit.
func (q *Queue) RetryForAgent(id ID) (Info, error) { return q.retry(id, false) }

func (q *Queue) retry(id ID, bound bool) (Info, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	info, err := q.find(id)
	if err != nil {
		return Info{}, err
	}
	if info.State != Dead {
		return info.clone(), refusal.New(ReasonState, "job %s is %s; only dead jobs can be retried", id, info.State)
	}
	size := int64(len(info.Spec) + MaxResultBytes)
	if bound {
		if err := q.ownerHasRoom(info.Owner, size); err != nil {
			return info.clone(), err
		}
	}
	gone, err := q.admit(size, info)
	if err != nil {
		return info.clone(), err
	}
	next := *info
	next.State, next.Tries, next.Grown, next.NotBefore, next.Updated = Queued, 0, false, time.Time{}, q.opt.Now().UTC()
	if err := q.update(func(tx *bolt.Tx) error {
		if err := q.remove(tx, gone); err != nil {
			return err
		}
		return q.put(tx, &next)
	}); err != nil {
		return info.clone(), err
	}
	q.forget(gone)
	*info = next
	q.signal()
	return info.clone(), nil
}
