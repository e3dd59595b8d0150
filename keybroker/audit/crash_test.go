package audit

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// countingDisk is the real disk and counts syncs and the bytes that are read.
type countingDisk struct {
	journal.Disk
	syncs, read atomic.Int64
}

type countingFile struct {
	journal.File
	disk *countingDisk
}

func (d *countingDisk) Open(name string, create bool) (journal.File, error) {
	f, err := d.Disk.Open(name, create)
	return countingFile{f, d}, err
}

func (f countingFile) Sync() error { f.disk.syncs.Add(1); return f.File.Sync() }

func (f countingFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b, off)
	f.disk.read.Add(int64(n))
	return n, err
}

// platter is a disk in memory that knows what is stable: a file's bytes count
// when it was synced, its name when it was renamed durably. When the power
// fails, what is not stable is lost in part: each unsynced sector is either
// there, or still what it was before.
type platter struct {
	mu    sync.Mutex
	files map[string]*spinning
	// forgetful makes Sync return without doing anything: the control.
	forgetful bool
	// writes is how many more writes succeed; then they fail with cause.
	writes int
	cause  error
	// syncFails makes the next Sync fail after the bytes arrived.
	syncFails error
}

type spinning struct {
	p            *platter
	live, stable []byte
	existsStably bool
}

func newPlatter() *platter { return &platter{files: map[string]*spinning{}, writes: 1 << 60} }

func (p *platter) Open(name string, create bool) (journal.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, ok := p.files[name]
	if ok == create {
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	}
	if create {
		f = &spinning{p: p}
		p.files[name] = f
	}
	return f, nil
}

func (p *platter) List(dir, prefix string) ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for name := range p.files {
		if filepath.Dir(name) == dir && strings.HasPrefix(filepath.Base(name), prefix) {
			out = append(out, filepath.Base(name))
		}
	}
	sort.Strings(out)
	return out, nil
}

func (p *platter) Rename(from, to string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.files[from]
	delete(p.files, from)
	p.files[to] = f
	f.existsStably = !p.forgetful
	return nil
}

func (p *platter) MakeDir(string) error { return nil }

func (p *platter) Remove(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.files, name)
	return nil
}

func (f *spinning) ReadAt(b []byte, off int64) (int, error) {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	return strings.NewReader(string(f.live)).ReadAt(b, off)
}

func (f *spinning) WriteAt(b []byte, off int64) (int, error) {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	f.p.writes--
	if f.p.writes < 0 {
		b = b[:len(b)/2] // a full disk takes a part
	}
	if need := int(off) + len(b); need > len(f.live) {
		f.live = append(f.live, make([]byte, need-len(f.live))...)
	}
	copy(f.live[off:], b)
	if f.p.writes < 0 {
		return len(b), f.p.cause
	}
	return len(b), nil
}

func (f *spinning) Sync() error {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	if err := f.p.syncFails; err != nil {
		f.p.syncFails = nil
		return err
	}
	if !f.p.forgetful {
		f.stable = append([]byte(nil), f.live...)
	}
	return nil
}

func (f *spinning) Truncate(size int64) error {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	f.live = f.live[:size]
	return nil
}

func (f *spinning) Close() error { return nil }

func (f *spinning) Size() (int64, error) { return int64(len(f.live)), nil }

// fail returns what is left after the power failed.
func (p *platter) fail(r *rand.Rand) *platter {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := newPlatter()
	for _, name := range slices.Sorted(maps.Keys(p.files)) { // in one order: r draws for each
		f := p.files[name]
		if !f.existsStably {
			continue
		}
		left := append([]byte(nil), f.stable...)
		if len(f.live) > len(left) && r.IntN(2) == 0 {
			left = append(left, make([]byte, r.IntN(len(f.live)-len(left)+1))...)
		}
		for at := 0; at < len(left); at += journal.SectorBytes {
			end := min(at+journal.SectorBytes, len(left), len(f.live))
			if at < end && r.IntN(2) == 0 {
				copy(left[at:end], f.live[at:end])
			}
		}
		out.files[name] = &spinning{p: out, live: left, stable: append([]byte(nil), left...), existsStably: true}
	}
	return out
}

// lostAfterPowerFailures runs writers until the power fails at a random
// moment and returns how many acknowledged records are lost in each round.
func lostAfterPowerFailures(t *testing.T, forgetful bool) (acknowledged, lost int) {
	t.Helper()
	k := newSigner(t)
	r := rand.New(rand.NewPCG(1, 2))
	p := newPlatter()
	p.forgetful = forgetful
	p.files["d/x"] = &spinning{p: p, existsStably: true} // the directory itself
	known := map[uint64]digest.Digest{}
	for round := range 40 {
		l, err := Open("d", k, Options{fs: p, SegmentBytes: 4000, CheckpointRecords: 11})
		if err != nil {
			if forgetful {
				return acknowledged, lost + len(known)
			}
			t.Fatalf("round %d: %v", round, err)
		}
		for i := range known {
			if i >= l.Size() {
				lost++
				delete(known, i)
			}
		}
		checkLeaves(t, p, known)
		var mu sync.Mutex
		var wg sync.WaitGroup
		var after *platter
		stop := 10 + r.IntN(60)
		count := 0
		for w := range 4 {
			wg.Go(func() {
				for i := range 40 {
					rec := sample(round*1000 + w*100 + i)
					rec.Detail = strings.Repeat("d", (i*97)%1500)
					leaf, err := l.Append(t.Context(), rec)
					if err != nil {
						return
					}
					mu.Lock()
					if after == nil {
						known[leaf.Index] = leaf.Hash
						acknowledged++
						if count++; count == stop {
							after = p.fail(r)
						}
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		p = after
		p.forgetful = forgetful
		p.files["d/x"] = &spinning{p: p, existsStably: true}
		if _, err := verifyOn(p, k); err != nil && !forgetful {
			t.Fatalf("round %d: integrity: %v", round, err)
		}
	}
	return acknowledged, lost
}

// checkLeaves compares every acknowledged record that is still there.
func checkLeaves(t *testing.T, fs journal.FileSystem, known map[uint64]digest.Digest) {
	t.Helper()
	if _, _, err := journal.Scan(fs, "d", recordPrefix, func(e journal.Entry) error {
		if h, ok := known[e.Index]; ok && h != leafHash(e.Body) {
			return fmt.Errorf("record %d is another one now", e.Index)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestPowerLossLosesNothingAcknowledged(t *testing.T) {
	longtest.Arithmetic(t, "it loses power some hundred times")
	acknowledged, lost := lostAfterPowerFailures(t, false)
	if acknowledged < 300 || lost != 0 {
		t.Fatalf("%d of %d acknowledged records lost", lost, acknowledged)
	}
}

// TestPowerLossControl shows that the test above can fail: without syncs,
// acknowledged records are lost.
func TestPowerLossControl(t *testing.T) {
	longtest.Arithmetic(t, "it loses power some hundred times")
	acknowledged, lost := lostAfterPowerFailures(t, true)
	if lost == 0 {
		t.Fatalf("nothing of %d lost although nothing was synced", acknowledged)
	}
}

// TestPowerLossKeepsDecisionsWhole: of the records of one decision all are there
// after a power failure, or none; and segments that were being closed open again.
func TestPowerLossKeepsDecisionsWhole(t *testing.T) {
	k := newSigner(t)
	r := rand.New(rand.NewPCG(3, 4))
	p := newPlatter()
	p.files["d/x"] = &spinning{p: p, existsStably: true}
	for round := range 25 {
		l, err := Open("d", k, Options{fs: p, SegmentBytes: 3000, CheckpointRecords: 5})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		stop := 1 + r.IntN(12)
		var after *platter
		for i := 0; after == nil; i++ {
			records := make([]Record, 1+r.IntN(4))
			for n := range records {
				records[n] = Record{Kind: KindGrant, Time: time.Unix(1, 0), Grant: fmt.Sprintf("%d-%d-%d", round, i, n), Connection: fmt.Sprintf("%d-%d", round, i), ResourceVersion: uint64(len(records))}
				records[n].Detail = strings.Repeat("d", r.IntN(900))
			}
			if i == stop { // in the middle of it
				p.mu.Lock()
				p.writes, p.cause = r.IntN(3), syscall.EIO
				p.mu.Unlock()
			}
			if _, err := l.AppendAll(t.Context(), records...); err != nil || i > stop+2 {
				after = p.fail(r)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		p = after
		p.files["d/x"] = &spinning{p: p, existsStably: true}
		whole := map[string]uint64{}
		if _, _, err := journal.Scan(p, "d", recordPrefix, func(e journal.Entry) error {
			rec, err := ParseRecord(e.Body)
			if whole[rec.Connection] == 0 {
				whole[rec.Connection] = rec.ResourceVersion
			}
			if whole[rec.Connection]--; whole[rec.Connection] == 0 {
				delete(whole, rec.Connection)
			}
			return err
		}); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if len(whole) != 0 {
			t.Fatalf("round %d: in part: %v", round, whole)
		}
	}
}

const childVariable = "ANCHORHOLD_AUDIT_TEST_CHILD"

// TestKillChild is the process that the next test kills: it appends until it
// dies and prints what was acknowledged.
func TestKillChild(t *testing.T) {
	dir := os.Getenv(childVariable)
	if dir == "" {
		t.Skip("runs only as a child of TestKilledAtAnyMoment")
	}
	k, err := idfile.Read(filepath.Join(dir, "key"), testUnlock(t))
	if err != nil {
		t.Fatal(err)
	}
	l := openLog(t, filepath.Join(dir, "log"), k, Options{SegmentBytes: 20_000, CheckpointRecords: 50})
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				leaf, err := l.Append(t.Context(), sample(w*1_000_000+i))
				if err != nil {
					return
				}
				mu.Lock()
				fmt.Printf("ack %d %s\n", leaf.Index, leaf.Hash)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestKilledAtAnyMoment(t *testing.T) {
	dir := t.TempDir()
	k := newSigner(t)
	if err := idfile.Write(filepath.Join(dir, "key"), k, testUnlock(t)); err != nil {
		t.Fatal(err)
	}
	known := map[uint64]string{}
	for round := range 8 {
		killAfter(t, dir, 1+rand.New(rand.NewPCG(uint64(round), 5)).IntN(400), known)
		log := filepath.Join(dir, "log")
		l := openLog(t, log, k, Options{})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(log, k.Public()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		found := 0
		if err := Iterate(log, func(e Entry) bool {
			if h, ok := known[e.Index]; ok {
				if h != e.Hash.String() {
					t.Fatalf("record %d changed", e.Index)
				}
				found++
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if found != len(known) {
			t.Fatalf("round %d: %d of %d acknowledged records lost", round, len(known)-found, len(known))
		}
	}
	t.Logf("%d acknowledged records, none lost", len(known))
}

// killAfter runs the child and kills it after so many acknowledgements.
func killAfter(t *testing.T, dir string, n int, known map[uint64]string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$", "-test.v")
	cmd.Env = append(os.Environ(), childVariable+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	count := 0
	for s := bufio.NewScanner(out); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) == 3 && f[0] == "ack" && len(f[2]) == 64 {
			i, err := strconv.ParseUint(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			known[i] = f[2]
			if count++; count == n {
				if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := cmd.Wait(); err == nil || count < n {
		t.Fatalf("the child ended by itself after %d records: %v", count, err)
	}
}

func verifyOn(p *platter, k *identity.Private) (Report, error) {
	return Check{Keys: []identity.Public{k.Public()}, fs: p}.Verify(context.Background(), "d")
}
