package inputs

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

// Limits of the format.
const (
	// MaxDocumentBytes bounds one document. One that is larger is not kept.
	MaxDocumentBytes = 256 << 10

	blockVersion      = 1
	maxBlockBytes     = 768 << 10 // of documents, before compression
	maxBlockDocuments = 256
	blockHeaderBytes  = 1 + 8 + 2
)

// document is one that waits to be written, or was read.
type document struct {
	digest digest.Digest
	body   []byte
}

// block is a head that can be read without decompressing what follows it.
type block struct {
	newest  time.Time // of its documents
	digests []digest.Digest
	packed  []byte
}

// packer compresses blocks with one compressor, which is large.
type packer struct {
	deflate *flate.Writer
	out     bytes.Buffer
}

// pack encodes documents as one entry of the stream.
func (p *packer) pack(newest time.Time, docs []document) ([]byte, error) {
	p.out.Reset()
	head := make([]byte, 0, blockHeaderBytes+len(docs)*len(digest.Digest{}))
	head = append(head, blockVersion)
	head = binary.BigEndian.AppendUint64(head, uint64(newest.UnixNano()))
	head = binary.BigEndian.AppendUint16(head, uint16(len(docs)))
	for _, d := range docs {
		head = append(head, d.digest[:]...)
	}
	p.out.Write(head)
	if p.deflate == nil {
		w, err := flate.NewWriter(&p.out, flate.BestSpeed)
		if err != nil {
			return nil, err
		}
		p.deflate = w
	} else {
		p.deflate.Reset(&p.out)
	}
	for _, d := range docs {
		if _, err := p.deflate.Write(binary.BigEndian.AppendUint32(nil, uint32(len(d.body)))); err != nil {
			return nil, err
		}
		if _, err := p.deflate.Write(d.body); err != nil {
			return nil, err
		}
	}
	if err := p.deflate.Close(); err != nil {
		return nil, err
	}
	return bytes.Clone(p.out.Bytes()), nil
}

// parseBlock reads an entry's head. The bytes stay the caller's.
func parseBlock(entry []byte) (b block, err error) {
	s := cryptobyte.String(entry)
	var version uint8
	var newest uint64
	var n uint16
	if !s.ReadUint8(&version) || version != blockVersion {
		return b, journal.Tampered("a block of decision inputs has no version that is known")
	}
	if !s.ReadUint64(&newest) || !s.ReadUint16(&n) || n == 0 || n > maxBlockDocuments {
		return b, journal.Tampered("a block of decision inputs is malformed")
	}
	b.newest = time.Unix(0, int64(newest)).UTC()
	b.digests = make([]digest.Digest, n)
	for i := range b.digests {
		if !s.CopyBytes(b.digests[i][:]) {
			return b, journal.Tampered("a block of decision inputs is malformed")
		}
	}
	b.packed = s
	return b, nil
}

// unpack returns the documents, each of which has the digest that the head says.
func (b block) unpack() ([]document, error) {
	packed := bytes.NewReader(b.packed)
	r := flate.NewReader(packed)
	limit := maxBlockBytes + 4*maxBlockDocuments
	raw, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", journal.Tampered("a block of decision inputs cannot be decompressed"), err)
	}
	if len(raw) > limit || packed.Len() > 0 {
		return nil, journal.Tampered("a block of decision inputs is larger than any that is written")
	}
	docs := make([]document, 0, len(b.digests))
	for s := cryptobyte.String(raw); !s.Empty(); {
		var n uint32
		var body []byte
		if !s.ReadUint32(&n) || n > MaxDocumentBytes || !s.ReadBytes(&body, int(n)) || len(docs) == len(b.digests) {
			return nil, journal.Tampered("a block of decision inputs is malformed")
		}
		d := document{digest.Of(body), body}
		if d.digest != b.digests[len(docs)] {
			return nil, journal.Tampered("decision input %s has other content", b.digests[len(docs)])
		}
		docs = append(docs, d)
	}
	if len(docs) != len(b.digests) {
		return nil, journal.Tampered("a block of decision inputs lacks documents")
	}
	return docs, nil
}
