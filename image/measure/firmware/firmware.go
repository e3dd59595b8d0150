package firmware

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Limits of an image.
const (
	// MaxBytes is far above OVMF's largest build of 4 MiB; QEMU takes at most 8 MiB for its flash.
	MaxBytes = 16 << 20
	// MaxSectionBytes bounds the memory that all sections of one kind add at launch: an image must not
	// have the program that reads it hash gigabytes.
	MaxSectionBytes = 256 << 20
	maxEntries      = 64
	maxSections     = 64
)

// PageBytes is the size of a page, the unit of a launch.
const PageBytes = 4096

// fourGiB is where an image ends: the reset vector lies 16 bytes below.
const fourGiB = 1 << 32

// Reasons of this package.
const (
	// ReasonMalformed: the image's table or its metadata contradict themselves, or are cut short.
	ReasonMalformed refusal.Reason = "firmware-malformed"
	// ReasonUnsupported: the image has no entry for what is asked of it.
	ReasonUnsupported refusal.Reason = "firmware-unsupported"
	// ReasonLimit: the image or its sections are above a limit.
	ReasonLimit refusal.Reason = "firmware-limit"
)

// guid names an entry, in the byte order of the image.
type guid [16]byte

// parseGUID reads the text form, whose first three groups are little-endian in memory.
func parseGUID(text string) (g guid) {
	raw, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(text), []byte("-"), nil)))
	if err != nil || len(raw) != len(g) {
		return guid{} // of our own constants; a test reads each
	}
	for to, from := range []int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15} {
		g[to] = raw[from]
	}
	return g
}

// The entries that are followed, by edk2's names.
var (
	footerGUID   = parseGUID("96b582de-1fb2-45f7-baea-a366c55a082d")
	resetGUID    = parseGUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e") // SEV-ES reset block
	hashesGUID   = parseGUID("7255371f-3a3b-4b04-927b-1da6efa8d454") // SEV hashes table
	metadataGUID = parseGUID("dc886566-984a-4798-a75e-5585a7bf67cc") // SEV metadata
	tdvfGUID     = parseGUID("e47a6535-984a-4798-865e-4685a7bf8ec2") // TDX metadata
)

// Image is a firmware image with what it says about its launch.
type Image struct {
	raw   []byte
	table map[guid][]byte
}

// Parse reads an image.
func Parse(raw []byte) (*Image, error) {
	switch {
	case len(raw) > MaxBytes:
		return nil, refusal.New(ReasonLimit, "got %d bytes, want at most %d", len(raw), MaxBytes)
	case len(raw) == 0 || len(raw)%PageBytes != 0:
		return nil, refusal.New(ReasonMalformed, "got %d bytes, want whole pages of %d: is it a firmware image?", len(raw), PageBytes)
	}
	m := &Image{raw: raw, table: map[guid][]byte{}}
	if err := m.readTable(); err != nil {
		return nil, err
	}
	return m, nil
}

// Bytes are the image's own, which the caller does not change.
func (m *Image) Bytes() []byte { return m.raw }

// Base is the guest physical address of the first byte.
func (m *Image) Base() uint64 { return fourGiB - uint64(len(m.raw)) }

const (
	tableEndBytes   = 32 // between the table and the end of the image lies the reset vector
	entryHeadBytes  = 18 // size and GUID, behind an entry's data
	addressBytes    = 4
	sectionRowBytes = 12
)

// readTable walks the table from its footer upwards: each entry's size and name stand behind its data.
func (m *Image) readTable() error {
	footerAt := len(m.raw) - tableEndBytes - entryHeadBytes
	total, name := entryHead(m.raw[footerAt:])
	if name != footerGUID {
		return refusal.New(ReasonUnsupported, "the image does not end in OVMF's table of GUIDs: it says nothing of its launch")
	}
	size := total - entryHeadBytes
	if size < 0 || size > footerAt {
		return refusal.New(ReasonMalformed, "the table of GUIDs has %d bytes in an image of %d", total, len(m.raw))
	}
	rest := m.raw[footerAt-size : footerAt]
	for len(rest) > 0 {
		if len(rest) < entryHeadBytes {
			return refusal.New(ReasonMalformed, "the table of GUIDs ends inside an entry")
		}
		size, name := entryHead(rest[len(rest)-entryHeadBytes:])
		if size < entryHeadBytes || size > len(rest) {
			return refusal.New(ReasonMalformed, "an entry of the table of GUIDs has %d bytes, %d are left", size, len(rest))
		}
		if _, twice := m.table[name]; twice || len(m.table) == maxEntries {
			return refusal.New(ReasonMalformed, "the table of GUIDs names an entry twice, or more than %d", maxEntries)
		}
		m.table[name] = rest[len(rest)-size : len(rest)-entryHeadBytes]
		rest = rest[:len(rest)-size]
	}
	return nil
}

func entryHead(b []byte) (size int, name guid) {
	return int(binary.LittleEndian.Uint16(b)), guid(b[2:entryHeadBytes])
}

// address reads an entry that begins with a 32-bit number; ok is false if the image has no such entry.
func (m *Image) address(name guid, what string) (value uint32, ok bool, err error) {
	data, ok := m.table[name]
	if !ok {
		return 0, false, nil
	}
	if len(data) < addressBytes {
		return 0, false, refusal.New(ReasonMalformed, "the entry of the %s has %d bytes, want at least %d", what, len(data), addressBytes)
	}
	return binary.LittleEndian.Uint32(data), true, nil
}

// APReset is the address at which every virtual processor but the first begins under SEV-ES and SEV-SNP.
func (m *Image) APReset() (uint32, error) {
	at, ok, err := m.address(resetGUID, "reset block of SEV-ES")
	if err == nil && !ok {
		err = refusal.New(ReasonUnsupported, "the firmware has no reset block of SEV-ES: guests of more than one virtual processor do not start")
	}
	return at, err
}

// HashesTable is the address of the table of kernel hashes.
func (m *Image) HashesTable() (uint32, error) {
	at, ok, err := m.address(hashesGUID, "table of kernel hashes")
	if err == nil && (!ok || at == 0) {
		err = refusal.New(ReasonUnsupported, "the firmware has no table of kernel hashes: it starts what it likes, and the launch digest covers it alone (edk2's AmdSev build has one)")
	}
	return at, err
}

// behind returns the bytes of the image that begin so many bytes before its end, as an entry says.
func (m *Image) behind(name guid, what string, least int) ([]byte, error) {
	offset, ok, err := m.address(name, what)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, refusal.New(ReasonUnsupported, "the firmware has no %s: it is not made for such guests", what)
	case int64(offset) > int64(len(m.raw)) || int(offset) < least:
		return nil, refusal.New(ReasonMalformed, "the %s lie %d bytes before the end of an image of %d", what, offset, len(m.raw))
	}
	return m.raw[len(m.raw)-int(offset):], nil
}
