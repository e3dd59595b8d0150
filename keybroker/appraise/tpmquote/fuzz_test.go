package tpmquote

import (
	"bytes"
	"maps"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// FuzzQuote: the parsers of all three structures, none of which may panic; every refusal has a
// reason. Only what the seed's TPM attested verifies; signatures have more than one encoding.
func FuzzQuote(f *testing.F) {
	m := newMaker(f)
	want := m.expected()
	good := m.quote(f)
	seed, err := evidence.ParseTPMQuote(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:100])
	m.key, m.scheme = rsaKey(f), algRSASSA
	f.Add(m.quote(f))
	f.Fuzz(func(t *testing.T, quote []byte) {
		_, err := Verify(quote, want)
		if err == nil {
			q, err := evidence.ParseTPMQuote(quote)
			if err != nil || !bytes.Equal(q.Attest, seed.Attest) || !bytes.Equal(q.Public, seed.Public) || !maps.EqualFunc(q.PCRs, seed.PCRs, func(a, b evidence.Hex) bool { return bytes.Equal(a, b) }) {
				t.Errorf("%x verifies: %v", quote, err)
			}
			return
		}
		if _, ok := refusal.ReasonOf(err); !ok {
			t.Errorf("no reason: %v", err)
		}
	})
}

// FuzzPublic: what parses is a key of accepted parameters.
func FuzzPublic(f *testing.F) {
	m := newMaker(f)
	f.Add(m.public())
	m.key, m.scheme = rsaKey(f), algRSAPSS
	f.Add(m.public())
	f.Fuzz(func(t *testing.T, public []byte) {
		if p, err := parsePublic(public); err == nil && (accepted(p.key) != nil || len(p.name) == 0) {
			t.Errorf("%x: %v", public, p)
		}
	})
}
