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
	s, err := Open(Disk{}, dir, "j-", 300, func(i uint64, e []byte) error {
		if int(i) != len(seen) {
			t.Fatalf("entry %d after %d", i, len(seen))
		}
		seen = append(seen, string(e))
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
			if err := s.Append([][]byte{fmt.Appendf(nil, "a%d", i), {}}); err != nil {
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
	at, torn, err := Scan(ReadOnly{}, dir, "j-", func(uint64, []byte) error { n++; return nil })
	if err != nil || torn || n != 30 || at.Next != 30 {
		t.Fatal(n, at, torn, err)
	}
	stop := errors.New("stop")
	if _, _, err := Scan(ReadOnly{}, dir, "j-", func(uint64, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, names[0]), 200); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Scan(ReadOnly{}, dir, "j-", func(uint64, []byte) error { return nil }); !errors.Is(err, ErrTampered) {
		t.Fatal(err)
	}
	if _, err := Open(Disk{}, dir, "j-", 300, func(uint64, []byte) error { return nil }); !errors.Is(err, ErrTampered) {
		t.Fatal(err)
	}
}

func TestMissingDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "absent")
	if _, err := Open(Disk{}, dir, "j-", 300, nil); err == nil {
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
