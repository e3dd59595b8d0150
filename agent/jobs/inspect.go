package jobs

import (
	"bytes"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Show returns a job.
func (q *Queue) Show(id ID) (Info, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	info, err := q.find(id)
	if err != nil {
		return Info{}, err
	}
	return *info, nil
}

func (q *Queue) find(id ID) (*Info, error) {
	if info, ok := q.jobs[id]; ok {
		return info, nil
	}
	return nil, evidence.Refuse(ReasonUnknown, "no job %s", id)
}

// List returns the jobs that a filter wants, newest first; nil wants all.
func (q *Queue) List(want func(*Info) bool) []Info {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := []Info{}
	for _, info := range q.jobs {
		if want == nil || want(info) {
			list = append(list, *info)
		}
	}
	slices.SortFunc(list, func(a, b Info) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return bytes.Compare(a.ID[:], b.ID[:])
	})
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

// Cancel ends a job that is not final; its worker's context ends.
func (q *Queue) Cancel(id ID) (Info, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	info, err := q.find(id)
	if err != nil {
		return Info{}, err
	}
	if info.Final() {
		return *info, evidence.Refuse(ReasonState, "job %s is %s", id, info.State)
	}
	if err := q.change(info, func(i *Info) { i.State, i.Exit = Cancelled, WasCancelled }); err != nil {
		return *info, err
	}
	q.drop(id, ErrCancelled)
	return *info, nil
}

// Retry lets a dead job be tried again, from the first try on.
func (q *Queue) Retry(id ID) (Info, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	info, err := q.find(id)
	if err != nil {
		return Info{}, err
	}
	if info.State != Dead {
		return *info, evidence.Refuse(ReasonState, "job %s is %s; only dead jobs are retried", id, info.State)
	}
	if n := q.unfinished(); n >= q.opt.MaxJobs {
		return *info, evidence.Refuse(ReasonFull, "%d jobs wait or run", n)
	}
	err = q.change(info, func(i *Info) { i.State, i.Tries, i.NotBefore = Queued, 0, q.opt.Now() })
	return *info, err
}

// Once makes an effect that must happen at most once known, durably, before it
// happens: the first digest under a name is kept for ever. The same digest again
// is fine, another is refused.
func (q *Queue) Once(name string, digest [32]byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucketOnce))
		held, err := q.openOnce(name, b.Get([]byte(name)))
		if err != nil || held == digest {
			return err
		}
		if held != [32]byte{} {
			return evidence.Refuse(ReasonConsumed, "%s was used for something else", name)
		}
		sealed, err := chunkseal.SealBlob(q.key, onceLabel, []byte(name), digest[:])
		if err != nil {
			return err
		}
		return b.Put([]byte(name), sealed)
	})
}

// Consumed returns what Once recorded under a name, or zero.
func (q *Queue) Consumed(name string) (digest [32]byte, err error) {
	err = q.db.View(func(tx *bolt.Tx) error {
		digest, err = q.openOnce(name, tx.Bucket([]byte(bucketOnce)).Get([]byte(name)))
		return err
	})
	return digest, err
}

func (q *Queue) openOnce(name string, sealed []byte) (digest [32]byte, err error) {
	if sealed == nil {
		return digest, nil
	}
	plain, err := chunkseal.OpenBlob(q.key, onceLabel, []byte(name), sealed)
	if err != nil || len(plain) != len(digest) {
		return digest, evidence.Refuse(ReasonDamaged, "the record of %s does not open", name)
	}
	return [32]byte(plain), nil
}
