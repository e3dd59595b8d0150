package chunkseal

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Limits of a sealed file.
const (
	MaxNameBytes          = 256      // a model's, tensor's or parameter set's name
	MaxParameterSets      = 32       // names of parameter sets
	MaxSections           = 1 << 16  // tensors and other sections
	MaxChunks             = 1 << 20  // 256 GiB of chunks of 256 KiB
	MaxChunkBytes         = 4 << 20  // plaintext of one chunk
	MaxSealedManifest     = 16 << 20 // sealed section directory
	MaxPublisherBytes     = 8 << 10  // public key of the publisher
	MaxSignatureBytes     = 16 << 10 // signature over the root
	maxPublicManifest     = 16 << 10
	slotBytes             = 4096 // alignment of chunks on disk
	blockBytes            = 4096 // size of the first block
	indexEntry            = 4 + 32
	formatVersion         = 1
	algorithmAES256GCM    = 1
	magic                 = "ANCHORHOLD-SEAL\n"
	headerFields          = 112 // bytes of the first block that are used
	signatureBlockMinimum = 32 + 4 + 4
)

// Kind is the kind of content in a section.
type Kind uint8

// The kinds of sections.
const (
	KindMetadata   Kind = 1 // the source file's header, byte for byte
	KindTiles      Kind = 2 // a matrix in tile row groups, Type says which tiles
	KindVector     Kind = 3 // float32 values, little-endian
	KindClassifier Kind = 4 // a part of a classifier, Type says which; language models have none
)

// Section describes one run of chunks: a tensor, or the metadata. All chunks
// have ChunkBytes bytes of plaintext, the last one LastBytes.
type Section struct {
	Name         string
	Kind         Kind
	Type         uint8  // of tiles or classifier parts (docs/sealed-format.md), 0 for other kinds
	Rows, Cols   uint32 // shape
	RowsPerChunk uint32 // rows of a full chunk; 0 where a chunk is not rows
	Chunks       uint32
	ChunkBytes   uint32
	LastBytes    uint32
}

// Bytes returns the plaintext bytes of the section.
func (s Section) Bytes() int64 {
	return int64(s.Chunks-1)*int64(s.ChunkBytes) + int64(s.LastBytes)
}

// size returns the plaintext bytes of chunk i of the section.
func (s Section) size(i int) int {
	if i == int(s.Chunks)-1 {
		return int(s.LastBytes)
	}
	return int(s.ChunkBytes)
}

func (s Section) check() error {
	switch {
	case s.Kind < KindMetadata || s.Kind > KindClassifier:
		return fmt.Errorf("section %q has unknown kind %d", s.Name, s.Kind)
	case !validName(s.Name):
		return fmt.Errorf("malformed section name %q", s.Name)
	case s.Chunks < 1 || s.Chunks > MaxChunks:
		return fmt.Errorf("section %s: invalid number of chunks: %d", s.Name, s.Chunks)
	case s.ChunkBytes < 1 || s.ChunkBytes > MaxChunkBytes:
		return fmt.Errorf("section %s: invalid chunk size of %d bytes", s.Name, s.ChunkBytes)
	case s.LastBytes < 1 || s.LastBytes > s.ChunkBytes:
		return fmt.Errorf("section %s: invalid size of the last chunk: %d bytes", s.Name, s.LastBytes)
	}
	return nil
}

// appendTo is a section's canonical form: in the sealed manifest, and hashed
// into the associated data of each of its chunks.
func (s Section) appendTo(b []byte) []byte {
	b = appendString(b, s.Name)
	b = append(b, byte(s.Kind), s.Type, 0, 0)
	for _, v := range [...]uint32{s.Rows, s.Cols, s.RowsPerChunk, s.Chunks, s.ChunkBytes, s.LastBytes} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

func parseSections(b []byte) ([]Section, error) {
	c := cursor{b: b}
	n := c.uint32()
	if n < 1 || n > MaxSections || int(n) > len(b) {
		return nil, fmt.Errorf("invalid number of sections: %d", n)
	}
	list := make([]Section, 0, n)
	names := make(map[string]bool, n)
	for range n {
		s := Section{Name: c.string(), Kind: Kind(c.uint8()), Type: c.uint8()}
		reserved := c.uint16()
		s.Rows, s.Cols, s.RowsPerChunk = c.uint32(), c.uint32(), c.uint32()
		s.Chunks, s.ChunkBytes, s.LastBytes = c.uint32(), c.uint32(), c.uint32()
		if c.short {
			return nil, fmt.Errorf("the list ends inside section %d", len(list))
		}
		if err := s.check(); err != nil {
			return nil, err
		}
		if reserved != 0 || names[s.Name] {
			return nil, fmt.Errorf("section %s appears twice, or its reserved bytes are not zero", s.Name)
		}
		names[s.Name] = true
		list = append(list, s)
	}
	if len(c.b) != 0 {
		return nil, fmt.Errorf("%d bytes follow the last section", len(c.b))
	}
	return list, nil
}

// Manifest is the publisher's public description of a model.
type Manifest struct {
	Name          string   // of the model, printable ASCII
	Version       uint64   // grows with each release; readers refuse below their minimum
	ParameterSets []string // cryptographic parameter sets that it was sealed and is proven with
}

func (m Manifest) check() error {
	if !validName(m.Name) {
		return fmt.Errorf("model name %q: want 1 to %d printable ASCII characters", m.Name, MaxNameBytes)
	}
	if len(m.ParameterSets) > MaxParameterSets {
		return fmt.Errorf("%d parameter sets, the limit is %d", len(m.ParameterSets), MaxParameterSets)
	}
	for _, p := range m.ParameterSets {
		if !validName(p) {
			return fmt.Errorf("malformed parameter set name %q", p)
		}
	}
	return nil
}

// publicManifest is the public part: the publisher's words and the totals.
type publicManifest struct {
	Manifest
	sections uint32
	bytes    uint64
}

func (m publicManifest) encode() []byte {
	b := appendString(nil, m.Name)
	b = binary.LittleEndian.AppendUint64(b, m.Version)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(m.ParameterSets)))
	for _, p := range m.ParameterSets {
		b = appendString(b, p)
	}
	b = binary.LittleEndian.AppendUint32(b, m.sections)
	return binary.LittleEndian.AppendUint64(b, m.bytes)
}

func parsePublicManifest(b []byte) (publicManifest, error) {
	c := cursor{b: b}
	var m publicManifest
	m.Name, m.Version = c.string(), c.uint64()
	for n := c.uint16(); n > 0 && !c.short; n-- {
		m.ParameterSets = append(m.ParameterSets, c.string())
	}
	m.sections, m.bytes = c.uint32(), c.uint64()
	if c.short || len(c.b) != 0 {
		return m, fmt.Errorf("the %d bytes of the public manifest do not match its fields", len(b))
	}
	return m, m.check()
}

func validName(s string) bool {
	if len(s) < 1 || len(s) > MaxNameBytes {
		return false
	}
	for _, ch := range []byte(s) {
		if ch <= ' ' || ch > '~' {
			return false
		}
	}
	return true
}

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(s))), s...)
}

func alignSlot(n int64) int64 { return (n + slotBytes - 1) / slotBytes * slotBytes }

// cursor reads little-endian fields; after the first that is missing, short is
// set and everything reads as zero.
type cursor struct {
	b     []byte
	short bool
}

func (c *cursor) take(n int) []byte {
	if c.short || n > len(c.b) {
		c.short, c.b = true, nil
		return make([]byte, min(n, 8))
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) uint8() uint8   { return c.take(1)[0] }
func (c *cursor) uint16() uint16 { return binary.LittleEndian.Uint16(c.take(2)) }
func (c *cursor) uint32() uint32 { return binary.LittleEndian.Uint32(c.take(4)) }
func (c *cursor) uint64() uint64 { return binary.LittleEndian.Uint64(c.take(8)) }

func (c *cursor) string() string {
	n := int(c.uint16())
	b := c.take(n)
	if c.short {
		return ""
	}
	return string(b)
}

// bytes reads a 32-bit length and that many bytes, at most limit.
func (c *cursor) bytes(limit int) []byte {
	n := c.uint32()
	if n > uint32(min(limit, math.MaxInt32)) {
		c.short = true
		return nil
	}
	b := c.take(int(n))
	if c.short {
		return nil
	}
	return b
}
