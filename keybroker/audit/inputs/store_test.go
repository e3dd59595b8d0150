package inputs

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

var begin = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// noise is a document that compresses badly and that no other seed gives.
func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// bench is a store with a clock that its test moves.
type bench struct {
	*Store
	t   *testing.T
	dir string
	now time.Time
}

func newBench(t *testing.T, set Settings) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), now: begin}
	set.Now = func() time.Time { return b.now }
	b.Store = New(journal.Disk{}, b.dir, set)
	t.Cleanup(func() { _ = b.Store.Close() })
	return b
}

func (b *bench) keep(body []byte) digest.Digest {
	b.t.Helper()
	d := b.Keep(b.now, body, false)
	if err := b.Flush(); err != nil {
		b.t.Fatal(err)
	}
	return d
}

func (b *bench) read(dirs ...string) *Reader {
	b.t.Helper()
	r, err := Open(append([]string{b.dir}, dirs...)...)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *bench) segments() []string {
	b.t.Helper()
	names, err := filepath.Glob(filepath.Join(b.dir, prefix+"*.seg"))
	if err != nil {
		b.t.Fatal(err)
	}
	return names
}

// TestDocumentsAreFoundByTheirDigests, across blocks, segments and a restart.
func TestDocumentsAreFoundByTheirDigests(t *testing.T) {
	b := newBench(t, Settings{MaxBytes: segmentsOfSize * minSegmentBytes})
	want := map[digest.Digest][]byte{}
	for i := range 300 {
		body := fmt.Appendf(nil, `{"n":%d}%s`, i, bytes.Repeat([]byte("claims "), i))
		want[b.Keep(b.now, body, false)] = body
		if i == 99 { // as in a new process
			if err := b.Store.Close(); err != nil {
				t.Fatal(err)
			}
			b.Store = New(journal.Disk{}, b.dir, b.set)
		}
		if i%70 == 0 {
			if err := b.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := b.Store.Close(); err != nil {
		t.Fatal(err)
	}
	r := b.read()
	if err := r.Verify(); err != nil || r.Len() != 300 {
		t.Fatalf("%d documents, %v", r.Len(), err)
	}
	for d, body := range want {
		if got, err := r.Get(d); err != nil || !bytes.Equal(got, body) || !r.Has(d) {
			t.Errorf("%s: %q, %v", d, got, err)
		}
	}
	if _, err := r.Get(digest.Digest{1}); !errors.Is(err, ErrNotKept) || r.Has(digest.Digest{1}) {
		t.Errorf("%v", err)
	}
}

// TestAnIdleLogHasNoStore: nothing is made before there is something to keep.
func TestAnIdleLogHasNoStore(t *testing.T) {
	b := newBench(t, Settings{})
	b.Tend()
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	off := newBench(t, Settings{Keep: -1})
	if d := off.keep([]byte("x")); d != digest.Of([]byte("x")) {
		t.Error(d)
	}
	if len(b.segments())+len(off.segments()) != 0 || b.read().Len() != 0 {
		t.Errorf("%q, %q", b.segments(), off.segments())
	}
}

// TestDocumentsAreWrittenSoon, without anybody who flushes.
func TestDocumentsAreWrittenSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(journal.Disk{}, t.TempDir(), Settings{})
		s.Keep(time.Now(), []byte("document"), false)
		wait := func(d time.Duration) { <-time.After(d); synctest.Wait() } // by the bubble's clock
		wait(writeAfter - time.Millisecond)
		if s.Stats().Kept != 0 {
			t.Error("written at once")
		}
		wait(2 * time.Millisecond)
		if got := s.Stats(); got.Kept != 1 {
			t.Errorf("%+v", got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestEachLimitLosesAndCounts what is beyond it, and nothing before.
func TestEachLimitLosesAndCounts(t *testing.T) {
	b := newBench(t, Settings{Keep: 10 * 24 * time.Hour, MaxBytes: 20 << 20})
	lost := func(want uint64) {
		t.Helper()
		if err := b.Flush(); err != nil {
			t.Fatal(err)
		}
		if got := b.Stats().Lost; got != want {
			t.Errorf("lost %d, want %d", got, want)
		}
	}
	b.Keep(b.now, make([]byte, MaxDocumentBytes), false)
	lost(0)
	b.Keep(b.now, make([]byte, MaxDocumentBytes+1), false)
	lost(1)
	for range maxPendingBytes / MaxDocumentBytes {
		b.Keep(b.now, make([]byte, MaxDocumentBytes), false)
	}
	b.Keep(b.now, []byte{1}, false)
	lost(2)
	// Half of 20 MiB in ten days is 1 MiB a day.
	for range 4 {
		b.Keep(b.now, make([]byte, MaxDocumentBytes), true)
	}
	lost(2)
	b.Keep(b.now, []byte{1}, true)
	lost(3)
	b.Keep(b.now, []byte{1}, false)
	lost(3)
	b.now = b.now.Add(24 * time.Hour)
	b.Keep(b.now, []byte{1}, true)
	lost(3)
	if err := b.Store.Close(); err != nil {
		t.Fatal(err)
	}
	b.Keep(b.now, []byte{2}, false)
	if got := b.Stats().Lost; got != 4 {
		t.Errorf("after its end: lost %d", got)
	}
}

// TestTheOldestMakesRoom: the store stays within its size, and keeps what is newest.
func TestTheOldestMakesRoom(t *testing.T) {
	b := newBench(t, Settings{MaxBytes: 1 << 20})
	first := b.keep(noise(0, 60<<10))
	var last digest.Digest
	for i := range uint64(60) {
		b.now = b.now.Add(time.Minute)
		last = b.keep(noise(i+1, 60<<10))
	}
	var total int64
	for _, name := range b.segments() {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	r := b.read()
	if total > 1<<20+2*minSegmentBytes || r.Has(first) || !r.Has(last) || r.Len() < 10 {
		t.Errorf("%d bytes, %d documents", total, r.Len())
	}
}

// TestDocumentsEndWithTheirTime, on a broker that goes on and on one that is idle, and not before.
func TestDocumentsEndWithTheirTime(t *testing.T) {
	const keep = 120 * time.Hour
	for _, idle := range []bool{false, true} {
		b := newBench(t, Settings{Keep: keep})
		old := b.keep([]byte("old"))
		for range 11 {
			b.now = b.now.Add(10 * time.Hour)
			if !idle {
				b.keep(noise(uint64(b.now.Unix()), 100))
			}
			b.Tend()
		}
		if b.now.Sub(begin) >= keep || !b.read().Has(old) {
			t.Fatalf("idle %t: deleted before its time", idle)
		}
		for range 4 {
			b.now = b.now.Add(10 * time.Hour)
			if !idle {
				b.keep(noise(uint64(b.now.Unix()), 100))
			}
			b.Tend()
		}
		if r := b.read(); r.Has(old) || !idle && r.Len() < 10 {
			t.Errorf("idle %t: %d documents", idle, r.Len())
		}
	}
}

// TestArchivedDocumentsAreStillFound where they were moved, and only what is older is moved.
func TestArchivedDocumentsAreStillFound(t *testing.T) {
	b := newBench(t, Settings{Keep: 12 * time.Hour})
	first := b.keep([]byte("first"))
	b.now = b.now.Add(time.Hour)
	second := b.keep([]byte("second"))
	b.now = b.now.Add(time.Hour)
	b.keep([]byte("third"))
	to := t.TempDir()
	if names, _, err := b.Archive(begin.Add(time.Hour), to); err != nil || len(names) != 0 {
		t.Errorf("%q, %v", names, err)
	}
	names, size, err := b.Archive(begin.Add(time.Hour+1), to)
	if err != nil || len(names) != 1 || size == 0 {
		t.Fatalf("%q, %d, %v", names, size, err)
	}
	if r := b.read(); r.Has(first) || !r.Has(second) {
		t.Error("not moved, or too much")
	}
	if r := b.read(to, filepath.Join(to, "none")); !r.Has(first) || !r.Has(second) || r.Len() != 3 {
		t.Error("not found where it was moved")
	}
}

// failing is a disk whose writes fail while it says so.
type failing struct {
	journal.Disk
	err error
}

type failingFile struct {
	journal.File
	disk *failing
}

func (f *failing) Open(name string, create bool) (journal.File, error) {
	file, err := f.Disk.Open(name, create)
	return failingFile{file, f}, err
}

func (f failingFile) WriteAt(p []byte, off int64) (int, error) {
	if f.disk.err != nil {
		return 0, f.disk.err
	}
	return f.File.WriteAt(p, off)
}

// TestAFullDiskLosesDocumentsAndHeals: they are counted, and later ones are kept again.
func TestAFullDiskLosesDocumentsAndHeals(t *testing.T) {
	disk, dir, now := &failing{}, t.TempDir(), begin
	s := New(disk, dir, Settings{Now: func() time.Time { return now }})
	keep := func(text string) error { s.Keep(now, []byte(text), false); return s.Flush() }
	if err := keep("a"); err != nil {
		t.Fatal(err)
	}
	disk.err = errors.New("full")
	if err := keep("b"); !errors.Is(err, disk.err) {
		t.Fatal(err)
	}
	disk.err = nil
	if err := keep("c"); err == nil { // not again at once: a disk that hangs would be asked each second
		t.Error("tried again at once")
	}
	now = now.Add(retryAfter)
	if err := keep("d"); err != nil {
		t.Fatal(err)
	}
	if got := s.Stats(); got != (Stats{Kept: 2, Lost: 2}) {
		t.Errorf("%+v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := Open(dir)
	if err != nil || r.Len() != 2 || !r.Has(digest.Of([]byte("d"))) {
		t.Errorf("%v", err)
	}
}

// TestATornWriteIsForgotten, as in the log.
func TestATornWriteIsForgotten(t *testing.T) {
	b := newBench(t, Settings{})
	kept := b.keep(noise(1, 2000))
	torn := b.keep(noise(2, 2000))
	if err := b.Store.Close(); err != nil {
		t.Fatal(err)
	}
	name := b.segments()[0]
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, info.Size()-700); err != nil {
		t.Fatal(err)
	}
	if r := b.read(); !r.Has(kept) || r.Has(torn) {
		t.Error("read")
	}
	b.Store = New(journal.Disk{}, b.dir, b.set)
	later := b.keep([]byte("later"))
	if r := b.read(); !r.Has(kept) || !r.Has(later) || r.Len() != 2 {
		t.Error("not written behind what holds")
	}
}

// TestOtherContentIsRefused: with every checksum made anew, the digest alone tells.
func TestOtherContentIsRefused(t *testing.T) {
	var p packer
	doc := func(text string) document { return document{digest.Of([]byte(text)), []byte(text)} }
	pack := func(docs ...document) []byte {
		t.Helper()
		b, err := p.pack(begin, docs)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := pack(doc("one"), doc("two"))
	lied := doc("one")
	lied.body = []byte("eno")
	many := make([]document, maxBlockDocuments+1)
	for i := range many {
		many[i] = doc(fmt.Sprint(i))
	}
	fewer := pack(doc("one"))
	head := append([]byte{}, good[:blockHeaderBytes+64]...)
	for name, c := range map[string]struct {
		entry []byte
		says  string
	}{
		"other content":   {pack(lied), "has other content"},
		"another version": {append([]byte{2}, good[1:]...), "no version that is known"},
		"no documents":    {pack(), "is malformed"},
		"too many":        {pack(many...), "is malformed"},
		"one is missing":  {append(head, fewer[blockHeaderBytes+32:]...), "lacks documents"},
		"more follow":     {append(bytes.Clone(good), 0), "larger than any"},
		"cut":             {good[:len(good)-3], "cannot be decompressed"},
		"too large":       {pack(document{digest.Of(nil), make([]byte, 1<<20)}), "larger than any"},
		"large document":  {pack(doc(strings.Repeat("a", MaxDocumentBytes+1))), "is malformed"},
		"empty":           {nil, "no version"},
	} {
		b, err := parseBlock(c.entry)
		if err == nil {
			_, err = b.unpack()
		}
		if !errors.Is(err, journal.ErrTampered) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b, err := parseBlock(good)
	if err != nil {
		t.Fatal(err)
	}
	if docs, err := b.unpack(); err != nil || len(docs) != 2 || !b.newest.Equal(begin) {
		t.Errorf("%v, %v", docs, err)
	}
}

func FuzzBlock(f *testing.F) {
	var p packer
	good, err := p.pack(begin, []document{{digest.Of([]byte("a")), []byte("a")}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, entry []byte) {
		b, err := parseBlock(entry)
		if err != nil {
			return
		}
		docs, err := b.unpack()
		for i, d := range docs {
			if err == nil && (digest.Of(d.body) != b.digests[i] || len(d.body) > MaxDocumentBytes) {
				t.Fatal("a document of another digest")
			}
		}
	})
}

// BenchmarkKeep is what an exchange pays: its digest and a place in line.
func BenchmarkKeep(b *testing.B) {
	s := New(journal.Disk{}, b.TempDir(), Settings{})
	body := noise(1, 4096)
	b.ReportAllocs()
	for range b.N {
		s.Keep(begin, body, false)
		if s.bytes > maxPendingBytes/2 {
			b.StopTimer()
			if err := s.Flush(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
