package policy

import (
	"bytes"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// around makes a whole policy of a suggestion, which needs nothing else under require and waive.
func around(t *testing.T, s Suggestion) *Policy {
	t.Helper()
	head := "format: 2\nid: suggested\nversion: 1\nnot_before: \"2020-01-01T00:00:00Z\"\nnot_after: \"2040-01-01T00:00:00Z\"\nattestation_ttl_seconds: 300\nrules: [{resources: [models/*]}]\n"
	p, err := Parse([]byte(head + s.Policy))
	if err != nil {
		t.Fatalf("%v\n%s", err, s.Policy)
	}
	values, err := ParseReferenceValues([]byte(s.ReferenceValues))
	if err != nil {
		t.Fatalf("%v\n%s", err, s.ReferenceValues)
	}
	if p, err = p.WithReferenceValues(values); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestASuggestionAcceptsTheGuestItWasMadeOf, and refuses it once anything that it names is worse.
func TestASuggestionAcceptsTheGuestItWasMadeOf(t *testing.T) {
	snp, td := good(), tdxGood()
	extended := tdxGood()
	extended.Claims.TDX.TCB.Status, extended.Claims.TDX.MRSignerSEAM = evidence.TCBOutOfDate, bytes.Repeat([]byte{9}, 48)
	extended.Claims.TDX.MRConfigID, extended.Claims.EventLog = make([]byte, 48), nil
	extended.Claims.GPUs = []evidence.GPUClaims{{Architecture: evidence.GPUHopper, Driver: "550.90.07", VBIOS: "96.00.9f.00.01"}}
	for name, in := range map[string]Input{"sev-snp": snp, "tdx": td, "tdx and more": extended} {
		s := Suggest(in.Claims, in.Now)
		p := around(t, s)
		if d := Decide(p, in); !d.Allowed {
			t.Errorf("%s: %+v\n%s%s", name, d.Reasons, s.Policy, s.ReferenceValues)
		}
		for what, change := range map[string]func(*evidence.Claims){
			"debug":    func(c *evidence.Claims) { c.Debug = true },
			"register": func(c *evidence.Claims) { c.Registers = c.Registers[:0] },
		} {
			worse := in
			change(&worse.Claims)
			if Decide(p, worse).Allowed {
				t.Errorf("%s: accepted with another %s", name, what)
			}
		}
	}
	lower := snp
	part := *snp.Claims.SNP
	part.TCB.Committed.SNP--
	lower.Claims.SNP = &part
	if part.TCB.Committed.SNP < snp.Claims.SNP.TCB.Committed.SNP && Decide(around(t, Suggest(snp.Claims, snp.Now)), lower).Allowed {
		t.Error("an older firmware was accepted")
	}
}

func TestASuggestionSaysWhatNoPolicyAccepts(t *testing.T) {
	in := tdxGood()
	in.Claims.Debug, in.Claims.Migratable, in.Claims.SoftwareTEE, in.Claims.TDX.TCB.Status = true, true, true, evidence.TCBUnmatched
	in.Claims.TDX.TDAttributes = 1 << 40
	all := strings.Join(Suggest(in.Claims, in.Now).Warnings, "\n")
	for _, want := range []string{"debug", "migration agent", "proves nothing", "Unmatched", "bit 40"} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning has %q:\n%s", want, all)
		}
	}
	if s := Suggest(evidence.Claims{}, in.Now); s.Policy != "" || s.ReferenceValues != "" {
		t.Errorf("claims of nothing suggest %+v", s)
	}
}
