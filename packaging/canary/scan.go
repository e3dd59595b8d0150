package canary

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Hit is a stretch of what was searched that is a part of a canary.
type Hit struct {
	Canary string `json:"canary"`
	Form   string `json:"form"`
	Offset int64  `json:"offset"` // of its first byte
	Length int64  `json:"length"` // at least Window
}

// maxHits bounds the stretches that one search reports; how many there are beyond them says nothing new.
const maxHits = 256

// A Searcher finds the canaries of an index. It has one buffer, which callers fill and Wipe clears, so that what it
// reads leaves no copies behind. It is not safe for concurrent use.
type Searcher struct {
	names, forms []string
	words        []uint64 // bitmap of what the filter of heads makes of all words of windows
	heads, tails []uint64 // bitmaps of what the filters make of half windows
	found        map[uint64][2]uint16
	digest       *digester
	buf          []byte

	hits []Hit
}

// BufferBytes is how much a Searcher reads at once.
const BufferBytes = 1 << 20

// NewSearcher takes an index that may come from elsewhere.
func NewSearcher(x *Index) (*Searcher, error) {
	if len(x.Entries)%entryBytes != 0 || len(x.Words)%4 != 0 || len(x.Key) < 32 {
		return nil, errors.New("the index of canaries is malformed")
	}
	s := &Searcher{names: x.Names, forms: x.Forms, digest: newDigester(x.Key), found: map[uint64][2]uint16{},
		words: make([]uint64, 1<<(filterBits-6)), heads: make([]uint64, 1<<(filterBits-6)), tails: make([]uint64, 1<<(filterBits-6)), buf: make([]byte, Window-1+BufferBytes)}
	for e := range slices.Chunk(x.Words, 4) {
		word := binary.LittleEndian.Uint32(e)
		if word>>filterBits != 0 {
			return nil, errors.New("the index of canaries is malformed")
		}
		s.words[word>>6] |= 1 << (word & 63)
	}
	for e := range slices.Chunk(x.Entries, entryBytes) {
		name, form := binary.LittleEndian.Uint16(e[8:]), binary.LittleEndian.Uint16(e[10:])
		head, tail := binary.LittleEndian.Uint32(e[12:]), binary.LittleEndian.Uint32(e[16:])
		if int(name) >= len(s.names) || int(form) >= len(s.forms) || head>>filterBits != 0 || tail>>filterBits != 0 {
			return nil, errors.New("the index of canaries is malformed")
		}
		s.heads[head>>6] |= 1 << (head & 63)
		s.tails[tail>>6] |= 1 << (tail & 63)
		sum := binary.LittleEndian.Uint64(e)
		if _, ok := s.found[sum]; !ok { // the first form of those that are the same
			s.found[sum] = [2]uint16{name, form}
		}
	}
	return s, nil
}

// Search reads to the end and returns the hits in order.
func (s *Searcher) Search(r io.Reader) ([]Hit, error) {
	return s.SearchFrom(func(at int64, p []byte) (int, error) { return r.Read(p) })
}

// SearchFrom searches what a function reads into a buffer of the searcher's until it returns [io.EOF]. The function
// gets the offset of the first byte that it has not returned yet.
func (s *Searcher) SearchFrom(read func(at int64, p []byte) (int, error)) ([]Hit, error) {
	s.hits = nil
	kept := 0 // bytes of the last read that a window may begin in
	var at int64
	for {
		n, err := read(at, s.buf[kept:kept+BufferBytes])
		if n < 0 || n > BufferBytes {
			return s.hits, fmt.Errorf("a read returned %d bytes", n)
		}
		if n > 0 {
			s.scan(s.buf[:kept+n], at-int64(kept))
			at += int64(n)
			from := max(0, kept+n-(Window-1))
			kept = copy(s.buf, s.buf[from:kept+n])
		}
		if errors.Is(err, io.EOF) {
			return s.hits, nil
		}
		if err != nil {
			return s.hits, err
		}
	}
}

// zeros are most of what there is to search, and compared fastest, which counts in an emulated processor.
var zeros [4096]byte

// scan looks for every window in b, which begins at an offset of the whole. Of eight windows that begin beside each
// other, all have the same aligned word within: only where that is one of the index's words are they looked at.
func (s *Searcher) scan(b []byte, base int64) {
	factor := s.digest.headFactor
	for i := 0; i+wordBytes <= len(b); i += wordBytes {
		word := binary.LittleEndian.Uint64(b[i:])
		if word == 0 { // in no window that stands out
			for i+len(zeros) <= len(b) && bytes.Equal(b[i:i+len(zeros)], zeros[:]) {
				i += len(zeros) - wordBytes
			}
			continue
		}
		if at := uint32(word * factor >> (64 - filterBits)); s.words[at>>6]>>(at&63)&1 == 0 {
			continue
		}
		for from := max(0, i-wordBytes+1); from <= i && from+Window <= len(b); from++ {
			s.look(b[from:from+Window], base+int64(from))
		}
	}
}

// look says whether a window is one of the index's.
func (s *Searcher) look(window []byte, at int64) {
	head, tail := s.digest.head(binary.LittleEndian.Uint64(window)), s.digest.tail(binary.LittleEndian.Uint64(window[wordBytes:]))
	if s.heads[head>>6]>>(head&63)&1 == 0 || s.tails[tail>>6]>>(tail&63)&1 == 0 {
		return
	}
	if which, ok := s.found[s.digest.sum(window)]; ok {
		s.hit(which, at)
	}
}

func (s *Searcher) hit(which [2]uint16, at int64) {
	name, form := s.names[which[0]], s.forms[which[1]]
	for i := len(s.hits) - 1; i >= 0 && i >= len(s.hits)-4; i-- {
		if h := &s.hits[i]; h.Canary == name && h.Form == form && at <= h.Offset+h.Length {
			h.Length = at + Window - h.Offset
			return
		}
	}
	if len(s.hits) < maxHits {
		s.hits = append(s.hits, Hit{Canary: name, Form: form, Offset: at, Length: Window})
	}
}

// Wipe clears what was read last.
func (s *Searcher) Wipe() { clear(s.buf) }

// SearchBytes searches bytes that the caller holds.
func (s *Searcher) SearchBytes(b []byte) []Hit {
	s.hits = nil
	s.scan(b, 0)
	return s.hits
}
