package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
)

// Entry is one entry with its place.
type Entry struct {
	// Index counts the stream's entries from 0.
	Index uint64
	// Segment is the index of the first entry of its segment.
	Segment uint64
	// Frame is the offset, in its segment, of the frame that holds it.
	Frame int64
	// Body is the entry; it is valid until the visit returns.
	Body []byte
}

// Segment is one file of a stream.
type Segment struct {
	// Name is the file's name without its directory.
	Name string
	// First is the index of its first entry.
	First uint64
}

// Stream is a chain of entries in numbered segment files. One goroutine owns
// it. After an error in Append it must be opened again.
type Stream struct {
	fs           FileSystem
	dir, prefix  string
	segmentBytes int64

	at      Position
	first   uint64 // of the current segment
	current File
	offset  int64
	frame   []byte // used again by each Append
}

// Open reads the stream from the given segment on, which must be one that
// Segments named, gives every entry to visit, removes a torn write at its end
// and is then ready to append. What stands before that segment is not read: the
// segment's own header says what it continues, and the caller must know by other
// means that this is so. An empty name reads the stream from its beginning.
func Open(fs FileSystem, dir, prefix string, segmentBytes int64, from string, visit func(Entry) error) (*Stream, error) {
	s := &Stream{fs: fs, dir: dir, prefix: prefix, segmentBytes: segmentBytes}
	if err := s.removeLeftovers(); err != nil {
		return nil, err
	}
	segments, err := Segments(fs, dir, prefix)
	if err != nil {
		return nil, err
	}
	for len(segments) > 0 && from != "" && segments[0].Name != from {
		segments = segments[1:]
	}
	if from != "" {
		if len(segments) == 0 {
			return nil, Tampered("segment %s is missing", from)
		}
		if s.at, err = Start(fs, dir, segments[0]); err != nil {
			return nil, err
		}
	}
	for i, seg := range segments {
		if err := s.openSegment(seg.Name, i == len(segments)-1, visit); err != nil {
			s.Close()
			return nil, fmt.Errorf("%s: %w", seg.Name, err)
		}
	}
	if s.current == nil {
		err = s.startSegment()
	}
	return s, err
}

// Segments lists the segments in order; their names sort by first entry.
func Segments(fs FileSystem, dir, prefix string) ([]Segment, error) {
	all, err := fs.List(dir, prefix)
	if err != nil {
		return nil, err
	}
	var segments []Segment
	for _, name := range all {
		number, ok := strings.CutSuffix(strings.TrimPrefix(name, prefix), ".seg")
		if !ok {
			continue
		}
		first, err := strconv.ParseUint(number, 16, 64)
		if err != nil || name != segmentName(prefix, first) {
			return nil, Tampered("%s is no segment's name", name)
		}
		segments = append(segments, Segment{name, first})
	}
	return segments, nil
}

// removeLeftovers deletes a segment that a crash left under its temporary name.
func (s *Stream) removeLeftovers() error {
	names, err := s.fs.List(s.dir, s.prefix)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".tmp") {
			if err := s.fs.Remove(filepath.Join(s.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Stream) openSegment(name string, last bool, visit func(Entry) error) error {
	if want := segmentName(s.prefix, s.at.Next); name != want {
		return Tampered("segment %s is missing or misnamed", want)
	}
	f, err := s.fs.Open(filepath.Join(s.dir, name), false)
	if err != nil {
		return err
	}
	s.first = s.at.Next
	end, at, err := readSegment(f, s.at, visit)
	if errors.Is(err, errTorn) && last {
		err = cutTail(f, end)
	}
	if err != nil {
		f.Close()
		if errors.Is(err, errTorn) {
			return Tampered("the segment ends inside a frame, and another follows")
		}
		return err
	}
	s.at = at
	if !last {
		return f.Close()
	}
	s.current, s.offset = f, end
	return nil
}

// Start returns the place that a segment's own header says it continues. The
// caller compares it with the end of the segment before.
func Start(fs FileSystem, dir string, seg Segment) (Position, error) {
	f, err := fs.Open(filepath.Join(dir, seg.Name), false)
	if err != nil {
		return Position{}, err
	}
	defer f.Close()
	header := make([]byte, SegmentHeaderBytes)
	if _, err := f.ReadAt(header, 0); err != nil && !errors.Is(err, io.EOF) {
		return Position{}, err
	}
	at := Position{Next: seg.First, Chain: [32]byte(header[16:48])}
	err = checkSegmentHeader(header, at)
	if err == nil && at.Next == 0 && at != (Position{}) {
		err = Tampered("it continues a chain that nothing began")
	}
	if err != nil {
		return at, fmt.Errorf("%s: %w", seg.Name, err)
	}
	return at, nil
}

// cutTail removes a torn, never acknowledged write.
func cutTail(f File, end int64) error {
	if err := f.Truncate(end); err != nil {
		return err
	}
	return f.Sync()
}

// readSegment visits a segment's entries. It returns the offset and position
// behind the last whole frame, with errTorn if a torn write follows it.
func readSegment(f File, at Position, visit func(Entry) error) (int64, Position, error) {
	first := at.Next
	header := make([]byte, SegmentHeaderBytes)
	if _, err := f.ReadAt(header, 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, at, err
	}
	if err := checkSegmentHeader(header, at); err != nil {
		return 0, at, err
	}
	offset := int64(SegmentHeaderBytes)
	length, err := f.Size()
	if err != nil {
		return 0, at, err
	}
	window := make([]byte, 0, min(4*MaxFrameBytes, length+1))
	for {
		// The window holds at least one whole frame and what stands behind
		// it, so that a torn end can be told from a change.
		n, err := f.ReadAt(window[:cap(window)], offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return offset, at, err
		}
		rest, whole := window[:n], errors.Is(err, io.EOF)
		if n == 0 {
			return offset, at, nil
		}
		if !whole && cap(window) < 4*MaxFrameBytes {
			window = make([]byte, 0, 4*MaxFrameBytes) // the file has grown
			continue
		}
		for len(rest) > 0 && (whole || len(rest) >= 2*MaxFrameBytes+1) {
			entries, size, after, err := ParseFrame(rest, offset, at)
			if err != nil {
				return offset, at, err
			}
			for i, e := range entries {
				if err := visit(Entry{at.Next + uint64(i), first, offset, e}); err != nil {
					return offset, at, err
				}
			}
			rest, offset, at = rest[size:], offset+int64(size), after
		}
	}
}

func segmentName(prefix string, first uint64) string {
	return fmt.Sprintf("%s%016x.seg", prefix, first)
}

// startSegment creates the next segment under a temporary name and renames it
// when its header is durable, so a segment never lacks its header.
func (s *Stream) startSegment() error {
	name := filepath.Join(s.dir, segmentName(s.prefix, s.at.Next))
	if err := s.fs.Remove(name + ".tmp"); err != nil {
		return err
	}
	f, err := s.fs.Open(name+".tmp", true)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(segmentHeader(s.at.Next, s.at.Chain), 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = s.fs.Rename(name+".tmp", name)
	}
	if err != nil {
		f.Close()
		return err
	}
	if s.current != nil {
		s.current.Close()
	}
	s.current, s.offset, s.first = f, SegmentHeaderBytes, s.at.Next
	return nil
}

// Append writes the entries as one frame and returns, when they are durable, the
// frame's offset in the current segment. After an error nothing is known of the
// file's end: the caller must not acknowledge and must open the stream again.
func (s *Stream) Append(entries [][]byte) (frame int64, err error) {
	if s.Full() {
		if err := s.startSegment(); err != nil {
			return 0, err
		}
	}
	b, chain := appendFrame(s.frame, s.at, entries)
	s.frame = b
	if _, err := s.current.WriteAt(b, s.offset); err != nil {
		// What arrived is cut off again so that the failed write does not
		// lie in the way; if that fails too, opening will judge it.
		return 0, errors.Join(err, cutTail(s.current, s.offset))
	}
	if err := s.current.Sync(); err != nil {
		return 0, errors.Join(err, cutTail(s.current, s.offset))
	}
	frame = s.offset
	s.offset += int64(len(b))
	s.at = Position{s.at.Next + uint64(len(entries)), chain}
	return frame, nil
}

// Rotate starts another segment now, unless the current one is empty.
func (s *Stream) Rotate() error {
	if s.offset <= SegmentHeaderBytes {
		return nil
	}
	return s.startSegment()
}

// Full says whether the next Append starts another segment.
func (s *Stream) Full() bool { return s.offset >= s.segmentBytes }

// Position returns the place behind the last durable entry.
func (s *Stream) Position() Position { return s.at }

// Current returns the segment that is being written and the length of it that
// is durable: the offset of the next frame, unless the segment is full.
func (s *Stream) Current() (Segment, int64) {
	return Segment{segmentName(s.prefix, s.first), s.first}, s.offset
}

// Close closes the current file.
func (s *Stream) Close() {
	if s.current != nil {
		s.current.Close()
		s.current = nil
	}
}

// Scan visits the entries of a whole stream on disk without changing anything.
// It reports whether a torn write, never acknowledged, stands at the end.
func Scan(fs FileSystem, dir, prefix string, visit func(Entry) error) (at Position, torn bool, err error) {
	segments, err := Segments(fs, dir, prefix)
	if err != nil {
		return at, false, err
	}
	for i, seg := range segments {
		from, err := Start(fs, dir, seg)
		if err != nil {
			return at, false, err
		}
		if from != at {
			return at, false, Tampered("segment %s does not continue the one before it; is one missing or misnamed?", seg.Name)
		}
		if at, torn, err = ScanSegment(fs, dir, seg, i == len(segments)-1, visit); err != nil || torn {
			return at, torn, err
		}
	}
	return at, false, nil
}

// ScanSegment visits the entries of one segment, changing nothing. The last
// segment of a stream may end in a torn write. It checks the chain inside the
// segment and leaves to its caller what the segment continues.
func ScanSegment(fs FileSystem, dir string, seg Segment, last bool, visit func(Entry) error) (after Position, torn bool, err error) {
	at, err := Start(fs, dir, seg)
	if err != nil {
		return at, false, err
	}
	f, err := fs.Open(filepath.Join(dir, seg.Name), false)
	if err != nil {
		return at, false, err
	}
	defer f.Close()
	_, at, err = readSegment(f, at, visit)
	if errors.Is(err, errTorn) && last {
		return at, true, nil
	}
	if errors.Is(err, errTorn) {
		return at, false, Tampered("%s ends inside a frame, and another segment follows", seg.Name)
	}
	if err != nil {
		return at, false, fmt.Errorf("%s: %w", seg.Name, err)
	}
	return at, false, nil
}

// ReadFrame returns the entries of the frame at an offset and the index of the
// first. The frame's checksum holds; whether the entries are those that were
// acknowledged is for the caller to know, by their hashes.
func ReadFrame(fs FileSystem, dir string, seg Segment, offset int64) (first uint64, entries [][]byte, err error) {
	f, err := fs.Open(filepath.Join(dir, seg.Name), false)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	header := make([]byte, FrameHeaderBytes)
	if _, err := f.ReadAt(header, offset); err != nil {
		return 0, nil, Tampered("%s has no frame at %d", seg.Name, offset)
	}
	at := Position{Next: binary.BigEndian.Uint64(header[8:]), Chain: [32]byte(header[20:52])}
	size := FrameHeaderBytes + int64(binary.BigEndian.Uint32(header[4:])) + frameTrailerBytes
	if size > MaxFrameBytes {
		return 0, nil, Tampered("%s: the frame at %d is malformed", seg.Name, offset)
	}
	frame := make([]byte, size)
	if _, err := f.ReadAt(frame, offset); err != nil {
		return 0, nil, Tampered("%s: the frame at %d is cut short", seg.Name, offset)
	}
	entries, _, _, err = ParseFrame(frame, offset, at)
	if errors.Is(err, errTorn) {
		err = Tampered("%s: the frame at %d is damaged", seg.Name, offset)
	}
	return at.Next, entries, err
}
