package journal

import (
	"bytes"
	"testing"
)

func FuzzParseFrame(f *testing.F) {
	body := bytes.Repeat([]byte("entry"), 80)
	frame, _ := BuildFrame(Position{}, [][]byte{body, {}})
	f.Add(frame)
	f.Add(frame[:30])
	f.Add(make([]byte, 700))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, size, after, err := ParseFrame(b, SegmentHeaderBytes, Position{})
		if err != nil {
			return
		}
		again, chain := BuildFrame(Position{}, entries)
		if !bytes.Equal(again, b[:size]) || chain != after.Chain {
			t.Fatal("a frame that parses is not what would be written")
		}
	})
}
