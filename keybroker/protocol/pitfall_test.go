package protocol

import (
	"bytes"
	"io"
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// countingReader counts what was asked for.
type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// TestPitfall26 announces the largest length that three bytes can: nothing of
// the body is read.
func TestPitfall26(t *testing.T) {
	for typ := TypeHello; typ <= TypeRefusal; typ++ {
		head := append([]byte{byte(len(typ.String()))}, typ.String()...)
		head = append(head, 0xff, 0xff, 0xff)
		r := &countingReader{r: io.MultiReader(bytes.NewReader(head), zeros{})}
		_, _, err := ReadFrame(r, typ)
		wantReason(t, err, ReasonMessageTooLarge)
		if r.n != len(head) {
			t.Errorf("%s: %d bytes were read", typ, r.n)
		}
	}
	// The same inside a message: a list that announces more than it may hold.
	many := &Hello{Versions: []Version{1}, Suites: []Suite{1}, Kinds: []evidence.Kind{"a"}, Classes: []string{"a"}}
	frame, err := Marshal(many)
	if err != nil {
		t.Fatal(err)
	}
	for i := range frame {
		bad := bytes.Clone(frame)
		bad[i] = 0xff
		if Parse(bad, &Hello{}) == nil && i < 24 {
			t.Errorf("byte %d as 255 parses", i)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestPitfall47 writes one meaning in a second way: it does not parse. The
// golden vectors show the one way that does.
func TestPitfall47(t *testing.T) {
	frame, err := Marshal(sampleRequest())
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(frame, []byte("models/a"))
	swapped := bytes.Clone(frame)
	swapped[at+7], swapped[at+7+9] = 'b', 'a' // the same set, unsorted
	wantReason(t, Parse(swapped, &Request{}), ReasonMalformedMessage)
	same := bytes.Clone(frame)
	same[at+7+9] = 'a' // one of them twice
	wantReason(t, Parse(same, &Request{}), ReasonMalformedMessage)

	st := sampleEpoch(newParties(t))
	st.AnyPolicy = true // and a digest, which has no meaning then
	if st.validBody() {
		t.Error("a policy is both pinned and free")
	}
}
