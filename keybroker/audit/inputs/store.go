package inputs

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

const (
	prefix = "inputs-"

	defaultKeep     = 365 * 24 * time.Hour
	defaultMaxBytes = 2 << 30
	segmentsOfSize  = 16 // the oldest of so many goes when the store is full
	segmentsOfAge   = 12 // and of so many when it is too old
	maxSegmentBytes = 64 << 20
	minSegmentBytes = 64 << 10
	maxPendingBytes = 16 << 20 // in line; more is lost
	writeAfter      = time.Second
	retryAfter      = time.Minute // of a store that failed
	tendEvery       = time.Hour
	refusedShare    = 2 // refusals' documents take at most half
)

// Settings bound a store. The zero value is good.
type Settings struct {
	// Keep is how long documents are kept at least, while there is room; a year by default. They
	// are deleted when they are at most a twelfth older. A negative time keeps none.
	Keep time.Duration
	// MaxBytes is what the store takes on disk; 2 GiB by default. The oldest documents make room.
	MaxBytes int64
	// Now is the clock; time.Now by default.
	Now func() time.Time
	// Logger hears when the store fails and when it works again; nobody by default.
	Logger *slog.Logger
}

func (s Settings) withDefaults() Settings {
	if s.Keep == 0 {
		s.Keep = defaultKeep
	}
	if s.MaxBytes <= 0 {
		s.MaxBytes = defaultMaxBytes
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	return s
}

// Stats say what became of documents since the store was opened.
type Stats struct {
	// Kept is how many were written, Lost how many were not: the disk failed, the line was
	// full, one was too large, or refusals had used their share of the day.
	Kept, Lost uint64
}

// Store writes documents. Its methods may be called by many goroutines.
type Store struct {
	fs  journal.FileSystem
	dir string
	set Settings

	turn   sync.Mutex // held by whoever touches the files; guards what follows
	stream *journal.Stream
	packer packer
	begun  time.Time // the newest time in the first block of the current segment; zero if it has none
	failed time.Time // when opening or writing failed last; zero if it did not
	tended time.Time
	closed bool

	mu      sync.Mutex // guards what follows
	waiting []document
	bytes   int
	newest  time.Time // of those that wait
	timer   *time.Timer
	armed   bool
	ended   bool
	day     int64 // of the refusals that are counted
	refused int64 // their bytes
	stats   Stats
}

// New returns the store in a log's directory. It opens no file before there is something to write
// or to delete, so that a log without decisions has none.
func New(fs journal.FileSystem, dir string, set Settings) *Store {
	s := &Store{fs: fs, dir: dir, set: set.withDefaults()}
	s.timer = time.AfterFunc(writeAfter, s.writeLate)
	s.timer.Stop()
	return s
}

// Keep puts a document in line and returns at once. The digest is what a record of the log
// names. Documents of refused guests have a share of their own, so that whoever is refused all day
// cannot drive out what others were decided on.
func (s *Store) Keep(at time.Time, body []byte, refused bool) digest.Digest {
	d := document{digest.Of(body), body}
	if s.set.Keep < 0 {
		return d.digest
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || len(body) > MaxDocumentBytes || s.bytes+len(body) > maxPendingBytes || refused && !s.withinShare(at, len(body)) {
		s.stats.Lost++
		return d.digest
	}
	s.waiting, s.bytes = append(s.waiting, d), s.bytes+len(body)
	if at.After(s.newest) {
		s.newest = at
	}
	if !s.armed {
		s.armed = true
		s.timer.Reset(writeAfter)
	}
	return d.digest
}

// withinShare spends the refusals' share of a day: even if all of it were spent each day, they would
// take half of the store in the time that documents are kept.
func (s *Store) withinShare(at time.Time, bytes int) bool {
	const day = 24 * time.Hour
	if today := at.Unix() / int64(day/time.Second); today > s.day {
		s.day, s.refused = today, 0
	}
	days := max(int64((s.set.Keep+day-1)/day), 1)
	if s.refused+int64(bytes) > s.set.MaxBytes/refusedShare/days {
		return false
	}
	s.refused += int64(bytes)
	return true
}

// Stats returns what became of documents.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// writeLate is the timer's.
func (s *Store) writeLate() {
	s.mu.Lock()
	s.armed = false
	s.mu.Unlock()
	_ = s.Flush() // a failure was logged, and what it lost was counted
}

// Flush writes what waits, and returns when it is durable or lost.
func (s *Store) Flush() error {
	s.turn.Lock()
	defer s.turn.Unlock()
	return s.flush()
}

func (s *Store) flush() error {
	s.mu.Lock()
	docs, newest := s.waiting, s.newest
	s.waiting, s.bytes, s.newest = nil, 0, time.Time{}
	s.mu.Unlock()
	if len(docs) == 0 {
		return nil
	}
	written, err := s.write(newest, docs)
	s.mu.Lock()
	s.stats.Kept += uint64(written)
	s.stats.Lost += uint64(len(docs) - written)
	s.mu.Unlock()
	if err != nil {
		s.fail(err, len(docs)-written)
	}
	return err
}

// fail forgets the stream: nothing is known of its end. Later documents open it again.
func (s *Store) fail(err error, lost int) {
	if s.failed.IsZero() {
		s.set.Logger.Error("decision inputs are not kept: the disk or the store is at fault; releases go on, and policy replay will miss these decisions", "lost", lost, "err", err)
	}
	s.failed = s.set.Now()
	if s.stream != nil {
		s.stream.Close()
		s.stream = nil
	}
}

// write writes documents in blocks and says how many are durable.
func (s *Store) write(newest time.Time, docs []document) (written int, err error) {
	if err := s.open(); err != nil {
		return 0, err
	}
	if age := newest.Sub(s.begun); !s.begun.IsZero() && age >= s.set.Keep/segmentsOfAge {
		if err := s.stream.Rotate(); err != nil {
			return 0, err
		}
		s.begun = time.Time{}
	}
	rotated := s.begun.IsZero()
	for len(docs) > written {
		n, size := 0, 0
		for _, d := range docs[written:] {
			if n > 0 && (n == maxBlockDocuments || size+len(d.body) > maxBlockBytes) {
				break
			}
			n, size = n+1, size+len(d.body)
		}
		packed, err := s.packer.pack(newest, docs[written:written+n])
		if err != nil {
			return written, err
		}
		if s.stream.Full() {
			s.begun, rotated = time.Time{}, true
		}
		if _, err := s.stream.Append([][]byte{packed}); err != nil {
			return written, err
		}
		if s.begun.IsZero() {
			s.begun = newest
		}
		written += n
	}
	if !s.failed.IsZero() {
		s.set.Logger.Info("decision inputs are kept again")
		s.failed = time.Time{}
	}
	if rotated {
		if err := s.tend(newest, false); err != nil {
			s.set.Logger.Warn("old decision inputs were not deleted", "err", err)
		}
	}
	return written, nil
}

// open opens the stream at its last segment; older ones are not read.
func (s *Store) open() error {
	if s.stream != nil {
		return nil
	}
	if s.closed {
		return errors.New("the store of decision inputs is closed")
	}
	if !s.failed.IsZero() && s.set.Now().Sub(s.failed) < retryAfter {
		return errors.New("the store of decision inputs failed a moment ago")
	}
	segments, err := journal.Segments(s.fs, s.dir, prefix)
	if err != nil {
		return err
	}
	from := ""
	if n := len(segments); n > 0 {
		from = segments[n-1].Name
	}
	s.begun = time.Time{}
	s.stream, err = journal.Open(s.fs, s.dir, prefix, s.segmentBytes(), from, func(e journal.Entry) error {
		b, err := parseBlock(e.Body)
		if err == nil && s.begun.IsZero() {
			s.begun = b.newest
		}
		return err
	})
	return err
}

func (s *Store) segmentBytes() int64 {
	return max(min(s.set.MaxBytes/segmentsOfSize, maxSegmentBytes), minSegmentBytes)
}

// Tend deletes what is too old, or too much, from time to time.
func (s *Store) Tend() {
	s.turn.Lock()
	defer s.turn.Unlock()
	now := s.set.Now()
	if !s.closed && now.Sub(s.tended) >= tendEvery {
		if err := s.tend(now, true); err != nil {
			s.set.Logger.Warn("old decision inputs were not deleted", "err", err)
		}
	}
}

// tend deletes segments from the oldest on: those with nothing that is young enough, and those for
// which there is no room. A clock that went back deletes nothing by age.
func (s *Store) tend(now time.Time, ageOfLast bool) error {
	s.tended = s.set.Now()
	segments, err := journal.Segments(s.fs, s.dir, prefix)
	if err != nil || len(segments) == 0 {
		return err
	}
	sizes, total := make([]int64, len(segments)), int64(0)
	for i, seg := range segments {
		if sizes[i], err = sizeOf(s.fs, filepath.Join(s.dir, seg.Name)); err != nil {
			return err
		}
		total += sizes[i]
	}
	for i := range segments[:len(segments)-1] {
		ended, err := s.youngest(segments[i], segments[i+1])
		if err != nil {
			return err
		}
		old := s.set.Keep < 0 || !ended.IsZero() && now.Sub(ended) > s.set.Keep
		if !old && total <= s.set.MaxBytes {
			return nil
		}
		if err := s.fs.Remove(filepath.Join(s.dir, segments[i].Name)); err != nil {
			return err
		}
		total -= sizes[i]
	}
	if ageOfLast {
		return s.retire(now)
	}
	return nil
}

// retire closes the segment that is being written once all of it is old enough to go: an idle broker
// keeps documents no longer than a busy one.
func (s *Store) retire(now time.Time) error {
	if err := s.open(); err != nil {
		return err
	}
	if s.begun.IsZero() || now.Sub(s.begun) < s.set.Keep/segmentsOfAge {
		return nil
	}
	s.begun = time.Time{}
	return s.stream.Rotate()
}

// youngest is a time than which nothing in a segment is younger: that of the first block behind it, or of its
// own last one while there is none. It is zero if there is neither.
func (s *Store) youngest(seg, next journal.Segment) (at time.Time, err error) {
	if at, err = begins(s.fs, s.dir, next); err != nil || !at.IsZero() {
		return at, err
	}
	_, _, err = journal.ScanSegment(s.fs, s.dir, seg, false, func(e journal.Entry) error {
		b, err := parseBlock(e.Body)
		at = b.newest
		return err
	})
	return at, err
}

// begins is the time of the first block of a segment: everything in the segment before is not
// younger. It is zero for a segment without a block.
func begins(fs journal.FileSystem, dir string, seg journal.Segment) (time.Time, error) {
	size, err := sizeOf(fs, filepath.Join(dir, seg.Name))
	if err != nil || size <= journal.SegmentHeaderBytes {
		return time.Time{}, err
	}
	_, entries, err := journal.ReadFrame(fs, dir, seg, journal.SegmentHeaderBytes)
	if err != nil {
		return time.Time{}, err
	}
	b, err := parseBlock(entries[0])
	return b.newest, err
}

func sizeOf(fs journal.FileSystem, name string) (int64, error) {
	f, err := fs.Open(name, false)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Size()
}

// Archive moves the closed segments into a directory whose documents are all of decisions before a
// time, and returns their names and their bytes. The directory is there.
func (s *Store) Archive(before time.Time, to string) (names []string, bytes int64, err error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if err := s.flush(); err != nil {
		return nil, 0, err
	}
	segments, err := journal.Segments(s.fs, s.dir, prefix)
	if err != nil {
		return nil, 0, err
	}
	for i := range max(len(segments)-1, 0) {
		ended, err := s.youngest(segments[i], segments[i+1])
		if err != nil || ended.IsZero() || !ended.Before(before) {
			return names, bytes, err
		}
		name := filepath.Join(s.dir, segments[i].Name)
		size, err := sizeOf(s.fs, name)
		if err != nil {
			return names, bytes, err
		}
		if err := s.fs.Rename(name, filepath.Join(to, segments[i].Name)); err != nil {
			return names, bytes, fmt.Errorf("archive decision inputs: %w", err)
		}
		names, bytes = append(names, segments[i].Name), bytes+size
	}
	return names, bytes, nil
}

// Close writes what waits and closes the files.
func (s *Store) Close() error {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.timer.Stop()
	s.turn.Lock()
	defer s.turn.Unlock()
	err := s.flush()
	s.closed = true
	if s.stream != nil {
		s.stream.Close()
		s.stream = nil
	}
	return err
}
