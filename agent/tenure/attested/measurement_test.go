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
	for i := 0x90; i < 0x90+48; i++ {
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
		"unknown kind":   {[]string{full}, evidence.KindVTPM, false},
		"no quote":       {[]string{full}, evidence.KindTDX, false},
		"damaged entry":  {[]string{"sha384:00"}, evidence.KindSNP, false},
		"wrong in SHA-2": {[]string{"sha256:" + strings.Repeat("05", 32)}, evidence.KindSNP, false},
	} {
		_, err := whitelisted{quote{tc.kind, 5}, tc.list}.Collect(t.Context(), [64]byte{})
		if (err == nil) != tc.allowed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// domain makes a quote of a version with an MRTD at an offset.
type domain struct {
	version byte
	at      int
	short   bool
}

func (d domain) Collect(context.Context, [64]byte) (evidence.Envelope, error) {
	quote := make([]byte, d.at, 1000)
	quote[0] = d.version
	quote = append(quote, strings.Repeat("\x05", 48)...)
	if d.short {
		quote = quote[:len(quote)-1]
	}
	return evidence.Envelope{Kind: evidence.KindTDX, Parts: []evidence.Part{{Type: evidence.PartTDXQuote, Data: quote}}}, nil
}

// TestATrustDomainOfAnotherImageShowsNoEvidence: MRTD counts, wherever the quote's version has it.
func TestATrustDomainOfAnotherImageShowsNoEvidence(t *testing.T) {
	full, other := "sha384:"+strings.Repeat("05", 48), "sha384:"+strings.Repeat("06", 48)
	for name, tc := range map[string]struct {
		domain  domain
		list    string
		allowed bool
	}{
		"version 4": {domain{4, 184, false}, full, true}, "version 5": {domain{5, 190, false}, full, true},
		"another": {domain{4, 184, false}, other, false}, "another, version 5": {domain{5, 190, false}, other, false},
		"elsewhere": {domain{5, 184, false}, full, false}, "cut short": {domain{4, 184, true}, full, false}, "version 6": {domain{6, 184, false}, full, false},
	} {
		if _, err := (whitelisted{tc.domain, []string{tc.list}}).Collect(t.Context(), [64]byte{}); (err == nil) != tc.allowed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// onAzure makes evidence under Azure's paravisor: the measurement is of the part that the processor
// signed, and the quote of the TPM before it is no place to look.
type onAzure struct{ kind evidence.Kind }

func (a onAzure) Collect(context.Context, [64]byte) (evidence.Envelope, error) {
	measured := strings.Repeat("\x05", 48)
	hcl := append(make([]byte, 0x20+0x90), measured...)
	quote := append(make([]byte, 48+136), measured...)
	quote[0] = 4
	if a.kind == evidence.KindAzureTDX {
		hcl = make([]byte, 2600)
	} else {
		quote = nil
	}
	return evidence.Envelope{Kind: a.kind, Parts: []evidence.Part{{Type: evidence.PartTDXQuote, Data: quote}, {Type: evidence.PartTPMQuote, Data: make([]byte, 2600)}, {Type: evidence.PartHCLReport, Data: hcl}}}, nil
}

// TestAnotherParavisorOfAzuresShowsNoEvidence.
func TestAnotherParavisorOfAzuresShowsNoEvidence(t *testing.T) {
	full, other := "sha384:"+strings.Repeat("05", 48), "sha384:"+strings.Repeat("06", 48)
	for _, kind := range []evidence.Kind{evidence.KindAzureSNP, evidence.KindAzureTDX} {
		if _, err := (whitelisted{onAzure{kind}, []string{full}}).Collect(t.Context(), [64]byte{}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if _, err := (whitelisted{onAzure{kind}, []string{other}}).Collect(t.Context(), [64]byte{}); err == nil {
			t.Errorf("%s of another measurement", kind)
		}
	}
}

// TestAGuestOffersWhatItsCollectorMakes: a broker that cannot judge it says so before any evidence
// is made.
func TestAGuestOffersWhatItsCollectorMakes(t *testing.T) {
	if got := kinds(quote{}); len(got) != 1 || got[0] != evidence.KindSNP {
		t.Error(got)
	}
	if got := kinds(offering{}); len(got) != 1 || got[0] != evidence.KindTDX {
		t.Error(got)
	}
}

type offering struct{ quote }

func (offering) Kinds() []evidence.Kind { return []evidence.Kind{evidence.KindTDX} }
