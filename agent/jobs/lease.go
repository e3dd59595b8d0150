package jobs

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Lease is the right to work on a job, until it is given up or its time passes
// without a heartbeat.
type Lease struct {
	q      *Queue
	id     ID
	number uint64
	// Info is the job as it was leased.
	Info Info
	// Context ends when the job is cancelled, or ctx of Lease does.
	Context context.Context
	end     context.CancelCauseFunc
}

// ErrCancelled is the cause of a lease's context when the job was cancelled.
var ErrCancelled = evidence.Refuse("job-cancelled", "the job was cancelled")

// Lease waits for a job of one of the classes and leases it: the highest priority
// first, then the oldest.
func (q *Queue) Lease(ctx context.Context, classes []string) (*Lease, error) {
	for {
		q.mu.Lock()
		l, next, err := q.take(ctx, classes)
		changed := q.changed
		q.mu.Unlock()
		if l != nil || err != nil {
			return l, err
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// idle is how long Lease sleeps when nothing is foreseen.
const idle = time.Minute

// take leases the best job that may run now, or says when to look again.
func (q *Queue) take(ctx context.Context, classes []string) (*Lease, time.Duration, error) {
	now, next := q.opt.Now(), idle
	var best *Info
	for _, info := range q.jobs {
		if !slices.Contains(classes, info.Class) {
			continue
		}
		if until, ok := q.expires[info.ID]; ok && info.State == Leased {
			if wait := until.Sub(now); wait > 0 {
				next = min(next, wait)
				continue
			}
			if err := q.change(info, func(i *Info) { q.lost(i, "the worker gave no sign of life") }); err != nil {
				return nil, 0, err
			}
			q.drop(info.ID, nil)
		}
		if info.State != Queued {
			continue
		}
		if wait := info.NotBefore.Sub(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		if best == nil || info.Priority > best.Priority || info.Priority == best.Priority && info.Created.Before(best.Created) {
			best = info
		}
	}
	if best == nil {
		return nil, next, nil
	}
	if err := q.change(best, func(i *Info) {
		i.State, i.Tries, i.Boot, i.Progress = Leased, i.Tries+1, q.opt.Boot, nil
		i.Lease++
	}); err != nil {
		return nil, 0, err
	}
	q.expires[best.ID] = now.Add(q.opt.LeaseTime)
	l := &Lease{q: q, id: best.ID, number: best.Lease, Info: *best}
	l.Context, l.end = context.WithCancelCause(ctx)
	q.waiting[best.ID] = l.end
	return l, 0, nil
}

// drop forgets a lease and ends its context.
func (q *Queue) drop(id ID, cause error) {
	delete(q.expires, id)
	if end, ok := q.waiting[id]; ok {
		end(cause)
		delete(q.waiting, id)
	}
}

// held returns the job if this lease is the one in force; q.mu is held.
func (l *Lease) held() (*Info, error) {
	info, ok := l.q.jobs[l.id]
	if !ok || info.State != Leased || info.Lease != l.number {
		return nil, evidence.Refuse(ReasonLeaseLost, "job %s was taken from this worker", l.id)
	}
	return info, nil
}

// Heartbeat keeps the lease and says how far the work is. Progress is not durable.
func (l *Lease) Heartbeat(p Progress) error {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	info, err := l.held()
	if err != nil {
		return err
	}
	l.q.expires[l.id] = l.q.opt.Now().Add(l.q.opt.LeaseTime)
	info.Progress = &p
	return nil
}

// Complete stores the result, once: from a lease that was lost it is refused.
func (l *Lease) Complete(result json.RawMessage) error {
	if len(result) > MaxResultBytes || !json.Valid(result) {
		return evidence.Refuse(ReasonJob, "a result is JSON of at most %d bytes", MaxResultBytes)
	}
	return l.finish(func(i *Info) {
		i.end(Ok, 0, l.q.opt.Now())
		i.Result, i.Reason, i.Detail = result, "", ""
	})
}

// Fail ends the try; the exit table says what follows. The reason is the code of a
// refusal, if it was one.
func (l *Lease) Fail(exit Exit, reason evidence.Reason, detail string) error {
	return l.finish(func(i *Info) {
		i.end(exit, l.q.opt.MemoryCeiling, l.q.opt.Now())
		i.Reason, i.Detail = reason, clip(detail, maxDetailBytes)
	})
}

// Release gives the job back as if it had not been tried: the agent is stopping.
func (l *Lease) Release() error {
	return l.finish(func(i *Info) { i.State, i.Tries = Queued, i.Tries-1 })
}

func (l *Lease) finish(f func(*Info)) error {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	info, err := l.held()
	if err != nil {
		return err
	}
	if err := l.q.change(info, f); err != nil {
		return err
	}
	l.q.drop(l.id, nil)
	return nil
}
