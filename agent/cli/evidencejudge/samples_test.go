package evidencejudge

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli/evidencefile"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/appraise/kinds"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
	"github.com/anchorhold/anchorhold/keybroker/policy"
)

// sample is real evidence at the clock of its collateral.
type sample struct {
	name       string
	files      []string
	collateral string
	at         time.Time
	without    bool // revocation: no list is of that time
	check      string
	reason     refusal.Reason // empty: it is verified
	revocation Outcome
	accepted   bool // by the policy that is suggested for it
}

func samples(dir string) []sample {
	july25, january26 := day(2025, time.July, 1), day(2026, time.January, 20)
	under := func(folder string, names ...string) (list []string) {
		for _, n := range names {
			list = append(list, filepath.Join(dir, folder, n))
		}
		return list
	}
	milan := filepath.Join(dir, "snp", "roots", "milan.crl")
	tinfoil := filepath.Join(dir, "tdx", "collateral-tinfoil")
	phala := filepath.Join(dir, "tdx", "04-v4-phala", "collateral.json")
	return []sample{
		{name: "snp 01, a debug guest", files: under("snp/01-milan-v2-google", "report.bin", "vcek.der", "chain.pem"), at: day(2023, time.June, 1), without: true, revocation: Waived},
		{name: "snp 06", files: under("snp/06-milan-v2-virtee", "report.bin", "vcek.der", "chain.pem"), at: day(2024, time.January, 1), without: true, revocation: Waived, accepted: true},
		{name: "snp 07", files: append(under("snp/07-milan-v3-dstack", "report.bin", "vcek.pem", "ask.pem"), under("snp/01-milan-v2-google", "chain.pem")...),
			at: day(2026, time.July, 1), without: true, revocation: Waived, accepted: true},
		{name: "snp 08", files: append(under("snp/08-milan-v5-gcp", "report.bin", "vcek.pem", "chain.pem"), milan), at: january26, revocation: Passed, accepted: true},
		{name: "snp 08, its list not there", files: under("snp/08-milan-v5-gcp", "report.bin", "vcek.pem", "chain.pem"), at: january26, check: CheckRevocation, reason: appraise.ReasonRevocationUnknown},
		{name: "snp 08, its list over", files: append(under("snp/08-milan-v5-gcp", "report.bin", "vcek.pem", "chain.pem"), milan), at: day(2026, time.June, 1), without: true,
			check: CheckRevocation, reason: appraise.ReasonRevocationUnknown},
		{name: "snp 08, its certificate over", files: under("snp/08-milan-v5-gcp", "report.bin", "vcek.pem", "chain.pem"), at: day(2046, time.June, 1), without: true,
			check: CheckSignature, reason: appraise.ReasonExpired},
		{name: "snp 11 without its table", files: under("snp/11-genoa-v3-tsm-veraison", "report.bin"), collateral: filepath.Join(dir, "snp", "roots"), at: day(2025, time.June, 1),
			check: CheckSignature, reason: appraise.ReasonCertificateMissing},
		{name: "another chip's VCEK", files: append(under("snp/06-milan-v2-virtee", "report.bin", "chain.pem"), under("snp/01-milan-v2-google", "vcek.der")...), at: day(2024, time.January, 1),
			without: true, check: CheckSignature, reason: appraise.ReasonTCBMismatch},
		{name: "an invalid VCEK", files: append(under("snp/06-milan-v2-virtee", "report.bin", "chain.pem"), under("snp", "neg-vcek-invalid-new.der")...), at: day(2025, time.January, 1),
			without: true, check: CheckSignature, reason: appraise.ReasonChain},
		{name: "an invalid VCEK, legacy", files: append(under("snp/06-milan-v2-virtee", "report.bin", "chain.pem"), under("snp", "neg-vcek-invalid-legacy.der")...), at: day(2025, time.January, 1),
			without: true, check: CheckSignature, reason: appraise.ReasonChain},
		{name: "tdx 02", files: under("tdx/02-v5-google", "quote.bin"), collateral: tinfoil, at: day(2026, time.February, 1), revocation: Passed, accepted: true},
		{name: "tdx 02, collateral over", files: under("tdx/02-v5-google", "quote.bin"), collateral: tinfoil, at: day(2026, time.May, 1), check: CheckCollateral, reason: tdx.ReasonCollateralExpired},
		{name: "azure, collateral to come", files: under("azure/openpcc-tdx", "quote.bin"), collateral: tinfoil, at: day(2025, time.December, 1), check: CheckCollateral, reason: tdx.ReasonCollateralEarly},
		{name: "tdx 03, no collateral known", files: under("tdx/03-v4-gcp-cos113", "quote.bin", "ccel.bin"), at: july25, check: CheckCollateral, reason: tdx.ReasonCollateralMissing},
		{name: "tdx 04", files: append(under("tdx/04-v4-phala", "quote.bin"), phala), at: july25, revocation: Passed, accepted: true},
		{name: "tdx 04, another platform's", files: under("tdx/04-v4-phala", "quote.bin"), collateral: tinfoil, at: day(2026, time.February, 1), check: CheckCollateral, reason: tdx.ReasonCollateralMissing},
		{name: "tdx 07, no collateral known", files: under("tdx/07-v4-debug-trustee", "quote.bin"), at: day(2023, time.July, 1), check: CheckCollateral, reason: tdx.ReasonCollateralMissing},
		{name: "tdx 17, no level matches", files: append(under("tdx/17-v4-entropy", "quote1.bin"), phala), at: july25, revocation: Passed},
		{name: "tdx 17, the other", files: append(under("tdx/17-v4-entropy", "quote2.bin"), phala), at: july25, revocation: Passed},
		{name: "azure, a quote alone", files: under("azure/openpcc-tdx", "quote.bin"), collateral: tinfoil, at: january26, revocation: Passed, accepted: true},
		{name: "azure, without a TPM's quote", files: under("azure/openpcc-tdx", "quote.bin", "hclreport.bin"), collateral: tinfoil, at: january26, check: CheckFreshness, reason: ReasonIncomplete},
		{name: "azure, the paravisor's report alone", files: under("azure/constellation-tdx", "hclreport.bin"), at: january26, check: CheckFreshness, reason: ReasonIncomplete},
		{name: "azure, Trustee's evidence", files: append(under("azure/snp-trustee", "evidence-v1.json"), append(under("snp/01-milan-v2-google", "chain.pem"), milan)...), at: january26, revocation: Passed, accepted: true},
		{name: "an H100", files: under("nvidia", "hopper-report.hex", "hopper-chain.txt"), at: january26, revocation: NotChecked},
		{name: "an H100 without its chain", files: under("nvidia", "hopper-report.hex"), at: january26, check: CheckGPU, reason: kinds.ReasonGPUParts},
		{name: "a log alone", files: under("eventlog", "cos-101-amd-sev.bin"), at: january26, check: CheckEventLog, reason: kinds.ReasonLogWithoutQuote},
		{name: "another log alone", files: under("eventlog", "ccel-ovmf-trustee.bin"), at: january26, check: CheckEventLog, reason: kinds.ReasonLogWithoutQuote},
	}
}

// TestRealEvidenceIsJudgedAtItsClock: every sample that there is, with the policy that is suggested.
func TestRealEvidenceIsJudgedAtItsClock(t *testing.T) {
	for _, s := range samples(evidencetest.Dir(t)) {
		t.Run(s.name, func(t *testing.T) {
			v := judge(t, Options{Now: s.at, WithoutRevocation: s.without}, s.collateral, s.files...)
			if s.reason != "" {
				wantRefusal(t, v, s.check, s.reason)
				return
			}
			if !v.Verified || v.Error != nil || v.Fresh || v.Claims == nil || v.outcome(CheckFreshness) != NotChecked || v.outcome(CheckRevocation) != s.revocation || v.outcome(CheckSignature) != Passed {
				t.Fatalf("%+v", v)
			}
			if v.Kind == "" {
				return
			}
			if d := decided(t, v); d.Allowed != s.accepted {
				t.Errorf("the suggested policy: %+v", d)
			}
		})
	}
}

// decided is what the policy that is suggested decides.
func decided(t *testing.T, v Verdict) policy.Decision {
	t.Helper()
	s := policy.Suggest(*v.Claims, v.At)
	text := "format: 2\nid: suggested\nversion: 1\nnot_before: \"2020-01-01T00:00:00Z\"\nnot_after: \"2040-01-01T00:00:00Z\"\nattestation_ttl_seconds: 300\nrules: [{resources: [models/*]}]\n" + s.Policy
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	values, err := policy.ParseReferenceValues([]byte(s.ReferenceValues))
	if err != nil {
		t.Fatalf("%v\n%s", err, s.ReferenceValues)
	}
	if p, err = p.WithReferenceValues(values); err != nil {
		t.Fatal(err)
	}
	return policy.Decide(p, policy.Input{Claims: *v.Claims, Resource: "models/one", Now: v.At})
}

// TestFreshnessIsAskedOfRealEvidence: the value given must be the evidence's own, in each byte, which one
// sample of each length shows; the others show it for the first and the last.
func TestFreshnessIsAskedOfRealEvidence(t *testing.T) {
	whole := map[int]bool{}
	for _, s := range samples(evidencetest.Dir(t)) {
		if s.reason != "" {
			continue
		}
		o := Options{Now: s.at, WithoutRevocation: s.without}
		own := judge(t, o, s.collateral, s.files...).MadeFor
		if s.name == "an H100" {
			contents, err := evidencefile.Open(s.files, "")
			if err != nil {
				t.Fatal(err)
			}
			nonce := evidencefile.GPUNonce(contents.Evidence.Part(evidence.PartGPUReport))
			own = nonce[:]
		}
		o.Nonce = own
		if v := judge(t, o, s.collateral, s.files...); !v.Verified || !v.Fresh || v.outcome(CheckFreshness) != Passed {
			t.Errorf("%s: its own nonce is not accepted: %+v", s.name, v)
		}
		for i := range own {
			if whole[len(own)] && i > 0 && i < len(own)-1 {
				continue
			}
			o.Nonce = append([]byte{}, own...)
			o.Nonce[i] ^= 0x80
			if v := judge(t, o, s.collateral, s.files...); v.Verified || v.outcome(CheckFreshness) != Failed {
				t.Errorf("%s: byte %d of the nonce is not compared", s.name, i)
			}
		}
		whole[len(own)] = true
	}
}

// TestGenoasTableIsReadFromConfigfs: the certificates are in the host's table.
func TestGenoasTableIsReadFromConfigfs(t *testing.T) {
	from := filepath.Join(evidencetest.Dir(t), "snp", "11-genoa-v3-tsm-veraison")
	dir := t.TempDir()
	for name, file := range map[string]string{"outblob": "report.bin", "auxblob": "auxblob.bin"} {
		raw, err := os.ReadFile(filepath.Join(from, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v := judge(t, Options{Now: day(2025, time.June, 1)}, filepath.Join(evidencetest.Dir(t), "snp", "roots"), dir)
	if !v.Verified || v.outcome(CheckRevocation) != Passed || v.outcome(CheckBinding) != "" {
		t.Fatalf("%+v", v)
	}
	if d := decided(t, v); !d.Allowed {
		t.Errorf("%+v", d)
	}
}

// TestMinimumEvaluationNumberIsAsked of Intel's documents.
func TestMinimumEvaluationNumberIsAsked(t *testing.T) {
	dir := filepath.Join(evidencetest.Dir(t), "tdx", "04-v4-phala")
	for number, want := range map[uint32]refusal.Reason{17: "", 18: tdx.ReasonEvaluationNumber} {
		v := judge(t, Options{Now: day(2025, time.July, 1), MinimumEvaluationNumber: number}, "", filepath.Join(dir, "quote.bin"), filepath.Join(dir, "collateral.json"))
		if want == "" && !v.Verified {
			t.Errorf("%+v", v)
		} else if want != "" {
			wantRefusal(t, v, CheckCollateral, want)
		}
	}
}

// TestASpoiltDocumentIsNamed, and not said to be missing.
func TestASpoiltDocumentIsNamed(t *testing.T) {
	dir := filepath.Join(evidencetest.Dir(t), "tdx", "04-v4-phala")
	raw, err := os.ReadFile(filepath.Join(dir, "collateral.json"))
	if err != nil {
		t.Fatal(err)
	}
	spoilt := filepath.Join(t.TempDir(), "collateral.json")
	if err := os.WriteFile(spoilt, []byte(strings.Replace(string(raw), `\"tcbEvaluationDataNumber\":17`, `\"tcbEvaluationDataNumber\":18`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	v := judge(t, Options{Now: day(2025, time.July, 1)}, "", filepath.Join(dir, "quote.bin"), spoilt)
	wantRefusal(t, v, CheckCollateral, tdx.ReasonCollateralSignature)
}
