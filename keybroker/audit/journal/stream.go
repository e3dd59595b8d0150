package journal

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// Stream is a chain of entries in numbered segment files. One goroutine owns
// it. After an error in Append it must be opened again.
type Stream struct {
	fs           FileSystem
	dir, prefix  string
	segmentBytes int64

	at      Position
	current File
	offset  int64
}

// Open reads the whole stream, gives every entry to visit, removes a
// torn write at its end and is then ready to append.
func Open(fs FileSystem, dir, prefix string, segmentBytes int64, visit func(index uint64, entry []byte) error) (*Stream, error) {
	s := &Stream{fs: fs, dir: dir, prefix: prefix, segmentBytes: segmentBytes}
	if err := s.removeLeftovers(); err != nil {
		return nil, err
	}
	names, err := Segments(fs, dir, prefix)
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		if err := s.openSegment(name, i == len(names)-1, visit); err != nil {
			s.Close()
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if s.current == nil {
		err = s.startSegment()
	}
	return s, err
}

// Segments lists the segments in order; their names sort by first entry.
func Segments(fs FileSystem, dir, prefix string) ([]string, error) {
	all, err := fs.List(dir, prefix)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range all {
		if strings.HasSuffix(name, ".seg") {
			names = append(names, name)
		}
	}
	return names, nil
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

func (s *Stream) openSegment(name string, last bool, visit func(uint64, []byte) error) error {
	if want := s.segmentName(); name != want {
		return Tampered("segment %s is missing or misnamed", want)
	}
	f, err := s.fs.Open(filepath.Join(s.dir, name), false)
	if err != nil {
		return err
	}
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

// cutTail removes a torn, never acknowledged write.
func cutTail(f File, end int64) error {
	if err := f.Truncate(end); err != nil {
		return err
	}
	return f.Sync()
}

// readSegment visits a segment's entries. It returns the offset and position
// behind the last whole frame, with errTorn if a torn write follows it.
func readSegment(f File, at Position, visit func(uint64, []byte) error) (int64, Position, error) {
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
				if err := visit(at.Next+uint64(i), e); err != nil {
					return offset, at, err
				}
			}
			rest, offset, at = rest[size:], offset+int64(size), after
		}
	}
}

func (s *Stream) segmentName() string { return fmt.Sprintf("%s%016x.seg", s.prefix, s.at.Next) }

// startSegment creates the next segment under a temporary name and renames it
// when its header is durable, so a segment never lacks its header.
func (s *Stream) startSegment() error {
	name := filepath.Join(s.dir, s.segmentName())
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
	s.current, s.offset = f, SegmentHeaderBytes
	return nil
}

// Append writes the entries as one frame and returns when they are durable.
// After an error nothing is known of the file's end: the caller must not
// acknowledge and must open the stream again.
func (s *Stream) Append(entries [][]byte) error {
	if s.offset >= s.segmentBytes {
		if err := s.startSegment(); err != nil {
			return err
		}
	}
	frame, chain := BuildFrame(s.at, entries)
	if _, err := s.current.WriteAt(frame, s.offset); err != nil {
		// What arrived is cut off again so that the failed write does not
		// lie in the way; if that fails too, opening will judge it.
		return errors.Join(err, cutTail(s.current, s.offset))
	}
	if err := s.current.Sync(); err != nil {
		return errors.Join(err, cutTail(s.current, s.offset))
	}
	s.offset += int64(len(frame))
	s.at = Position{s.at.Next + uint64(len(entries)), chain}
	return nil
}

// Position returns the place behind the last durable entry.
func (s *Stream) Position() Position { return s.at }

// Close closes the current file.
func (s *Stream) Close() {
	if s.current != nil {
		s.current.Close()
		s.current = nil
	}
}

// Scan visits the entries of a stream on disk without changing anything. It
// reports whether a torn write, never acknowledged, stands at the end.
func Scan(fs FileSystem, dir, prefix string, visit func(index uint64, entry []byte) error) (at Position, torn bool, err error) {
	names, err := Segments(fs, dir, prefix)
	if err != nil {
		return at, false, err
	}
	for i, name := range names {
		if want := fmt.Sprintf("%s%016x.seg", prefix, at.Next); name != want {
			return at, false, Tampered("segment %s is missing or misnamed", want)
		}
		f, err := fs.Open(filepath.Join(dir, name), false)
		if err != nil {
			return at, false, err
		}
		_, at, err = readSegment(f, at, visit)
		f.Close()
		if errors.Is(err, errTorn) && i == len(names)-1 {
			return at, true, nil
		}
		if errors.Is(err, errTorn) {
			return at, false, Tampered("%s ends inside a frame, and another segment follows", name)
		}
		if err != nil {
			return at, false, fmt.Errorf("%s: %w", name, err)
		}
	}
	return at, false, nil
}
