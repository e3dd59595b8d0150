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
