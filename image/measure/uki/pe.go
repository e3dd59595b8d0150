package uki

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Limits of a file.
const (
	// MaxBytes bounds a file; images with a whole system in their initial RAM disk have some hundred MiB.
	MaxBytes    = 1 << 30
	maxSections = 96 // what Windows' loader takes
)

// Reasons of this package.
const (
	// ReasonMalformed: the file is no PE file, or its headers contradict themselves or its size.
	ReasonMalformed refusal.Reason = "pe-malformed"
	// ReasonUnsupported: the file is of a kind, or by a stub, that this version does not know how to measure.
	ReasonUnsupported refusal.Reason = "uki-unsupported"
	// ReasonLimit: the file is above a limit.
	ReasonLimit refusal.Reason = "pe-limit"
)

// Offsets and sizes of a PE32+ file.
const (
	dosHeaderBytes, peOffsetAt  = 64, 0x3c
	coffBytes, peSignatureBytes = 20, 4
	sectionCountAt, optionalAt  = 2, 16
	optionalMagicPlus           = 0x20b
	headersBytesAt, checksumAt  = 60, 64
	directoryCountAt            = 108
	directoriesAt               = 112
	directoryBytes              = 8
	certificateDirectory        = 4
	sectionHeaderBytes          = 40
	checksumBytes               = 4
)

// Section is a part of a file.
type Section struct {
	// Name is up to 8 bytes without their padding.
	Name string
	// virtualBytes is the size in memory.
	virtualBytes uint32
	offset, size uint32
}

// File is a PE32+ file whose headers were checked.
type File struct {
	raw                   []byte
	sections              []Section
	checksum, certificate int // offsets; certificate is 0 without such a directory
	headers, signed       int // sizes: of all headers, and of the certificates at the end
}

// Parse checks a file.
func Parse(raw []byte) (*File, error) {
	switch {
	case len(raw) > MaxBytes:
		return nil, refusal.New(ReasonLimit, "got %d bytes, want at most %d", len(raw), MaxBytes)
	case len(raw) < dosHeaderBytes || string(raw[:2]) != "MZ":
		return nil, refusal.New(ReasonMalformed, "the file is no PE file: it does not begin with MZ")
	}
	at := int64(binary.LittleEndian.Uint32(raw[peOffsetAt:]))
	optional := at + peSignatureBytes + coffBytes
	if optional+directoriesAt > int64(len(raw)) || string(raw[at:at+peSignatureBytes]) != "PE\x00\x00" {
		return nil, refusal.New(ReasonMalformed, "the file has no PE header at %#x", at)
	}
	coff := raw[at+peSignatureBytes:]
	f := &File{raw: raw, checksum: int(optional) + checksumAt}
	count, optionalBytes := int64(binary.LittleEndian.Uint16(coff[sectionCountAt:])), int64(binary.LittleEndian.Uint16(coff[optionalAt:]))
	if err := f.readOptional(raw[optional:], int(optional), optionalBytes); err != nil {
		return nil, err
	}
	return f, f.readSections(optional+optionalBytes, count)
}

// readOptional reads the header that is optional in object files alone.
func (f *File) readOptional(header []byte, at int, size int64) error {
	if magic := binary.LittleEndian.Uint16(header); magic != optionalMagicPlus {
		return refusal.New(ReasonUnsupported, "the PE file is of kind %#x, want %#x (PE32+, for 64-bit machines)", magic, optionalMagicPlus)
	}
	directories := int64(binary.LittleEndian.Uint32(header[directoryCountAt:]))
	if size < directoriesAt || directories > 16 || size < directoriesAt+directories*directoryBytes || int64(len(header)) < size {
		return refusal.New(ReasonMalformed, "the optional header has %d bytes for %d directories", size, directories)
	}
	f.headers = int(binary.LittleEndian.Uint32(header[headersBytesAt:]))
	if int64(f.headers) < int64(at)+size || f.headers > len(f.raw) {
		return refusal.New(ReasonMalformed, "the headers have %d bytes in a file of %d", f.headers, len(f.raw))
	}
	if directories <= certificateDirectory {
		return nil
	}
	f.certificate = at + directoriesAt + certificateDirectory*directoryBytes
	offset, bytes := int64(binary.LittleEndian.Uint32(f.raw[f.certificate:])), int64(binary.LittleEndian.Uint32(f.raw[f.certificate+4:]))
	if bytes == 0 {
		return nil
	}
	// Firmware hashes all but the last so many bytes. Certificates elsewhere would be hashed as the program's and
	// the program's end be left out.
	if offset < int64(f.headers) || offset+bytes != int64(len(f.raw)) {
		return refusal.New(ReasonMalformed, "the certificates lie at %#x with %d bytes, want them at the end of a file of %d", offset, bytes, len(f.raw))
	}
	f.signed = int(bytes)
	return nil
}

func (f *File) readSections(at, count int64) error {
	if count == 0 || count > maxSections || at+count*sectionHeaderBytes > int64(f.headers) {
		return refusal.New(ReasonMalformed, "the file has %d sections behind %#x in headers of %d bytes, want 1 to %d", count, at, f.headers, maxSections)
	}
	end := int64(len(f.raw) - f.signed)
	for row := f.raw[at : at+count*sectionHeaderBytes]; len(row) > 0; row = row[sectionHeaderBytes:] {
		name, _, _ := bytes.Cut(row[:8], []byte{0})
		s := Section{string(name), binary.LittleEndian.Uint32(row[8:]), binary.LittleEndian.Uint32(row[20:]), binary.LittleEndian.Uint32(row[16:])}
		switch {
		case s.size > 0 && (int64(s.offset) < int64(f.headers) || int64(s.offset)+int64(s.size) > end):
			return refusal.New(ReasonMalformed, "section %q lies at %#x with %d bytes, outside the file", s.Name, s.offset, s.size)
		case s.virtualBytes > MaxBytes:
			return refusal.New(ReasonLimit, "section %q has %d bytes in memory, want at most %d", s.Name, s.virtualBytes, MaxBytes)
		}
		f.sections = append(f.sections, s)
	}
	return nil
}

// Authenticode writes into h what firmware hashes of the file: all of it but the checksum, the directory's
// entry of certificates and the certificates.
func (f *File) Authenticode(h hash.Hash) []byte {
	write := func(from, to int) { h.Write(f.raw[from:to]) } // a hash takes everything
	write(0, f.checksum)
	if f.certificate == 0 {
		write(f.checksum+checksumBytes, f.headers)
	} else {
		write(f.checksum+checksumBytes, f.certificate)
		write(f.certificate+directoryBytes, f.headers)
	}
	sections := slices.Clone(f.sections)
	slices.SortStableFunc(sections, func(a, b Section) int { return cmp.Compare(a.offset, b.offset) })
	hashed := int64(f.headers)
	for _, s := range sections {
		if s.size > 0 {
			write(int(s.offset), int(s.offset+s.size))
			hashed += int64(s.size)
		}
	}
	// As edk2 does, by the number of bytes and not by the last section's end.
	if end := int64(len(f.raw) - f.signed); end > hashed {
		write(int(hashed), int(end))
	}
	return h.Sum(nil)
}

// Section returns a section as a program sees it in memory: cut to its size there, and with zeros where the
// file has less. ok is false if there is none. A name that comes twice is refused: programs differ in which they take.
func (f *File) Section(name string) (data []byte, ok bool, err error) {
	found := -1
	for i, s := range f.sections {
		if s.Name != name {
			continue
		}
		if found >= 0 {
			return nil, false, refusal.New(ReasonUnsupported, "the file has two sections %q", name)
		}
		found = i
	}
	if found < 0 {
		return nil, false, nil
	}
	s := f.sections[found]
	data = f.raw[s.offset : s.offset+min(s.size, s.virtualBytes)]
	if s.size < s.virtualBytes {
		data = append(slices.Clone(data), make([]byte, s.virtualBytes-s.size)...)
	}
	return data, true, nil
}
