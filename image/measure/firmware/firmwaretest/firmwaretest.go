// Package firmwaretest makes small firmware images for tests, with the table of GUIDs and the metadata that a
// test wants, and nothing that would run.
package firmwaretest

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
)

// Names of entries in the byte order of an image.
var (
	Footer   = [16]byte{0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d}
	Reset    = [16]byte{0xde, 0x71, 0xf7, 0x00, 0x7e, 0x1a, 0xcb, 0x4f, 0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e}
	Hashes   = [16]byte{0x1f, 0x37, 0x55, 0x72, 0x3b, 0x3a, 0x04, 0x4b, 0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54}
	Metadata = [16]byte{0x66, 0x65, 0x88, 0xdc, 0x4a, 0x98, 0x98, 0x47, 0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc}
	TDVF     = [16]byte{0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2}
)

// tdvfMark stands before the TDX metadata (e9eaf9f3-168e-44d5-a8eb-7f4d8738f6ae). Other readers look for it.
var tdvfMark = [16]byte{0xf3, 0xf9, 0xea, 0xe9, 0x8e, 0x16, 0xd5, 0x44, 0xa8, 0xeb, 0x7f, 0x4d, 0x87, 0x38, 0xf6, 0xae}

const pageBytes = 4096

// Entry is one of the table, in the order from the footer upwards.
type Entry struct {
	Name [16]byte
	Data []byte
}

// Image is what to make.
type Image struct {
	// Bytes is the size of the image.
	Bytes int
	// SEV are rows of address, size and type.
	SEV [][3]uint32
	// TDX are rows of offset, size of the data, address, size of memory, type and attributes.
	TDX [][6]uint64
	// Reset and Hashes are the addresses in their entries; 0 leaves them out.
	Reset, Hashes uint32
	// More entries follow those.
	More []Entry
}

// AmdSev is a small image with everything that edk2's build for SEV has, and two pages of TDX.
func AmdSev() Image {
	return Image{
		Bytes: 4 * pageBytes, Reset: 0x80b004, Hashes: 0x810c00,
		SEV: [][3]uint32{{0x800000, 0x9000, 1}, {0x80a000, 0x3000, 1}, {0x80d000, 0x1000, 2}, {0x80e000, 0x1000, 3}, {0x80f000, 0x1000, 4}, {0x810000, 0x1000, 0x10}, {0x811000, 0xf000, 1}},
		TDX: [][6]uint64{{pageBytes, 3 * pageBytes, 0xffffd000, 3 * pageBytes, 0, 1}, {0, pageBytes, 0xffffc000, pageBytes, 1, 0}, {0, 0, 0x810000, 2 * pageBytes, 3, 0}, {0, 0, 0x809000, pageBytes, 2, 0}, {0, 0, 0x100000000, pageBytes, 4, 2}},
	}
}

// Make makes the image. Its other bytes are random and the same each time.
func (m Image) Make() []byte {
	raw := make([]byte, m.Bytes)
	source := rand.New(rand.NewPCG(1, 2))
	for i := range raw {
		raw[i] = byte(source.Uint32())
	}
	const metadataBehind, tdvfBehind, tableBehind = 0x600, 0xa00, 32
	entries := []Entry{}
	add := func(name [16]byte, value uint32) {
		entries = append(entries, Entry{name, binary.LittleEndian.AppendUint32(nil, value)})
	}
	if m.Reset != 0 {
		add(Reset, m.Reset)
	}
	if m.Hashes != 0 {
		add(Hashes, m.Hashes)
	}
	if m.SEV != nil {
		add(Metadata, metadataBehind)
		copy(raw[len(raw)-metadataBehind:], m.metadata())
	}
	if m.TDX != nil {
		add(TDVF, tdvfBehind)
		copy(raw[len(raw)-tdvfBehind-len(tdvfMark):], tdvfMark[:])
		copy(raw[len(raw)-tdvfBehind:], m.tdvf())
	}
	table := Table(append(entries, m.More...)...)
	copy(raw[len(raw)-tableBehind-len(table):], table)
	return raw
}

// Table is a table of GUIDs with its footer.
func Table(entries ...Entry) []byte {
	var table []byte
	for _, e := range slices.Backward(entries) {
		table = append(table, e.Data...)
		table = binary.LittleEndian.AppendUint16(table, uint16(len(e.Data)+18))
		table = append(table, e.Name[:]...)
	}
	table = binary.LittleEndian.AppendUint16(table, uint16(len(table)+18))
	return append(table, Footer[:]...)
}

func head(signature string, size, count int) []byte {
	b := []byte(signature)
	for _, n := range []int{size, 1, count} {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return b
}

func (m Image) metadata() []byte {
	b := head("ASEV", 16+12*len(m.SEV), len(m.SEV))
	for _, row := range m.SEV {
		for _, n := range row {
			b = binary.LittleEndian.AppendUint32(b, n)
		}
	}
	return b
}

func (m Image) tdvf() []byte {
	b := head("TDVF", 16+32*len(m.TDX), len(m.TDX))
	for _, r := range m.TDX {
		b = binary.LittleEndian.AppendUint32(b, uint32(r[0]))
		b = binary.LittleEndian.AppendUint32(b, uint32(r[1]))
		b = binary.LittleEndian.AppendUint64(b, r[2])
		b = binary.LittleEndian.AppendUint64(b, r[3])
		b = binary.LittleEndian.AppendUint32(b, uint32(r[4]))
		b = binary.LittleEndian.AppendUint32(b, uint32(r[5]))
	}
	return b
}
