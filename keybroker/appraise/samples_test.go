package appraise

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
)

// lenient is a verifier without revocation lists.
func lenient(tb testing.TB) *Verifier {
	tb.Helper()
	v, err := New(Options{WithoutRevocation: true})
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

func TestRealReportsAreAppraised(t *testing.T) {
	samples := append([]sample{moduleSample(t)}, sharedSamples(t)...)
	for _, s := range samples {
		t.Run(s.name, func(t *testing.T) {
			c, err := lenient(t).Appraise(t.Context(), s.envelope(), s.reportData(), s.now)
			if err != nil {
				t.Fatal(err)
			}
			if c.Platform != s.product || c.SoftwareTEE || c.SNP.VLEK || c.SNP.ChipMasked || c.SNP.VMPL != 0 || c.Migratable {
				t.Errorf("claims %+v", c)
			}
			if !bytes.Equal(c.SNP.Measurement, s.report[0x90:0xc0]) || !bytes.Equal(c.SNP.ChipID, s.report[0x1a0:0x1e0]) {
				t.Error("measurement or chip id differ from the report's")
			}
		})
	}
}

// A paravisor's report: inside Azure's container, asked for from VMPL 0 on behalf
// of the guest, over the digest of the paravisor's own runtime data.
func TestReportInAzuresContainer(t *testing.T) {
	var parts struct {
		HCL  string `json:"hcl_report"`
		VCEK string `json:"vcek"`
	}
	if err := json.Unmarshal(readFile(t, evidencetest.Dir(t), "azure", "snp-trustee", "evidence-v1.json"), &parts); err != nil {
		t.Fatal(err)
	}
	hcl, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts.HCL, "="))
	if err != nil {
		t.Fatal(err)
	}
	vcek, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts.VCEK, "="))
	if err != nil {
		t.Fatal(err)
	}
	s := sample{report: hcl[32 : 32+reportSize], vcek: vcek, issuers: ders(readFile(t, evidencetest.Dir(t), "snp", "01-milan-v2-google", "chain.pem")), now: day(2026, 1, 15)}
	c, err := lenient(t).Appraise(t.Context(), s.envelope(), s.reportData(), s.now)
	if err != nil {
		t.Fatal(err)
	}
	if c.Platform != "Milan" || c.SNP.ReportVersion != 3 || c.Debug || c.SNP.VMPL != 0 {
		t.Errorf("%+v", c)
	}
}

func TestRealReportsClaimsByHand(t *testing.T) {
	samples := sharedSamples(t)
	claims := func(i int) evidence.Claims {
		c, err := lenient(t).Appraise(t.Context(), samples[i].envelope(), samples[i].reportData(), samples[i].now)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	// Read from the hexadecimal dump of each file.
	if c := claims(0); !c.Debug || c.SNP.ReportVersion != 2 {
		t.Error("sample 01 is a debug guest's report of version 2")
	}
	c := claims(2)
	if want := (evidence.TCB{BootLoader: 4, SNP: 0x17, Microcode: 0xd5}); c.SNP.TCB.Reported != want {
		t.Errorf("sample 07 reports %+v", c.SNP.TCB.Reported)
	}
	if want := (evidence.TCB{BootLoader: 4, SNP: 0x18, Microcode: 0xd5}); c.SNP.TCB.Current != want || c.SNP.TCB.Committed != want || c.SNP.TCB.Launch != want {
		t.Errorf("sample 07 runs %+v", c.SNP.TCB)
	}
	if c.SNP.CurrentVersion != "1.55.29" || c.SNP.PlatformInfo != 0x25 || c.Debug {
		t.Errorf("sample 07: %+v", c)
	}
	if c := claims(3); c.SNP.LaunchMitigations != 0x0b || c.SNP.CurrentMitigations != 0x0b || c.SNP.ReportVersion != 5 {
		t.Errorf("sample 08: mitigations %#x %#x", c.SNP.LaunchMitigations, c.SNP.CurrentMitigations)
	}
	if c := claims(4); c.Platform != "Genoa" || c.SNP.TCB.Reported.BootLoader != 0x0a || c.SNP.TCB.Reported.Microcode != 0x54 {
		t.Errorf("sample 11: %+v", c.SNP.TCB)
	}
}

// Every byte of a real report is signed, or fixed by its format: none may change.
func TestEveryByteOfARealReportMatters(t *testing.T) {
	s := moduleSample(t)
	v := lenient(t)
	for i := range s.report {
		env := s.envelope()
		env = withReport(env, bytes.Clone(s.report))
		env.Part(evidence.PartSNPReport)[i] ^= 1
		if _, err := v.Appraise(t.Context(), env, s.reportData(), s.now); err == nil {
			t.Errorf("byte %#x changed and was not noticed", i)
		}
	}
}

func TestVCEKsThatTheirAuthorityCallsInvalid(t *testing.T) {
	dir := filepath.Join(evidencetest.Dir(t), "snp")
	chain := ders(readFile(t, dir, "01-milan-v2-google", "chain.pem"))
	for _, name := range []string{"neg-vcek-invalid-legacy.der", "neg-vcek-invalid-new.der"} {
		for _, s := range sharedSamples(t)[:4] {
			s.vcek, s.issuers, s.now = readFile(t, dir, name), chain, day(2025, 1, 1)
			_, err := lenient(t).Appraise(t.Context(), s.envelope(), s.reportData(), s.now)
			wantReason(t, err, ReasonChain)
		}
	}
}

// The product line decides which root may vouch, so AMD's Genoa root does not
// vouch for a Milan chip.
func TestRealRootOfAnotherProductIsRefused(t *testing.T) {
	s := moduleSample(t)
	genoa := ders(readFile(t, sevGuestDir(t), "verify", "trust", "ask_ark_genoa.pem"))
	s.issuers = genoa
	_, err := lenient(t).Appraise(t.Context(), s.envelope(), s.reportData(), s.now)
	wantReason(t, err, ReasonChain)
}

func TestPitfall01ReportDataOfAnotherExchangeIsRefused(t *testing.T) {
	for _, s := range append(sharedSamples(t), moduleSample(t)) {
		other := s.reportData()
		other[63] ^= 0x80
		for _, want := range [][64]byte{{}, other} {
			if want == s.reportData() {
				continue // this sample was made over zeros
			}
			_, err := lenient(t).Appraise(t.Context(), s.envelope(), want, s.now)
			wantReason(t, err, ReasonReportData)
		}
	}
}

func TestPitfall13And15ZeroOptionsRefuseRealEvidence(t *testing.T) {
	s := moduleSample(t)
	v, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Appraise(t.Context(), s.envelope(), s.reportData(), s.now)
	wantReason(t, err, ReasonRevocationUnknown)
	_, err = lenient(t).Appraise(t.Context(), evidence.Envelope{}, [64]byte{}, s.now)
	wantReason(t, err, ReasonKind)
}

func TestPitfall14RealRevocationLists(t *testing.T) {
	dir := filepath.Join(evidencetest.Dir(t), "snp")
	milanCRL, genoaCRL := readFile(t, dir, "roots", "milan.crl"), readFile(t, dir, "roots", "genoa.crl")
	s := sharedSamples(t)[3] // Milan, VCEK from 2025-12-05; its list is from 2025-05-06 to 2026-05-12
	ends := time.Date(2026, 5, 12, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name  string
		lists [][]byte
		grace time.Duration
		at    time.Time
		want  refusal.Reason
	}{
		{"in time", [][]byte{milanCRL}, 0, s.now, ""},
		{"both lists", [][]byte{genoaCRL, milanCRL}, 0, s.now, ""},
		{"the other root's", [][]byte{genoaCRL}, 0, s.now, ReasonRevocationUnknown},
		{"last moment", [][]byte{milanCRL}, 0, ends, ""},
		{"over", [][]byte{milanCRL}, 0, ends.Add(time.Second), ReasonRevocationUnknown},
		{"over, with grace", [][]byte{milanCRL}, time.Hour, ends.Add(time.Hour), ""},
		{"over, grace over", [][]byte{milanCRL}, time.Hour, ends.Add(time.Hour + time.Second), ReasonRevocationUnknown},
	} {
		v, err := New(Options{RevocationLists: c.lists, RevocationGrace: c.grace})
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.Appraise(t.Context(), s.envelope(), s.reportData(), c.at)
		if reason, _ := refusal.ReasonOf(err); reason != c.want {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestConfiguredCertificatesFillIn(t *testing.T) {
	s := moduleSample(t)
	bare := evidence.Envelope{Kind: evidence.KindSNP, Parts: []evidence.Part{{Type: evidence.PartSNPReport, Data: s.report}, {Type: evidence.EndorsementVCEK, Data: s.vcek}}}
	_, err := lenient(t).Appraise(t.Context(), bare, s.reportData(), s.now)
	wantReason(t, err, ReasonCertificateMissing)
	v, err := New(Options{Certificates: s.issuers, WithoutRevocation: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Appraise(t.Context(), bare, s.reportData(), s.now)
	wantReason(t, err, "")
	bare.Parts = bare.Parts[:1]
	_, err = v.Appraise(t.Context(), bare, s.reportData(), s.now)
	wantReason(t, err, ReasonCertificateMissing)
}

func TestOptionsWithRubbishAreRefused(t *testing.T) {
	if _, err := New(Options{Certificates: [][]byte{{1}}}); err == nil {
		t.Error("a certificate that is none was accepted")
	}
	if _, err := New(Options{RevocationLists: [][]byte{{1}}}); err == nil {
		t.Error("a revocation list that is none was accepted")
	}
}
