//go:build !release

package appraise

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// TestWhatIsKeptIsVerifiedAsEvidenceIs: a chip's certificate, its authorities and the root's list,
// each for what it is and when it is valid.
func TestWhatIsKeptIsVerifiedAsEvidenceIs(t *testing.T) {
	for _, p := range []*platform{genoaPlatform(), turinPlatform()} {
		env := p.evidence(t, bound)
		ark, ask, vcek := env.Part(evidence.EndorsementARK), env.Part(evidence.EndorsementASK), env.Part(evidence.EndorsementVCEK)
		v := p.trusting(t, Options{})
		product := evidence.Product(p.product)
		c, err := v.VerifyVCEK(vcek, ask, ark, pkiNow)
		if err != nil || c.Product != product || c.TCB != p.product.tcb(p.tcb) || !bytes.Equal(c.HWID, p.hwid) {
			t.Errorf("%+v, %v", c, err)
		}
		list := p.crl(t, 5, pkiStart, pkiNow, nil)
		critical := p.crl(t, 5, pkiStart, pkiNow, func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}}
		})
		changed := bytes.Clone(ask)
		changed[len(changed)-1] ^= 1
		for what, c := range map[string]struct {
			err  error
			want refusal.Reason
		}{
			"authorities":            {v.VerifyAuthorities(product, false, ask, ark, pkiNow), ""},
			"authorities, ended":     {v.VerifyAuthorities(product, false, ask, ark, pkiEnd.AddDate(0, 0, 1)), ReasonExpired},
			"as the other signer's":  {v.VerifyAuthorities(product, true, ask, ark, pkiNow), ReasonChain},
			"as another product's":   {v.VerifyAuthorities("Milan", false, ask, ark, pkiNow), ReasonChain},
			"in the wrong order":     {v.VerifyAuthorities(product, false, ark, ask, pkiNow), ReasonRoot},
			"a changed one":          {v.VerifyAuthorities(product, false, changed, ark, pkiNow), ReasonChain},
			"a chip's key above":     {v.VerifyAuthorities(product, false, ask, vcek, pkiNow), ReasonCertificate},
			"no certificate":         {v.VerifyAuthorities(product, false, nil, ark, pkiNow), ReasonCertificate},
			"a root not pinned":      {lenient(t).VerifyAuthorities(product, false, ask, ark, pkiNow), ReasonRoot},
			"a list":                 {v.VerifyRevocationList(product, list, ark, pkiNow), ""},
			"a list, long ended":     {v.VerifyRevocationList(product, list, ark, pkiEnd), ""},
			"a list, not begun":      {v.VerifyRevocationList(product, list, ark, pkiStart.AddDate(0, 0, -1)), ReasonExpired},
			"a list of a narrower":   {v.VerifyRevocationList(product, critical, ark, pkiNow), ReasonCertificate},
			"a list of another root": {v.VerifyRevocationList(product, list, ask, pkiNow), ReasonRoot},
			"no list":                {v.VerifyRevocationList(product, ark, ark, pkiNow), ReasonCertificate},
		} {
			t.Run(what, func(t *testing.T) { wantReason(t, c.err, c.want) })
		}
	}
}

// TestADatedGraceEnds: until its date an ended list is asked, and after it refused.
func TestADatedGraceEnds(t *testing.T) {
	p := genoaPlatform()
	env := p.evidence(t, bound)
	list := p.crl(t, 5, pkiStart, pkiNow.AddDate(0, -1, 0), nil)
	until := pkiNow.AddDate(0, 0, 1)
	for _, o := range []Options{{RevocationLists: [][]byte{list}}, {RevocationLists: [][]byte{list}, RevocationGraceUntil: until}} {
		v := p.trusting(t, o)
		for range 2 { // the grace outlives new lists
			_, err := v.Appraise(t.Context(), env, bound, pkiNow)
			if want := map[bool]refusal.Reason{true: ReasonRevocationUnknown}[o.RevocationGraceUntil.IsZero()]; true {
				wantReason(t, err, want)
			}
			_, err = v.Appraise(t.Context(), env, bound, until.AddDate(0, 0, 1))
			wantReason(t, err, ReasonRevocationUnknown)
			if err := v.SetRevocationLists([][]byte{list}); err != nil {
				t.Fatal(err)
			}
		}
		if end := v.Ends()[0].At; o.RevocationGraceUntil.IsZero() == end.Equal(until) {
			t.Errorf("the list ends %s", end)
		}
	}
}

// TestReportsThatNameAChipSayWhichCertificateToLookFor, and no others do.
func TestReportsThatNameAChipSayWhichCertificateToLookFor(t *testing.T) {
	for _, p := range []*platform{genoaPlatform(), turinPlatform()} {
		c, ok := ReportedChip(p.evidence(t, bound).Primary())
		if !ok || c.Product != evidence.Product(p.product) || c.TCB != p.product.tcb(p.tcb) || !bytes.Equal(c.HWID, p.hwid) {
			t.Errorf("%t, %+v", ok, c)
		}
	}
	for what, change := range map[string]func([]byte) []byte{
		"a VLEK": func(r []byte) []byte { r[0x48] |= 4; return r }, "a masked chip": func(r []byte) []byte { r[0x48] |= 2; return r }, "an unknown product": func(r []byte) []byte { r[0x188] = 0x17; return r },
		"a reserved version": func(r []byte) []byte { r[0x183] = 1; return r }, "half": func(r []byte) []byte { return r[:600] }, "version 2": func(r []byte) []byte { r[0], r[0x188], r[0x189] = 2, 0, 0; return r },
	} {
		if _, ok := ReportedChip(change(genoaPlatform().evidence(t, bound).Primary())); ok {
			t.Errorf("%s names a chip", what)
		}
	}
	if turin := turinPlatform().evidence(t, bound).Primary(); func() bool { turin[0x1a8] = 1; _, ok := ReportedChip(turin); return ok }() {
		t.Error("a Turin chip with more than eight bytes")
	}
}
