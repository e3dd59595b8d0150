package inputs

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

// ErrNotKept means that no document with the digest is in the directories.
var ErrNotKept = errors.New("the input of this decision is not kept")

// Reader finds documents by their digests. One goroutine uses it.
type Reader struct {
	files  journal.FileSystem
	places []segment
	index  []place // sorted by digest
	// The block that was read last: decisions are asked for in the order in which they were kept.
	block place
	docs  []document
}

type segment struct {
	dir string
	journal.Segment
}

// place is where a document is. Its digest is whole: two documents may begin alike, by chance or by design.
type place struct {
	digest  digest.Digest
	segment uint32
	frame   uint32
}

func (p place) sameBlock(o place) bool { return p.segment == o.segment && p.frame == o.frame }

// Open reads the heads of all blocks in some directories, the first of which must be there. A
// segment that is in several counts once. It may run beside a writer.
func Open(dirs ...string) (*Reader, error) { return open(journal.ReadOnly{}, dirs...) }

// OpenIn is Open on a file system.
func OpenIn(files journal.FileSystem, dirs ...string) (*Reader, error) { return open(files, dirs...) }

func open(files journal.FileSystem, dirs ...string) (*Reader, error) {
	r := &Reader{files: files}
	for i, dir := range dirs {
		segments, err := journal.Segments(files, dir, prefix)
		if i > 0 && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, seg := range segments {
			if !slices.ContainsFunc(r.places, func(s segment) bool { return s.Name == seg.Name }) {
				r.places = append(r.places, segment{dir, seg})
			}
		}
	}
	slices.SortFunc(r.places, func(a, b segment) int { return cmp.Compare(a.First, b.First) })
	for i := range r.places {
		if err := r.scan(i, func(p place, b block) error {
			for _, d := range b.digests {
				r.index = append(r.index, place{d, p.segment, p.frame})
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(r.index, func(a, b place) int {
		return cmp.Or(slices.Compare(a.digest[:], b.digest[:]), cmp.Compare(a.segment, b.segment), cmp.Compare(a.frame, b.frame))
	})
	return r, nil
}

// scan visits the blocks of a segment. One that was deleted or moved since it was listed has none.
func (r *Reader) scan(i int, visit func(place, block) error) error {
	seg := r.places[i]
	last := i == len(r.places)-1
	_, _, err := journal.ScanSegment(r.files, seg.dir, seg.Segment, last, func(e journal.Entry) error {
		b, err := parseBlock(e.Body)
		if err != nil {
			return err
		}
		return visit(place{segment: uint32(i), frame: uint32(e.Frame)}, b)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("decision inputs: %w", err)
	}
	return nil
}

// Len is how many documents there are.
func (r *Reader) Len() int { return len(r.index) }

// Has says whether a document is there.
func (r *Reader) Has(d digest.Digest) bool {
	_, ok := r.find(d)
	return ok
}

func (r *Reader) find(d digest.Digest) (place, bool) {
	i, ok := slices.BinarySearchFunc(r.index, d, func(p place, d digest.Digest) int { return slices.Compare(p.digest[:], d[:]) })
	if !ok {
		return place{}, false
	}
	return r.index[i], true
}

// Get returns the document with a digest.
func (r *Reader) Get(d digest.Digest) ([]byte, error) {
	at, ok := r.find(d)
	if !ok {
		return nil, ErrNotKept
	}
	if r.docs == nil || !at.sameBlock(r.block) {
		seg := r.places[at.segment]
		_, entries, err := journal.ReadFrame(r.files, seg.dir, seg.Segment, int64(at.frame))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, ErrNotKept // deleted or moved since
		}
		if err != nil {
			return nil, err
		}
		b, err := parseBlock(entries[0])
		if err != nil {
			return nil, err
		}
		docs, err := b.unpack()
		if err != nil {
			return nil, err
		}
		r.block, r.docs = at, docs
	}
	for _, doc := range r.docs {
		if doc.digest == d {
			return doc.body, nil
		}
	}
	return nil, journal.Tampered("decision input %s is not where it was", d)
}

// Verify decompresses every block and compares each document with its digest.
func (r *Reader) Verify() error {
	for i := range r.places {
		if err := r.scan(i, func(_ place, b block) error {
			_, err := b.unpack()
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}
