//go:build !release

package appraise

import (
	"crypto/elliptic"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// What go-sev-guest v0.15.0 gets wrong, as cases that are judged right here. They are numbered as
// they were found; the first eight are go-tdx-guest's. TestEmulatedReportsBesideGoSEVGuest shows what
// it says of each.

// Defect 9: Turin's VCEK is "not an AMD KDS OID", and its TCB is read in Milan's layout.
func TestDefect09TurinIsReadInItsOwnLayout(t *testing.T) {
	p := turinPlatform()
	if c := appraised(t, p); c.Platform != "Turin" || c.SNP.TCB.Reported != (evidence.TCB{FMC: 1, BootLoader: 2, TEE: 3, SNP: 4, Microcode: 0x44}) {
		t.Errorf("%s, %+v", c.Platform, c.SNP.TCB.Reported)
	}
	p.report = put64(0x180, p.tcb+1) // another FMC is another firmware
	env := p.evidence(t, bound)
	_, err := p.trusting(t, Options{}).Appraise(t.Context(), env, bound, pkiNow)
	wantReason(t, err, ReasonTCBMismatch)
	p = turinPlatform()
	p.model = 0x11 // Turin Dense
	if c := appraised(t, p); c.Platform != "Turin" {
		t.Errorf("model 11h is %q", c.Platform)
	}
}

// Defect 10: reports of Bergamo and Siena (family 19h, models A0h to AFh) are of an unknown line.
func TestDefect10BergamoAndSienaAreGenoa(t *testing.T) {
	for _, model := range []byte{0xa0, 0xa1, 0xaf} {
		for _, version := range []uint32{3, 4, 5} {
			p := genoaPlatform()
			p.model, p.version = model, version
			if c := appraised(t, p); c.Platform != "Genoa" {
				t.Errorf("model %#x, version %d: %q", model, version, c.Platform)
			}
		}
	}
	p := genoaPlatform()
	p.model = 0xb0
	env := p.evidence(t, bound)
	_, err := p.trusting(t, Options{}).Appraise(t.Context(), env, bound, pkiNow)
	wantReason(t, err, ReasonProduct)
}

// Defect 11: a VLEK fails for want of an ASVK, and under version 2 for an unknown product.
func TestDefect11ReportsOfLoadedKeysAreJudged(t *testing.T) {
	for _, version := range []uint32{2, 3, 4, 5} {
		p := vlekPlatform()
		p.version = version
		p.report = func(r []byte) { clear(r[0x1a0:0x1e0]) } // as AWS has it: no chip, and not masked
		if c := appraised(t, p); !c.SNP.VLEK || c.SNP.CSPID != "provider" || c.SNP.ChipMasked || !allZero(c.SNP.ChipID) {
			t.Errorf("version %d: %+v", version, c)
		}
	}
}

// AWS's host offers the VLEK alone: ASVK and ARK come from the configuration.
func TestLoadedKeyWithoutItsIssuers(t *testing.T) {
	p := vlekPlatform()
	env := p.evidence(t, bound)
	env.Parts = slices.Delete(slices.Clone(env.Parts), 1, 3)
	v := p.trusting(t, Options{})
	_, err := v.Appraise(t.Context(), env, bound, pkiNow)
	wantReason(t, err, ReasonCertificateMissing)
	v = p.trusting(t, Options{Certificates: [][]byte{p.ask.cert.Raw}})
	_, err = v.Appraise(t.Context(), env, bound, pkiNow)
	wantReason(t, err, "")
}

// Defect 12: a revoked ASVK is not noticed, because the ASK's serial number alone is compared.
func TestDefect12RevokedASVKIsRefused(t *testing.T) {
	p := vlekPlatform()
	env := p.evidence(t, bound)
	list := p.crl(t, 1, pkiNow.Add(-time.Hour), pkiNow.Add(time.Hour), nil, p.ask.cert.SerialNumber.Int64())
	_, err := p.trusting(t, Options{RevocationLists: [][]byte{list}}).Appraise(t.Context(), env, bound, pkiNow)
	wantReason(t, err, ReasonRevoked)
}

// Defects 13 and 14: a list that ended a year ago, or five years ago in a cache, is as good as a new one.
func TestDefect13And14ListsThatAreOverAreRefused(t *testing.T) {
	p := genoaPlatform()
	env := p.evidence(t, bound)
	for years, want := range map[int]bool{0: true, 1: false, 5: false} {
		from := pkiNow.AddDate(-years, 0, -1)
		list := p.crl(t, 1, from, from.AddDate(0, 0, 2), nil)
		v := p.trusting(t, Options{RevocationLists: [][]byte{list}})
		for range 2 { // also once the chain is known
			_, err := v.Appraise(t.Context(), env, bound, pkiNow)
			if want {
				wantReason(t, err, "")
			} else {
				wantReason(t, err, ReasonRevocationUnknown)
			}
		}
		// The time is an argument: none is not now, but long before the certificates.
		_, err := v.Appraise(t.Context(), env, bound, time.Time{})
		wantReason(t, err, ReasonExpired)
	}
}

// Defect 15: revocation asked for with roots that lack an ASK is a nil pointer's panic.
func TestDefect15MissingIssuerIsARefusal(t *testing.T) {
	for _, start := range []func() *platform{genoaPlatform, vlekPlatform} {
		p := start()
		env := p.evidence(t, bound)
		list := p.crl(t, 1, pkiNow.Add(-time.Hour), pkiNow.Add(time.Hour), nil)
		env.Parts = slices.Delete(slices.Clone(env.Parts), 2, 3)
		_, err := p.trusting(t, Options{RevocationLists: [][]byte{list}}).Appraise(t.Context(), env, bound, pkiNow)
		wantReason(t, err, ReasonCertificateMissing)
	}
}

// Defect 16: the level, debugging, the chip and the firmware's version are left to a second call that
// nothing demands. Here the first two are claims, which a policy must judge, and the others refused.
func TestDefect16OneCallChecksOrStatesEverything(t *testing.T) {
	p := genoaPlatform()
	p.report = func(r []byte) {
		binary.LittleEndian.PutUint64(r[8:], 1<<17|1<<19)
		r[0x30] = 3
	}
	if c := appraised(t, p); c.SNP.VMPL != 3 || !c.Debug {
		t.Errorf("VMPL %d, debug %v", c.SNP.VMPL, c.Debug)
	}
	for name, spoil := range map[string]func(*platform){
		"chip":     func(p *platform) { p.report = func(r []byte) { r[0x1a0] ^= 1 } },
		"firmware": func(p *platform) { p.report = put64(0x180, p.tcb-1<<48) },
		"key":      func(p *platform) { p.signWith = mustKey(t, elliptic.P384()) },
	} {
		p := genoaPlatform()
		spoil(p)
		env := p.evidence(t, bound)
		c, err := p.trusting(t, Options{}).Appraise(t.Context(), env, bound, pkiNow)
		if err == nil || c.SNP != nil || c.Registers != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// go-sev-guest parses report version 6, of which nobody knows the fields.
func TestReportVersionsBeyondTheKnownAreRefused(t *testing.T) {
	for _, version := range []uint32{0, 1, 6, 7, 1 << 31} {
		p := genoaPlatform()
		p.version = version
		env := p.evidence(t, bound)
		_, err := p.trusting(t, Options{}).Appraise(t.Context(), env, bound, pkiNow)
		wantReason(t, err, ReasonReportVersion)
	}
}
