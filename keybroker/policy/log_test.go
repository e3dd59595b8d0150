package policy

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
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
	for kind, all := range map[string][]string{"tdx": {"rtmr1", "rtmr2"}, "vtpm": {"pcr4", "pcr8", "pcr9", "pcr12", "pcr13"}, "azure-tdx": {"pcr4", "pcr8", "pcr9", "pcr12", "pcr13"}} {
		kinds := map[string]bool{kind: true}
		some := map[string]bool{"x": true}
		if err := checkLog(&logRequirements{registers: all, boot: some}, kinds, false); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		for i, name := range all {
			fewer := append(append([]string(nil), all[:i]...), all[i+1:]...)
			if err := checkLog(&logRequirements{registers: fewer, boot: some}, kinds, false); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s without %s: %v", kind, name, err)
			}
			if err := checkLog(&logRequirements{registers: fewer}, kinds, false); err != nil {
				t.Errorf("%s without %s and without programs: %v", kind, name, err)
			}
		}
	}
}

// besideLog is in with the log of its TPM, which leads to some registers.
func besideLog(in Input, registers ...string) Input {
	in.Claims.TPMEventLog = &evidence.EventLogClaims{Registers: registers, SecureBoot: yes(), Boot: []evidence.BootEvent{{Digest: bytes.Repeat([]byte{6}, 32)}}}
	return in
}

// TestTheLogOfABoundTPMIsJudged: beside SEV-SNP it says what the firmware that was measured at launch has started.
func TestTheLogOfABoundTPMIsJudged(t *testing.T) {
	six := hexOf(6, 32)
	all := []string{"pcr4", "pcr8", "pcr9", "pcr12", "pcr13"}
	source := func(tpm, log string) string {
		return strings.Replace(full(), "\n  reference_values:", "\n  tpm: "+tpm+"\n  event_log: "+log+"\n  reference_values:", 1)
	}
	p, err := Parse([]byte(source("{binding: [certificate]}", "{registers: [pcr4, pcr8, pcr9, pcr12, pcr13], secure_boot: true, boot: ["+six+"]}")))
	if err != nil {
		t.Fatal(err)
	}
	if p, err = p.WithReferenceValues([]ReferenceValue{{ID: "images/a", Measurement: hexOf(5, 48), Covers: "firmware"}}); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(p.Warnings(), func(w string) bool { return strings.Contains(w, "any image that starts") }) {
		t.Error(p.Warnings())
	}
	if d := Decide(p, besideLog(beside(evidence.AKCertificate), all...)); !d.Allowed {
		t.Fatalf("%+v", d)
	}
	for name, change := range map[string]func(*evidence.Claims){
		"no log":        func(c *evidence.Claims) { c.TPMEventLog = nil },
		"another's log": func(c *evidence.Claims) { c.EventLog, c.TPMEventLog = c.TPMEventLog, nil },
		"a register":    func(c *evidence.Claims) { c.TPMEventLog.Registers = all[1:] },
		"secure boot":   func(c *evidence.Claims) { c.TPMEventLog.SecureBoot = nil },
		"a program":     func(c *evidence.Claims) { c.TPMEventLog.Boot[0].Digest = make([]byte, 32) },
		"no program":    func(c *evidence.Claims) { c.TPMEventLog.Boot = nil },
	} {
		in := besideLog(beside(evidence.AKCertificate), all...)
		change(&in.Claims)
		onlyReason(t, name, Decide(p, in), ReasonEventLog)
	}
	onlyReason(t, "unbound", Decide(p, besideLog(beside(evidence.AKEnrolled), all...)), ReasonTPMBinding)
	for name, c := range map[string][2]string{
		"a log of a TPM that nothing ties":  {strings.Replace(full(), "\n  reference_values:", "\n  event_log: {registers: [pcr4]}\n  reference_values:", 1), "where tpm.binding is required"},
		"programs and not all registers":    {source("{binding: [certificate]}", "{registers: [pcr4, pcr8, pcr9], boot: ["+six+"]}"), "name pcr12"},
		"a register of another kind":        {source("{binding: [certificate]}", "{registers: [pcr4, rtmr1]}"), `leads to "rtmr1"`},
		"a trust domain's, TPM not bound":   {strings.Replace(tdxFull(), "registers: [rtmr1, rtmr2]", "registers: [rtmr1, rtmr2, pcr4]", 1), `leads to "pcr4"`},
		"a trust domain's own log left out": {strings.Replace(tdxFull(), "event_log: {registers: [rtmr1, rtmr2]", "tpm: {binding: [certificate]}\n  event_log: {registers: [pcr4, pcr8, pcr9, pcr12, pcr13]", 1), "leads to none of pcr4"},
	} {
		if _, err := Parse([]byte(c[0])); err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: got %v, want %s", name, err, c[1])
		}
	}
}

// TestATrustDomainsTwoLogsAreJudgedApart: each leads to its own registers.
func TestATrustDomainsTwoLogsAreJudgedApart(t *testing.T) {
	source := strings.Replace(tdxFull(), "event_log: {registers: [rtmr1, rtmr2]", "tpm: {binding: [enrolled]}\n  event_log: {registers: [rtmr1, rtmr2, pcr4, pcr8, pcr9, pcr12, pcr13]", 1)
	p := tdxParse(t, source)
	in := tdxGood()
	in.Claims.TPM = &evidence.TPMClaims{AKTrust: evidence.AKEnrolled}
	in = besideLog(in, "pcr4", "pcr8", "pcr9", "pcr12", "pcr13")
	in.Claims.TPMEventLog.Boot[0].Digest = bytes.Repeat([]byte{6}, 48)
	if d := Decide(p, in); !d.Allowed {
		t.Fatalf("%+v", d)
	}
	none := in
	none.Claims.TPMEventLog = nil
	onlyReason(t, "the TPM's", Decide(p, none), ReasonEventLog)
	none = in
	none.Claims.EventLog = nil
	onlyReason(t, "the domain's", Decide(p, none), ReasonEventLog)
}

// TestARulesBindingMakesTheLogCount, for its resources alone.
func TestARulesBindingMakesTheLogCount(t *testing.T) {
	source := full()
	source = source[:strings.Index(source, "\nrules:")] + `
rules:
  - {resources: [models/open]}
  - {resources: [models/tied], require: {tpm: {binding: [enrolled]}, event_log: {registers: [pcr4]}}}
`
	p, err := Parse([]byte(source))
	if err != nil {
		t.Fatal(err)
	}
	if p, err = p.WithReferenceValues([]ReferenceValue{{ID: "images/a", Measurement: hexOf(5, 48)}}); err != nil {
		t.Fatal(err)
	}
	in := beside(evidence.AKEnrolled)
	for resource, want := range map[string]refusal.Reason{"models/open": "", "models/tied": ReasonEventLog} {
		in.Resource = resource
		if d := Decide(p, in); d.Allowed != (want == "") || want != "" && (len(d.Reasons) != 1 || d.Reasons[0].Reason != want) {
			t.Errorf("%s: %+v", resource, d)
		}
		if d := Decide(p, besideLog(in, "pcr4")); !d.Allowed {
			t.Errorf("%s with a log: %+v", resource, d)
		}
	}
}
