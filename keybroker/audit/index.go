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
type Query struct {
	Kind     Kind
	Action   string
	Resource string
	Grant    string
	AgentKey Digest
}

// ErrQuery means that a query has none of the forms that can be answered.
var ErrQuery = errors.New("no index answers this query")

func (q Query) key() (key, error) {
	switch {
	case (q.Kind == KindService || q.Kind == KindOperator) && q.Action != "" && q.Resource != "" && q.Grant == "" && q.AgentKey.IsZero(),
		q.Kind == KindGrant && q.Grant != "" && q.Action == "" && q.Resource == "" && q.AgentKey.IsZero(),
		q.Kind == KindRelease && q.Resource != "" && !q.AgentKey.IsZero() && q.Action == "" && q.Grant == "":
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
	Bytes   int64  // the segment's length
	Root    Digest // of the tree at the segment's end
	Entries uint32
	Digest  Digest // of the index behind the header
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

// check compares the entries with the digest that was signed.
func (x segmentIndex) check(f journal.File) error {
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(f, x.entriesAt, 1<<40))
	if err != nil {
		return err
	}
	if n != int64(x.Entries)*indexEntryBytes || Digest(h.Sum(nil)) != x.Digest {
		return journal.Tampered("the index of the segment at record %d is not the one that was signed", x.First)
	}
	return nil
}

// find returns the places under a key by bisection.
func (x segmentIndex) find(f journal.File, k key) (places []place, err error) {
	entry := make([]byte, indexEntryBytes)
	read := func(i int) {
		if err == nil {
			_, err = f.ReadAt(entry, x.entriesAt+int64(i)*indexEntryBytes)
		}
	}
	lo, hi := 0, int(x.Entries)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if read(mid); bytes.Compare(entry[:keyBytes], k[:]) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	for i := lo; i < int(x.Entries); i++ {
		if read(i); err != nil || !bytes.Equal(entry[:keyBytes], k[:]) {
			break
		}
		if len(places) == MaxFound {
			return nil, ErrTooMany
		}
		places = append(places, place{binary.BigEndian.Uint32(entry[keyBytes:]), binary.BigEndian.Uint32(entry[keyBytes+4:])})
	}
	return places, err
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
