package audit

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

const (
	// archivedName is the file that says how many of the first records were
	// archived: their segments may be elsewhere.
	archivedName = "archived"
	// maxCheckpointSegment keeps what opening reads of the checkpoints small.
	maxCheckpointSegment = 1 << 20
	progressEvery        = 1 << 12 // records
	loadFlush            = 1 << 16 // hashes held in memory while loading
)

// mark is a size of the tree and the root that it must have there.
type mark struct {
	size uint64
	root digest.Digest
	what string
}

// loaded is the state of a log as it was read from disk.
type loaded struct {
	records     *journal.Stream
	checkpoints *journal.Stream
	tree        tree
	last        Checkpoint
	closed      []segmentIndex
	open        index
	newest      time.Time
}

func (s *loaded) close() {
	for _, stream := range []*journal.Stream{s.records, s.checkpoints} {
		if stream != nil {
			stream.Close()
		}
	}
	if s.tree.file != nil {
		s.tree.file.Close()
	}
}

// load reads the log from the segment with the last signed checkpoint on: the
// hashes of what stands before and the records from there must together give the
// checkpoint's root, so one segment's work proves all of the log's hashes. The
// content of older segments is not read; Verify does that.
func (l *Log) load(marks ...mark) (_ *loaded, err error) {
	s := &loaded{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := l.loadCheckpoints(s); err != nil {
		return nil, err
	}
	archived, err := readArchived(l.opts.fs, l.dir, l.signer.Public())
	if err != nil {
		return nil, err
	}
	if s.tree.file, err = openTree(l.opts.fs, l.dir); err != nil {
		return nil, err
	}
	segments, err := journal.Segments(l.opts.fs, l.dir, recordPrefix)
	if err != nil {
		return nil, err
	}
	from, err := l.beginning(s, segments, archived)
	if err != nil {
		return nil, err
	}
	// A log without a checkpoint is read whole: there is nothing to begin from.
	marks = append(marks, mark{s.last.Size, s.last.Root, "the last checkpoint"})
	if err := l.loadRecords(s, from, marks); err != nil {
		return nil, err
	}
	if err := s.tree.flush(); err != nil {
		return nil, err
	}
	return s, l.loadIndexes(s, segments, archived)
}

// loadCheckpoints opens the checkpoints' stream at its end and verifies the last.
func (l *Log) loadCheckpoints(s *loaded) error {
	segments, err := journal.Segments(l.opts.fs, l.dir, checkpointPrefix)
	if err != nil {
		return err
	}
	var newest []byte
	for back := 1; ; back++ {
		from := ""
		if back <= len(segments) {
			from = segments[len(segments)-back].Name
		}
		s.checkpoints, err = journal.Open(l.opts.fs, l.dir, checkpointPrefix, min(l.opts.SegmentBytes, maxCheckpointSegment), from, func(e journal.Entry) error {
			newest = append(newest[:0], e.Body...)
			return nil
		})
		if err != nil {
			return err
		}
		// A segment that was just begun has none; then the one before has the last.
		if newest != nil || back >= len(segments) {
			break
		}
		s.checkpoints.Close()
	}
	if newest == nil {
		return nil
	}
	if s.last, err = ParseCheckpoint(newest); err != nil {
		return err
	}
	if err := s.last.Verify(l.signer.Public()); err != nil {
		return fmt.Errorf("%w: %w", ErrTampered, err)
	}
	return nil
}

// beginning names the segment to read from and sets the tree to what stands
// before it.
func (l *Log) beginning(s *loaded, segments []journal.Segment, archived uint64) (string, error) {
	from := -1
	for i, seg := range segments {
		// At least one record is read, for its time.
		if i == 0 && seg.First == 0 || seg.First < s.last.Size {
			from = i
		}
	}
	if len(segments) == 0 {
		if s.last.Size > 0 {
			return "", journal.Tampered("all records are missing; the last checkpoint counts %d", s.last.Size)
		}
		return "", nil
	}
	if from < 0 {
		return "", journal.Tampered("the segment with record %d is missing", s.last.Size)
	}
	if held, err := s.tree.file.Size(); err != nil {
		return "", err
	} else if first := segments[from].First; held < tlog.StoredHashCount(int64(first))*tlog.HashSize {
		if archived > 0 {
			return "", journal.Tampered("the file %s lacks hashes of records that were archived; put it back from a copy", treeName)
		}
		l.opts.Logger.Warn("the audit log's tree of hashes is made anew from all records", "records", s.last.Size)
		from = 0
	}
	if segments[from].First < archived {
		return "", journal.Tampered("the log is archived up to record %d, and only record %d is signed", archived, s.last.Size)
	}
	file := s.tree.file
	t, err := treeAt(segments[from].First, stored{file}, file)
	if err != nil {
		return "", err
	}
	s.tree = t
	return segments[from].Name, nil
}

// loadRecords reads the records from a segment on, grows the tree by them and
// holds it against the marks.
func (l *Log) loadRecords(s *loaded, from string, marks []mark) (err error) {
	start, segment := s.tree.size, s.tree.size
	s.open = index{}
	s.records, err = journal.Open(l.opts.fs, l.dir, recordPrefix, l.opts.SegmentBytes, from, func(e journal.Entry) error {
		r, err := ParseRecord(e.Body)
		if err != nil {
			return journal.Tampered("record %d: %v", e.Index, err)
		}
		if e.Segment != segment {
			s.open, segment = index{}, e.Segment
		}
		s.open.add(keyOf(&r), e.Index-segment, e.Frame)
		s.newest = r.Time
		if err := s.tree.add(leafHash(e.Body)); err != nil {
			return err
		}
		if len(s.tree.pending) >= loadFlush {
			if err := s.tree.flush(); err != nil {
				return err
			}
		}
		if s.tree.size%progressEvery == 0 {
			l.opts.Progress(s.tree.size-start, max(s.last.Size, s.tree.size)-start)
		}
		return passes(&s.tree, marks)
	})
	if err != nil {
		return err
	}
	if current, _ := s.records.Current(); current.First != segment {
		s.open = index{} // the last segment was begun and has no record yet
	}
	for _, m := range marks {
		if s.tree.size < m.size {
			return journal.Tampered("%d records are missing behind record %d", m.size-s.tree.size, s.tree.size)
		}
	}
	return nil
}

// passes holds a tree against the marks at its size.
func passes(t *tree, marks []mark) error {
	for _, m := range marks {
		if m.size != t.size || m.size == 0 {
			continue
		}
		root, err := t.root()
		if err != nil {
			return err
		}
		if root != m.root {
			return journal.Tampered("the records up to %d are not those of %s; if only the file %s was damaged and no segment is archived, remove that file and it is made anew",
				m.size, m.what, treeName)
		}
	}
	return nil
}

// loadIndexes reads the signed indexes of the closed segments, makes those that
// are missing, and looks for segments that are gone.
func (l *Log) loadIndexes(s *loaded, segments []journal.Segment, archived uint64) error {
	present := map[uint64]int64{}
	current, _ := s.records.Current()
	for _, seg := range segments {
		if seg.First < current.First {
			size, err := l.sizeOf(seg.Name)
			if err != nil {
				return err
			}
			present[seg.First] = size
		}
	}
	verify := verifyIndex(l.signer.Public())
	for next := uint64(0); next < current.First; {
		x, err := readIndex(l.opts.fs, l.dir, next, verify)
		size, here := present[next]
		switch {
		case errors.Is(err, errNoIndex) && here:
			l.opts.Logger.Warn("the index of a closed segment of the audit log is made anew", "segment", segmentOf(next).Name, "err", err)
			if x, err = l.remakeIndex(s, segmentOf(next)); err != nil {
				return err
			}
		case errors.Is(err, errNoIndex):
			return journal.Tampered("segment %s is missing, and so is its index", segmentOf(next).Name)
		case err != nil:
			return err
		case !here && next >= archived:
			return journal.Tampered("segment %s is missing and was not archived", segmentOf(next).Name)
		case here && size != x.Bytes:
			return journal.Tampered("segment %s has %d bytes; it was closed with %d", segmentOf(next).Name, size, x.Bytes)
		case x.Count == 0 || x.end() > current.First:
			return journal.Tampered("the index of segment %s ends at record %d, behind the next segment", segmentOf(next).Name, x.end())
		}
		if err := s.begins(x.end(), x.Root); err != nil {
			return fmt.Errorf("the index of segment %s: %w", segmentOf(next).Name, err)
		}
		delete(present, next)
		s.closed = append(s.closed, x)
		next = x.end()
	}
	for first := range present {
		return journal.Tampered("segment %s stands where no segment belongs", segmentOf(first).Name)
	}
	return nil
}

func (l *Log) sizeOf(name string) (int64, error) {
	f, err := l.opts.fs.Open(filepath.Join(l.dir, name), false)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Size()
}

// remakeIndex reads a closed segment again. What it signs must be the records of
// the tree that was just loaded.
func (l *Log) remakeIndex(s *loaded, seg journal.Segment) (segmentIndex, error) {
	t, err := treeAt(seg.First, &s.tree, nil)
	if err != nil {
		return segmentIndex{}, err
	}
	x := index{}
	if _, _, err := journal.ScanSegment(l.opts.fs, l.dir, seg, false, func(e journal.Entry) error {
		r, err := ParseRecord(e.Body)
		if err != nil {
			return journal.Tampered("record %d: %v", e.Index, err)
		}
		x.add(keyOf(&r), e.Index-seg.First, e.Frame)
		if e.Index%progressEvery == 0 {
			l.opts.Progress(e.Index, s.tree.size)
		}
		return t.add(leafHash(e.Body))
	}); err != nil {
		return segmentIndex{}, err
	}
	root, err := t.root()
	if err != nil {
		return segmentIndex{}, err
	}
	if err := s.begins(t.size, root); err != nil {
		return segmentIndex{}, err
	}
	size, err := l.sizeOf(seg.Name)
	if err != nil {
		return segmentIndex{}, err
	}
	if _, err := writeIndex(l.opts.fs, l.dir, l.signer, summary{First: seg.First, Count: t.size - seg.First, Bytes: size, Root: root}, x); err != nil {
		return segmentIndex{}, err
	}
	return readIndex(l.opts.fs, l.dir, seg.First, verifyIndex(l.signer.Public()))
}

// begins checks that the tree of the first size records has a root, as the tree
// that was loaded has it: below the last checkpoint by a consistency proof, behind
// it by hashes that were computed from the records.
func (s *loaded) begins(size uint64, root digest.Digest) error {
	var whole digest.Digest
	in := s.last.Size
	switch {
	case size == 0 || size > s.tree.size:
		return journal.Tampered("a segment ends at record %d, the log at %d", size, s.tree.size)
	case size <= in:
		whole = s.last.Root
	default:
		var err error
		if whole, err = s.tree.root(); err != nil {
			return err
		}
		in = s.tree.size
	}
	proof, err := tlog.ProveTree(int64(in), int64(size), &s.tree)
	if err != nil {
		return err
	}
	if tlog.CheckTree(proof, int64(in), tlog.Hash(whole), int64(size), tlog.Hash(root)) != nil {
		return journal.Tampered("the records up to %d are not those of the log's tree", size)
	}
	return nil
}
