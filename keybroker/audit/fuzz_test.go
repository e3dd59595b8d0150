package audit

import (
	"bytes"
	"testing"
	"time"
)

func FuzzParseRecord(f *testing.F) {
	for i := range 3 {
		b, err := sample(i).Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	b, _ := Record{Kind: KindService, Time: time.Unix(1, 0)}.Marshal()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecord(b)
		if err != nil {
			return
		}
		again, err := r.Marshal()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x became %x (%v)", b, again, err)
		}
	})
}

func FuzzParseFrame(f *testing.F) {
	body, _ := sample(0).Marshal()
	frame, _ := buildFrame(position{}, [][]byte{body, {}})
	f.Add(frame)
	f.Add(frame[:30])
	f.Add(make([]byte, 700))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, size, after, err := parseFrame(b, segmentHeaderBytes, position{})
		if err != nil {
			return
		}
		again, chain := buildFrame(position{}, entries)
		if !bytes.Equal(again, b[:size]) || chain != after.chain {
			t.Fatal("a frame that parses is not what would be written")
		}
	})
}

func FuzzParseCheckpoint(f *testing.F) {
	b, _ := Checkpoint{Size: 3, Signature: []byte("s"), Time: time.Unix(5, 0)}.Marshal()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCheckpoint(b)
		if err != nil {
			return
		}
		if again, err := c.Marshal(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x became %x (%v)", b, again, err)
		}
	})
}
