package initrd

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// ReasonSuperblock means that the hash partition is not one that image/build makes.
const ReasonSuperblock refusal.Reason = "verity-superblock"

// Superblock of dm-verity (cryptsetup, docs/DMVerity and lib/verity/verity.c), as image/build writes it.
const (
	// SuperblockBytes is how many bytes [ParseSuperblock] looks at.
	SuperblockBytes = 512
	// VerityBlockBytes is the size of blocks of data and of hashes.
	VerityBlockBytes = 4096

	versionAt, typeAt         = 8, 12
	algorithmAt, dataSizeAt   = 32, 64
	hashSizeAt, dataBlocksAt  = 68, 72
	saltSizeAt, saltAt        = 80, 88
	saltBytes, algorithmBytes = 32, 32
	maxDataBlocks             = 1 << 28 // a TiB
)

// Superblock are the parameters of a verified device that are not fixed.
type Superblock struct {
	// DataBlocks is how many blocks of data there are.
	DataBlocks uint64
	// Salt goes before every block.
	Salt [saltBytes]byte
}

// ParseSuperblock reads the beginning of the hash partition. Nothing vouches for it: another algorithm or another salt gives
// another root hash, and fewer blocks end in errors of reading, not in other data. It is refused all the same, so that
// the kernel is never asked for anything but what was built.
func ParseSuperblock(raw []byte) (s Superblock, err error) {
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(raw[at:]) }
	switch {
	case len(raw) < SuperblockBytes || string(raw[:8]) != "verity\x00\x00":
		return s, refusal.New(ReasonSuperblock, "the hash partition has no superblock of dm-verity")
	case u32(versionAt) != 1 || u32(typeAt) != 1:
		return s, refusal.New(ReasonSuperblock, "got version %d and type %d, want 1 and 1", u32(versionAt), u32(typeAt))
	case u32(dataSizeAt) != VerityBlockBytes || u32(hashSizeAt) != VerityBlockBytes:
		return s, refusal.New(ReasonSuperblock, "got blocks of %d and %d bytes, want %d", u32(dataSizeAt), u32(hashSizeAt), VerityBlockBytes)
	}
	algorithm, _, _ := bytes.Cut(raw[algorithmAt:algorithmAt+algorithmBytes], []byte{0})
	if string(algorithm) != "sha256" {
		return s, refusal.New(ReasonSuperblock, "got the algorithm %q, want sha256", algorithm)
	}
	if n := binary.LittleEndian.Uint16(raw[saltSizeAt:]); n != saltBytes {
		return s, refusal.New(ReasonSuperblock, "got a salt of %d bytes, want %d", n, saltBytes)
	}
	copy(s.Salt[:], raw[saltAt:])
	s.DataBlocks = binary.LittleEndian.Uint64(raw[dataBlocksAt:])
	if s.DataBlocks == 0 || s.DataBlocks > maxDataBlocks {
		return s, refusal.New(ReasonSuperblock, "got %d blocks, want 1 to %d", s.DataBlocks, maxDataBlocks)
	}
	return s, nil
}

// Sectors is the size of the verified device in units of 512 bytes.
func (s Superblock) Sectors() uint64 { return s.DataBlocks * (VerityBlockBytes / 512) }

// features are the optional arguments of dm-verity: a block that differs ends the machine, since a guest whose disk changes under it has
// nothing left to trust, and so does one that cannot be read, or the host could choose which files of the image fail. The second is the
// kernel's since 6.12; an older one refuses the table, and nothing boots.
var features = []string{"panic_on_corruption", "panic_on_error"}

// Table is the line by which the kernel's dm-verity is told what to verify (Documentation/admin-guide/device-mapper/verity.rst).
func (s Superblock) Table(data, hashes string, rootHash [32]byte) string {
	return fmt.Sprintf("1 %s %s %d %d %d 1 sha256 %s %s %d %s", data, hashes, VerityBlockBytes, VerityBlockBytes, s.DataBlocks,
		hex.EncodeToString(rootHash[:]), hex.EncodeToString(s.Salt[:]), len(features), strings.Join(features, " "))
}
