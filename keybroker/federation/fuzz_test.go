package federation_test

import (
	"bytes"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
)

// Nothing foreign verifies, and nothing makes the parser panic.
func FuzzStatements(f *testing.F) {
	w := federationtest.New(f)
	r, round, _ := w.Round(f, 100, nil)
	manifest, _ := w.Agent(f, nil).Contribute(f, r, round, make([]int32, 100))
	m, err := federation.ParseManifest(manifest)
	if err != nil {
		f.Fatal(err)
	}
	_, proven, _ := w.Round(f, 100, demand(8))
	f.Add(round)
	f.Add(proven)
	f.Add(m.Signed)
	joined, err := federation.JoinResults([][]byte{m.Signed, m.Signed})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(joined)
	shared := r
	shared.Parties = &federation.Parties{Threshold: 2}
	stranger := federationtest.New(f).Roots()
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := federation.VerifyRound(data, stranger, w.Broker(), w.Floor()); err == nil {
			t.Error("a round verified")
		}
		if _, _, err := federation.VerifyContribution(data, stranger, w.Floor(), r); err == nil {
			t.Error("a contribution verified")
		}
		if _, err := federation.VerifyTicket(data, stranger, w.Floor(), r, digest.Digest{}); err == nil {
			t.Error("a ticket verified")
		}
		if _, _, err := federation.VerifyResult(data, stranger, w.Floor(), r, federation.Ticket{}, digest.Digest{}); err == nil {
			t.Error("a result verified")
		}
		if _, _, err := federation.VerifyResult(data, stranger, w.Floor(), shared, federation.Ticket{}, digest.Digest{}); err == nil {
			t.Error("a result of parties verified")
		}
		if _, err := federation.VerifyAccess(data, stranger, w.Floor(), digest.Digest{1}); err == nil {
			t.Error("an access verified")
		}
		if _, err := federation.VerifyDataset(data, stranger); err == nil {
			t.Error("a dataset verified")
		}
		if _, err := federation.VerifySetup(data, stranger, w.Broker(), w.Floor()); err == nil {
			t.Error("a set-up verified")
		}
		if _, err := federation.VerifyPartyMessage(data, stranger, w.Floor(), federation.Setup{}, digest.Digest{}); err == nil {
			t.Error("a party's message verified")
		}
		if _, err := federation.VerifyShare(data, stranger, w.Floor(), r, digest.Digest{}); err == nil {
			t.Error("a share verified")
		}
	})
}

// A manifest that parses encodes to the same bytes.
func FuzzParseManifest(f *testing.F) {
	m := federation.Manifest{Signed: []byte{1, 2}, Hashes: make([]digest.Digest, 3)}
	raw, err := m.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := federation.ParseManifest(data)
		if err != nil {
			return
		}
		again, err := m.Marshal()
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("another encoding comes back: %v", err)
		}
	})
}
