package chunkseal

import (
	"bytes"
	"encoding/binary"
)

// header is the first block: what a file is and where its parts lie. It is
// written last, so that an unfinished file does not even begin like one.
type header struct {
	fileID     [32]byte
	commitment [32]byte
	tail       uint64 // where the chunks end and the public manifest begins
	public     uint32 // bytes of the public manifest
	chunks     uint32 // index entries
	sealed     uint32 // bytes of the sealed manifest with its tag
}

func (h header) encode() []byte {
	b := make([]byte, 0, blockBytes)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = binary.LittleEndian.AppendUint32(b, algorithmAES256GCM)
	b = append(b, h.fileID[:]...)
	b = append(b, h.commitment[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.tail)
	for _, v := range [...]uint32{h.public, h.chunks, h.sealed, 0} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b[:blockBytes]
}

// parseHeader reads the first block of a file of size bytes.
func parseHeader(block []byte, size int64) (header, error) {
	var h header
	if !bytes.HasPrefix(block, []byte(magic)) {
		return h, Refuse(ReasonNotSealed, "the file does not begin with the magic bytes of a sealed model")
	}
	c := cursor{b: block[len(magic):]}
	version, algorithm := c.uint32(), c.uint32()
	if version != formatVersion || algorithm != algorithmAES256GCM {
		return h, Refuse(ReasonFormat, "got format version %d, algorithm %d; this build supports version %d, algorithm %d",
			version, algorithm, formatVersion, algorithmAES256GCM)
	}
	h.fileID, h.commitment = [32]byte(c.take(32)), [32]byte(c.take(32))
	h.tail, h.public, h.chunks, h.sealed = c.uint64(), c.uint32(), c.uint32(), c.uint32()
	if len(bytes.Trim(block[headerFields-4:], "\x00")) != 0 {
		return h, Refuse(ReasonMalformed, "reserved bytes of the first block are not zero")
	}
	if h.public > maxPublicManifest || h.chunks < 1 || h.chunks > MaxChunks ||
		h.sealed < tagSize || h.sealed > MaxSealedManifest+tagSize {
		return h, Refuse(ReasonMalformed, "first block: manifest parts of %d and %d bytes with %d chunks are out of range", h.public, h.sealed, h.chunks)
	}
	maxTail := blockBytes + uint64(h.chunks)*uint64(alignSlot(MaxChunkBytes+tagSize))
	if h.tail%slotBytes != 0 || h.tail < 2*blockBytes || h.tail > maxTail {
		return h, Refuse(ReasonMalformed, "first block: invalid end of the chunks at byte %d", h.tail)
	}
	if size < int64(h.tail)+h.tailBytes()+signatureBlockMinimum {
		return h, Refuse(ReasonTruncated, "got %d bytes, want at least %d", size, int64(h.tail)+h.tailBytes()+signatureBlockMinimum)
	}
	return h, nil
}

// tailBytes is the size of public manifest, index and sealed manifest together.
func (h header) tailBytes() int64 {
	return int64(h.public) + int64(h.chunks)*indexEntry + int64(h.sealed)
}
