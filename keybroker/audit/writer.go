package audit

import (
	"fmt"

	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

// write is the log's one writer. It takes what waits in the queue as one
// group commit, so the cost of an fsync is shared by all who wait for it.
func (l *Log) write() {
	defer close(l.stopped)
	for {
		select {
		case e := <-l.queue:
			l.commit(l.gather(e))
		case f := <-l.commands:
			f()
		case <-l.closing:
			return
		}
	}
}

// gather takes the entries that already wait, within one frame's limits.
func (l *Log) gather(first *entry) []*entry {
	batch, records, size := append(l.batch[:0], first), len(first.bodies), first.bytes
	for records < maxBatchRecords && size < journal.MaxBodyBytes-maxDecisionRecords*(maxRecordBytes+4) {
		select {
		case e := <-l.queue:
			batch = append(batch, e)
			records += len(e.bodies)
			size += e.bytes
		default:
			l.batch = batch
			return batch
		}
	}
	l.batch = batch
	return batch
}

// commit makes a batch durable and then, only then, acknowledges it.
func (l *Log) commit(batch []*entry) {
	err := l.Err()
	if err == nil {
		if err = l.store(batch); err != nil {
			err = l.fail(err)
		}
	}
	for _, e := range batch {
		e.err = err
		close(e.done)
	}
	clear(batch)
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
	l.size = l.tree.size
	for _, e := range batch {
		for i := range e.records {
			l.open.add(&e.records[i], e.leaves[i].Index-segment.First, frame)
		}
	}
	return nil
}

// closeSegment signs and stores the index of the segment that is full; the next
// append begins another. Only this goroutine changes the index of the open one.
func (l *Log) closeSegment() error {
	segment, bytes := l.records.Current()
	s := summary{First: segment.First, Count: l.records.Position().Next - segment.First, Bytes: bytes}
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
