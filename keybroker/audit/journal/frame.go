package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
)

// A segment is a header and then frames. One frame holds the records of one
// group commit: either all of them are durable or none was acknowledged.
//
//	segment header: magic 8, first entry index 8, chain 32, CRC-32C of these 4
//	frame header:   magic 4, body length 4, first entry index 8, entries 4,
//	                chain before this frame 32, CRC-32C of these 4
//	frame body:     per entry: length 4, bytes
//	frame trailer:  CRC-32C of header and body 4, end mark 4
//
// All integers are big-endian. The chain after a frame is
// SHA-256("anchorhold/audit/chain/1", header without its CRC, body).
const (
	SegmentHeaderBytes = 8 + 8 + 32 + 4
	FrameHeaderBytes   = 4 + 4 + 8 + 4 + 32 + 4
	frameTrailerBytes  = 8
	MaxBodyBytes       = 1 << 20
	MaxFrameBytes      = FrameHeaderBytes + MaxBodyBytes + frameTrailerBytes
	SectorBytes        = 512

	segmentMagic = "ahaudit\x01"
	frameMagic   = "AHBF"
	frameEnd     = "FBHA"
	chainLabel   = "anchorhold/audit/chain/1"
)

// ErrTampered means that bytes of the log were changed after they had been
// acknowledged. The log refuses to open.
var ErrTampered = errors.New("the audit log was changed")

// errTorn means that the bytes are what a crash in the middle of an
// unacknowledged write leaves behind.
var errTorn = errors.New("torn write")

func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// Tampered returns an ErrTampered that says what was found.
func Tampered(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrTampered, fmt.Sprintf(format, args...))
}

func segmentHeader(first uint64, chain [32]byte) []byte {
	b := make([]byte, 0, SegmentHeaderBytes)
	b = append(b, segmentMagic...)
	b = binary.BigEndian.AppendUint64(b, first)
	b = append(b, chain[:]...)
	return binary.BigEndian.AppendUint32(b, castagnoli(b))
}

// Position is the place in a stream: what the next frame must continue.
type Position struct {
	Next  uint64
	Chain [32]byte
}

func checkSegmentHeader(b []byte, want Position) error {
	if len(b) != SegmentHeaderBytes || !bytes.Equal(b, segmentHeader(want.Next, want.Chain)) {
		return Tampered("a segment does not continue the one before it at entry %d", want.Next)
	}
	return nil
}

// BuildFrame encodes one group commit and returns the chain after it.
func BuildFrame(at Position, entries [][]byte) ([]byte, [32]byte) {
	return appendFrame(nil, at, entries)
}

// appendFrame encodes one group commit into a buffer that is used again.
func appendFrame(b []byte, at Position, entries [][]byte) ([]byte, [32]byte) {
	size := 0
	for _, e := range entries {
		size += 4 + len(e)
	}
	b = slices.Grow(b[:0], FrameHeaderBytes+size+frameTrailerBytes)
	b = append(b, frameMagic...)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	b = binary.BigEndian.AppendUint64(b, at.Next)
	b = binary.BigEndian.AppendUint32(b, uint32(len(entries)))
	b = append(b, at.Chain[:]...)
	b = binary.BigEndian.AppendUint32(b, castagnoli(b))
	for _, e := range entries {
		b = binary.BigEndian.AppendUint32(b, uint32(len(e)))
		b = append(b, e...)
	}
	chain := frameChain(b)
	b = binary.BigEndian.AppendUint32(b, castagnoli(b))
	return append(b, frameEnd...), chain
}

// frameChain hashes a frame without its header CRC and without its trailer.
func frameChain(headerAndBody []byte) [32]byte {
	h := sha256.New()
	h.Write([]byte(chainLabel))
	h.Write(headerAndBody[:FrameHeaderBytes-4])
	h.Write(headerAndBody[FrameHeaderBytes:])
	return [32]byte(h.Sum(nil))
}

// ParseFrame reads the frame at the start of rest, which is everything from
// the frame's place to the end of the file or at least MaxFrameBytes of it.
// The frame must continue at. It returns errTorn only for what a crash may
// leave: a frame that is cut short, or one with a whole sector never written,
// and nothing behind it.
func ParseFrame(rest []byte, offset int64, at Position) (entries [][]byte, size int, after Position, err error) {
	if allZero(rest) {
		return nil, 0, at, zeroTail(rest)
	}
	if len(rest) < FrameHeaderBytes {
		return nil, 0, at, shortHeader(rest, at)
	}
	header := rest[:FrameHeaderBytes]
	if castagnoli(header[:FrameHeaderBytes-4]) != binary.BigEndian.Uint32(header[FrameHeaderBytes-4:]) {
		return nil, 0, at, badHeader(rest, offset, at)
	}
	body := int(binary.BigEndian.Uint32(header[4:]))
	count := int(binary.BigEndian.Uint32(header[16:]))
	switch {
	case string(header[:4]) != frameMagic || body > MaxBodyBytes || count == 0 || count > body/4:
		return nil, 0, at, Tampered("a frame at entry %d is malformed", at.Next)
	case binary.BigEndian.Uint64(header[8:]) != at.Next:
		return nil, 0, at, Tampered("entry %d stands where entry %d belongs", binary.BigEndian.Uint64(header[8:]), at.Next)
	case [32]byte(header[20:52]) != at.Chain:
		return nil, 0, at, Tampered("entry %d does not continue what stands before it", at.Next)
	}
	size = FrameHeaderBytes + body + frameTrailerBytes
	if len(rest) < size {
		return nil, 0, at, errTorn
	}
	frame := rest[:size]
	sum := binary.BigEndian.Uint32(frame[size-frameTrailerBytes:])
	if castagnoli(frame[:size-frameTrailerBytes]) != sum || string(frame[size-4:]) != frameEnd {
		return nil, 0, at, unwrittenOr(frame, rest[size:], offset, at, "a frame does not match its checksum")
	}
	entries, err = splitBody(frame[FrameHeaderBytes:size-frameTrailerBytes], count, at.Next)
	return entries, size, Position{at.Next + uint64(count), frameChain(frame[:size-frameTrailerBytes])}, err
}

func splitBody(body []byte, count int, first uint64) ([][]byte, error) {
	entries := make([][]byte, 0, count)
	for len(body) >= 4 {
		n := int(binary.BigEndian.Uint32(body))
		if n > len(body)-4 {
			break
		}
		entries = append(entries, body[4:4+n])
		body = body[4+n:]
	}
	if len(body) != 0 || len(entries) != count {
		return nil, Tampered("the frame at entry %d is malformed", first)
	}
	return entries, nil
}

// zeroTail judges zeros at the end: no longer than the one write in flight
// they are a file that grew before its bytes arrived.
func zeroTail(rest []byte) error {
	if len(rest) > MaxFrameBytes {
		return Tampered("more zeros at the end than one write could leave")
	}
	return errTorn
}

// shortHeader judges a file that ends inside a frame header.
func shortHeader(rest []byte, at Position) error {
	want, _ := BuildFrame(at, [][]byte{nil})
	for i, b := range rest {
		fixed := i < 4 || i >= 8 && i < 16 || i >= 20 && i < 52
		if fixed && b != want[i] && b != 0 {
			return Tampered("bytes behind entry %d belong to no frame", at.Next)
		}
	}
	return errTorn
}

// badHeader judges a header that does not match its checksum. A torn write may
// lack the sector with its header and have later ones; then no frame that was
// written after it can follow.
func badHeader(rest []byte, offset int64, at Position) error {
	first := SectorBytes - int(offset%SectorBytes)
	missing := allZero(rest[:min(first, len(rest))]) ||
		first < FrameHeaderBytes && allZero(rest[first:min(first+SectorBytes, len(rest))])
	if !missing || len(rest) > MaxFrameBytes {
		return Tampered("a frame header does not match its checksum at entry %d", at.Next)
	}
	for i := bytes.Index(rest, []byte(frameMagic)); i >= 0 && i+FrameHeaderBytes <= len(rest); {
		h := rest[i : i+FrameHeaderBytes]
		if castagnoli(h[:FrameHeaderBytes-4]) == binary.BigEndian.Uint32(h[FrameHeaderBytes-4:]) {
			return Tampered("the frame at entry %d is gone, and another follows", at.Next)
		}
		next := bytes.Index(rest[i+1:], []byte(frameMagic))
		if next < 0 {
			break
		}
		i += 1 + next
	}
	return errTorn
}

// unwrittenOr tells a torn write from a changed byte: a disk writes whole
// sectors, so a torn frame has at least one sector, or its part of one, still
// zero, and only zeros behind it. Anything else was changed later.
func unwrittenOr(frame, behind []byte, offset int64, at Position, what string) error {
	if !allZero(behind) || len(behind) > MaxFrameBytes {
		return Tampered("%s at entry %d", what, at.Next)
	}
	for start := 0; start < len(frame); {
		end := min(len(frame), start+SectorBytes-int((offset+int64(start))%SectorBytes))
		if allZero(frame[start:end]) {
			return errTorn
		}
		start = end
	}
	return Tampered("%s at entry %d", what, at.Next)
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
