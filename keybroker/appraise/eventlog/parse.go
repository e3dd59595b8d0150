package eventlog

import (
	"bytes"
	"encoding/binary"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Limits of a log.
const (
	// MaxBytes bounds a log with its padding; areas of 256 KiB are common.
	MaxBytes = 512 << 10
	// MaxEvents bounds the number of events behind the header.
	MaxEvents = 4096
	// MaxEventBytes bounds the data of one event; lists of forbidden programs are the largest.
	MaxEventBytes = 128 << 10

	maxAlgorithms = 8
	pcrs          = 24 // of a PC client's TPM
	ccRegisters   = 5  // MRTD and four RTMRs
)

// Format is the kind of log: whose registers its events were extended into.
type Format string

// Formats.
const (
	// TCG is the log of a TPM's PCRs.
	TCG Format = "tcg"
	// CCEL is the log of a confidential guest's RTMRs.
	CCEL Format = "ccel"
)

// registers is the number of indices that an event may have; 0 for an unknown format.
func (f Format) registers() uint32 {
	switch f {
	case TCG:
		return pcrs
	case CCEL:
		return ccRegisters
	}
	return 0
}

// Algorithms of digests (TCG Algorithm Registry, TPM_ALG_ID), and what the header begins with.
const (
	algSHA256 = 0x000b
	algSHA384 = 0x000c

	specSignature     = "Spec ID Event03\x00"
	localitySignature = "StartupLocality\x00"
	legacyDigestBytes = 20
	specMajor         = 2
)

// digestBytes is the size of an algorithm's digests; 0 for one that no firmware measures with.
func digestBytes(alg uint16) int {
	switch alg {
	case 0x0004: // SHA-1
		return 20
	case algSHA256, 0x0012, 0x0027: // also SM3 and SHA3-256
		return 32
	case algSHA384, 0x0028: // also SHA3-384
		return 48
	case 0x000d, 0x0029: // SHA-512 and SHA3-512
		return 64
	}
	return 0
}

// event is one entry of a log. Its slices lie in the log.
type event struct {
	index  uint32 // PCR, or the index of a confidential guest's register
	typ    eventType
	digest []byte // of the reader's bank; nil if the log does not have that bank
	data   []byte
}

// reader walks a log without copying it. Its zero value reads nothing.
type reader struct {
	log        []byte
	at         int
	format     Format
	bank       uint16 // whose digests events get
	algorithms [maxAlgorithms]uint16
	count      int // of algorithms
	events     int
}

// newReader reads the header (section 10.4.5.1, TCG_EfiSpecIdEvent).
func newReader(log []byte, format Format, bank uint16) (reader, error) {
	r := reader{log: log, format: format, bank: bank}
	if format.registers() == 0 {
		return r, refusal.New(ReasonMalformed, "unknown format %q", string(format))
	}
	if len(log) > MaxBytes {
		return r, refusal.New(ReasonLimit, "the log has %d bytes, more than %d", len(log), MaxBytes)
	}
	index, ok1 := r.u32()
	typ, ok2 := r.u32()
	digest, ok3 := r.bytes(legacyDigestBytes)
	size, ok4 := r.u32()
	spec, ok5 := r.bytes(int(min(size, MaxEventBytes)))
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || size > MaxEventBytes {
		return r, refusal.New(ReasonMalformed, "no header")
	}
	// The header of a CCEL log has index 1 in practice, although it goes into no register.
	if index > 1 || eventType(typ) != evNoAction || !zero(digest) || !bytes.HasPrefix(spec, []byte(specSignature)) {
		return r, refusal.New(ReasonMalformed, "not a crypto-agile log: the first event is of type %#x", typ)
	}
	return r, r.spec(spec[len(specSignature):])
}

// spec reads the version and the algorithms. Errata change no layout, and the platform's class
// and its vendor's words nothing at all.
func (r *reader) spec(b []byte) error {
	if len(b) < 12 {
		return refusal.New(ReasonMalformed, "the header is cut short")
	}
	minor, major, uintn := b[4], b[5], b[7]
	if major != specMajor || minor != 0 || uintn != 1 && uintn != 2 {
		return refusal.New(ReasonMalformed, "version %d.%d with numbers of %d words is not known", major, minor, uintn)
	}
	count := binary.LittleEndian.Uint32(b[8:])
	b = b[12:]
	if count == 0 || count > maxAlgorithms || len(b) < 4*int(count)+1 {
		return refusal.New(ReasonMalformed, "%d algorithms", count)
	}
	for range count {
		alg, size := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:])
		if digestBytes(alg) == 0 || int(size) != digestBytes(alg) || r.has(alg) {
			return refusal.New(ReasonMalformed, "algorithm %#x with %d bytes is unknown or there twice", alg, size)
		}
		r.algorithms[r.count] = alg
		r.count++
		b = b[4:]
	}
	if len(b) != 1+int(b[0]) {
		return refusal.New(ReasonMalformed, "the vendor's part of the header has another size than it says")
	}
	return nil
}

func (r *reader) has(alg uint16) bool {
	for _, have := range r.algorithms[:r.count] {
		if have == alg {
			return true
		}
	}
	return false
}

// next reads one event (TCG_PCR_EVENT2) into e. It reports false at the end, behind which there
// is only padding.
func (r *reader) next(e *event) (bool, error) {
	if r.ended() {
		return false, r.padding()
	}
	if r.events == MaxEvents {
		return false, refusal.New(ReasonLimit, "more than %d events", MaxEvents)
	}
	r.events++
	index, ok1 := r.u32()
	typ, ok2 := r.u32()
	count, ok3 := r.u32()
	if !ok1 || !ok2 || !ok3 {
		return false, r.cut()
	}
	if index >= r.format.registers() {
		return false, refusal.New(ReasonMalformed, "event %d is for register %d", r.events, index)
	}
	*e = event{index: index, typ: eventType(typ)}
	if err := r.digests(e, count); err != nil {
		return false, err
	}
	size, ok := r.u32()
	if !ok {
		return false, r.cut()
	}
	if size > MaxEventBytes {
		return false, refusal.New(ReasonLimit, "event %d has %d bytes, more than %d", r.events, size, MaxEventBytes)
	}
	if e.data, ok = r.bytes(int(size)); !ok {
		return false, r.cut()
	}
	return true, nil
}

// digests reads an event's list, which has each of the header's algorithms once.
func (r *reader) digests(e *event, count uint32) error {
	if count != uint32(r.count) {
		return refusal.New(ReasonMalformed, "event %d has %d digests, the header says %d", r.events, count, r.count)
	}
	seen := 0 // bits of the header's algorithms
	for range count {
		alg, ok := r.u16()
		if !ok {
			return r.cut()
		}
		bit := 0
		for i, have := range r.algorithms[:r.count] {
			if have == alg {
				bit = 1 << i
			}
		}
		if bit == 0 || seen&bit != 0 {
			return refusal.New(ReasonMalformed, "event %d has a digest of algorithm %#x, which is not in the header or there twice", r.events, alg)
		}
		seen |= bit
		digest, ok := r.bytes(digestBytes(alg))
		if !ok {
			return r.cut()
		}
		if alg == r.bank {
			e.digest = digest
		}
		if e.typ == evNoAction && !zero(digest) {
			return refusal.New(ReasonMalformed, "event %d goes into no register and has a digest", r.events)
		}
	}
	return nil
}

// ended says whether no event begins here: none has an index of all ones, nor, with index 0, the
// unused type 0.
func (r *reader) ended() bool {
	rest := r.log[r.at:]
	if len(rest) < 8 {
		return zero(rest) || ones(rest)
	}
	return zero(rest[:8]) || ones(rest[:4])
}

// padding checks that the area behind the last event is erased or zero throughout.
func (r *reader) padding() error {
	if rest := r.log[r.at:]; !zero(rest) && !ones(rest) {
		return refusal.New(ReasonMalformed, "content follows the padding behind event %d", r.events)
	}
	return nil
}

func (r *reader) cut() error {
	return refusal.New(ReasonMalformed, "event %d is cut short", r.events)
}

func (r *reader) bytes(n int) ([]byte, bool) {
	if len(r.log)-r.at < n {
		return nil, false
	}
	b := r.log[r.at : r.at+n : r.at+n]
	r.at += n
	return b, true
}

func (r *reader) u32() (uint32, bool) {
	b, ok := r.bytes(4)
	if !ok {
		return 0, false
	}
	return binary.LittleEndian.Uint32(b), true
}

func (r *reader) u16() (uint16, bool) {
	b, ok := r.bytes(2)
	if !ok {
		return 0, false
	}
	return binary.LittleEndian.Uint16(b), true
}

func zero(b []byte) bool { return all(b, 0) }
func ones(b []byte) bool { return all(b, 0xff) }

// all says whether every byte is v. Padding is long, so it looks at eight at a time.
func all(b []byte, v byte) bool {
	word := uint64(v) * 0x0101010101010101
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b) != word {
			return false
		}
	}
	for _, x := range b {
		if x != v {
			return false
		}
	}
	return true
}
