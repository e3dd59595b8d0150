package chunkseal

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// ErrUnfinished refuses to close a file that lacks chunks, or to go on after
// an error.
var ErrUnfinished = errors.New("chunkseal: the file is incomplete, or an earlier write failed")

// SignFunc signs a manifest root under SignContext and returns the public key
// that verifies it.
type SignFunc func(root []byte) (publisher, signature []byte, err error)

// Writer writes one sealed file, front to back. It is used by one goroutine.
type Writer struct {
	w       io.WriteSeeker
	fileID  [32]byte
	keys    fileKeys
	public  []byte
	list    []Section
	digests [][32]byte // of the sections
	index   []byte
	slot    []byte
	ctx     sealingContext
	offset  int64
	section int // where the next chunk belongs
	inner   int
	next    int
	total   int
	broken  bool
}

// Summary is what was written.
type Summary struct {
	FileID [32]byte
	Root   [32]byte // the model's id
	Bytes  int64
	Chunks int
}

// NewWriter begins a file with a fresh random file id at the start of w. All sections are given
// in advance; their chunks follow in this order.
func NewWriter(w io.WriteSeeker, key *keybuf.Buffer, m Manifest, sections []Section) (*Writer, error) {
	var id [32]byte
	rand.Read(id[:]) // never returns an error (crypto/rand)
	return newWriter(w, key, id, m, sections)
}

// newWriter takes the file id, for the vectors only: a file id that comes twice
// would repeat nonces.
func newWriter(w io.WriteSeeker, key *keybuf.Buffer, id [32]byte, m Manifest, sections []Section) (*Writer, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("chunkseal: %w", err)
	}
	if len(sections) < 1 || len(sections) > MaxSections {
		return nil, fmt.Errorf("chunkseal: invalid number of sections: %d", len(sections))
	}
	keys, err := deriveKeys(key, id)
	if err != nil {
		return nil, err
	}
	out := &Writer{w: w, fileID: id, keys: keys, list: sections}
	largest, size, names := 0, uint64(0), map[string]bool{}
	for i, s := range sections {
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("chunkseal: %w", err)
		}
		if names[s.Name] {
			return nil, fmt.Errorf("chunkseal: section %s appears twice", s.Name)
		}
		names[s.Name] = true
		out.total += int(s.Chunks)
		largest = max(largest, int(s.ChunkBytes))
		size += uint64(s.Bytes())
		out.digests = append(out.digests, sectionDigest(id, i, s))
	}
	if out.total > MaxChunks {
		return nil, fmt.Errorf("chunkseal: %d chunks, the limit is %d", out.total, MaxChunks)
	}
	out.public = publicManifest{Manifest: m, sections: uint32(len(sections)), bytes: size}.encode()
	out.index = make([]byte, 0, out.total*indexEntry)
	out.slot = make([]byte, 0, alignSlot(int64(largest+tagSize)))
	out.offset = blockBytes
	if _, err := w.Seek(blockBytes, io.SeekStart); err != nil {
		return nil, fmt.Errorf("chunkseal: leave room for the first block: %w", err)
	}
	return out, nil
}

// WriteChunk seals the next chunk. Its size must be what its section says.
func (w *Writer) WriteChunk(plaintext []byte) error {
	if w.broken || w.next == w.total {
		return ErrUnfinished
	}
	s := w.list[w.section]
	if want := s.size(w.inner); len(plaintext) != want {
		return fmt.Errorf("chunkseal: chunk %d of %s must have %d bytes, got %d", w.inner, s.Name, want, len(plaintext))
	}
	w.ctx.set(&w.digests[w.section], w.next, w.inner, len(plaintext))
	sealed := w.keys.chunks.Seal(w.slot[:0], w.ctx.nonce[:], plaintext, w.ctx.aad[:])
	digest := sha256.Sum256(sealed)
	w.index = binary.LittleEndian.AppendUint32(w.index, uint32(len(plaintext)))
	w.index = append(w.index, digest[:]...)
	slot := sealed[:alignSlot(int64(len(sealed)))]
	clear(slot[len(sealed):])
	if _, err := w.w.Write(slot); err != nil {
		w.broken = true
		return fmt.Errorf("chunkseal: write chunk %d: %w", w.next, err)
	}
	w.offset += int64(len(slot))
	w.next++
	if w.inner++; w.inner == int(s.Chunks) {
		w.section, w.inner = w.section+1, 0
	}
	return nil
}

// Close seals and signs the manifest and, last of all, writes the first block.
// It does not sync or close the underlying file.
func (w *Writer) Close(sign SignFunc) (Summary, error) {
	if w.broken || w.next != w.total {
		return Summary{}, ErrUnfinished
	}
	w.broken = true // once only
	plain := binary.LittleEndian.AppendUint32(nil, uint32(len(w.list)))
	for _, s := range w.list {
		plain = s.appendTo(plain)
	}
	if len(plain) > MaxSealedManifest {
		return Summary{}, fmt.Errorf("chunkseal: a section directory of %d bytes is too large", len(plain))
	}
	sealed := w.keys.manifest.Seal(nil, make([]byte, 12), plain, manifestAAD(w.fileID, w.public))
	block := header{fileID: w.fileID, commitment: w.keys.commitment, tail: uint64(w.offset),
		public: uint32(len(w.public)), chunks: uint32(w.total), sealed: uint32(len(sealed))}.encode()
	root := rootOf(block, w.public, w.index, sealed)
	publisher, signature, err := sign(root[:])
	if err != nil {
		return Summary{}, fmt.Errorf("chunkseal: sign the manifest root: %w", err)
	}
	if len(publisher) < 1 || len(publisher) > MaxPublisherBytes || len(signature) < 1 || len(signature) > MaxSignatureBytes {
		return Summary{}, fmt.Errorf("chunkseal: invalid sizes: public key of %d bytes, signature of %d bytes", len(publisher), len(signature))
	}
	tail := bytes.Join([][]byte{w.public, w.index, sealed, signatureBlock(root, publisher, signature)}, nil)
	if _, err := w.w.Write(tail); err != nil {
		return Summary{}, fmt.Errorf("chunkseal: write the manifest: %w", err)
	}
	if _, err := w.w.Seek(0, io.SeekStart); err != nil {
		return Summary{}, fmt.Errorf("chunkseal: return to the first block: %w", err)
	}
	if _, err := w.w.Write(block); err != nil {
		return Summary{}, fmt.Errorf("chunkseal: write the first block: %w", err)
	}
	return Summary{FileID: w.fileID, Root: root, Bytes: w.offset + int64(len(tail)), Chunks: w.total}, nil
}

func signatureBlock(root [32]byte, publisher, signature []byte) []byte {
	b := append([]byte(nil), root[:]...)
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(publisher))), publisher...)
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(signature))), signature...)
}
