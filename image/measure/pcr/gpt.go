package pcr

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// ReasonDisk means that the disk has no partition table that firmware would measure.
const ReasonDisk refusal.Reason = "partition-table-malformed"

const (
	blockBytes = 512

	gptHeaderBytes           = 92
	gptEntryBytes            = 128
	gptMaxEntries            = 1024
	gptSizeAt, gptChecksumAt = 12, 16
	gptEntriesAt, gptCountAt = 72, 80
	gptEntrySizeAt           = 84
	gptTableChecksumAt       = 88
	gptTypeBytes             = 16
)

// PartitionTable is the data of the event EV_EFI_GPT_EVENT of a disk with blocks of 512 bytes: the header of
// its GUID partition table, the number of partitions, and the entries that are in use (UEFI_GPT_DATA).
func PartitionTable(disk io.ReaderAt) ([]byte, error) {
	header := make([]byte, gptHeaderBytes)
	if _, err := disk.ReadAt(header, blockBytes); err != nil || string(header[:8]) != "EFI PART" {
		return nil, refusal.New(ReasonDisk, "the disk image has no GUID partition table in its second block of %d bytes", blockBytes)
	}
	size, count, entry := binary.LittleEndian.Uint32(header[gptSizeAt:]), binary.LittleEndian.Uint32(header[gptCountAt:]), binary.LittleEndian.Uint32(header[gptEntrySizeAt:])
	block := binary.LittleEndian.Uint64(header[gptEntriesAt:])
	const farthest = 1 << 40 // blocks; no disk has more
	if size != gptHeaderBytes || entry != gptEntryBytes || count == 0 || count > gptMaxEntries || block < 2 || block > farthest {
		return nil, refusal.New(ReasonDisk, "the partition table has a header of %d bytes and %d entries of %d bytes at block %d", size, count, entry, block)
	}
	sum := bytes.Clone(header)
	clear(sum[gptChecksumAt : gptChecksumAt+4])
	entries := make([]byte, count*entry)
	if _, err := disk.ReadAt(entries, int64(block)*blockBytes); err != nil {
		return nil, refusal.New(ReasonDisk, "the partition table is cut short: %w", err)
	}
	if crc32.ChecksumIEEE(sum) != binary.LittleEndian.Uint32(header[gptChecksumAt:]) || crc32.ChecksumIEEE(entries) != binary.LittleEndian.Uint32(header[gptTableChecksumAt:]) {
		return nil, refusal.New(ReasonDisk, "a checksum of the partition table is wrong: firmware would use the copy at the disk's end, or none")
	}
	var used []byte
	for ; len(entries) > 0; entries = entries[gptEntryBytes:] {
		if !bytes.Equal(entries[:gptTypeBytes], make([]byte, gptTypeBytes)) {
			used = append(used, entries[:gptEntryBytes]...)
		}
	}
	out := binary.LittleEndian.AppendUint64(header, uint64(len(used)/gptEntryBytes))
	return append(out, used...), nil
}
