package plonkverify

import (
	"io"
	"testing"
)

// lax reads anything and writes one thing.
type lax struct{ reads int64 }

func (l lax) ReadFrom(r io.Reader) (int64, error) { return io.CopyN(io.Discard, r, l.reads) }

func (lax) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write([]byte("canonical"))
	return int64(n), err
}

// TestDecodeNeedsNoStrictDecoder has a decoder that lets everything pass.
func TestDecodeNeedsNoStrictDecoder(t *testing.T) {
	for raw, ok := range map[string]bool{"canonical": true, "Canonical": false, "canonical ": false, "canon": false} {
		if err := decode(lax{9}, []byte(raw)); (err == nil) != ok {
			t.Errorf("%q: %v", raw, err)
		}
	}
}
