package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Lease is the right to work on a job, until it is given up or its time passes
// without a heartbeat and another asks for work.
type Lease struct {
	q      *Queue
	id     ID
	number uint64
	// Info is the job as it was leased.
	Info Info
	// Context ends when the job is cancelled, the lease is over, or ctx of Lease ends.
	Context context.Context
}

// ErrCancelled is the cause of a lease's context when the job was cancelled.
var ErrCancelled = refusal.New("job-cancelled", "the job was cancelled")

// Lease waits for a job of one of the classes and leases it: the highest priority
// first, then one of the owner whose job was leased longest ago, then the oldest.
func (q *Queue) Lease(ctx context.Context, classes []string) (*Lease, error) {
	if len(classes) == 0 {
		return nil, refusal.New(ReasonJob, "a lease needs at least one class")
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
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
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Work leases jobs of these classes and hands each to work, one after the other, until ctx ends.
// A job that is leased at that moment is given back.
func (q *Queue) Work(ctx context.Context, classes []string, work func(*Lease)) error {
	for {
		l, err := q.Lease(ctx, classes)
		if ctx.Err() != nil {
			if l != nil {
				return l.Release()
			}
			return nil
		}
		if err != nil {
			return err
		}
		work(l)
	}
}

// idle is how long Lease sleeps when nothing is foreseen.
const idle = time.Minute

// take leases the best job that may run now, or says when to look again.
func (q *Queue) take(ctx context.Context, classes []string) (*Lease, time.Duration, error) {
	if q.stopped != nil {
		return nil, 0, q.stopped
	}
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
		if wait := info.wait(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		if best == nil || q.before(info, best) {
			best = info
		}
	}
	if best == nil {
		return nil, next, nil
	}
	l, err := q.grant(ctx, best)
	return l, 0, err
}

// before orders the jobs that wait. Owners take turns: who queues a thousand jobs does
// not keep another's one waiting for all of them.
func (q *Queue) before(i, other *Info) bool {
	if i.Priority != other.Priority {
		return i.Priority > other.Priority
	}
	if a, b := q.served[i.Owner], q.served[other.Owner]; a != b {
		return a < b
	}
	return i.Seq < other.Seq
}

// grant makes a lease durable before anyone works under it, so that a job which ends
// the agent itself counts its tries too.
func (q *Queue) grant(ctx context.Context, info *Info) (*Lease, error) {
	number := q.next
	if err := q.change(info, func(i *Info) {
		i.State, i.Tries, i.Lease, i.Boot, i.Progress = Leased, i.Tries+1, number, q.opt.Boot, nil
	}); err != nil {
		return nil, err
	}
	q.next++
	if len(q.served) >= q.opt.MaxJobs {
		clear(q.served) // of owners without number; a turn more or less
	}
	q.served[info.Owner] = number
	q.expires[info.ID] = q.opt.Now().Add(q.opt.LeaseTime)
	l := &Lease{q: q, id: info.ID, number: number, Info: q.view(info)}
	l.Context, q.waiting[info.ID] = context.WithCancelCause(ctx)
	return l, nil
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
	if l.q.stopped != nil {
		return nil, l.q.stopped
	}
	info, ok := l.q.jobs[l.id]
	if !ok || info.State != Leased || info.Lease != l.number {
		return nil, refusal.New(ReasonLeaseLost, "job %s was taken from this worker", l.id)
	}
	return info, nil
}

// Heartbeat keeps the lease and says how far the work is. Neither is durable: no
// lease outlives the process.
func (l *Lease) Heartbeat(p Progress) error {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	info, err := l.held()
	if err != nil {
		return err
	}
	p.Phase = clip(p.Phase, maxPhaseBytes)
	l.q.expires[l.id] = l.q.opt.Now().Add(l.q.opt.LeaseTime)
	info.Progress = &p
	return nil
}

// Complete stores the result, once: from a lease that was lost it is refused.
func (l *Lease) Complete(result json.RawMessage) error {
	if len(result) > MaxResultBytes || !json.Valid(result) {
		return refusal.New(ReasonJob, "a result must be JSON of at most %d bytes", MaxResultBytes)
	}
	result = bytes.Clone(result)
	return l.finish(func(i *Info) {
		i.end(Ok, 0, l.q.opt.Now())
		i.Result, i.Reason, i.Detail = result, "", ""
	})
}

// Fail ends the try; the exit table says what follows. The reason is the code of a
// refusal, if it was one.
func (l *Lease) Fail(exit Exit, reason refusal.Reason, detail string) error {
	if !exit.failed() || len(reason) > maxDetailBytes {
		return refusal.New(ReasonJob, "%q is not an ending of a failed try", exit)
	}
	return l.finish(func(i *Info) {
		i.end(exit, l.q.opt.MemoryCeiling, l.q.opt.Now())
		i.Reason, i.Detail = reason, clip(detail, maxDetailBytes)
	})
}

// Release gives the job back as if it had not been tried: the agent is stopping.
func (l *Lease) Release() error {
	return l.finish(func(i *Info) { i.State, i.Tries = Queued, i.Tries-1 })
}

// Defer gives the job back as if it had not been tried, for after a pause: it waits for
// something that is not there yet, and keeps no other job waiting meanwhile. The reason and
// the detail say for what. The pause is 64 seconds at most.
func (l *Lease) Defer(pause time.Duration, reason refusal.Reason, detail string) error {
	if len(reason) > maxDetailBytes {
		return refusal.New(ReasonJob, "%q is not a reason to wait", reason)
	}
	return l.finish(func(i *Info) {
		i.State, i.Tries, i.NotBefore = Queued, i.Tries-1, l.q.opt.Now().Add(min(pause, maxBackoff)).UTC()
		i.Reason, i.Detail = reason, clip(detail, maxDetailBytes)
	})
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

// Postponed is why a job cannot go on yet. Whoever works on the job gives it back with
// [Lease.Defer]: no try is spent.
type Postponed struct {
	Pause time.Duration
	Err   error // what it waits for, with a reason
}

// Error says what the job waits for.
func (e *Postponed) Error() string { return e.Err.Error() }

// Unwrap is what the job waits for.
func (e *Postponed) Unwrap() error { return e.Err }
