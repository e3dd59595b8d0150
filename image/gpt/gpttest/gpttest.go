// Package gpttest makes small disks with a GUID partition table, right or wrong, for tests of the packages that
// read them.
package gpttest

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// Places in a disk, for tests that change one.
const (
	Header, Entries = 512, 1024
	headerBytes     = 92
	// EntryBytes is the size of an entry.
	EntryBytes = 128
	slots      = 4
)

// Partition is an entry in use.
type Partition struct {
	// Type and ID are as in text.
	Type, ID [16]byte
	// First and Last are blocks.
	First, Last uint64
}

// Disk has a table of four entries, of which these are in use: the first, the third, and so on.
func Disk(partitions ...Partition) []byte {
	raw := make([]byte, 8*512)
	for i, p := range partitions {
		at := raw[Entries+(2*i)%(2*slots-1)*EntryBytes:]
		copy(at, mixed(p.Type))
		copy(at[16:], mixed(p.ID))
		binary.LittleEndian.PutUint64(at[32:], p.First)
		binary.LittleEndian.PutUint64(at[40:], p.Last)
	}
	h := raw[Header:]
	copy(h, "EFI PART")
	binary.LittleEndian.PutUint32(h[12:], headerBytes)
	binary.LittleEndian.PutUint64(h[72:], 2)
	binary.LittleEndian.PutUint32(h[80:], slots)
	binary.LittleEndian.PutUint32(h[84:], EntryBytes)
	return Sum(raw)
}

// mixed is an id in the order of a table's bytes.
func mixed(id [16]byte) []byte {
	raw := slices.Clone(id[:])
	slices.Reverse(raw[:4])
	slices.Reverse(raw[4:6])
	slices.Reverse(raw[6:8])
	return raw
}

// Sum writes the checksums of a disk anew and returns it.
func Sum(raw []byte) []byte {
	h := raw[Header : Header+headerBytes]
	binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(raw[Entries:Entries+slots*EntryBytes]))
	clear(h[16:20])
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	return raw
}
