package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// bulk appends small records quickly.
func bulk(t testing.TB, l *Log, n int) {
	t.Helper()
	var wg sync.WaitGroup
	const writers, together = 64, 16
	for w := range writers {
		wg.Go(func() {
			for i := w; i < n/together; i += writers {
				records := make([]Record, together)
				for k := range records {
					records[k] = Record{Kind: KindGrant, Time: time.Unix(1_700_000_000, int64(i)), Grant: fmt.Sprintf("lease-%d-%d", i, k)}
				}
				if _, err := l.AppendAll(t.Context(), records...); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestOpeningReadsNoMoreAsTheLogGrows prevents what happened at 8 GB: a log whose
// opening took longer than the service manager waits.
func TestOpeningReadsNoMoreAsTheLogGrows(t *testing.T) {
	longtest.Run(t, "it writes 80,000 records")
	const segment = 256 << 10
	k := newSigner(t)
	dir := t.TempDir()
	var read []int64
	for _, records := range []int{16_000, 64_000} {
		l := openLog(t, dir, k, Options{SegmentBytes: segment})
		bulk(t, l, records)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		fs := &countingDisk{}
		l = openLog(t, dir, k, Options{SegmentBytes: segment, fs: fs})
		read = append(read, fs.read.Load())
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	size, err := os.Stat(filepath.Join(dir, treeName))
	if err != nil || size.Size() < 80_000*63 {
		t.Fatal(size, err)
	}
	// One segment of records in windows that overlap, one of checkpoints, and the
	// signed beginning of each index.
	for i, n := range read {
		if n > 5*(1<<20) {
			t.Errorf("opening %d read %d bytes", i, n)
		}
	}
	t.Logf("opening read %d and %d bytes of a log of %d", read[0], read[1], 80_000*300)
	if r, err := Verify(dir, k.Public()); err != nil || r.Records != 80_000 {
		t.Fatalf("%+v, %v", r, err)
	}
}

// BenchmarkOpen opens logs of two sizes.
func BenchmarkOpen(b *testing.B) {
	for _, records := range []int{20_000, 200_000} {
		b.Run(fmt.Sprintf("records=%d", records), func(b *testing.B) {
			dir, k := b.TempDir(), newSigner(b)
			l := openLog(b, dir, k, Options{SegmentBytes: 4 << 20})
			bulk(b, l, records)
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if err := openLog(b, dir, k, Options{SegmentBytes: 4 << 20}).Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// several makes a log with several closed segments, all of it signed.
func several(t *testing.T) (dir string, k *identity.Private, segments []journal.Segment) {
	t.Helper()
	dir, k = t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{SegmentBytes: 3000, CheckpointRecords: 7})
	fill(t, l, 0, 60)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	segments, err := journal.Segments(journal.Disk{}, dir, recordPrefix)
	if err != nil || len(segments) < 5 {
		t.Fatal(segments, err)
	}
	return dir, k, segments
}

// TestOlderSegmentsAreJudgedByTheirHashes flips a byte of the tree's file at a
// time: opening refuses those that it grows from, and verifying finds every one.
func TestOlderSegmentsAreJudgedByTheirHashes(t *testing.T) {
	dir, k, _ := several(t)
	path := filepath.Join(dir, treeName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused, step := 0, 8*32
	if longtest.All() {
		step = 32 // each hash
	}
	for at := 5; at < len(whole); at += step {
		bad := bytes.Clone(whole)
		bad[at] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(dir, k.Public()); !errors.Is(err, ErrTampered) {
			t.Fatalf("hash %d changed: Verify: %v", at/32, err)
		}
		l, err := Open(dir, k, Options{})
		switch {
		case errors.Is(err, ErrTampered):
			refused++
		case err != nil:
			t.Fatalf("hash %d changed: Open: %v", at/32, err)
		default:
			l.Close()
		}
	}
	if refused == 0 {
		t.Error("opening believed every hash")
	}
	// Without the file, the tree is made anew from the records and checked.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, dir, k, Options{})
	if err := l.Close(); err != nil || l.Size() != 60 {
		t.Fatal(err, l.Size())
	}
	if again, err := os.ReadFile(path); err != nil || !bytes.Equal(again, whole) {
		t.Errorf("the tree made anew differs: %v", err)
	}
}

func TestIndexesAreSignedOrMadeAnew(t *testing.T) {
	dir, k, segments := several(t)
	name := filepath.Join(dir, indexName(segments[1].First))
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func() error{
		"missing":        func() error { return os.Remove(name) },
		"cut":            func() error { return os.WriteFile(name, whole[:20], 0o600) },
		"another count":  func() error { c := bytes.Clone(whole); c[23]++; return os.WriteFile(name, c, 0o600) },
		"by another key": func() error { return resign(t, name, whole) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if err := openLog(t, dir, k, Options{}).Close(); err != nil {
			t.Fatal(err)
		}
		again, err := os.ReadFile(name)
		statement := len(summary{}.statement())
		if err != nil || !bytes.Equal(again[:statement], whole[:statement]) {
			t.Errorf("%s: the index made anew differs (%v)", what, err)
		}
	}
	// A segment whose records are not the tree's gets no index.
	edit(t, filepath.Join(dir, segments[1].Name), func(b []byte) []byte { b[len(b)-20] ^= 1; return b })
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if l, err := Open(dir, k, Options{}); !errors.Is(err, ErrTampered) {
		if err == nil {
			l.Close()
		}
		t.Errorf("a changed segment was indexed: %v", err)
	}
}

func resign(t *testing.T, name string, whole []byte) error {
	t.Helper()
	x, statement, sig, err := parseIndexHead(whole)
	if err != nil {
		return err
	}
	forged, err := newSigner(t).Sign(IndexContext, statement)
	if err != nil {
		return err
	}
	c := bytes.Clone(whole)
	copy(c[x.entriesAt-int64(len(sig)):], forged)
	return os.WriteFile(name, c, 0o600)
}

// TestSeveralRecordsAreOneStep: all records of a decision are there or none.
func TestSeveralRecordsAreOneStep(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{})
	leaves, err := l.AppendAll(t.Context(), sample(0), sample(1), sample(2))
	if err != nil || len(leaves) != 3 || leaves[2].Index != 2 {
		t.Fatal(leaves, err)
	}
	for _, bad := range [][]Record{nil, make([]Record, maxDecisionRecords+1), {sample(3), {}}} {
		if _, err := l.AppendAll(t.Context(), bad...); !errors.Is(err, ErrRecord) {
			t.Errorf("%d records: %v", len(bad), err)
		}
	}
	fill(t, l, 3, 4)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path := segment(dir, recordPrefix, firstName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := frames(t, b)
	if len(first) != 3 { // two frames and the end
		t.Fatalf("frames at %v", first)
	}
}

// TestWhoGivesUpIsNotRecorded: a caller whose context ends before its commit began
// can be sure that nothing of it is written later.
func TestWhoGivesUpIsNotRecorded(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{})
	l.turn <- struct{}{} // somebody is committing, and takes long
	ctx, cancel := context.WithCancel(t.Context())
	gave := make(chan error)
	go func() { _, err := l.Append(ctx, sample(0)); gave <- err }()
	kept := make(chan error)
	go func() { _, err := l.Append(t.Context(), sample(1)); kept <- err }()
	for waiting := 0; waiting < 2; runtime.Gosched() {
		l.queue.Lock()
		waiting = len(l.queue.waiting)
		l.queue.Unlock()
	}
	cancel()
	if err := <-gave; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	<-l.turn
	if err := <-kept; err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if list, err := Show(dir, Filter{}); err != nil || len(list) != 1 || list[0].Record.RefusalID != "r-1" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestWaitingDecisionsAreBounded(t *testing.T) {
	l := openLog(t, t.TempDir(), newSigner(t), Options{})
	l.turn <- struct{}{}
	for range maxQueued {
		if err := l.enqueue(&entry{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Append(t.Context(), sample(0)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("one more than may wait: %v", err)
	}
	l.queue.waiting = nil
	<-l.turn
	if _, err := l.Append(t.Context(), sample(0)); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCommitsAreSharedByThoseWhoWait: what waits while a commit is under way goes
// into the next one together, up to the limits of a frame.
func TestCommitsAreSharedByThoseWhoWait(t *testing.T) {
	fs := &countingDisk{}
	l := openLog(t, t.TempDir(), newSigner(t), Options{fs: fs, CheckpointRecords: 1 << 20})
	l.turn <- struct{}{}
	before := fs.syncs.Load()
	const n = maxBatchRecords + 10
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := l.Append(t.Context(), sample(i)); err != nil {
				t.Error(err)
			}
		})
	}
	for waiting := 0; waiting < n; runtime.Gosched() {
		l.queue.Lock()
		waiting = len(l.queue.waiting)
		l.queue.Unlock()
	}
	<-l.turn
	wg.Wait()
	if got := fs.syncs.Load() - before; got != 2 {
		t.Errorf("%d records took %d syncs, want 2", n, got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
