package evidencejudge

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
)

// spoilt is a copy of a file with one bit of one byte changed.
func spoilt(t *testing.T, path string, at int) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[at] ^= 1
	to := filepath.Join(t.TempDir(), filepath.Base(path))
	if err := os.WriteFile(to, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestARefusalSaysWhatHeld beside the failed check, and never that anything held that was not verified.
func TestARefusalSaysWhatHeld(t *testing.T) {
	dir := evidencetest.Dir(t)
	snp, quotes := filepath.Join(dir, "snp", "08-milan-v5-gcp"), filepath.Join(dir, "tdx", "04-v4-phala")
	report, quote := filepath.Join(snp, "report.bin"), filepath.Join(quotes, "quote.bin")
	chain := []string{filepath.Join(snp, "vcek.pem"), filepath.Join(snp, "chain.pem")}
	const measurementAt, reservedAt, mrtdAt = 0x90, 0x190, 48 + 136
	january26, july25 := day(2026, 1, 20), day(2025, 7, 1)
	for name, c := range map[string]struct {
		o     Options
		files []string
		want  map[string]Outcome
	}{
		"no list": {Options{Now: january26}, append([]string{report}, chain...),
			map[string]Outcome{CheckForm: Passed, CheckSignature: Passed, CheckRevocation: Failed, CheckFreshness: NotChecked}},
		"no list, and spoilt": {Options{Now: january26}, append([]string{spoilt(t, report, measurementAt)}, chain...),
			map[string]Outcome{CheckForm: Passed, CheckSignature: NotDecided, CheckRevocation: Failed}},
		"another nonce": {Options{Now: january26, Nonce: []byte("another"), WithoutRevocation: true}, append([]string{report}, chain...),
			map[string]Outcome{CheckForm: Passed, CheckSignature: Passed, CheckRevocation: Waived, CheckFreshness: Failed}},
		"another nonce, and spoilt": {Options{Now: january26, Nonce: []byte("another"), WithoutRevocation: true}, append([]string{spoilt(t, report, measurementAt)}, chain...),
			map[string]Outcome{CheckForm: Passed, CheckSignature: NotDecided, CheckRevocation: NotDecided, CheckFreshness: Failed}},
		"spoilt": {Options{Now: january26, WithoutRevocation: true}, append([]string{spoilt(t, report, measurementAt)}, chain...),
			map[string]Outcome{CheckForm: Passed, CheckSignature: Failed, CheckRevocation: NotDecided}},
		"reserved content": {Options{Now: january26, WithoutRevocation: true}, append([]string{spoilt(t, report, reservedAt)}, chain...),
			map[string]Outcome{CheckForm: Failed, CheckSignature: NotDecided}},
		"no collateral": {Options{Now: july25}, []string{quote},
			map[string]Outcome{CheckForm: Passed, CheckSignature: Passed, CheckCollateral: Failed, CheckRevocation: NotDecided}},
		"no collateral, and spoilt": {Options{Now: july25}, []string{spoilt(t, quote, mrtdAt)},
			map[string]Outcome{CheckForm: Passed, CheckSignature: Failed, CheckCollateral: NotDecided}},
		"no collateral, and a log": {Options{Now: july25}, []string{filepath.Join(dir, "tdx", "03-v4-gcp-cos113", "quote.bin"), filepath.Join(dir, "tdx", "03-v4-gcp-cos113", "ccel.bin")},
			map[string]Outcome{CheckForm: NotDecided, CheckSignature: Passed, CheckCollateral: Failed, CheckEventLog: NotDecided}},
	} {
		v := judge(t, c.o, "", c.files...)
		for check, want := range c.want {
			if got := v.outcome(check); got != want {
				t.Errorf("%s: %s: got %q, want %q; %+v", name, check, got, want, v.Checks)
			}
		}
		if v.Verified || v.Claims != nil || v.Error == nil {
			t.Errorf("%s: %+v", name, v)
		}
	}
}
