package evidence

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// FuzzPitfall26And27Envelope: what parses re-encodes to the same bytes, or is
// refused; nothing panics.
func FuzzPitfall26And27Envelope(f *testing.F) {
	seed, err := sampleEnvelope().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{})
	f.Add([]byte("\x1eanchorhold/evidence/envelope/1" + "\x07sev-snp" + "\x00\x00\x02\xaa\xbb" + "\x01" + "\x03ark\x00\x00\x01\x01"))
	f.Add(encodeUnchecked(Envelope{Kind: "x", Parts: make([]Part, 255)}))
	// A real report, where there are some beside the checkout.
	if reports, err := filepath.Glob("../../../shared/evidence/snp/*/report.bin"); err == nil {
		for _, name := range reports {
			if report, err := os.ReadFile(name); err == nil {
				f.Add(encodeUnchecked(Envelope{Kind: KindSNP, Parts: []Part{{PartSNPReport, report}}}))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := ParseEnvelope(data)
		if err != nil {
			wantReason(t, err, ReasonMalformedEvidence)
			return
		}
		again, err := e.Marshal()
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("re-encoded differently: %v", err)
		}
	})
}

// FuzzGuestClaims: what parses re-encodes to the same bytes, or is refused.
func FuzzGuestClaims(f *testing.F) {
	seed, err := sampleClaims().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := ParseGuestClaims(data)
		if reason, _ := refusal.ReasonOf(err); reason == ReasonClaimsVersion {
			return
		}
		if err != nil {
			wantReason(t, err, ReasonMalformedClaims)
			return
		}
		again, err := g.Marshal()
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("re-encoded differently: %v", err)
		}
	})
}
