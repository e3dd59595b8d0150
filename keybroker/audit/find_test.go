package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

func roundRecord(action string, i int) Record {
	return Record{Kind: KindService, Time: time.Unix(1_700_000_000+int64(i), 0).UTC(), Action: action, Resource: fmt.Sprintf("round/%d", i), Detail: "of a round"}
}

func grantRecord(i int) Record {
	return Record{Kind: KindGrant, Time: time.Unix(1_700_000_000+int64(i), 0).UTC(), Grant: fmt.Sprintf("lease-%d", i), ChipDigest: digest.Digest{byte(i)}}
}

func releaseRecord(i int) Record {
	return Record{Kind: KindRelease, Time: time.Unix(1_700_000_000+int64(i), 0).UTC(), Resource: fmt.Sprintf("round/%d", i), AgentKey: digest.Digest{1, byte(i)}, Grant: "g"}
}

// mixed appends rounds, grants and releases among refusals, over several segments.
func mixed(t *testing.T, l *Log, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if _, err := l.AppendAll(t.Context(), sample(i), roundRecord("round-open", i), grantRecord(i), releaseRecord(i)); err != nil {
			t.Fatal(err)
		}
	}
}

// checkFound asks for every record that mixed wrote and for some that it did not.
func checkFound(t *testing.T, l *Log, n int, archived func(index uint64) bool) {
	t.Helper()
	for i := range n {
		for k, q := range []Query{
			{Kind: KindService, Action: "round-open", Resource: fmt.Sprintf("round/%d", i)},
			{Kind: KindGrant, Grant: fmt.Sprintf("lease-%d", i)},
			{Kind: KindRelease, Resource: fmt.Sprintf("round/%d", i), AgentKey: digest.Digest{1, byte(i)}},
		} {
			found, err := l.Find(q)
			if err != nil || len(found) != 1 || found[0].Index != uint64(4*i+1+k) || (found[0].Record == nil) != archived(found[0].Index) {
				t.Fatalf("%+v: %+v, %v", q, found, err)
			}
			if r := found[0].Record; r != nil && (r.Kind != q.Kind || k == 1 && r.ChipDigest != digest.Digest{byte(i)}) {
				t.Fatalf("%+v: %+v", q, r)
			}
		}
	}
	for _, q := range []Query{
		{Kind: KindService, Action: "round-close", Resource: "round/0"},
		{Kind: KindOperator, Action: "round-open", Resource: "round/0"},
		{Kind: KindGrant, Grant: "lease"},
		{Kind: KindRelease, Resource: "round/0", AgentKey: digest.Digest{2}},
		{Kind: KindRelease, Resource: "round/1", AgentKey: digest.Digest{1}},
	} {
		if found, err := l.Find(q); err != nil || len(found) != 0 {
			t.Errorf("%+v: %+v, %v", q, found, err)
		}
	}
}

func never(uint64) bool { return false }

// The newest record is found in the newest segment that has it, and no older one is read; one
// that is not there is looked for in all, by one page of each index.
func TestTheNewestRecordIsFoundFromTheNewestSegmentOn(t *testing.T) {
	dir, k, disk := t.TempDir(), newSigner(t), &countingDisk{}
	l := openLog(t, dir, k, Options{SegmentBytes: 4000, CheckpointRecords: 9, fs: disk})
	var read []int64
	for _, n := range []int{30, 300} {
		mixed(t, l, n-30, n)
		if n == 300 {
			mixed(t, l, 30, n-30)
		}
		last := roundRecord("round-open", 7) // the same twice: the newest counts
		last.Detail = fmt.Sprint("again ", n)
		if _, err := l.AppendAll(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		q := Query{Kind: KindService, Action: "round-open", Resource: "round/7"}
		before := disk.read.Load()
		found, there, err := l.FindLast(q)
		read = append(read, disk.read.Load()-before)
		if err != nil || !there || found.Record == nil || found.Record.Detail != last.Detail {
			t.Fatalf("%+v, %t, %v", found, there, err)
		}
		all, err := l.Find(q)
		if err != nil || all[len(all)-1].Index != found.Index {
			t.Errorf("%+v, %v", all, err)
		}
		q.From = found.Index + 1
		if _, there, err := l.FindLast(q); there || err != nil {
			t.Errorf("after the last: %t, %v", there, err)
		}
		for _, i := range []int{0, n - 30} { // of the oldest segment, too
			found, there, err := l.FindLast(Query{Kind: KindGrant, Grant: fmt.Sprintf("lease-%d", i)})
			if err != nil || !there || found.Record == nil || found.Record.ChipDigest != (digest.Digest{byte(i)}) {
				t.Errorf("lease %d: %+v, %t, %v", i, found, there, err)
			}
		}
		if _, there, err := l.FindLast(Query{Kind: KindGrant, Grant: "lease"}); there || err != nil {
			t.Errorf("not there: %t, %v", there, err)
		}
		if _, _, err := l.FindLast(Query{}); !errors.Is(err, ErrQuery) {
			t.Error(err)
		}
	}
	if len(l.closed) < 20 || read[1] > 2*read[0] {
		t.Errorf("%d closed segments: %d bytes were read, with few %d", len(l.closed), read[1], read[0])
	}
}

func TestRecordsAreFoundWithoutReadingTheLog(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	o := Options{SegmentBytes: 4000, CheckpointRecords: 9}
	l := openLog(t, dir, k, o)
	mixed(t, l, 0, 30)
	checkFound(t, l, 30, never)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, dir, k, o)
	checkFound(t, l, 30, never)
	mixed(t, l, 30, 33)
	checkFound(t, l, 33, never)
	if len(l.closed) < 5 {
		t.Errorf("only %d closed segments", len(l.closed))
	}
	for _, q := range []Query{{}, {Kind: KindService, Action: "a"}, {Kind: KindGrant}, {Kind: KindRelease, Resource: "r"}, {Kind: KindRefusal, Resource: "r", Action: "a"}, {Kind: KindGrant, Grant: "g", Action: "a"}} {
		if _, err := l.Find(q); !errors.Is(err, ErrQuery) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(dir, k.Public()); err != nil {
		t.Fatal(err)
	}
}

// TestRepeatedRecordsAreAllFound: the same event in several segments, oldest first.
func TestRepeatedRecordsAreAllFound(t *testing.T) {
	l := openLog(t, t.TempDir(), newSigner(t), Options{SegmentBytes: 2000})
	defer l.Close()
	for range 20 {
		if _, err := l.AppendAll(t.Context(), roundRecord("round-close", 7), sample(1)); err != nil {
			t.Fatal(err)
		}
	}
	found, err := l.Find(Query{Kind: KindService, Action: "round-close", Resource: "round/7"})
	if err != nil || len(found) != 20 {
		t.Fatal(len(found), err)
	}
	for i, f := range found {
		if f.Index != uint64(2*i) {
			t.Errorf("finding %d is record %d", i, f.Index)
		}
	}
}

// TestAForgedIndexHidesNothing: whoever may write the disk but has no audit key
// takes an entry out of an index, or exchanges a record.
func TestAForgedIndexHidesNothing(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{SegmentBytes: 4000})
	mixed(t, l, 0, 20)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	q := Query{Kind: KindService, Action: "round-open", Resource: "round/0"}
	for name, forge := range map[string]func(dir string){
		"entry changed": func(dir string) {
			edit(t, filepath.Join(dir, indexName(0)), func(b []byte) []byte { b[len(b)-indexEntryBytes] ^= 1; return b })
		},
		"entries cut": func(dir string) {
			edit(t, filepath.Join(dir, indexName(0)), func(b []byte) []byte { return b[:len(b)-indexEntryBytes] })
		},
		"record exchanged": func(dir string) {
			edit(t, segment(dir, recordPrefix, firstName), func(b []byte) []byte { return exchange(t, b) })
		},
	} {
		work := copyLog(t, dir)
		forge(work)
		l := openLog(t, work, k, Options{})
		if found, err := l.Find(q); !errors.Is(err, ErrTampered) {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(work, k.Public()); !errors.Is(err, ErrTampered) {
			t.Errorf("%s: Verify: %v", name, err)
		}
	}
}

// TestADiskThatChangesUnderARunningBrokerHidesNothing: the index was believed before.
func TestADiskThatChangesUnderARunningBrokerHidesNothing(t *testing.T) {
	q := Query{Kind: KindService, Action: "round-open", Resource: "round/0"}
	index := func(change func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) { edit(t, filepath.Join(dir, indexName(0)), change) }
	}
	for name, forge := range map[string]func(t *testing.T, dir string){
		"entries changed": index(func(b []byte) []byte {
			x, _, _, err := parseIndexHead(b)
			if err != nil {
				t.Fatal(err)
			}
			for i := x.entriesAt; i < int64(len(b)); i += indexEntryBytes {
				copy(b[i:], bytes.Repeat([]byte{0xff}, keyBytes))
			}
			return b
		}),
		"entries cut":  index(func(b []byte) []byte { return b[:len(b)/2] }),
		"index gone":   func(t *testing.T, dir string) { remove(t, filepath.Join(dir, indexName(0))) },
		"segment gone": func(t *testing.T, dir string) { remove(t, segment(dir, recordPrefix, firstName)) },
	} {
		dir := t.TempDir()
		l := openLog(t, dir, newSigner(t), Options{SegmentBytes: 4000})
		mixed(t, l, 0, 20)
		if found, err := l.Find(q); err != nil || len(found) != 1 {
			t.Fatalf("%+v, %v", found, err)
		}
		forge(t, dir)
		if found, err := l.Find(q); err == nil || found != nil {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestAnIndexIsReadByPages: every key of an index of several pages is found, with all of
// its places, wherever pages begin.
func TestAnIndexIsReadByPages(t *testing.T) {
	x := index{}
	for nth := range 5 * pageEntries {
		k := key{byte(nth % 7), byte(nth % 3)} // more places under each key than a page may end with
		if nth >= 2*pageEntries {
			k = key{9, byte(nth >> 8), byte(nth)}
		}
		x.add(k, uint64(nth), int64(nth)+1)
	}
	dir, signer := t.TempDir(), newSigner(t)
	if _, err := writeIndex(journal.Disk{}, dir, signer, summary{Count: 5 * pageEntries}, x); err != nil {
		t.Fatal(err)
	}
	read, err := readIndex(journal.Disk{}, dir, 0, verifyIndex(signer.Public()))
	if err != nil {
		t.Fatal(err)
	}
	f, err := journal.Disk{}.Open(filepath.Join(dir, indexName(0)), false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pages, err := read.check(f)
	if err != nil || len(pages) != 5 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	x[key{8}] = nil // between keys, before and behind all
	x[key{0, 0, 1}], x[key{0xff}] = nil, nil
	for k, want := range x {
		if places, err := read.find(f, pages, k); err != nil || !slices.Equal(places, want) {
			t.Errorf("%x: %d places, want %d: %v", k, len(places), len(want), err)
		}
	}
}

// TestAnIndexOfAForkFitsNoOtherLog: the same key signed it, for a log that was
// restored and went on differently.
func TestAnIndexOfAForkFitsNoOtherLog(t *testing.T) {
	base, k := t.TempDir(), newSigner(t)
	o := Options{SegmentBytes: 2000}
	if err := openLog(t, base, k, o).Close(); err != nil {
		t.Fatal(err)
	}
	grow := func(chip byte) string {
		dir := copyLog(t, base)
		l := openLog(t, dir, k, o)
		for i := range 40 { // all of one length
			if _, err := l.Append(t.Context(), Record{Kind: KindGrant, Time: time.Unix(1_700_000_000, 0), Grant: fmt.Sprintf("%c%d", 'a'+chip, 10+i)}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := l.Archive(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	one, other := grow(1), grow(2)
	b, err := os.ReadFile(filepath.Join(other, indexName(0)))
	if err != nil {
		t.Fatal(err)
	}
	edit(t, filepath.Join(one, indexName(0)), func(old []byte) []byte {
		if len(old) != len(b) {
			t.Fatal("the two logs differ in more than their content")
		}
		return b
	})
	refusedEverywhere(t, "another log's index", one, k)
	if err := os.RemoveAll(filepath.Join(one, ArchiveName)); err != nil {
		t.Fatal(err)
	}
	refusedEverywhere(t, "another log's index of a segment that went", one, k)
}

func TestAPlaceOfAnotherRecordIsNoAnswer(t *testing.T) {
	l := openLog(t, t.TempDir(), newSigner(t), Options{})
	defer l.Close()
	mixed(t, l, 0, 2)
	k, err := Query{Kind: KindGrant, Grant: "lease-1"}.key()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []place{{0, journal.SegmentHeaderBytes}, {2, journal.SegmentHeaderBytes}, {9, journal.SegmentHeaderBytes}, {0, 3}} {
		if found, err := l.read(segmentOf(0), []place{p}, k); !errors.Is(err, ErrTampered) {
			t.Errorf("%+v: %+v, %v", p, found, err)
		}
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

// exchange writes another first frame of the same length with valid checksums.
func exchange(t *testing.T, b []byte) []byte {
	t.Helper()
	entries, size, _, err := journal.ParseFrame(b[journal.SegmentHeaderBytes:], journal.SegmentHeaderBytes, journal.Position{})
	if err != nil {
		t.Fatal(err)
	}
	entries[1] = bytes.Replace(entries[1], []byte("of a round"), []byte("of another"), 1)
	frame, _ := journal.BuildFrame(journal.Position{}, entries)
	return append(append(bytes.Clone(b[:journal.SegmentHeaderBytes]), frame...), b[journal.SegmentHeaderBytes+size:]...)
}

func checkpointOf(t *testing.T, l *Log) Checkpoint {
	t.Helper()
	c, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestACheckpointKeptElsewhereShowsRollbackAndFork restores an older copy of the
// whole directory, and lets whoever has the audit key write another log.
func TestACheckpointKeptElsewhereShowsRollbackAndFork(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	o := Options{SegmentBytes: 3000}
	l := openLog(t, dir, k, o)
	fill(t, l, 0, 10)
	early := checkpointOf(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	old := copyLog(t, dir)
	l = openLog(t, dir, k, o)
	fill(t, l, 10, 25)
	late := checkpointOf(t, l)
	fill(t, l, 25, 31)
	expect := func(name string, l *Log, c Checkpoint, want refusal.Reason) {
		t.Helper()
		got, _ := refusal.ReasonOf(l.Extends([]byte(c.Note)))
		if err := l.Extends([]byte(c.Note)); got != want || (err == nil) != (want == "") {
			t.Errorf("%s: Extends: %v, want %q", name, err, want)
		}
		_, err := Check{Keys: []identity.Public{k.Public()}, Kept: [][]byte{[]byte(c.Note)}}.Verify(t.Context(), l.Dir())
		if got, _ := refusal.ReasonOf(err); got != want || (err == nil) != (want == "") {
			t.Errorf("%s: Verify: %v, want %q", name, err, want)
		}
	}
	expect("the log itself, early", l, early, "")
	expect("the log itself, late", l, late, "")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	restored := openLog(t, old, k, o)
	expect("restored, early", restored, early, "")
	expect("restored, late", restored, late, ReasonRolledBack)
	// It goes on from there until it is long enough again.
	for i := range 30 {
		if _, err := restored.Append(t.Context(), sample(1000+i)); err != nil {
			t.Fatal(err)
		}
	}
	expect("forked and not signed yet", restored, late, ReasonForked)
	checkpointOf(t, restored)
	expect("forked", restored, late, ReasonForked)
	expect("forked, before the fork", restored, early, "")
	if err := restored.Close(); err != nil {
		t.Fatal(err)
	}
	stranger, err := signCheckpoint(newSigner(t), 3, digest.Digest{})
	if err != nil {
		t.Fatal(err)
	}
	expect("another log's", openLog(t, t.TempDir(), k, o), stranger, ReasonCheckpointInvalid)
	empty, err := signCheckpoint(k, 0, digest.Digest{})
	if err != nil {
		t.Fatal(err)
	}
	begun := openLog(t, t.TempDir(), k, o)
	fill(t, begun, 0, 1)
	checkpointOf(t, begun)
	expect("of nothing", begun, empty, "")
	if r, err := (Check{Keys: []identity.Public{k.Public()}, Kept: [][]byte{[]byte(empty.Note)}}).Verify(t.Context(), begun.Dir()); err != nil || r.Kept != 0 {
		t.Errorf("a checkpoint that counts nothing counts: %+v, %v", r, err)
	}
}

// TestALogWhoseNewestCheckpointIsLostExtendsIt: the records are there, and the
// copy of the checkpoint elsewhere still counts.
func TestALogWhoseNewestCheckpointIsLostExtendsIt(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{})
	fill(t, l, 0, 10)
	checkpointOf(t, l)
	kept := copyLog(t, dir)
	fill(t, l, 10, 20)
	late := checkpointOf(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(kept, checkpointPrefix+firstName+".seg"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, checkpointPrefix+firstName+".seg"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, dir, k, Options{})
	defer l.Close()
	if l.Latest().Size != 10 || l.Size() != 20 {
		t.Fatal(l.Latest().Size, l.Size())
	}
	if err := l.Extends([]byte(late.Note)); err != nil {
		t.Error(err)
	}
}

// TestTooManyToFindIsNeverAPart: whoever asks whether something was recorded must not be
// told of the first ones alone.
func TestTooManyToFindIsNeverAPart(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{})
	batch := make([]Record, 16)
	for i := range batch {
		batch[i] = roundRecord("charge", 0)
	}
	q := Query{Kind: KindService, Action: "charge", Resource: "round/0"}
	for n := 0; n < MaxFound; n += len(batch) {
		if _, err := l.AppendAll(t.Context(), batch...); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := l.Find(q); err != nil || len(found) != MaxFound {
		t.Fatalf("%d found: %v", len(found), err)
	}
	if _, err := l.Append(t.Context(), batch[0]); err != nil {
		t.Fatal(err)
	}
	if found, err := l.Find(q); !errors.Is(err, ErrTooMany) || found != nil {
		t.Errorf("%d found in the open segment: %v", len(found), err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, dir, k, Options{SegmentBytes: 1})
	defer l.Close()
	if _, err := l.Append(t.Context(), sample(0)); err != nil { // the segment closes
		t.Fatal(err)
	}
	if found, err := l.Find(q); !errors.Is(err, ErrTooMany) || found != nil {
		t.Errorf("%d found in the closed segment: %v", len(found), err)
	}
}

// TestShowingHoldsNoMoreThanIsShown: a segment may hold more records than memory should.
func TestShowingHoldsNoMoreThanIsShown(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, newSigner(t), Options{})
	fill(t, l, 0, 100)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	const keep = 3
	err := backwards(dir, Filter{}, keep, func(matched []Entry) bool {
		if len(matched) != keep || cap(matched) > 4*keep {
			t.Errorf("%d matches in room for %d", len(matched), cap(matched))
		}
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := Show(dir, Filter{Last: keep}); err != nil || len(entries) != keep || entries[keep-1].Index < entries[0].Index {
		t.Errorf("%+v, %v", entries, err)
	}
}
