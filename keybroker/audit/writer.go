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
	batch, size := []*entry{first}, 4+len(first.body)
	for len(batch) < maxBatchRecords && size < journal.MaxBodyBytes-maxRecordBytes-4 {
		select {
		case e := <-l.queue:
			batch = append(batch, e)
			size += 4 + len(e.body)
		default:
			return batch
		}
	}
	return batch
}

// commit makes a batch durable and then, only then, acknowledges it.
func (l *Log) commit(batch []*entry) {
	err := l.Err()
	if err == nil {
		bodies := make([][]byte, len(batch))
		for i, e := range batch {
			bodies[i] = e.body
		}
		if err = l.records.Append(bodies); err != nil {
			err = l.fail(err)
		}
	}
	for _, e := range batch {
		if e.err = err; err == nil {
			e.leaf = Leaf{Index: l.tree.size, Hash: leafHash(e.body)}
			l.tree.add(e.leaf.Hash)
		}
	}
	if err == nil {
		l.mu.Lock()
		l.size = l.tree.size
		l.mu.Unlock()
	}
	for _, e := range batch {
		close(e.done)
	}
	if err == nil && l.tree.size-l.last.Size >= uint64(l.opts.CheckpointRecords) {
		_ = l.checkpoint() // a failure closes the log to further records
	}
}

// fail closes the log to further records until it is opened anew.
func (l *Log) fail(cause error) error {
	l.mu.Lock()
	l.failed = cause
	l.mu.Unlock()
	l.opts.Logger.Error("audit log failed; nothing is released until it is healed", "err", cause)
	return fmt.Errorf("%w: %w", ErrUnavailable, cause)
}

// checkpoint signs the tree as it stands.
func (l *Log) checkpoint() error {
	if err := l.Err(); err != nil {
		return err
	}
	if l.tree.size == l.last.Size {
		return nil
	}
	c, err := signCheckpoint(l.signer, &l.tree, l.records.Position().Chain, l.opts.Now())
	if err != nil {
		return l.fail(err)
	}
	b, err := c.Marshal()
	if err != nil {
		return l.fail(err)
	}
	if err := l.checkpoints.Append([][]byte{b}); err != nil {
		return l.fail(err)
	}
	l.last = c
	l.mu.Lock()
	l.latest = c
	l.mu.Unlock()
	return nil
}

// reopen reads everything from disk again and compares it with what was
// acknowledged: the records up to then must be the same ones.
func (l *Log) reopen() error {
	acknowledged := l.tree.clone()
	checkpointed := l.last.Size
	l.records.Close()
	l.checkpoints.Close()
	if err := l.load(); err != nil {
		return l.fail(err)
	}
	if l.tree.size < acknowledged.size || l.last.Size < checkpointed {
		return l.fail(journal.Tampered("acknowledged records are gone"))
	}
	if acknowledged.size > 0 {
		root, err := rootAt(l.opts.fs, l.dir, acknowledged.size)
		if err != nil {
			return l.fail(err)
		}
		if root != acknowledged.root() {
			return l.fail(journal.Tampered("acknowledged records have changed"))
		}
	}
	l.opts.Logger.Info("audit log healed", "records", l.tree.size)
	return nil
}
