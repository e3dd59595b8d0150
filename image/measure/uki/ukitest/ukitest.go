// Package ukitest makes small PE files and unified kernel images for tests, which no firmware would run.
package ukitest

import (
	"encoding/binary"
	"fmt"
)

// Section is a part of a file.
type Section struct {
	Name string
	Data []byte
	// More is how much larger the section is in memory than in the file; negative if it is smaller.
	More int
}

// File is a PE file.
type File struct {
	Sections []Section
	// Tail follows the last section, Certificates follow that.
	Tail, Certificates []byte
}

const (
	optionalAt, optionalBytes = 0x98, 240
	sectionsAt                = optionalAt + optionalBytes
	fileAlignment             = 512
	memoryAlignment           = 4096
)

func round(n, to int) int { return (n + to - 1) / to * to }

// Make makes the file. Its headers end at a multiple of 512 bytes, and so does each section.
func (f File) Make() []byte {
	headers := round(sectionsAt+40*len(f.Sections), fileAlignment)
	raw := make([]byte, headers)
	copy(raw, "MZ")
	put16 := func(at int, n int) { binary.LittleEndian.PutUint16(raw[at:], uint16(n)) }
	put32 := func(at int, n int) { binary.LittleEndian.PutUint32(raw[at:], uint32(n)) }
	put32(0x3c, 0x80)
	copy(raw[0x80:], "PE\x00\x00")
	put16(0x84, 0x8664)
	put16(0x86, len(f.Sections))
	put16(0x94, optionalBytes)
	put16(optionalAt, 0x20b)
	put32(optionalAt+60, headers)
	put32(optionalAt+64, 0x12345678) // a checksum, which counts for nothing
	put32(optionalAt+108, 16)
	address := memoryAlignment
	for i, s := range f.Sections {
		at := sectionsAt + 40*i
		copy(raw[at:at+8], s.Name)
		size := round(len(s.Data), fileAlignment)
		put32(at+8, len(s.Data)+s.More)
		put32(at+12, address)
		put32(at+16, size)
		if size > 0 {
			put32(at+20, len(raw))
		}
		raw = append(raw, s.Data...)
		raw = append(raw, make([]byte, size-len(s.Data))...)
		address += round(max(len(s.Data)+s.More, 1), memoryAlignment)
	}
	raw = append(raw, f.Tail...)
	if len(f.Certificates) > 0 {
		put32(optionalAt+144, len(raw))
		put32(optionalAt+148, len(f.Certificates))
		raw = append(raw, f.Certificates...)
	}
	return raw
}

// Kernel is a program that stands for a kernel of a name.
func Kernel(name string) []byte {
	return File{Sections: []Section{{Name: ".text", Data: []byte("kernel " + name)}}}.Make()
}

// Image is a unified kernel image with a stub of a version and these sections.
func Image(stub int, sections ...Section) []byte {
	mark := fmt.Sprintf("#### LoaderInfo: systemd-stub %d.9-1 ####\x00", stub)
	all := []Section{{Name: ".text", Data: []byte("stub")}, {Name: ".sdmagic", Data: []byte(mark)}}
	return File{Sections: append(all, sections...)}.Make()
}

// Usual are the sections of a small image; the command line is given.
func Usual(cmdline string) []Section {
	return []Section{
		{Name: ".osrel", Data: []byte("ID=debian\n")}, {Name: ".cmdline", Data: []byte(cmdline)},
		{Name: ".initrd", Data: []byte("an initial RAM disk")}, {Name: ".linux", Data: Kernel("6.12")},
	}
}
