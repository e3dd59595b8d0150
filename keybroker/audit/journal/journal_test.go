package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func open(t *testing.T, dir string) (*Stream, []string) {
	t.Helper()
	var seen []string
	s, err := Open(Disk{}, dir, "j-", 300, "", func(e Entry) error {
		if int(e.Index) != len(seen) {
			t.Fatalf("entry %d after %d", e.Index, len(seen))
		}
		seen = append(seen, string(e.Body))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, seen
}

func TestEntriesSurviveReopening(t *testing.T) {
	dir := t.TempDir()
	for round := range 5 {
		s, seen := open(t, dir)
		if len(seen) != round*6 || s.Position().Next != uint64(len(seen)) {
			t.Fatalf("round %d: %d entries", round, len(seen))
		}
		for i := range 3 {
			if _, err := s.Append([][]byte{fmt.Appendf(nil, "a%d", i), {}}); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
	}
	names, err := Segments(Disk{}, dir, "j-")
	if err != nil || len(names) < 3 {
		t.Fatal(names, err)
	}
	n := 0
	at, torn, err := Scan(ReadOnly{}, dir, "j-", func(Entry) error { n++; return nil })
	if err != nil || torn || n != 30 || at.Next != 30 {
		t.Fatal(n, at, torn, err)
	}
	stop := errors.New("stop")
	if _, _, err := Scan(ReadOnly{}, dir, "j-", func(Entry) error { return stop }); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, names[0].Name), 200); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Scan(ReadOnly{}, dir, "j-", func(Entry) error { return nil }); !errors.Is(err, ErrTampered) {
		t.Fatal(err)
	}
	if _, err := Open(Disk{}, dir, "j-", 300, "", func(Entry) error { return nil }); !errors.Is(err, ErrTampered) {
		t.Fatal(err)
	}
}

func TestMissingDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "absent")
	if _, err := Open(Disk{}, dir, "j-", 300, "", nil); err == nil {
		t.Fatal("opened")
	}
	if _, _, err := Scan(ReadOnly{}, dir, "j-", nil); err == nil {
		t.Fatal("scanned")
	}
}

// TestTornJudgement lists what a crash may leave behind a whole frame and what
// it may not.
func TestTornJudgement(t *testing.T) {
	var at Position
	first, _ := BuildFrame(at, [][]byte{make([]byte, 900)})
	for i := range first[FrameHeaderBytes : len(first)-8] {
		first[FrameHeaderBytes+i] |= 1 // no sector of zeros of its own
	}
	first, chain := BuildFrame(at, [][]byte{first[FrameHeaderBytes+4 : FrameHeaderBytes+904]})
	second, _ := BuildFrame(Position{1, chain}, [][]byte{[]byte("x")})
	const offset = SegmentHeaderBytes
	judge := func(b []byte) error { _, _, _, err := ParseFrame(b, offset, at); return err }
	cut := func(from, to int) []byte {
		b := append([]byte(nil), first...)
		clear(b[from:to])
		return b
	}
	sector := SectorBytes - offset
	for name, tc := range map[string]struct {
		b    []byte
		torn bool
	}{
		"cut short":             {first[:700], true},
		"cut in the header":     {first[:30], true},
		"zeros":                 {make([]byte, 500), true},
		"a sector missing":      {cut(sector, sector+SectorBytes), true},
		"first sector missing":  {cut(0, sector), true},
		"too many zeros":        {make([]byte, MaxFrameBytes+1), false},
		"a bit":                 {flip(first, 600), false},
		"a bit of the header":   {flip(first, 10), false},
		"a bit of the trailer":  {flip(first, len(first)-1), false},
		"part of a sector":      {cut(sector+10, sector+SectorBytes-10), false},
		"missing, then a frame": {append(cut(0, sector), second...), false},
		"hole, then a frame":    {append(cut(sector, sector+SectorBytes), second...), false},
		"garbage":               {[]byte("garbage"), false},
		"another place":         {second, false},
	} {
		err := judge(tc.b)
		if tc.torn != errors.Is(err, errTorn) || tc.torn == errors.Is(err, ErrTampered) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := judge(first); err != nil {
		t.Error(err)
	}
}

func flip(b []byte, i int) []byte {
	c := append([]byte(nil), b...)
	c[i] ^= 4
	return c
}

// TestOpeningBehindTheBeginning reads from a later segment on, and one entry by its
// frame.
func TestOpeningBehindTheBeginning(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	for i := range 12 {
		if _, err := s.Append([][]byte{fmt.Appendf(nil, "entry %d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	segments, err := Segments(Disk{}, dir, "j-")
	if err != nil || len(segments) < 3 {
		t.Fatal(segments, err)
	}
	if err := os.Remove(filepath.Join(dir, segments[0].Name)); err != nil {
		t.Fatal(err)
	}
	from := segments[1]
	next := from.First
	s, err = Open(Disk{}, dir, "j-", 300, from.Name, func(e Entry) error {
		if e.Index != next || string(e.Body) != fmt.Sprintf("entry %d", next) {
			t.Errorf("entry %d is %q, want entry %d", e.Index, e.Body, next)
		}
		next++
		seg := segments[len(segments)-1]
		for _, other := range segments {
			if other.First <= e.Index {
				seg = other
			}
		}
		if first, entries, err := ReadFrame(Disk{}, dir, seg, e.Frame); err != nil || first != e.Index || string(entries[0]) != string(e.Body) {
			t.Errorf("the frame of entry %d: %d, %q, %v", e.Index, first, entries, err)
		}
		return nil
	})
	if err != nil || next != 12 || s.Position().Next != 12 {
		t.Fatal(next, err)
	}
	s.Close()
	if _, err := Open(Disk{}, dir, "j-", 300, segments[0].Name, nil); !errors.Is(err, ErrTampered) {
		t.Errorf("opened from a segment that is gone: %v", err)
	}
	for _, offset := range []int64{0, SegmentHeaderBytes + 1, 1 << 20} {
		if _, _, err := ReadFrame(Disk{}, dir, from, offset); !errors.Is(err, ErrTampered) {
			t.Errorf("a frame at %d: %v", offset, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "j-xyz.seg"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Segments(Disk{}, dir, "j-"); !errors.Is(err, ErrTampered) {
		t.Errorf("a stray name: %v", err)
	}
}
