package audit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

func testUnlock(t testing.TB) idfile.Unlock {
	t.Helper()
	b, err := keybuf.Take(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Wipe)
	return idfile.Unlock{Credential: b}
}

// copyLog copies a log so that each case changes its own.
func copyLog(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(filepath.Join(to, "log"), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(to, "log")
}

func edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// refusedEverywhere checks that neither Verify nor Open accepts the log.
func refusedEverywhere(t *testing.T, name, dir string, k *identity.Private) {
	t.Helper()
	if r, err := Verify(dir, k.Public()); !errors.Is(err, ErrTampered) {
		t.Errorf("%s: Verify: %+v, %v", name, r, err)
	}
	if l, err := Open(dir, k, Options{}); !errors.Is(err, ErrTampered) {
		if err == nil {
			l.Close()
		}
		t.Errorf("%s: Open: %v", name, err)
	}
}

func segment(dir, prefix string, first string) string {
	return filepath.Join(dir, prefix+first+".seg")
}

const firstName = "0000000000000000"

func smallLog(t *testing.T, n int) (dir string, k *identity.Private) {
	t.Helper()
	dir, k = t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{})
	fill(t, l, 0, n)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, k
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	t.Run("some", func(t *testing.T) { flippedBitsAreFound(t, 17) })
	t.Run("all", func(t *testing.T) {
		longtest.Arithmetic(t, "it flips a bit of each byte")
		flippedBitsAreFound(t, 1)
	})
}

func flippedBitsAreFound(t *testing.T, step int) {
	dir, k := smallLog(t, 4)
	b, err := os.ReadFile(segment(dir, recordPrefix, firstName))
	if err != nil {
		t.Fatal(err)
	}
	work := copyLog(t, dir)
	path := segment(work, recordPrefix, firstName)
	for i := 0; i < len(b); i += step {
		c := bytes.Clone(b)
		c[i] ^= 1 << (i % 8)
		if err := os.WriteFile(path, c, 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := Verify(work, k.Public()); err == nil {
			t.Fatalf("byte %d of %d: %+v", i, len(b), r)
		}
		if l, err := Open(work, k, Options{}); err == nil {
			l.Close()
			t.Fatalf("byte %d of %d: opened", i, len(b))
		}
	}
}

// frames returns the offsets of the frames in a segment.
func frames(t *testing.T, b []byte) []int {
	t.Helper()
	out, at := []int{journal.SegmentHeaderBytes}, journal.Position{}
	for off := journal.SegmentHeaderBytes; off < len(b); {
		_, size, next, err := journal.ParseFrame(b[off:], int64(off), at)
		if err != nil {
			t.Fatal(err)
		}
		off, at = off+size, next
		out = append(out, off)
	}
	return out
}

func TestRemovedReorderedDuplicatedRecordsAreFound(t *testing.T) {
	dir, k := smallLog(t, 5)
	for name, change := range map[string]func(b []byte, f []int) []byte{
		"removed":    func(b []byte, f []int) []byte { return append(bytes.Clone(b[:f[1]]), b[f[2]:]...) },
		"first gone": func(b []byte, f []int) []byte { return append(bytes.Clone(b[:f[0]]), b[f[1]:]...) },
		"duplicated": func(b []byte, f []int) []byte { return append(bytes.Clone(b[:f[2]]), b[f[1]:]...) },
		"exchanged": func(b []byte, f []int) []byte {
			return bytes.Join([][]byte{b[:f[1]], b[f[2]:f[3]], b[f[1]:f[2]], b[f[3]:]}, nil)
		},
		"garbage":      func(b []byte, f []int) []byte { return append(bytes.Clone(b), "garbage behind the end"...) },
		"cut behind":   func(b []byte, f []int) []byte { return b[:f[4]] },
		"cut inside":   func(b []byte, f []int) []byte { return b[:f[3]+20] },
		"all cut":      func(b []byte, f []int) []byte { return b[:f[0]] },
		"zeroed frame": func(b []byte, f []int) []byte { c := bytes.Clone(b); clear(c[f[1]:f[2]]); return c },
		"long zeros": func(b []byte, f []int) []byte {
			return append(bytes.Clone(b), make([]byte, journal.MaxFrameBytes+1)...)
		},
	} {
		work := copyLog(t, dir)
		edit(t, segment(work, recordPrefix, firstName), func(b []byte) []byte { return change(b, frames(t, b)) })
		refusedEverywhere(t, name, work, k)
	}
}

// TestRewrittenRecordsAreFoundByTheCheckpoint builds a log that is consistent
// in itself and keeps the old checkpoints.
func TestRewrittenRecordsAreFoundByTheCheckpoint(t *testing.T) {
	dir, k := smallLog(t, 5)
	forged := t.TempDir()
	l := openLog(t, forged, newSigner(t), Options{})
	fill(t, l, 0, 4)
	other := sample(4)
	other.Decision = "allowed"
	if _, err := l.Append(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	work := copyLog(t, dir)
	edit(t, segment(work, recordPrefix, firstName), func([]byte) []byte {
		b, err := os.ReadFile(segment(forged, recordPrefix, firstName))
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
	refusedEverywhere(t, "rewritten", work, k)
	// The forger's own checkpoints do not help either.
	_, err := Verify(forged, k.Public())
	if reason, _ := refusal.ReasonOf(err); reason != ReasonOtherKey {
		t.Errorf("another key's log: %v", err)
	}
	if _, err := Verify(forged); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("verified without a key: %v", err)
	}
}

func TestMissingSegmentsAreFound(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{SegmentBytes: 1000})
	fill(t, l, 0, 12)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := journal.Segments(journal.Disk{}, dir, recordPrefix)
	if err != nil || len(names) < 4 {
		t.Fatalf("%v, %v", names, err)
	}
	for i, seg := range names {
		name := seg.Name
		work := copyLog(t, dir)
		if err := os.Remove(filepath.Join(work, name)); err != nil {
			t.Fatal(err)
		}
		refusedEverywhere(t, "segment "+name, work, k)
		if i == len(names)-1 {
			continue
		}
		work = copyLog(t, dir)
		edit(t, filepath.Join(work, name), func(b []byte) []byte { return b[:len(b)-3] })
		refusedEverywhere(t, "shortened "+name, work, k)
	}
	work := copyLog(t, dir)
	if err := os.Rename(filepath.Join(work, names[1].Name), filepath.Join(work, recordPrefix+"00000000000000ff.seg")); err != nil {
		t.Fatal(err)
	}
	refusedEverywhere(t, "renamed", work, k)
}

func TestTornTailIsCutAndNothingElse(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{})
	fill(t, l, 0, 3)
	if _, err := l.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path := segment(dir, recordPrefix, firstName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	off := frames(t, whole)
	_, _, at, _ := journal.ParseFrame(whole[off[0]:], 0, journal.Position{})
	_, _, at, _ = journal.ParseFrame(whole[off[1]:], 0, at)
	_, _, at, _ = journal.ParseFrame(whole[off[2]:], 0, at)
	body, _ := sample(3).Marshal()
	frame, _ := journal.BuildFrame(at, [][]byte{body, body, body, body})
	for cut := 0; cut <= len(frame); cut += 13 {
		work := copyLog(t, dir)
		edit(t, segment(work, recordPrefix, firstName), func(b []byte) []byte { return append(b, frame[:cut]...) })
		checkCut(t, work, k, 3, cut > 0)
	}
	for name, torn := range map[string][]byte{
		"zeros":       make([]byte, len(frame)),
		"hole":        hole(frame, len(whole)),
		"zero header": append(make([]byte, journal.SectorBytes-len(whole)%journal.SectorBytes), frame[journal.SectorBytes-len(whole)%journal.SectorBytes:]...),
	} {
		work := copyLog(t, dir)
		edit(t, segment(work, recordPrefix, firstName), func(b []byte) []byte { return append(b, torn...) })
		if name == "zero header" && journal.SectorBytes-len(whole)%journal.SectorBytes < journal.FrameHeaderBytes {
			continue
		}
		checkCut(t, work, k, 3, true)
	}
}

// hole clears the second sector of a frame that stands at offset.
func hole(frame []byte, offset int) []byte {
	c := bytes.Clone(frame)
	start := journal.SectorBytes - offset%journal.SectorBytes
	clear(c[start:min(start+journal.SectorBytes, len(c))])
	return c
}

func checkCut(t *testing.T, dir string, k *identity.Private, records uint64, torn bool) {
	t.Helper()
	r, err := Verify(dir, k.Public())
	if err != nil || r.Records != records || r.TornTail != torn {
		t.Fatalf("%+v, %v", r, err)
	}
	l := openLog(t, dir, k, Options{})
	if l.Size() != records {
		t.Fatalf("%d records", l.Size())
	}
	fill(t, l, int(records), int(records)+2)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := Verify(dir, k.Public()); err != nil || r.Records != records+2 || r.TornTail {
		t.Fatalf("after the cut: %+v, %v", r, err)
	}
}

func TestFullDiskStopsRecordsUntilHealed(t *testing.T) {
	k := newSigner(t)
	p := newPlatter()
	p.files["d/x"] = &spinning{p: p, existsStably: true}
	l, err := Open("d", k, Options{fs: p})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, l, 0, 5)
	p.mu.Lock()
	p.writes, p.cause = 0, syscall.ENOSPC
	p.mu.Unlock()
	if _, err := l.Append(t.Context(), sample(5)); !errors.Is(err, ErrUnavailable) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("on a full disk: %v", err)
	}
	p.mu.Lock()
	p.writes = 1 << 60
	p.mu.Unlock()
	// There is room again, but the log stays closed until it was read anew.
	if _, err := l.Append(t.Context(), sample(5)); !errors.Is(err, ErrUnavailable) || l.Err() == nil {
		t.Fatalf("before healing: %v", err)
	}
	if err := l.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	fill(t, l, 5, 8)
	p.mu.Lock()
	p.syncFails = syscall.EIO
	p.mu.Unlock()
	if _, err := l.Append(t.Context(), sample(8)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("failed sync: %v", err)
	}
	if err := l.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	fill(t, l, 8, 9)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := verifyOn(p, k)
	if err != nil || r.Records != 9 {
		t.Fatalf("%+v, %v", r, err)
	}
}

func TestHealRefusesALogThatLostRecords(t *testing.T) {
	k := newSigner(t)
	p := newPlatter()
	p.files["d/x"] = &spinning{p: p, existsStably: true}
	l, err := Open("d", k, Options{fs: p})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fill(t, l, 0, 3)
	p.mu.Lock()
	f := p.files[segment("d", recordPrefix, firstName)]
	f.live = f.live[:journal.SegmentHeaderBytes]
	p.mu.Unlock()
	if err := l.Heal(t.Context()); !errors.Is(err, ErrTampered) {
		t.Fatalf("%v", err)
	}
	if _, err := l.Append(t.Context(), sample(3)); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("%v", err)
	}
}

func TestSegmentLeftUnderItsTemporaryNameIsRemoved(t *testing.T) {
	dir, k := smallLog(t, 2)
	left := filepath.Join(dir, recordPrefix+"0000000000000002.seg.tmp")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, dir, k, Options{})
	defer l.Close()
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("it is still there")
	}
}
