package jobs

import (
	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// maxNameBytes bounds a name in the journal.
const maxNameBytes = 512

// Once makes an effect that must happen at most once known, durably, before it
// happens: the first digest under a name is kept for ever. The same digest again
// is fine, another is refused.
func (q *Queue) Once(name string, digest [32]byte) error {
	if name == "" || len(name) > maxNameBytes || digest == [32]byte{} {
		return refusal.New(ReasonJob, "a journal entry needs a name of 1 to %d bytes and a non-zero digest", maxNameBytes)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	held, err := q.consumed(name)
	switch {
	case err != nil:
		return err
	case held == digest:
		return nil
	case held != [32]byte{}:
		return refusal.New(ReasonConsumed, "%q is already recorded with another digest", name)
	case q.once >= q.opt.MaxOnce:
		return refusal.New(ReasonFull, "the journal is full with %d entries", q.once)
	}
	if err := q.update(func(tx *bolt.Tx) error {
		sealed, err := chunkseal.SealBlob(q.key, onceLabel, []byte(name), digest[:])
		if err != nil {
			return err
		}
		return q.set(tx, bucketOnce, []byte(name), sealed)
	}); err != nil {
		return err
	}
	q.once++
	return nil
}

// Consumed returns what Once recorded under a name, or zero.
func (q *Queue) Consumed(name string) (digest [32]byte, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.consumed(name)
}

// consumed reads the journal. A queue that stopped does not know what is in it.
func (q *Queue) consumed(name string) (digest [32]byte, err error) {
	if q.stopped != nil {
		return digest, q.stopped
	}
	err = guarded(func() error {
		return q.db.View(func(tx *bolt.Tx) error {
			sealed := tx.Bucket([]byte(bucketOnce)).Get([]byte(name))
			if sealed == nil {
				return nil
			}
			plain, err := chunkseal.OpenBlob(q.key, onceLabel, []byte(name), sealed)
			if err != nil || len(plain) != len(digest) {
				return damaged(err, "the record of %q does not open", name)
			}
			digest = [32]byte(plain)
			return nil
		})
	})
	return digest, err
}
