package audit

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
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
	b, _ = Record{Kind: KindGrant, Time: time.Unix(1, 0), InputDigest: digest.Digest{1}}.Marshal()
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
	k := newSigner(f)
	c, err := signCheckpoint(k, 3, digest.Digest{1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(c.Note))
	f.Add([]byte(c.Origin + "\n0\n" + tlog.Hash{}.String() + "\n\n— " + c.Origin + " AAAAAAA=\n"))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCheckpoint(b)
		if err != nil {
			if _, refused := refusal.ReasonOf(err); !refused || !errors.Is(err, ErrCheckpoint) {
				t.Fatalf("no reason: %v", err)
			}
			return
		}
		if !bytes.HasPrefix(b, c.text()) || c.Note != string(b) {
			t.Fatal("a checkpoint that parses has another text than it says")
		}
		if c.Verify(k.Public()) == nil && (c.Size != 3 || c.Root != digest.Digest{1}) {
			t.Fatal("a checkpoint that was never signed verifies")
		}
	})
}

func FuzzParseIndex(f *testing.F) {
	s := summary{First: 1, Count: 2, Bytes: 3, Root: digest.Digest{6}, Entries: 4, Digest: digest.Digest{5}}
	f.Add(append(s.statement(), 0, 2, 'a', 'b'))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, statement, sig, err := parseIndexHead(b)
		if err != nil {
			return
		}
		if !bytes.HasPrefix(b, statement) || int(x.entriesAt) != len(statement)+2+len(sig) {
			t.Fatal("an index that parses is not what would be written")
		}
	})
}
