package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

// MaxFound is the most records that one query finds in one segment; more are
// ErrTooMany, never a part of them.
const MaxFound = 16 << 10

// ErrTooMany means that a query names more records than it may find. The caller must act
// as if the record that it looks for were there.
var ErrTooMany = errors.New("the query names too many records of one segment of the audit log")

// Found is a record that a query found.
type Found struct {
	Leaf
	// Record is nil when the record's segment was archived and taken away: then its
	// index entry and its hash are what is known.
	Record *Record
}

// Find returns the records that the query names, oldest first, without reading
// the log: by the index of the open segment in memory and the signed indexes of
// the closed ones. It answers for every record that was acknowledged, archived or
// not. An index that is not the one that was signed is ErrTampered, and the
// caller must act as if the record were there.
func (l *Log) Find(q Query) ([]Found, error) {
	k, err := q.key()
	if err != nil {
		return nil, err
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	closed := l.closed // only ever appended to
	places := append([]place(nil), l.open[k]...)
	l.mu.Unlock()
	var found []Found
	first := uint64(0)
	for _, x := range closed {
		if first = x.end(); first <= q.From {
			continue
		}
		some, err := l.findClosed(x, k)
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
	}
	if len(places) > MaxFound {
		return nil, ErrTooMany
	}
	some, err := l.read(segmentOf(first), places, k)
	found = append(found, some...)
	return slices.DeleteFunc(found, func(f Found) bool { return f.Index < q.From }), err
}

// FindLast returns the newest record that the query names, if there is one. It asks the segments
// from the newest on and stops at the first that has it: what was written lately is found in
// the same time however long the log is.
func (l *Log) FindLast(q Query) (found Found, there bool, err error) {
	k, err := q.key()
	if err != nil {
		return Found{}, false, err
	}
	if err := l.Err(); err != nil {
		return Found{}, false, err
	}
	l.mu.Lock()
	closed := l.closed // only ever appended to
	places := append([]place(nil), l.open[k]...)
	l.mu.Unlock()
	first := uint64(0)
	if n := len(closed); n > 0 {
		first = closed[n-1].end()
	}
	some, err := l.read(segmentOf(first), places[max(len(places)-1, 0):], k)
	for i := len(closed) - 1; i >= 0 && err == nil && len(some) == 0 && closed[i].end() > q.From; i-- {
		some, err = l.findClosed(closed[i], k)
	}
	if err != nil || len(some) == 0 || some[len(some)-1].Index < q.From {
		return Found{}, false, err
	}
	return some[len(some)-1], true, nil
}

// findClosed asks one closed segment's index. All of it is checked against its
// signature once, and each page that is read for an answer against what it was then.
func (l *Log) findClosed(x segmentIndex, k key) (found []Found, err error) {
	if x.Entries == 0 {
		return nil, nil
	}
	f, err := l.opts.fs.Open(filepath.Join(l.dir, indexName(x.First)), false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l.mu.Lock()
	pages, checked := l.pages[x.First]
	l.mu.Unlock()
	if !checked {
		if pages, err = x.check(f); err != nil {
			return nil, err
		}
		l.mu.Lock()
		l.pages[x.First] = pages
		l.mu.Unlock()
	}
	places, err := x.find(f, pages, k)
	if err != nil {
		return nil, err
	}
	return l.read(segmentOf(x.First), places, k)
}

// read reads the records at their places and proves that they are the log's.
func (l *Log) read(seg journal.Segment, places []place, k key) (found []Found, err error) {
	away := false
	for _, p := range places {
		at := seg.First + uint64(p.nth)
		first, entries, err := l.readFrame(seg, int64(p.frame))
		if errors.Is(err, os.ErrNotExist) {
			if !away {
				if err := l.wasArchived(seg); err != nil {
					return nil, err
				}
				away = true
			}
			leaf, err := l.Leaf(at)
			if err != nil {
				return nil, err
			}
			found = append(found, Found{Leaf: leaf})
			continue
		}
		if err != nil {
			return nil, err
		}
		if at < first || at-first >= uint64(len(entries)) {
			return nil, journal.Tampered("record %d is not where the index says", at)
		}
		body := entries[at-first]
		r, err := ParseRecord(body)
		if err != nil {
			return nil, journal.Tampered("record %d: %v", at, err)
		}
		if c := l.Latest(); at < c.Size {
			proof, err := prove(l.opts.fs, l.dir, at, c.Size)
			if err != nil {
				return nil, err
			}
			if proof.Verify(leafHash(body), c.Root) != nil {
				return nil, journal.Tampered("record %d is not the one that was signed for", at)
			}
		}
		if keyOf(&r) != k {
			return nil, journal.Tampered("record %d is another than its index says", at)
		}
		found = append(found, Found{Leaf{at, leafHash(body)}, &r})
	}
	return found, nil
}

// wasArchived refuses a segment that is gone without having been archived.
func (l *Log) wasArchived(seg journal.Segment) error {
	archived, err := readArchived(l.opts.fs, l.dir, l.signer.Public())
	if err == nil && seg.First >= archived {
		err = journal.Tampered("segment %s is missing and was not archived", seg.Name)
	}
	return err
}

// Leaf returns the hash of a record, archived or not, proven against the last
// checkpoint; a record behind that is ErrNotFound.
func (l *Log) Leaf(at uint64) (Leaf, error) {
	c := l.Latest()
	if at >= c.Size {
		return Leaf{}, fmt.Errorf("%w: record %d is not one of the %d signed records", ErrNotFound, at, c.Size)
	}
	var h tlog.Hash
	if err := l.withTree(func(r tlog.HashReader) error {
		hashes, err := r.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(at))})
		if err != nil {
			return err
		}
		h = hashes[0]
		proof, err := tlog.ProveRecord(int64(c.Size), int64(at), r)
		if err == nil && tlog.CheckRecord(proof, int64(c.Size), tlog.Hash(c.Root), int64(at), h) != nil {
			err = journal.Tampered("the hash of record %d is not the one that was signed for", at)
		}
		return err
	}); err != nil {
		return Leaf{}, err
	}
	return Leaf{at, digest.Digest(h)}, nil
}

func (l *Log) withTree(f func(tlog.HashReader) error) error { return withTree(l.opts.fs, l.dir, f) }

// Extends checks that the log extends a checkpoint that was kept elsewhere: the
// checkpoint is signed by the audit key, and the records that it counts are the
// beginning of this log. Otherwise it refuses with ReasonRolledBack, ReasonForked
// or the reason why the checkpoint is none.
func (l *Log) Extends(kept []byte) error {
	c, err := OpenCheckpoint(kept, l.signer.Public())
	if err != nil {
		return err
	}
	if c.Size == 0 {
		return nil
	}
	if records := l.Size(); c.Size > records {
		return mark{c.Size, c.Root, keptElsewhere}.refuseRolledBack(records)
	}
	// What the last checkpoint does not cover yet is on disk as records alone; a
	// checkpoint that was kept elsewhere may count them if the newer local one was lost.
	last := l.Latest()
	if c.Size > last.Size {
		root, err := l.rootAt(c.Size)
		if err == nil && root != c.Root {
			err = mark{c.Size, c.Root, keptElsewhere}.refuseForked()
		}
		return err
	}
	proof, err := proveConsistency(l.opts.fs, l.dir, c.Size, last.Size)
	if err != nil {
		return err
	}
	if proof.Verify(c.Root, last.Root) != nil {
		return mark{c.Size, c.Root, keptElsewhere}.refuseForked()
	}
	return nil
}

// rootAt returns the root over the first size records, of which some may not be
// signed yet. The writer's tree knows them.
func (l *Log) rootAt(size uint64) (root digest.Digest, err error) {
	err = l.command(context.Background(), func() error {
		t, err := treeAt(size, &l.tree, nil)
		if err != nil {
			return err
		}
		root, err = t.root()
		return err
	})
	return root, err
}
