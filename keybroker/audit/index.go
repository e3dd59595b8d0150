package audit

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

// IndexContext is the signing context of a closed segment's index.
const IndexContext = "anchorhold/audit/index/1"

const (
	indexMagic       = "ahindex\x01"
	indexSuffix      = ".idx"
	indexEntryBytes  = keyBytes + 4 + 4
	keyBytes         = 16
	maxIndexEntries  = 1 << 26
	maxIndexSigBytes = 8 << 10
)

// key is what records are found by: the beginning of a hash of their fields.
type key [keyBytes]byte

// place is where a record stands in its segment.
type place struct {
	nth   uint32 // among the segment's records
	frame uint32 // the offset of its frame
}

// Query names records that can be found without reading the log. Exactly these
// forms have an answer:
//
//	Kind: KindService or KindOperator, Action, Resource
//	Kind: KindGrant, Grant
//	Kind: KindRelease, Resource, AgentKey
//	Kind: KindVolume, Resource
type Query struct {
	Kind     Kind
	Action   string
	Resource string
	Grant    string
	AgentKey digest.Digest
	// From is the first record that counts, by its index in the log.
	From uint64
}

// ErrQuery means that a query has none of the forms that can be answered.
var ErrQuery = errors.New("no index answers this query")

func (q Query) key() (key, error) {
	switch {
	case (q.Kind == KindService || q.Kind == KindOperator) && q.Action != "" && q.Resource != "" && q.Grant == "" && q.AgentKey.IsZero(),
		q.Kind == KindGrant && q.Grant != "" && q.Action == "" && q.Resource == "" && q.AgentKey.IsZero(),
		q.Kind == KindRelease && q.Resource != "" && !q.AgentKey.IsZero() && q.Action == "" && q.Grant == "",
		q.Kind == KindVolume && q.Resource != "" && q.AgentKey.IsZero() && q.Action == "" && q.Grant == "":
	default:
		return key{}, ErrQuery
	}
	text := append(make([]byte, 0, 256), "anchorhold/audit/key/1\x00"...)
	text = append(text, byte(q.Kind))
	for _, s := range []string{q.Action, q.Resource, q.Grant} {
		if len(s) > maxFieldBytes {
			return key{}, fmt.Errorf("%w: a field has %d bytes", ErrQuery, len(s))
		}
		text = appendText(text, s)
	}
	text = append(text, q.AgentKey[:]...)
	sum := sha256.Sum256(text)
	return key(sum[:keyBytes]), nil
}

// keyOf returns the key that a record is found by; the zero key finds nothing.
func keyOf(r *Record) key {
	q := Query{Kind: r.Kind}
	switch r.Kind {
	case KindService, KindOperator:
		q.Action, q.Resource = r.Action, r.Resource
	case KindGrant:
		q.Grant = r.Grant
	case KindRelease:
		q.Resource, q.AgentKey = r.Resource, r.AgentKey
	case KindVolume:
		q.Resource = r.Resource
	}
	k, err := q.key()
	if err != nil {
		return key{}
	}
	return k
}

// index finds the records of one segment while it is being written.
type index map[key][]place

func (x index) add(k key, nth uint64, frame int64) {
	if k != (key{}) {
		x[k] = append(x[k], place{uint32(nth), uint32(frame)})
	}
}

// summary describes a closed segment. It is signed, so that a segment that is
// gone is missed and its index can be believed. The root ties it to one log: one
// of a log that was forked, by the same key, does not fit here.
type summary struct {
	First   uint64
	Count   uint64
	Bytes   int64         // the segment's length
	Root    digest.Digest // of the tree at the segment's end
	Entries uint32
	Digest  digest.Digest // of the index behind the header
}

// end is the index of the first record behind the segment.
func (s summary) end() uint64 { return s.First + s.Count }

func (s summary) statement() []byte {
	b := append([]byte(indexMagic), make([]byte, 0, 96)...)
	b = binary.BigEndian.AppendUint64(b, s.First)
	b = binary.BigEndian.AppendUint64(b, s.Count)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Bytes))
	b = append(b, s.Root[:]...)
	b = binary.BigEndian.AppendUint32(b, s.Entries)
	return append(b, s.Digest[:]...)
}

// encode returns the entries sorted by key, then by place.
func (x index) encode() []byte {
	type row struct {
		k key
		p place
	}
	rows := make([]row, 0, len(x))
	for k, places := range x {
		for _, p := range places {
			rows = append(rows, row{k, p})
		}
	}
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(bytes.Compare(a.k[:], b.k[:]), cmp.Compare(a.p.nth, b.p.nth))
	})
	out := make([]byte, 0, len(rows)*indexEntryBytes)
	for _, r := range rows {
		out = append(out, r.k[:]...)
		out = binary.BigEndian.AppendUint32(out, r.p.nth)
		out = binary.BigEndian.AppendUint32(out, r.p.frame)
	}
	return out
}

func indexName(first uint64) string {
	return fmt.Sprintf("%s%016x%s", recordPrefix, first, indexSuffix)
}

func segmentOf(first uint64) journal.Segment {
	return journal.Segment{Name: fmt.Sprintf("%s%016x.seg", recordPrefix, first), First: first}
}

// writeIndex signs and stores a closed segment's index, durably and whole.
func writeIndex(fs journal.FileSystem, dir string, signer Signer, s summary, x index) (summary, error) {
	entries := x.encode()
	s.Entries, s.Digest = uint32(len(entries)/indexEntryBytes), sha256.Sum256(entries)
	sig, err := signer.Sign(IndexContext, s.statement())
	if err != nil {
		return s, fmt.Errorf("sign the index of a segment: %w", err)
	}
	b := binary.BigEndian.AppendUint16(s.statement(), uint16(len(sig)))
	b = append(append(b, sig...), entries...)
	return s, writeWhole(fs, filepath.Join(dir, indexName(s.First)), b)
}

// writeWhole gives a file its name only when its content is durable.
func writeWhole(fs journal.FileSystem, name string, b []byte) error {
	if err := fs.Remove(name + ".tmp"); err != nil {
		return err
	}
	f, err := fs.Open(name+".tmp", true)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return fs.Rename(name+".tmp", name)
}

// segmentIndex is a closed segment's index on disk.
type segmentIndex struct {
	summary
	entriesAt int64
}

// errNoIndex means that a segment has no index that can be believed.
var errNoIndex = errors.New("no index")

// readIndex reads and verifies the signed beginning of an index.
func readIndex(fs journal.FileSystem, dir string, first uint64, verify func(msg, sig []byte) error) (segmentIndex, error) {
	f, err := fs.Open(filepath.Join(dir, indexName(first)), false)
	if errors.Is(err, os.ErrNotExist) {
		return segmentIndex{}, errNoIndex
	}
	if err != nil {
		return segmentIndex{}, err
	}
	defer f.Close()
	head := make([]byte, len(summary{}.statement())+2+maxIndexSigBytes)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return segmentIndex{}, err
	}
	x, statement, sig, err := parseIndexHead(head[:n])
	if err != nil {
		return segmentIndex{}, err
	}
	if x.First != first || verify(statement, sig) != nil {
		return segmentIndex{}, fmt.Errorf("%w: %s is not signed by the audit key", errNoIndex, indexName(first))
	}
	return x, nil
}

// parseIndexHead splits the beginning of an index into what is signed and the
// signature.
func parseIndexHead(b []byte) (x segmentIndex, statement, sig []byte, err error) {
	var count, size uint64
	var magic []byte
	var signature cryptobyte.String
	s := cryptobyte.String(b)
	if !s.ReadBytes(&magic, len(indexMagic)) || string(magic) != indexMagic || !s.ReadUint64(&x.First) || !s.ReadUint64(&count) ||
		!s.ReadUint64(&size) || !s.CopyBytes(x.Root[:]) || !s.ReadUint32(&x.Entries) || !s.CopyBytes(x.Digest[:]) || !s.ReadUint16LengthPrefixed(&signature) ||
		x.Entries > maxIndexEntries || count > 1<<32 || x.First > 1<<62 || size > 1<<40 {
		return x, nil, nil, fmt.Errorf("%w: malformed", errNoIndex)
	}
	x.Count, x.Bytes = count, int64(size)
	x.entriesAt = int64(len(b) - len(s))
	return x, x.statement(), signature, nil
}

// pageEntries is how many entries of a closed segment's index are read at once.
const pageEntries = 256

// page is what is remembered of one page of an index that was held against its
// signature: the file may be changed after that, and is read again for each answer.
type page struct {
	first key
	sum   digest.Digest
}

// check compares the entries with the digest that was signed, and returns their pages.
func (x segmentIndex) check(f journal.File) (pages []page, err error) {
	want := int64(x.Entries) * indexEntryBytes
	r := io.NewSectionReader(f, x.entriesAt, want+1) // one byte more shows that there is more
	b := make([]byte, pageEntries*indexEntryBytes)
	whole, size := sha256.New(), int64(0)
	for err == nil {
		var n int
		if n, err = io.ReadFull(r, b); n > 0 {
			p := page{sum: sha256.Sum256(b[:n])}
			copy(p.first[:], b[:n])
			pages, size = append(pages, p), size+int64(n)
			whole.Write(b[:n])
		}
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	if size != want || digest.Sum(whole) != x.Digest {
		return nil, x.tampered()
	}
	return pages, nil
}

func (x segmentIndex) tampered() error {
	return journal.Tampered("the index of the segment at record %d is not the one that was signed", x.First)
}

// find returns the places under a key, from the pages that may have it.
func (x segmentIndex) find(f journal.File, pages []page, k key) (places []place, err error) {
	i, _ := slices.BinarySearchFunc(pages, k, func(p page, k key) int { return bytes.Compare(p.first[:], k[:]) })
	// The page before may end with the key.
	for i = max(i-1, 0); i < len(pages) && bytes.Compare(pages[i].first[:], k[:]) <= 0; i++ {
		entries, err := x.read(f, pages, i)
		if err != nil {
			return nil, err
		}
		for entry := range slices.Chunk(entries, indexEntryBytes) {
			if !bytes.Equal(entry[:keyBytes], k[:]) {
				continue
			}
			if len(places) == MaxFound {
				return nil, ErrTooMany
			}
			places = append(places, place{binary.BigEndian.Uint32(entry[keyBytes:]), binary.BigEndian.Uint32(entry[keyBytes+4:])})
		}
	}
	return places, nil
}

// read returns the entries of one page as they were when the index was checked.
func (x segmentIndex) read(f journal.File, pages []page, i int) ([]byte, error) {
	first := i * pageEntries
	b := make([]byte, min(pageEntries, int(x.Entries)-first)*indexEntryBytes)
	if _, err := f.ReadAt(b, x.entriesAt+int64(first)*indexEntryBytes); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if sha256.Sum256(b) != pages[i].sum {
		return nil, x.tampered()
	}
	return b, nil
}

func verifyIndex(keys ...identity.Public) func(msg, sig []byte) error {
	return func(msg, sig []byte) error {
		for _, k := range keys {
			if k.Verify(IndexContext, msg, sig) == nil {
				return nil
			}
		}
		return identity.ErrSignature
	}
}
