package luks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// The binary header, "LUKS2 On-Disk Format Specification" 1.1.1, section 2.1: offsets of its fields.
const (
	binaryBytes = 4096

	atVersion   = 6
	atSize      = 8
	atSeqID     = 16
	atLabel     = 24
	atChecksum  = 72 // the algorithm's name
	atSalt      = 104
	atUUID      = 168
	atSubsystem = 208
	atOffset    = 256
	atPadding   = 264
	atSum       = 448
	atEnd       = 512 // of the fields; zero up to the JSON area

	saltBytes = 64
)

const (
	primaryMagic   = "LUKS\xba\xbe"
	secondaryMagic = "SKUL\xba\xbe"
)

// isUUID accepts the form in which cryptsetup writes them. A regular expression would be a quarter of a
// megabyte of the agent.
func isUUID(s string) bool {
	for i, c := range []byte(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return len(s) == 36
}

// headerCopy is one of the two copies of a header.
type headerCopy struct {
	size  int64
	seqID uint64
	salt  []byte
	uuid  string
	json  []byte // without what fills its area
}

// readCopy reads and checks one copy.
func readCopy(r io.ReaderAt, at int64, magic string) (*headerCopy, error) {
	raw := make([]byte, binaryBytes, MaxHeaderBytes)
	if err := readFull(r, raw, at); err != nil {
		return nil, err
	}
	if string(raw[:atVersion]) != magic {
		return nil, refusal.New(ReasonFormat, "no LUKS header at byte %d", at)
	}
	if v := binary.BigEndian.Uint16(raw[atVersion:]); v != 2 {
		return nil, refusal.New(ReasonVersion, "LUKS version %d; only 2 is supported", v)
	}
	size := binary.BigEndian.Uint64(raw[atSize:])
	if size < 4*binaryBytes || size > MaxHeaderBytes || size&(size-1) != 0 {
		return nil, refusal.New(ReasonSize, "a header of %d bytes; powers of two from %d to %d are accepted", size, 4*binaryBytes, MaxHeaderBytes)
	}
	if offset := binary.BigEndian.Uint64(raw[atOffset:]); offset != uint64(at) || at != 0 && size != uint64(at) {
		return nil, refusal.New(ReasonFormat, "the header at byte %d says that it is at byte %d, with %d bytes", at, offset, size)
	}
	raw = raw[:size]
	if err := readFull(r, raw[binaryBytes:], at+binaryBytes); err != nil {
		return nil, err
	}
	if err := checkSum(raw); err != nil {
		return nil, err
	}
	return parseCopy(raw)
}

// checkSum compares the checksum with what it covers: the whole copy, with zeros for the sum itself.
func checkSum(raw []byte) error {
	if name := text(raw[atChecksum:atSalt]); name != "sha256" {
		return refusal.New(ReasonChecksum, "checksum algorithm %q; only sha256 is supported", name)
	}
	var sum [atEnd - atSum]byte
	copy(sum[:], raw[atSum:atEnd])
	if sum != sumOf(raw) {
		return refusal.New(ReasonChecksum, "the header's checksum is wrong")
	}
	return nil
}

// sumOf computes the checksum field of a copy, and leaves it zero there.
func sumOf(raw []byte) (field [atEnd - atSum]byte) {
	clear(raw[atSum:atEnd])
	sum := sha256.Sum256(raw)
	copy(field[:], sum[:])
	return field
}

func parseCopy(raw []byte) (*headerCopy, error) {
	if !zero(raw[atPadding:atSum]) || !zero(raw[atEnd:binaryBytes]) {
		return nil, refusal.New(ReasonFormat, "unknown fields in the binary header")
	}
	c := &headerCopy{size: int64(len(raw)), seqID: binary.BigEndian.Uint64(raw[atSeqID:]),
		salt: bytes.Clone(raw[atSalt:atUUID]), uuid: text(raw[atUUID:atSubsystem])}
	// The label and the subsystem are names for udev; they may be anything and are not handed on.
	if !isUUID(c.uuid) {
		return nil, refusal.New(ReasonFormat, "%q is no UUID", c.uuid)
	}
	area := raw[binaryBytes:]
	end := bytes.IndexByte(area, 0)
	if end < 0 || !zero(area[end:]) {
		return nil, refusal.New(ReasonFormat, "the JSON area does not end in zeros")
	}
	c.json = bytes.Clone(area[:end])
	return c, nil
}

// text is a field's text up to its first zero.
func text(field []byte) string {
	before, _, _ := bytes.Cut(field, []byte{0})
	return string(before)
}

func zero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// writeCopy writes one copy with its checksum.
func writeCopy(into []byte, magic string, at int64, h *Header, json []byte) {
	copy(into, magic)
	binary.BigEndian.PutUint16(into[atVersion:], 2)
	binary.BigEndian.PutUint64(into[atSize:], uint64(h.size))
	binary.BigEndian.PutUint64(into[atSeqID:], h.seqID)
	copy(into[atChecksum:], "sha256")
	copy(into[atSalt:atSalt+saltBytes], h.salt)
	copy(into[atUUID:], h.uuid)
	binary.BigEndian.PutUint64(into[atOffset:], uint64(at))
	copy(into[binaryBytes:], json)
	sum := sumOf(into)
	copy(into[atSum:], sum[:])
}
