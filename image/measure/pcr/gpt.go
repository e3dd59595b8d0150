package pcr

import (
	"encoding/binary"
	"io"

	"github.com/anchorhold/anchorhold/image/gpt"
)

// PartitionTable is the data of the event EV_EFI_GPT_EVENT of a disk with blocks of 512 bytes: the header of
// its GUID partition table, the number of partitions, and the entries that are in use (UEFI_GPT_DATA).
func PartitionTable(disk io.ReaderAt) ([]byte, error) {
	table, err := gpt.Read(disk)
	if err != nil {
		return nil, err
	}
	out := binary.LittleEndian.AppendUint64(table.Header, uint64(len(table.Entries)))
	for _, e := range table.Entries {
		out = append(out, e.Raw...)
	}
	return out, nil
}
