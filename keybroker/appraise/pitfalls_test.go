//go:build !release

package appraise

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// appraised is the claims of evidence that must be accepted.
func appraised(t *testing.T, p *platform) evidence.Claims {
	t.Helper()
	env := p.evidence(t, bound)
	c, err := p.trusting(t, Options{}).Appraise(t.Context(), env, bound, pkiNow)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Every signed byte of every report version, one at a time.
func TestPitfall04EveryBoundFieldCounts(t *testing.T) {
	t.Run("one version", func(t *testing.T) { everyBoundFieldCounts(t, 3) })
	t.Run("all versions", func(t *testing.T) {
		longtest.Arithmetic(t, "it verifies a report of each version for each of its bytes")
		everyBoundFieldCounts(t, 2, 3, 4, 5)
	})
}

func everyBoundFieldCounts(t *testing.T, versions ...uint32) {
	t.Helper()
	for _, version := range versions {
		p := genoaPlatform()
		p.version = version
		env := p.evidence(t, bound)
		v := p.trusting(t, Options{})
		report := env.Part(evidence.PartSNPReport)
		for i := range report {
			env = withReport(env, bytes.Clone(report))
			env.Part(evidence.PartSNPReport)[i] ^= 0x40
			_, err := v.Appraise(t.Context(), env, bound, pkiNow)
			if _, refused := refusal.ReasonOf(err); !refused {
				t.Errorf("version %d, byte %#x: %v", version, i, err)
			}
		}
	}
}

func TestPitfall01EveryReportVersionIsBoundToItsExchange(t *testing.T) {
	for _, version := range []uint32{2, 3, 4, 5} {
		p := genoaPlatform()
		p.version = version
		env := p.evidence(t, bound)
		v := p.trusting(t, Options{})
		for i := range bound {
			other := bound
			other[i] ^= 1
			_, err := v.Appraise(t.Context(), env, other, pkiNow)
			wantReason(t, err, ReasonReportData)
		}
		_, err := v.Appraise(t.Context(), env, [64]byte{}, pkiNow)
		wantReason(t, err, ReasonReportData)
	}
}

// Minimums need all four versions apart: each must come through as it is.
func TestPitfall17FourTCBsAreToldApart(t *testing.T) {
	p := genoaPlatform()
	tcb := func(snp uint64) uint64 { return 72<<56 | snp<<48 | 9 }
	p.report = func(r []byte) {
		binary.LittleEndian.PutUint64(r[0x38:], tcb(30))
		binary.LittleEndian.PutUint64(r[0x1e0:], tcb(21))
		binary.LittleEndian.PutUint64(r[0x1f0:], tcb(22))
	}
	c := appraised(t, p)
	if c.SNP.TCB.Current.SNP != 30 || c.SNP.TCB.Reported.SNP != 23 || c.SNP.TCB.Committed.SNP != 21 || c.SNP.TCB.Launch.SNP != 22 {
		t.Errorf("%+v", c.SNP.TCB)
	}
}

func TestPitfall18TurinHasItsOwnLayout(t *testing.T) {
	for _, version := range []uint32{2, 3, 5} {
		p := turinPlatform()
		p.version = version
		c := appraised(t, p)
		if want := (evidence.TCB{FMC: 1, BootLoader: 2, TEE: 3, SNP: 4, Microcode: 0x44}); c.SNP.TCB.Reported != want || c.Platform != "Turin" {
			t.Errorf("version %d: %s, %+v", version, c.Platform, c.SNP.TCB.Reported)
		}
	}
}

func TestPitfall18ProductIsNeverGuessed(t *testing.T) {
	known := 0
	for family := range 256 {
		for model := range 256 {
			p, ok := productOf(byte(family), byte(model))
			if ok != (p != "") {
				t.Fatalf("family %#x model %#x: %q, %v", family, model, p, ok)
			}
			if ok {
				known++
			}
		}
	}
	if want := 16 + 16 + 16 + 32; known != want { // Milan, Genoa, Bergamo and Siena, Turin
		t.Errorf("%d models are known, want %d", known, want)
	}
	for _, name := range []string{"", "milan", "Milan2", "Rome-B0", "Venice-A0", "-B0"} {
		if p, ok := productNamed(name); ok {
			t.Errorf("%q was taken for %s", name, p)
		}
	}
}

// Bits that this version has no name for are claims; a policy decides.
func TestPitfall19UnknownBitsAreClaims(t *testing.T) {
	p := genoaPlatform()
	p.report = func(r []byte) {
		binary.LittleEndian.PutUint64(r[0x08:], 1<<17|1<<40|1<<63)
		binary.LittleEndian.PutUint64(r[0x40:], 1<<50|1)
	}
	c := appraised(t, p)
	if c.SNP.PolicyBits != 1<<17|1<<40|1<<63 || c.SNP.PlatformInfo != 1<<50|1 {
		t.Errorf("policy %#x, platform %#x", c.SNP.PolicyBits, c.SNP.PlatformInfo)
	}
}

func TestPitfall20MaskedChipIsNamedAsMasked(t *testing.T) {
	p := genoaPlatform()
	p.report = func(r []byte) {
		r[0x48] = 2
		clear(r[0x1a0:0x1e0])
	}
	if c := appraised(t, p); !c.SNP.ChipMasked || !allZero(c.SNP.ChipID) {
		t.Errorf("masked %v, chip %s", c.SNP.ChipMasked, c.SNP.ChipID)
	}
	p.report = func(r []byte) { clear(r[0x1a0:0x1e0]) } // zero without being masked
	env := p.evidence(t, bound)
	_, err := p.trusting(t, Options{}).Appraise(t.Context(), env, bound, pkiNow)
	wantReason(t, err, ReasonChipMismatch)
}

func TestDangerousGuestsAreNamed(t *testing.T) {
	p := vlekPlatform()
	p.report = func(r []byte) {
		binary.LittleEndian.PutUint64(r[0x08:], 1<<17|1<<18|1<<19)
		r[0x30] = 3
		copy(r[0x110:], fill(48, 9)) // an author key that is not enabled says nothing
	}
	c := appraised(t, p)
	if !c.Debug || !c.Migratable || c.SNP.VMPL != 3 || !c.SNP.VLEK || c.SNP.CSPID != "provider" || !allZero(c.SNP.AuthorKeyDigest) {
		t.Errorf("%+v", c)
	}
	p.report = func(r []byte) { r[0x48] |= 1; copy(r[0x110:], fill(48, 9)) }
	if c := appraised(t, p); !bytes.Equal(c.SNP.AuthorKeyDigest, fill(48, 9)) {
		t.Errorf("author key %s", c.SNP.AuthorKeyDigest)
	}
}

// Several attests with one verifier at once, of one chip and of many.
func TestPitfall27ConcurrentAppraisals(t *testing.T) {
	p, other := genoaPlatform(), vlekPlatform()
	envelopes := []evidence.Envelope{p.evidence(t, bound), other.evidence(t, bound)}
	bad := p.evidence(t, [64]byte{9})
	v := p.trusting(t, Options{})
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			if _, err := v.Appraise(t.Context(), envelopes[i%2], bound, pkiNow); err != nil {
				t.Error(err)
			}
			if _, err := v.Appraise(t.Context(), bad, bound, pkiNow); err == nil {
				t.Error("another exchange's report was accepted")
			}
		})
	}
	wg.Wait()
}

// Without any one of its parts, evidence is refused.
func TestPitfall29IncompleteEvidenceIsRefused(t *testing.T) {
	p := genoaPlatform()
	good := p.evidence(t, bound)
	v, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.AllowSoftwareTEE(pemOf(p.ark.cert)); err != nil {
		t.Fatal(err)
	}
	for i, want := range []refusal.Reason{"", ReasonCertificateMissing, ReasonCertificateMissing} { // the root is configured
		env := good
		env.Parts = slices.Delete(slices.Clone(good.Parts), 1+i, 2+i)
		_, err := v.Appraise(t.Context(), env, bound, pkiNow)
		wantReason(t, err, want)
	}
	for size := range 1184 {
		env := good
		env = withReport(env, good.Part(evidence.PartSNPReport)[:size])
		_, err := v.Appraise(t.Context(), env, bound, pkiNow)
		wantReason(t, err, ReasonReportSize)
	}
	env := good
	env = withReport(env, append(bytes.Clone(good.Part(evidence.PartSNPReport)), 0))
	_, err = v.Appraise(t.Context(), env, bound, pkiNow)
	wantReason(t, err, ReasonReportSize)
	env = good
	env.Kind = evidence.KindTDX
	_, err = v.Appraise(t.Context(), env, bound, pkiNow)
	wantReason(t, err, ReasonKind)
}
