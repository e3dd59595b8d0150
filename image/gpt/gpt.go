package gpt

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// ReasonTable means that the disk has no partition table that firmware would use.
const ReasonTable refusal.Reason = "partition-table-malformed"

// BlockBytes is the size of a disk's block.
const BlockBytes = 512

const (
	headerBytes          = 92
	maxEntries           = 1024
	sizeAt, checksumAt   = 12, 16
	entriesAt, countAt   = 72, 80
	entrySizeAt          = 84
	tableChecksumAt      = 88
	farthest             = 1 << 40 // blocks; no disk has more
	typeAt, idAt         = 0, 16
	firstBlockAt, lastAt = 32, 40
	entryBytes           = 128
)

// Entry is a partition's.
type Entry struct {
	// Number is the partition's, from 1 on.
	Number int
	// Type and ID are the partition's.
	Type, ID ID
	// First and Last are its first and its last block, as the table says: on no such disk, perhaps.
	First, Last uint64
	// Raw are the entry's bytes.
	Raw []byte
}

// Table is a partition table whose checksums are right.
type Table struct {
	// Header are its bytes, without what fills the block.
	Header []byte
	// Entries are those in use, in the table's order.
	Entries []Entry
}

// Read reads the table in a disk's second block.
func Read(disk io.ReaderAt) (*Table, error) {
	header := make([]byte, headerBytes)
	if _, err := disk.ReadAt(header, BlockBytes); err != nil || string(header[:8]) != "EFI PART" {
		return nil, refusal.New(ReasonTable, "the disk has no GUID partition table in its second block of %d bytes", BlockBytes)
	}
	size, count, entry := binary.LittleEndian.Uint32(header[sizeAt:]), binary.LittleEndian.Uint32(header[countAt:]), binary.LittleEndian.Uint32(header[entrySizeAt:])
	block := binary.LittleEndian.Uint64(header[entriesAt:])
	if size != headerBytes || entry != entryBytes || count == 0 || count > maxEntries || block < 2 || block > farthest {
		return nil, refusal.New(ReasonTable, "the partition table has a header of %d bytes and %d entries of %d bytes at block %d", size, count, entry, block)
	}
	sum := bytes.Clone(header)
	clear(sum[checksumAt : checksumAt+4])
	entries := make([]byte, count*entry)
	if _, err := disk.ReadAt(entries, int64(block)*BlockBytes); err != nil {
		return nil, refusal.New(ReasonTable, "the partition table is cut short: %w", err)
	}
	if crc32.ChecksumIEEE(sum) != binary.LittleEndian.Uint32(header[checksumAt:]) || crc32.ChecksumIEEE(entries) != binary.LittleEndian.Uint32(header[tableChecksumAt:]) {
		return nil, refusal.New(ReasonTable, "a checksum of the partition table is wrong: firmware would use the copy at the disk's end, or none")
	}
	t := &Table{Header: header}
	for number := 1; len(entries) > 0; number, entries = number+1, entries[entryBytes:] {
		raw := entries[:entryBytes]
		e := Entry{Number: number, Type: idOf(raw[typeAt:]), ID: idOf(raw[idAt:]), Raw: raw,
			First: binary.LittleEndian.Uint64(raw[firstBlockAt:]), Last: binary.LittleEndian.Uint64(raw[lastAt:])}
		if e.Type != (ID{}) {
			t.Entries = append(t.Entries, e)
		}
	}
	return t, nil
}
