package policy

import (
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// TestLogOfAForeignTPMSaysNothingOfATrustDomain: beside a trust domain's quote its owner may show the quote and
// the log of any TPM that he can ask, so a policy cannot ask for PCRs there.
func TestLogOfAForeignTPMSaysNothingOfATrustDomain(t *testing.T) {
	for registers, want := range map[string]string{
		"[rtmr1, rtmr2]": "", "[pcr4]": "the log of tdx leads to none of pcr4", "[rtmr1, rtmr2, pcr4]": `leads to "pcr4"`, "[rtmr4]": "none of rtmr4", "[mrtd]": "none of mrtd",
	} {
		source := strings.Replace(tdxFull(), "registers: [rtmr1, rtmr2]", "registers: "+registers, 1)
		if _, err := Parse([]byte(source)); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", registers, err)
		}
		source = strings.Replace(tdxFull(), "rules: [{resources: [models/*]}]", "rules: [{resources: [models/*], require: {event_log: {registers: "+registers+"}}}]", 1)
		if _, err := Parse([]byte(source)); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), "rule 1: event_log.registers")) {
			t.Errorf("%s in a rule: %v", registers, err)
		}
	}
}

// TestEachKindIsAskedForItsOwnRegisters of the log, and never for none.
func TestEachKindIsAskedForItsOwnRegisters(t *testing.T) {
	r := &requirements{log: &logRequirements{registers: []string{"rtmr1", "pcr4"}}}
	for _, c := range []struct {
		kind      evidence.Kind
		registers []string
		allowed   bool
	}{
		{evidence.KindTDX, []string{"rtmr1", "rtmr2"}, true},
		{evidence.KindTDX, []string{"pcr4"}, false},
		{evidence.KindVTPM, []string{"pcr4"}, true},
		{evidence.KindVTPM, []string{"rtmr1"}, false},
		{evidence.KindAzureTDX, []string{"pcr4"}, true},
		{evidence.KindAzureTDX, []string{"rtmr1"}, false},
		{evidence.KindSNP, []string{"pcr4", "rtmr1"}, false},
	} {
		in := Input{Claims: evidence.Claims{Kind: c.kind, EventLog: &evidence.EventLogClaims{Registers: c.registers}}}
		if f := judgeEventLog(nil, r, in); (f == nil) != c.allowed {
			t.Errorf("%s with a log of %v: %v", c.kind, c.registers, f)
		}
	}
}

// TestStartedProgramsAreSoughtWhereTheyAreMeasured: a guest that leaves a register out of its quote must not
// hide what was measured there.
func TestStartedProgramsAreSoughtWhereTheyAreMeasured(t *testing.T) {
	for kind, all := range map[string][]string{"tdx": {"rtmr1", "rtmr2"}, "vtpm": {"pcr4", "pcr8", "pcr9", "pcr12"}, "azure-tdx": {"pcr4", "pcr8", "pcr9", "pcr12"}} {
		kinds := map[string]bool{kind: true}
		some := map[string]bool{"x": true}
		if err := checkLog(&logRequirements{registers: all, boot: some}, kinds); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		for i, name := range all {
			fewer := append(append([]string(nil), all[:i]...), all[i+1:]...)
			if err := checkLog(&logRequirements{registers: fewer, boot: some}, kinds); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s without %s: %v", kind, name, err)
			}
			if err := checkLog(&logRequirements{registers: fewer}, kinds); err != nil {
				t.Errorf("%s without %s and without programs: %v", kind, name, err)
			}
		}
	}
}
