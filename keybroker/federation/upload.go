package federation

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// BlockHash binds a block to its place: SHA-256 over label, round, index, bytes.
func BlockHash(round digest.RoundID, index uint64, block []byte) digest.Digest {
	h := blockHasher(round, index)
	h.Write(block)
	return digest.Sum(h)
}

func blockHasher(round digest.RoundID, index uint64) hash.Hash {
	h := sha256.New()
	h.Write([]byte("anchorhold/fed/block/1\x00"))
	h.Write(round[:])
	h.Write(binary.BigEndian.AppendUint64(nil, index))
	return h
}

// UploadDigest is the digest over all block hashes of a vector.
func UploadDigest(round digest.RoundID, hashes []digest.Digest) digest.Digest {
	h := sha256.New()
	h.Write([]byte("anchorhold/fed/upload/1\x00"))
	h.Write(round[:])
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(hashes))))
	for _, d := range hashes {
		h.Write(d[:])
	}
	return digest.Sum(h)
}

// MaxManifestBlocks bounds the hash list that is held in memory: 2^22 blocks are
// more than 10^10 values of the default set.
const MaxManifestBlocks = 1 << 22

// Manifest is what a participant sends before the blocks: the signed contribution
// and the hash of every block, so that each is checked as it arrives and nothing is
// stored for a stranger.
type Manifest struct {
	Signed []byte          // contribution
	Hashes []digest.Digest // of all blocks of the vector
}

// Marshal encodes the manifest.
func (m *Manifest) Marshal() ([]byte, error) {
	if len(m.Hashes) > MaxManifestBlocks || len(m.Signed) > MaxStatementBytes {
		return nil, malformed("manifest: over a limit")
	}
	var b cryptobyte.Builder
	b.AddBytes([]byte(manifestLabel))
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(m.Signed) })
	b.AddUint32(uint32(len(m.Hashes)))
	for _, d := range m.Hashes {
		b.AddBytes(d[:])
	}
	return b.Bytes()
}

const manifestLabel = "anchorhold/fed/manifest/1\n"

// MaxManifestBytes bounds an encoded manifest of so many blocks.
func MaxManifestBytes(blocks uint64) int64 {
	return int64(len(manifestLabel)) + MaxStatementBytes + 16 + 32*int64(min(blocks, MaxManifestBlocks))
}

// ParseManifest decodes. It checks no signature.
func ParseManifest(data []byte) (Manifest, error) {
	var m Manifest
	s := cryptobyte.String(data)
	var label []byte
	var signed cryptobyte.String
	var n uint32
	if !s.ReadBytes(&label, len(manifestLabel)) || string(label) != manifestLabel ||
		!s.ReadUint24LengthPrefixed(&signed) || len(signed) > MaxStatementBytes ||
		!s.ReadUint32(&n) || n > MaxManifestBlocks || uint64(len(s)) != 32*uint64(n) {
		return m, malformed("manifest: truncated, trailing bytes, or over a limit")
	}
	m.Signed = append([]byte(nil), signed...)
	m.Hashes = make([]digest.Digest, n)
	for i := range m.Hashes {
		if !s.CopyBytes(m.Hashes[i][:]) {
			return m, malformed("manifest: truncated")
		}
	}
	return m, nil
}

// Matches checks the hash list against the contribution that was signed.
func (m *Manifest) Matches(c Contribution) error {
	if uint64(len(m.Hashes)) != c.Blocks || UploadDigest(c.Round, m.Hashes) != c.Upload {
		return refusal.New(ReasonUpload, "the block hashes differ from the signed ones")
	}
	return nil
}

// CheckBlock checks one block as it arrives.
func (m *Manifest) CheckBlock(round digest.RoundID, index uint64, block []byte) error {
	if index >= uint64(len(m.Hashes)) || BlockHash(round, index, block) != m.Hashes[index] {
		return refusal.New(ReasonUpload, "block %d differs from the signed one", index)
	}
	return nil
}

// Columns is a part of a vector by blocks: First to First+Count.
type Columns struct{ First, Count uint64 }

// Shard is the part of the index-th of so many shards.
func Shard(blocks uint64, index, shards int) (Columns, error) {
	if shards < 1 || index < 0 || index >= shards {
		return Columns{}, fmt.Errorf("shard %d of %d does not exist", index, shards)
	}
	first, end := blocks*uint64(index)/uint64(shards), blocks*uint64(index+1)/uint64(shards)
	return Columns{First: first, Count: end - first}, nil
}
