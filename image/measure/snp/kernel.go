package snp

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/image/measure/firmware"
)

// KernelHashes are the SHA-256 digests of what QEMU loads for the firmware with -kernel, -initrd and -append.
// The firmware refuses anything else, so that a digest with them covers the image.
type KernelHashes struct{ kernel, initrd, cmdline [sha256.Size]byte }

// HashKernel hashes a kernel, which may be a unified kernel image, its initial RAM disk and its command line. No
// command line and an empty one are the same to QEMU; a blank is another one. No initial RAM disk is an empty one.
func HashKernel(kernel, initrd []byte, cmdline string) KernelHashes {
	return KernelHashes{sha256.Sum256(kernel), sha256.Sum256(initrd), sha256.Sum256(append([]byte(cmdline), 0))}
}

// The names of the table and of its entries, in QEMU's target/i386/sev.c, in the order of memory.
var (
	tableName   = [16]byte{0x06, 0xd6, 0x38, 0x94, 0x22, 0x4f, 0xc9, 0x4c, 0xb4, 0x79, 0xa7, 0x93, 0xd4, 0x11, 0xfd, 0x21}
	kernelName  = [16]byte{0x37, 0x94, 0xe7, 0x4d, 0xd2, 0xab, 0x7f, 0x42, 0xb8, 0x35, 0xd5, 0xb1, 0x72, 0xd2, 0x04, 0x5b}
	initrdName  = [16]byte{0x31, 0xf7, 0xba, 0x44, 0x2f, 0x3a, 0xd7, 0x4b, 0x9a, 0xf1, 0x41, 0xe2, 0x91, 0x69, 0x78, 0x1d}
	cmdlineName = [16]byte{0xd8, 0x2d, 0xd0, 0x97, 0x20, 0xbd, 0x94, 0x4c, 0xaa, 0x78, 0xe7, 0x71, 0x4d, 0x36, 0xab, 0x2a}
)

const (
	hashHeadBytes  = 16 + 2 // name and size
	hashEntryBytes = hashHeadBytes + sha256.Size
	hashTableBytes = hashHeadBytes + 3*hashEntryBytes
	hashAlignment  = 16
)

// page is the page that QEMU writes, with the table at an offset, padded to a multiple of 16.
func (k KernelHashes) page(offset int) ([]byte, error) {
	const padded = (hashTableBytes + hashAlignment - 1) / hashAlignment * hashAlignment
	if offset < 0 || offset+padded > firmware.PageBytes {
		return nil, refusal.New(ReasonKernelHashes, "the firmware's table of kernel hashes begins %d bytes behind its page's begin, and does not fit into that page", offset)
	}
	page := make([]byte, offset, firmware.PageBytes)
	page = binary.LittleEndian.AppendUint16(append(page, tableName[:]...), hashTableBytes)
	for _, e := range []struct {
		name [16]byte
		hash [sha256.Size]byte
	}{{cmdlineName, k.cmdline}, {initrdName, k.initrd}, {kernelName, k.kernel}} {
		page = binary.LittleEndian.AppendUint16(append(page, e.name[:]...), hashEntryBytes)
		page = append(page, e.hash[:]...)
	}
	return page[:firmware.PageBytes], nil
}
