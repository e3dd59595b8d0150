package attested

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// quote makes evidence with a measurement.
type quote struct {
	kind        evidence.Kind
	measurement byte
}

func (q quote) Collect(context.Context, [64]byte) (evidence.Envelope, error) {
	report := make([]byte, 0x4a0)
	for i := snpMeasurement; i < snpMeasurementEnd; i++ {
		report[i] = q.measurement
	}
	return evidence.Envelope{Kind: q.kind, Parts: []evidence.Part{{Type: evidence.PartSNPReport, Data: report}}}, nil
}

func TestEvidenceOfAnotherImageDoesNotLeave(t *testing.T) {
	measured := strings.Repeat("\x05", 48)
	compact := sha256.Sum256([]byte(measured))
	full := "sha384:" + hex.EncodeToString([]byte(measured))
	for name, tc := range map[string]struct {
		list    []string
		kind    evidence.Kind
		allowed bool
	}{
		"no list":        {nil, evidence.KindSNP, true},
		"measurement":    {[]string{"sha384:" + strings.Repeat("00", 48), full}, evidence.KindSNP, true},
		"its SHA-256":    {[]string{"sha256:" + hex.EncodeToString(compact[:])}, evidence.KindSNP, true},
		"others only":    {[]string{"sha384:" + strings.Repeat("00", 48)}, evidence.KindSNP, false},
		"unknown kind":   {[]string{full}, evidence.KindTDX, false},
		"damaged entry":  {[]string{"sha384:00"}, evidence.KindSNP, false},
		"wrong in SHA-2": {[]string{"sha256:" + strings.Repeat("05", 32)}, evidence.KindSNP, false},
	} {
		_, err := whitelisted{quote{tc.kind, 5}, tc.list}.Collect(t.Context(), [64]byte{})
		if (err == nil) != tc.allowed {
			t.Errorf("%s: %v", name, err)
		}
	}
}
