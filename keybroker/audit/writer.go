package audit

import (
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

// gatherTurns is how often whoever has the turn lets others run before the commit:
// those whom the last one woke are about to come, and a commit costs more than
// waiting for them.
const gatherTurns = 3

// gather takes the entries that wait, in their order and within one frame's limits,
// so that the cost of a sync is shared by all who wait for it.
func (l *Log) gather() []*entry {
	for range gatherTurns {
		runtime.Gosched()
	}
	l.queue.Lock()
	defer l.queue.Unlock()
	records, size, n := 0, 0, 0
	for _, e := range l.queue.waiting {
		if n > 0 && (records+len(e.bodies) > maxBatchRecords || size+e.bytes > journal.MaxBodyBytes) {
			break
		}
		records, size, n = records+len(e.bodies), size+e.bytes, n+1
	}
	l.batch = append(l.batch[:0], l.queue.waiting[:n]...)
	l.queue.waiting = slices.Delete(l.queue.waiting, 0, n)
	return l.batch
}

// commitAll commits everything that waits.
func (l *Log) commitAll() {
	for batch := l.gather(); len(batch) > 0; batch = l.gather() {
		l.commit(batch)
	}
}

// commit makes a batch durable and then, only then, acknowledges it.
func (l *Log) commit(batch []*entry) {
	if len(batch) == 0 {
		return
	}
	err := l.Err()
	if err == nil {
		if err = l.store(batch); err != nil {
			err = l.fail(err)
		}
	}
	lost := 0
	for _, e := range batch {
		if e.err = err; e.done != nil {
			close(e.done)
		} else if err != nil {
			lost++
		}
	}
	clear(batch)
	if lost > 0 {
		l.opts.Logger.Error("audit records that nothing waited for were lost", "records", lost, "err", err)
	}
	if err == nil && l.tree.size-l.last.Size >= uint64(l.opts.CheckpointRecords) {
		_ = l.checkpoint() // a failure closes the log to further records
	}
}

// store writes a batch as one frame and takes it into tree and index.
func (l *Log) store(batch []*entry) error {
	if l.records.Full() {
		if err := l.closeSegment(); err != nil {
			return err
		}
	}
	bodies := l.bodies[:0]
	for _, e := range batch {
		l.hold(e)
		bodies = append(bodies, e.bodies...)
	}
	frame, err := l.records.Append(bodies)
	l.bodies = bodies
	defer clear(bodies)
	if err != nil {
		return err
	}
	segment, _ := l.records.Current()
	for _, e := range batch {
		e.leaves = make([]Leaf, len(e.bodies))
		for i, body := range e.bodies {
			leaf := Leaf{Index: l.tree.size, Hash: leafHash(body)}
			if err := l.tree.add(leaf.Hash); err != nil {
				return err
			}
			e.leaves[i] = leaf
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.size, l.newest = l.tree.size, time.Unix(0, l.stands).UTC()
	for _, e := range batch {
		for i, k := range e.keys {
			l.open.add(k, e.leaves[i].Index-segment.First, frame)
		}
	}
	return nil
}

// closeSegment signs and stores the index of the segment that is full; the next
// append begins another. Only this turn changes the index of the open one.
func (l *Log) closeSegment() error {
	segment, bytes := l.records.Current()
	root, err := l.tree.root()
	if err != nil {
		return err
	}
	s := summary{First: segment.First, Count: l.records.Position().Next - segment.First, Bytes: bytes, Root: root}
	if _, err := writeIndex(l.opts.fs, l.dir, l.signer, s, l.open); err != nil {
		return err
	}
	x, err := readIndex(l.opts.fs, l.dir, segment.First, verifyIndex(l.signer.Public()))
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed, l.open = append(l.closed, x), index{}
	return nil
}

// fail closes the log to further records until it is opened anew.
func (l *Log) fail(cause error) error {
	l.mu.Lock()
	l.failed = cause
	l.mu.Unlock()
	l.opts.Logger.Error("audit log failed; nothing is released until it is healed", "err", cause)
	return fmt.Errorf("%w: %w", ErrUnavailable, cause)
}

// checkpoint signs the tree as it stands. The tree's hashes are durable before
// the signature is, so that opening finds what the signature is about.
func (l *Log) checkpoint() error {
	if err := l.Err(); err != nil {
		return err
	}
	if l.tree.size == l.last.Size {
		return nil
	}
	if err := l.tree.flush(); err != nil {
		return l.fail(err)
	}
	root, err := l.tree.root()
	if err != nil {
		return l.fail(err)
	}
	c, err := signCheckpoint(l.signer, l.tree.size, root)
	if err != nil {
		return l.fail(err)
	}
	if _, err := l.checkpoints.Append([][]byte{[]byte(c.Note)}); err != nil {
		return l.fail(err)
	}
	l.last = c
	l.mu.Lock()
	l.latest = c
	l.mu.Unlock()
	return nil
}

// reopen reads the log from disk again and compares it with what was
// acknowledged: the records up to then must be the same ones.
func (l *Log) reopen() error {
	size, checkpointed := l.tree.size, l.last.Size
	root, err := l.tree.root()
	if err != nil {
		return l.fail(err)
	}
	l.closeFiles()
	s, err := l.load(mark{size, root, "those that were acknowledged"})
	if err != nil {
		return l.fail(err)
	}
	if s.last.Size < checkpointed {
		s.close()
		return l.fail(journal.Tampered("the last checkpoint is gone"))
	}
	l.install(s)
	l.opts.Logger.Info("audit log healed", "records", l.tree.size)
	return nil
}
