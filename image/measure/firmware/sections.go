package firmware

import (
	"encoding/binary"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// SectionType says what SEV-SNP's launch puts into a section's pages.
type SectionType uint32

// The types of OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm.
const (
	SectionMemory       SectionType = 1 // zeros, accepted before the guest runs
	SectionSecrets      SectionType = 2
	SectionCPUID        SectionType = 3
	SectionSVSMCAA      SectionType = 4 // the calling area of an SVSM, zero at launch
	SectionKernelHashes SectionType = 0x10
)

// Section is a row of the SEV metadata.
type Section struct {
	Address uint32
	Bytes   uint32
	Type    SectionType
}

const (
	sevHeadBytes = 16
	sevVersion   = 1

	tdvfHeadBytes    = 16
	tdvfRowBytes     = 32
	tdvfVersion      = 1
	tdvfMeasured     = 1 << 0 // MR.EXTEND
	tdvfAugmented    = 1 << 1 // PAGE.AUG: added while the guest runs, and in no measurement
	tdvfKnown        = tdvfMeasured | tdvfAugmented
	tdvfHighestKnown = 6
)

// SEV are the pages besides the image that SEV-SNP's launch adds, in the image's order.
func (m *Image) SEV() ([]Section, error) {
	data, err := m.behind(metadataGUID, "SEV metadata", sevHeadBytes)
	if err != nil {
		return nil, err
	}
	size, version, count := binary.LittleEndian.Uint32(data[4:]), binary.LittleEndian.Uint32(data[8:]), binary.LittleEndian.Uint32(data[12:])
	switch {
	case string(data[:4]) != "ASEV":
		return nil, refusal.New(ReasonMalformed, "the SEV metadata begin with %q, want ASEV", data[:4])
	case version != sevVersion:
		return nil, refusal.New(ReasonUnsupported, "the SEV metadata are of version %d, want %d", version, sevVersion)
	case count > maxSections || int64(size) > int64(len(data)) || int64(size) != sevHeadBytes+int64(count)*sectionRowBytes:
		return nil, refusal.New(ReasonMalformed, "the SEV metadata have %d sections in %d bytes", count, size)
	}
	sections, total := make([]Section, 0, count), uint64(0)
	for row := data[sevHeadBytes:size]; len(row) > 0; row = row[sectionRowBytes:] {
		s := Section{binary.LittleEndian.Uint32(row), binary.LittleEndian.Uint32(row[4:]), SectionType(binary.LittleEndian.Uint32(row[8:]))}
		if err := s.check(); err != nil {
			return nil, err
		}
		if total += uint64(s.Bytes); total > MaxSectionBytes {
			return nil, refusal.New(ReasonLimit, "the SEV metadata name more than %d bytes of memory", MaxSectionBytes)
		}
		sections = append(sections, s)
	}
	return sections, nil
}

func (s Section) check() error {
	switch s.Type {
	case SectionMemory:
	case SectionSecrets, SectionCPUID, SectionSVSMCAA, SectionKernelHashes:
		if s.Bytes != PageBytes {
			return refusal.New(ReasonMalformed, "a section of type %d has %d bytes, want one page", s.Type, s.Bytes)
		}
	default:
		return refusal.New(ReasonUnsupported, "the SEV metadata have a section of type %d, which this version does not know", s.Type)
	}
	if s.Address%PageBytes != 0 || s.Bytes%PageBytes != 0 || s.Bytes == 0 || uint64(s.Address)+uint64(s.Bytes) > fourGiB {
		return refusal.New(ReasonMalformed, "a section lies at %#x with %#x bytes, want whole pages below 4 GiB", s.Address, s.Bytes)
	}
	return nil
}

// TDXSection is a row of the TDVF metadata.
type TDXSection struct {
	// Data are the section's bytes in the image; shorter than Bytes where zeros follow.
	Data    []byte
	Address uint64
	Bytes   uint64 // of memory
	// Measured says that the contents are, not only the addresses of the pages.
	Measured bool
	// Augmented says that the pages are added while the guest runs, and are in no measurement.
	Augmented bool
}

// TDX are the sections of a trust domain's launch, in the image's order.
func (m *Image) TDX() ([]TDXSection, error) {
	data, err := m.behind(tdvfGUID, "TDX metadata", tdvfHeadBytes)
	if err != nil {
		return nil, err
	}
	size, version, count := binary.LittleEndian.Uint32(data[4:]), binary.LittleEndian.Uint32(data[8:]), binary.LittleEndian.Uint32(data[12:])
	switch {
	case string(data[:4]) != "TDVF":
		return nil, refusal.New(ReasonMalformed, "the TDX metadata begin with %q, want TDVF", data[:4])
	case version != tdvfVersion:
		return nil, refusal.New(ReasonUnsupported, "the TDX metadata are of version %d, want %d", version, tdvfVersion)
	case count > maxSections || int64(size) > int64(len(data)) || int64(size) != tdvfHeadBytes+int64(count)*tdvfRowBytes:
		return nil, refusal.New(ReasonMalformed, "the TDX metadata have %d sections in %d bytes", count, size)
	}
	sections, total := make([]TDXSection, 0, count), uint64(0)
	for row := data[tdvfHeadBytes:size]; len(row) > 0; row = row[tdvfRowBytes:] {
		s, err := m.tdxSection(row)
		if err != nil {
			return nil, err
		}
		if !s.Augmented {
			total += s.Bytes
		}
		if total > MaxSectionBytes {
			return nil, refusal.New(ReasonLimit, "the TDX metadata name more than %d bytes of memory", MaxSectionBytes)
		}
		sections = append(sections, s)
	}
	return sections, nil
}

func (m *Image) tdxSection(row []byte) (TDXSection, error) {
	offset, raw := binary.LittleEndian.Uint32(row), binary.LittleEndian.Uint32(row[4:])
	s := TDXSection{Address: binary.LittleEndian.Uint64(row[8:]), Bytes: binary.LittleEndian.Uint64(row[16:])}
	kind, attributes := binary.LittleEndian.Uint32(row[24:]), binary.LittleEndian.Uint32(row[28:])
	s.Measured, s.Augmented = attributes&tdvfMeasured != 0, attributes&tdvfAugmented != 0
	switch {
	case kind > tdvfHighestKnown || attributes&^tdvfKnown != 0:
		return s, refusal.New(ReasonUnsupported, "the TDX metadata have a section of type %d with attributes %#x, which this version does not know", kind, attributes)
	case uint64(offset)+uint64(raw) > uint64(len(m.raw)):
		return s, refusal.New(ReasonMalformed, "a section's data lie at %#x with %#x bytes, outside an image of %#x", offset, raw, len(m.raw))
	case uint64(raw) > s.Bytes || s.Address%PageBytes != 0 || s.Bytes%PageBytes != 0 || s.Bytes == 0:
		return s, refusal.New(ReasonMalformed, "a section lies at %#x with %#x bytes for %#x of data, want whole pages that hold the data", s.Address, s.Bytes, raw)
	case s.Address+s.Bytes < s.Address:
		return s, refusal.New(ReasonMalformed, "a section at %#x with %#x bytes leaves the address space", s.Address, s.Bytes)
	case s.Measured && s.Augmented || s.Measured && uint64(raw) != s.Bytes:
		return s, refusal.New(ReasonMalformed, "a measured section at %#x is added while the guest runs, or has %#x bytes of data for %#x", s.Address, raw, s.Bytes)
	}
	s.Data = m.raw[offset : offset+raw]
	return s, nil
}
