package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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
	segmentHeaderBytes = 8 + 8 + 32 + 4
	frameHeaderBytes   = 4 + 4 + 8 + 4 + 32 + 4
	frameTrailerBytes  = 8
	maxBodyBytes       = 1 << 20
	maxFrameBytes      = frameHeaderBytes + maxBodyBytes + frameTrailerBytes
	sectorBytes        = 512

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

func tampered(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrTampered, fmt.Sprintf(format, args...))
}

func segmentHeader(first uint64, chain Digest) []byte {
	b := make([]byte, 0, segmentHeaderBytes)
	b = append(b, segmentMagic...)
	b = binary.BigEndian.AppendUint64(b, first)
	b = append(b, chain[:]...)
	return binary.BigEndian.AppendUint32(b, castagnoli(b))
}

// position is the place in a stream: what the next frame must continue.
type position struct {
	next  uint64
	chain Digest
}

func checkSegmentHeader(b []byte, want position) error {
	if len(b) != segmentHeaderBytes || !bytes.Equal(b, segmentHeader(want.next, want.chain)) {
		return tampered("a segment does not continue the one before it at entry %d", want.next)
	}
	return nil
}

// buildFrame encodes one group commit and returns the chain after it.
func buildFrame(at position, entries [][]byte) ([]byte, Digest) {
	size := 0
	for _, e := range entries {
		size += 4 + len(e)
	}
	b := make([]byte, 0, frameHeaderBytes+size+frameTrailerBytes)
	b = append(b, frameMagic...)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	b = binary.BigEndian.AppendUint64(b, at.next)
	b = binary.BigEndian.AppendUint32(b, uint32(len(entries)))
	b = append(b, at.chain[:]...)
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
func frameChain(headerAndBody []byte) Digest {
	h := sha256.New()
	h.Write([]byte(chainLabel))
	h.Write(headerAndBody[:frameHeaderBytes-4])
	h.Write(headerAndBody[frameHeaderBytes:])
	return Digest(h.Sum(nil))
}

// parseFrame reads the frame at the start of rest, which is everything from
// the frame's place to the end of the file or at least maxFrameBytes of it.
// The frame must continue at. It returns errTorn only for what a crash may
// leave: a frame that is cut short, or one with a whole sector never written,
// and nothing behind it.
func parseFrame(rest []byte, offset int64, at position) (entries [][]byte, size int, after position, err error) {
	if allZero(rest) {
		return nil, 0, at, zeroTail(rest)
	}
	if len(rest) < frameHeaderBytes {
		return nil, 0, at, shortHeader(rest, at)
	}
	header := rest[:frameHeaderBytes]
	if castagnoli(header[:frameHeaderBytes-4]) != binary.BigEndian.Uint32(header[frameHeaderBytes-4:]) {
		return nil, 0, at, badHeader(rest, offset, at)
	}
	body := int(binary.BigEndian.Uint32(header[4:]))
	count := int(binary.BigEndian.Uint32(header[16:]))
	switch {
	case string(header[:4]) != frameMagic || body > maxBodyBytes || count == 0 || count > body/4:
		return nil, 0, at, tampered("a frame at entry %d is malformed", at.next)
	case binary.BigEndian.Uint64(header[8:]) != at.next:
		return nil, 0, at, tampered("entry %d stands where entry %d belongs", binary.BigEndian.Uint64(header[8:]), at.next)
	case Digest(header[20:52]) != at.chain:
		return nil, 0, at, tampered("entry %d does not continue what stands before it", at.next)
	}
	size = frameHeaderBytes + body + frameTrailerBytes
	if len(rest) < size {
		return nil, 0, at, errTorn
	}
	frame := rest[:size]
	sum := binary.BigEndian.Uint32(frame[size-frameTrailerBytes:])
	if castagnoli(frame[:size-frameTrailerBytes]) != sum || string(frame[size-4:]) != frameEnd {
		return nil, 0, at, unwrittenOr(frame, rest[size:], offset, at, "a frame does not match its checksum")
	}
	entries, err = splitBody(frame[frameHeaderBytes:size-frameTrailerBytes], count, at.next)
	return entries, size, position{at.next + uint64(count), frameChain(frame[:size-frameTrailerBytes])}, err
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
		return nil, tampered("the frame at entry %d is malformed", first)
	}
	return entries, nil
}

// zeroTail judges zeros at the end: no longer than the one write in flight
// they are a file that grew before its bytes arrived.
func zeroTail(rest []byte) error {
	if len(rest) > maxFrameBytes {
		return tampered("more zeros at the end than one write could leave")
	}
	return errTorn
}

// shortHeader judges a file that ends inside a frame header.
func shortHeader(rest []byte, at position) error {
	want, _ := buildFrame(at, [][]byte{nil})
	for i, b := range rest {
		fixed := i < 4 || i >= 8 && i < 16 || i >= 20 && i < 52
		if fixed && b != want[i] && b != 0 {
			return tampered("bytes behind entry %d belong to no frame", at.next)
		}
	}
	return errTorn
}

// badHeader judges a header that does not match its checksum. A torn write may
// lack the sector with its header and have later ones; then no frame that was
// written after it can follow.
func badHeader(rest []byte, offset int64, at position) error {
	first := sectorBytes - int(offset%sectorBytes)
	missing := allZero(rest[:min(first, len(rest))]) ||
		first < frameHeaderBytes && allZero(rest[first:min(first+sectorBytes, len(rest))])
	if !missing || len(rest) > maxFrameBytes {
		return tampered("a frame header does not match its checksum at entry %d", at.next)
	}
	for i := bytes.Index(rest, []byte(frameMagic)); i >= 0 && i+frameHeaderBytes <= len(rest); {
		h := rest[i : i+frameHeaderBytes]
		if castagnoli(h[:frameHeaderBytes-4]) == binary.BigEndian.Uint32(h[frameHeaderBytes-4:]) {
			return tampered("the frame at entry %d is gone, and another follows", at.next)
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
func unwrittenOr(frame, behind []byte, offset int64, at position, what string) error {
	if !allZero(behind) || len(behind) > maxFrameBytes {
		return tampered("%s at entry %d", what, at.next)
	}
	for start := 0; start < len(frame); {
		end := min(len(frame), start+sectorBytes-int((offset+int64(start))%sectorBytes))
		if allZero(frame[start:end]) {
			return errTorn
		}
		start = end
	}
	return tampered("%s at entry %d", what, at.next)
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
