package receipt

import (
	"bytes"
	"encoding/json"
	"testing"
)

func FuzzParse(f *testing.F) {
	raw, err := newWorld(f).issue(f, begin).Receipt.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	former, err := readFormer(f).Issued.Receipt.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[:100])
	f.Add(former)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			return
		}
		again, err := r.Marshal()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("a receipt has two encodings (%v)", err)
		}
	})
}

func FuzzParseJSON(f *testing.F) {
	raw, err := json.Marshal(newWorld(f).issue(f, begin).Receipt)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"format":"anchorhold/receipt/2","body":{}}`))
	f.Add([]byte(`{"format":"anchorhold/receipt/1","body":{}}`))
	former, err := json.Marshal(readFormer(f).Issued.Receipt)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(former)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseJSON(b)
		if err != nil {
			return
		}
		again, err := r.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if second, err := ParseJSON(again); err != nil || second.Body != r.Body {
			t.Errorf("does not survive a round trip: %v", err)
		}
	})
}
