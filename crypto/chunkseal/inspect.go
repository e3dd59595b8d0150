package chunkseal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
)

// Publisher verifies the signatures of one identity (crypto/identity.Public).
type Publisher interface {
	Bytes() []byte
	Verify(context string, msg, sig []byte) error
}

// Public is the part of a sealed file that can be read without its key. Until Verify has
// succeeded, anybody could have written it.
type Public struct {
	Manifest
	FormatVersion int
	Algorithm     string
	FileID        [32]byte
	Root          [32]byte // the model's id: a digest over the whole file
	Publisher     []byte   // public key that signed, as its owner encoded it
	Sections      int      // tensors and metadata
	Chunks        int
	PlainBytes    int64 // of all sections
	FileBytes     int64

	r         io.ReaderAt
	part      []byte // all but the chunks
	head      header
	public    []byte
	index     []byte
	sealed    []byte
	signature []byte
	slots     []uint32 // where each chunk begins, in units of slotBytes; one more for the end
}

// Inspect reads the public part of a file. It checks the structure and the root, and reads no
// chunk. size is the file's size: bytes beyond the end are a Failure.
func Inspect(r io.ReaderAt, size int64) (*Public, error) {
	if size < blockBytes {
		return nil, Refuse(ReasonNotSealed, "%d bytes are too few for a first block", size)
	}
	block := make([]byte, blockBytes)
	if err := readAt(r, block, 0); err != nil {
		return nil, err
	}
	h, err := parseHeader(block, size)
	if err != nil {
		return nil, err
	}
	room := size - int64(h.tail)
	if most := h.tailBytes() + signatureBlockMinimum + MaxPublisherBytes + MaxSignatureBytes; room > most {
		return nil, Refuse(ReasonTrailing, "got %d bytes after the chunks, want at most %d", room, most)
	}
	part := append(block, make([]byte, room)...)
	block, tail := part[:blockBytes], part[blockBytes:]
	if err := readAt(r, tail, int64(h.tail)); err != nil {
		return nil, err
	}
	c := cursor{b: tail}
	p := &Public{FormatVersion: formatVersion, Algorithm: "AES-256-GCM, HKDF-SHA256, SHA-256", FileID: h.fileID, FileBytes: size,
		Chunks: int(h.chunks), r: r, part: part, head: h}
	p.public, p.index, p.sealed = c.take(int(h.public)), c.take(int(h.chunks)*indexEntry), c.take(int(h.sealed))
	p.Root = [32]byte(c.take(32))
	p.Publisher, p.signature = c.bytes(MaxPublisherBytes), c.bytes(MaxSignatureBytes)
	switch {
	case c.short:
		return nil, Refuse(ReasonTruncated, "the file ends inside the signature")
	case len(c.b) != 0:
		return nil, Refuse(ReasonTrailing, "%d bytes follow the signature", len(c.b))
	case rootOf(block, p.public, p.index, p.sealed) != p.Root:
		return nil, Refuse(ReasonRoot, "first block, manifest and index do not hash to the root in the file")
	}
	return p, p.finish()
}

// Lock returns the Lock that identifies the key under which the file was sealed.
func (p *Public) Lock() Lock { return Lock{FileID: p.FileID, Commitment: p.head.commitment} }

// finish reads the parts whose bytes the root covers.
func (p *Public) finish() error {
	m, err := parsePublicManifest(p.public)
	if err != nil {
		return Refuse(ReasonMalformed, "%v", err)
	}
	p.Manifest, p.Sections, p.PlainBytes = m.Manifest, int(m.sections), int64(m.bytes)
	p.slots = make([]uint32, 1, p.Chunks+1)
	offset, plain := int64(blockBytes), uint64(0)
	p.slots[0] = blockBytes / slotBytes
	for i := range p.Chunks {
		n := p.chunkSize(i)
		if n < 1 || n > MaxChunkBytes {
			return Refuse(ReasonMalformed, "index: chunk %d has an invalid size of %d bytes", i, n)
		}
		plain += uint64(n)
		offset += alignSlot(int64(n) + tagSize)
		p.slots = append(p.slots, uint32(offset/slotBytes))
	}
	if offset != int64(p.head.tail) || plain != m.bytes {
		return Refuse(ReasonMalformed, "index: %d bytes in chunks that end at %d, first block and manifest say %d and %d",
			plain, offset, m.bytes, p.head.tail)
	}
	return nil
}

// Verify checks the publisher's signature over the root.
func (p *Public) Verify(publisher Publisher) error {
	if publisher == nil || !bytes.Equal(publisher.Bytes(), p.Publisher) {
		return Refuse(ReasonPublisher, "the file is signed by a publisher other than the trusted one")
	}
	if err := publisher.Verify(SignContext, p.Root[:], p.signature); err != nil {
		return Refuse(ReasonSignature, "the publisher did not sign this root: %w", err)
	}
	return nil
}

// Acceptable checks the publisher's signature and the name, version and id, as Open does before
// it uses a key.
func (p *Public) Acceptable(want OpenOptions) error {
	if err := p.Verify(want.Publisher); err != nil {
		return err
	}
	return p.acceptable(want)
}

// VerifyChunks checks every chunk against its digest in the index, without a key. Together with
// Verify it checks the whole file against the publisher's signature. It calls progress, which may
// be nil, after every few chunks.
func (p *Public) VerifyChunks(ctx context.Context, progress func(done, total int)) error {
	largest := 0
	for i := range p.Chunks {
		_, size := p.Slot(i)
		largest = max(largest, size)
	}
	// An agent that verifies a file has little memory beside the one it opened.
	buf := make([]byte, min(lanes*largest, int(alignSlot(MaxChunkBytes+tagSize))))
	for i := 0; i < p.Chunks; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := p.verifyFrom(i, buf)
		if err != nil {
			return err
		}
		i += n
		if progress != nil {
			progress(i, p.Chunks)
		}
	}
	return nil
}

// verifyFrom reads chunk i and those after it that fit in buf, up to as many as are checked
// together, and returns their number.
func (p *Public) verifyFrom(i int, buf []byte) (int, error) {
	var slots [lanes][]byte
	var chunks [lanes]int
	n := 0
	for ; n < lanes && i+n < p.Chunks; n++ {
		offset, size := p.Slot(i + n)
		if size > len(buf) {
			break
		}
		if err := readAt(p.r, buf[:size], offset); err != nil {
			return 0, inChunk(err, i+n)
		}
		slots[n], chunks[n], buf = buf[:size], i+n, buf[size:]
	}
	_, err := p.checkSlots(slots[:n], chunks[:n])
	return n, err
}

// Slot returns where chunk i lies: both figures are multiples of 4096.
func (p *Public) Slot(i int) (offset int64, size int) {
	return int64(p.slots[i]) * slotBytes, int(p.slots[i+1]-p.slots[i]) * slotBytes
}

func (p *Public) chunkSize(i int) int {
	return int(binary.LittleEndian.Uint32(p.index[i*indexEntry:]))
}

func (p *Public) digest(i int) []byte {
	return p.index[i*indexEntry+4 : (i+1)*indexEntry]
}

// checkSlots compares what lies in slots with the signed index, and returns which one is wrong.
func (p *Public) checkSlots(slots [][]byte, chunks []int) (bad int, err error) {
	var sealed [lanes][]byte
	var got [lanes][32]byte
	for at, i := range chunks {
		n := p.chunkSize(i) + tagSize
		if err := checkPadding(slots[at][n:], i); err != nil {
			return at, err
		}
		sealed[at] = slots[at][:n]
	}
	sum256(got[:], sealed[:len(chunks)])
	for at, i := range chunks {
		if !bytes.Equal(got[at][:], p.digest(i)) {
			return at, p.wrongDigest(got[at], i)
		}
	}
	return 0, nil
}

// wrongDigest says what is in chunk i's place.
func (p *Public) wrongDigest(got [32]byte, i int) error {
	for j := range p.Chunks {
		if bytes.Equal(got[:], p.digest(j)) {
			return inChunk(Refuse(ReasonMisplaced, "chunk %d is in its place", j), i)
		}
	}
	return inChunk(Refuse(ReasonDigest, "its bytes are not the ones the publisher signed"), i)
}

func checkPadding(pad []byte, i int) error {
	for _, v := range pad {
		if v != 0 {
			return inChunk(Refuse(ReasonPadding, "the padding after it is not zero"), i)
		}
	}
	return nil
}

// readAt fills b, or says how it could not.
func readAt(r io.ReaderAt, b []byte, offset int64) error {
	n, err := r.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return Refuse(ReasonTruncated, "read %d of %d bytes at offset %d", n, len(b), offset)
	}
	return Refuse(ReasonUnreadable, "read: %w", err)
}

// inChunk names the chunk in a Failure.
func inChunk(err error, i int) error {
	if f, ok := errors.AsType[*Failure](err); ok {
		f.Chunk = i
	}
	return err
}
