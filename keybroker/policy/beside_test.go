package policy

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// besidePolicy is full with something about a TPM, over values of the processor and of a TPM beside it.
func besidePolicy(t *testing.T, tpm string, values ...ReferenceValue) *Policy {
	t.Helper()
	source := full()
	if tpm != "" {
		source = strings.Replace(source, "\n  reference_values:", "\n  tpm: "+tpm+"\n  reference_values:", 1)
	}
	p, err := Parse([]byte(source))
	if err != nil {
		t.Fatal(err)
	}
	if len(values) == 0 {
		values = []ReferenceValue{besideValue()}
	}
	if p, err = p.WithReferenceValues(values); err != nil {
		t.Fatal(err)
	}
	return p
}

func besideValue() ReferenceValue {
	return ReferenceValue{ID: "images/a", Registers: map[string]string{"launch": hexOf(5, 48), "pcr4": hexOf(4, 32), "pcr9": hexOf(4, 32)}, Covers: "image"}
}

// beside is good with a TPM beside the processor's report.
func beside(trust evidence.AKTrust) Input {
	in := good()
	pcr := bytes.Repeat([]byte{4}, 32)
	in.Claims.TPM = &evidence.TPMClaims{AKTrust: trust, PCRs: map[int]evidence.Hex{0: pcr, 4: pcr, 7: pcr, 9: pcr}}
	for _, name := range []string{"pcr4", "pcr9"} {
		in.Claims.Registers = append(in.Claims.Registers, evidence.Measured{Register: evidence.Register{Name: name, Value: pcr}, Covers: evidence.CoversImage})
	}
	return in
}

func onlyReason(t *testing.T, name string, d Decision, want refusal.Reason) {
	t.Helper()
	if d.Allowed || len(d.Reasons) != 1 || d.Reasons[0].Reason != want {
		t.Errorf("%s: got %+v, want %s alone", name, d, want)
	}
}

// TestRegistersOfAnUnboundTPMCountForNothing: a guest may have any machine's TPM answer.
func TestRegistersOfAnUnboundTPMCountForNothing(t *testing.T) {
	p := besidePolicy(t, "")
	onlyReason(t, "unbound", Decide(p, beside(evidence.AKCertificate)), ReasonTPMBinding)
	if !slices.ContainsFunc(p.Warnings(), func(w string) bool { return strings.Contains(w, "nothing ties to the processor") }) {
		t.Error(p.Warnings())
	}
	// A value of the processor alone is enough for whoever has one, whatever TPM stands beside it.
	if d := Decide(besidePolicy(t, "", besideValue(), ReferenceValue{ID: "images/b", Measurement: hexOf(5, 48)}), beside(evidence.AKCertificate)); !d.Allowed {
		t.Errorf("%+v", d)
	}
	waived := strings.Replace(full(), "\nrules:", "\nwaive: [{check: tpm-binding, reason: a demonstration}]\nrules:", 1)
	if strings.Contains(full(), "\nwaive:") {
		t.Fatal("the policy has waivers of its own")
	}
	p, err := Parse([]byte(waived))
	if err != nil {
		t.Fatal(err)
	}
	if p, err = p.WithReferenceValues([]ReferenceValue{besideValue()}); err != nil {
		t.Fatal(err)
	}
	if d := Decide(p, beside(evidence.AKCertificate)); !d.Allowed || !slices.Contains(d.Waived, "tpm-binding: a demonstration") {
		t.Errorf("%+v", d)
	}
	if !slices.ContainsFunc(p.Warnings(), func(w string) bool { return strings.Contains(w, "tpm-binding is waived") }) {
		t.Error(p.Warnings())
	}
}

// TestATPMBesideAProcessorIsTiedAsThePolicySays, by each of the three ways and by no other.
func TestATPMBesideAProcessorIsTiedAsThePolicySays(t *testing.T) {
	for _, trust := range []evidence.AKTrust{evidence.AKCertificate, evidence.AKEnrolled} {
		p := besidePolicy(t, "{pcrs: [0, 4, 7], binding: ["+string(trust)+"]}")
		if d := Decide(p, beside(trust)); !d.Allowed {
			t.Errorf("%s: %+v", trust, d)
		}
		for _, other := range []evidence.AKTrust{evidence.AKCertificate, evidence.AKEnrolled, evidence.AKReport, ""} {
			if other != trust {
				onlyReason(t, string(trust)+" by "+string(other), Decide(p, beside(other)), ReasonTPMBinding)
			}
		}
		in := beside(trust)
		delete(in.Claims.TPM.PCRs, 7)
		onlyReason(t, "a register", Decide(p, in), ReasonTPMPCRs)
		in = beside(trust)
		in.Claims.TPM = nil
		if d := Decide(p, in); d.Allowed || !has(d, ReasonTPMBinding) {
			t.Errorf("no TPM: %+v", d)
		}
		if len(p.Warnings()) > 2 || slices.ContainsFunc(p.Warnings(), func(w string) bool { return strings.Contains(w, "ties to the processor") }) {
			t.Error(p.Warnings())
		}
	}
}

// TestAGuestsWordIsWorthItsImage: that a report covers a TPM's key counts only if the processor measured the image that says so.
func TestAGuestsWordIsWorthItsImage(t *testing.T) {
	image := ReferenceValue{ID: "images/a", Measurement: hexOf(5, 48), Covers: "image"}
	firmware, unsaid := image, image
	firmware.Covers, unsaid.Covers = "firmware", ""
	for name, c := range map[string]struct {
		value ReferenceValue
		ok    bool
	}{"an image": {image, true}, "firmware": {firmware, false}, "not said": {unsaid, false}, "by the TPM's own registers": {besideValue(), false}} {
		d := Decide(besidePolicy(t, "{pcrs: [4], binding: [report]}", c.value), beside(evidence.AKReport))
		if c.ok && !d.Allowed {
			t.Errorf("%s: %+v", name, d)
		} else if !c.ok {
			onlyReason(t, name, d, ReasonTPMBinding)
		}
	}
	if imageByProcessor(ReferenceValue{Kind: "tdx", Registers: map[string]string{"mrtd": hexOf(1, 48), "rtmr1": hexOf(1, 48)}}) {
		t.Error("half of an image is one")
	}
	if !imageByProcessor(ReferenceValue{Kind: "tdx", Registers: map[string]string{"mrtd": hexOf(1, 48), "rtmr1": hexOf(1, 48), "rtmr2": hexOf(1, 48)}}) {
		t.Error("an image by its registers is none")
	}
}

// TestARuleMayTieTheTPM: where only some resources rely on one.
func TestARuleMayTieTheTPM(t *testing.T) {
	source := full()
	at := strings.Index(source, "\nrules:")
	source = source[:at] + `
rules:
  - {resources: [models/open]}
  - {resources: [models/tied], require: {tpm: {binding: [enrolled], pcrs: [4]}}}
`
	p, err := Parse([]byte(source))
	if err != nil {
		t.Fatal(err)
	}
	if p, err = p.WithReferenceValues([]ReferenceValue{besideValue()}); err != nil {
		t.Fatal(err)
	}
	in := beside(evidence.AKEnrolled)
	in.Resource = "models/open"
	onlyReason(t, "the open rule", Decide(p, in), ReasonTPMBinding)
	in.Resource = "models/tied"
	if d := Decide(p, in); !d.Allowed {
		t.Errorf("%+v", d)
	}
	in.Claims.TPM.AKTrust = evidence.AKCertificate
	onlyReason(t, "another key", Decide(p, in), ReasonTPMBinding)
}

func certifiedInput() Input {
	in := beside(evidence.AKCertificate)
	in.Claims.TPM.AKInstance = &evidence.CloudInstance{Zone: "europe-west4-b", ProjectNumber: 4711, Project: "example", ID: 99, Name: "web-1"}
	return in
}

// TestOnlyNamedMachinesTPMsAreBelieved: a cloud certifies the TPMs of all its customers.
func TestOnlyNamedMachinesTPMsAreBelieved(t *testing.T) {
	for text, ok := range map[string]bool{
		"{project: example}": true, "{project: Example}": false, "{project: exampl}": false,
		"{project_number: 4711}": true, "{project_number: 4712}": false, "{project: example, project_number: 4712}": false,
		"{project: example, zone: europe-west4-b}": true, "{project: example, zone: europe-west4-*}": true, "{project: example, zone: europe-west4}": false,
		"{project: example, name: web-*}": true, "{project: example, name: db-*}": false, "{project: example, name: web}": false,
		"{project: example, id: 99}": true, "{project: example, id: 98}": false,
		"{project: other}, {project: example}": true,
	} {
		p := besidePolicy(t, "{binding: [certificate, enrolled], instances: ["+text+"]}")
		d := Decide(p, certifiedInput())
		if ok && !d.Allowed {
			t.Errorf("%s: %+v", text, d)
		} else if !ok {
			onlyReason(t, text, d, ReasonTPMInstance)
		}
		if slices.ContainsFunc(p.Warnings(), func(w string) bool { return strings.Contains(w, "every virtual machine of its cloud") }) {
			t.Error(p.Warnings())
		}
	}
	p := besidePolicy(t, "{binding: [certificate, enrolled], instances: [{project: example}]}")
	onlyReason(t, "no instance", Decide(p, beside(evidence.AKCertificate)), ReasonTPMInstance)
	if d := Decide(p, beside(evidence.AKEnrolled)); !d.Allowed {
		t.Errorf("an enrolled key: %+v", d)
	}
	open := besidePolicy(t, "{binding: [certificate]}")
	if !slices.ContainsFunc(open.Warnings(), func(w string) bool { return strings.Contains(w, "every virtual machine of its cloud") }) {
		t.Error(open.Warnings())
	}
}

// TestAnybodysTPMAloneIsWarnedAbout, unless enrolment is asked for or the machines are named.
func TestAnybodysTPMAloneIsWarnedAbout(t *testing.T) {
	for tpm, warned := range map[string]bool{
		"{ak_trust: [certificate], pcrs: [4]}": true, "{ak_trust: [enrolled], pcrs: [4]}": false,
		"{ak_trust: [certificate], pcrs: [4], instances: [{project: example}]}": false,
	} {
		p, err := Parse([]byte(strings.NewReplacer("kinds: [tdx]", "kinds: [tdx, vtpm]", "  event_log: {registers: [",
			"  tpm: "+tpm+"\n  event_log: {registers: [pcr4, pcr8, pcr9, pcr12, pcr13, ").Replace(tdxFull())))
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(p.Warnings(), func(w string) bool { return strings.Contains(w, "every virtual machine of its cloud") }); got != warned {
			t.Errorf("%s: %q", tpm, p.Warnings())
		}
	}
}

// TestWhatTiesATPMIsCheckedWhenItLoads: a wrong word is not found out by a guest.
func TestWhatTiesATPMIsCheckedWhenItLoads(t *testing.T) {
	for _, tpm := range []string{
		"{pcrs: [4]}", "{binding: []}", "{binding: [paravisor]}", "{ak_trust: [certificate], binding: [certificate]}",
		"{binding: [certificate], instances: []}", "{binding: [certificate], instances: [{zone: a, name: b}]}",
		"{binding: [certificate], instances: [{project: \"exa*\"}]}", "{binding: [certificate], instances: [{project: a, name: \"a*b\"}]}",
		"{binding: [certificate], instances: [{project: a, name: " + strings.Repeat("a", maxTextBytes+1) + "}]}",
	} {
		if _, err := Parse([]byte(strings.Replace(full(), "\n  reference_values:", "\n  tpm: "+tpm+"\n  reference_values:", 1))); err == nil {
			t.Errorf("%s: accepted", tpm)
		}
	}
	many := strings.Repeat("{project: a}, ", maxItems)
	for list, ok := range map[string]bool{many: true, many + "{project: b}": false} {
		_, err := Parse([]byte(strings.Replace(full(), "\n  reference_values:", "\n  tpm: {binding: [certificate], instances: ["+list+"]}\n  reference_values:", 1)))
		if (err == nil) != ok {
			t.Errorf("%d bytes: %v", len(list), err)
		}
	}
	// Beside a TPM alone, what is about TPMs beside processors is a mistake.
	if _, err := Parse([]byte(strings.Replace(full(), "kinds: [sev-snp]", "kinds: [azure-sev-snp]", 1) + "")); err == nil {
		t.Error("the checks of Azure are neither required nor waived")
	}
}

// TestASuggestionNamesTheTPMBesideAProcessor, unless the guest alone says that it is its own.
func TestASuggestionNamesTheTPMBesideAProcessor(t *testing.T) {
	for _, in := range []Input{certifiedInput(), beside(evidence.AKEnrolled), beside(evidence.AKReport)} {
		s := Suggest(in.Claims, in.Now)
		p := around(t, s)
		if d := Decide(p, in); !d.Allowed {
			t.Errorf("%+v\n%s%s", d.Reasons, s.Policy, s.ReferenceValues)
		}
		if named := strings.Contains(s.ReferenceValues, "pcr4"); named != (in.Claims.TPM.AKTrust != evidence.AKReport) {
			t.Errorf("%s: %s", in.Claims.TPM.AKTrust, s.ReferenceValues)
		}
	}
}

func warnsOf(p *Policy, text string) bool {
	return slices.ContainsFunc(p.Warnings(), func(w string) bool { return strings.Contains(w, text) })
}

// TestWarnsOfMachinesThatNobodyChecks: tpm.instances asks nothing of a guest that may leave its TPM out.
func TestWarnsOfMachinesThatNobodyChecks(t *testing.T) {
	const text = "asks nothing of guests of sev-snp"
	mixed := func(binding string) *Policy {
		source := strings.Replace(full(), "kinds: [sev-snp]", "kinds: [sev-snp, vtpm]", 1)
		source = strings.Replace(source, "\n  reference_values:", "\n  tpm: {ak_trust: [certificate], pcrs: [0], instances: [{project: mine}]"+binding+"}\n  reference_values:", 1)
		source = strings.Replace(source, "\nrules:", "\nwaive: [{check: event-log, reason: a test}]\nrules:", 1)
		p, err := Parse([]byte(source))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := mixed(""); !warnsOf(p, text) {
		t.Error(p.Warnings())
	}
	if p := mixed(", binding: [certificate]"); warnsOf(p, text) {
		t.Error(p.Warnings())
	}
}

// TestWarnsOfAWordThatNeverCounts: "report" alone admits nobody whose image the processor did not measure.
func TestWarnsOfAWordThatNeverCounts(t *testing.T) {
	const text = "the guest's own word"
	for name, c := range map[string]struct {
		tpm    string
		values []ReferenceValue
		warns  bool
	}{
		"values of the TPM alone":   {"{binding: [report]}", []ReferenceValue{besideValue()}, true},
		"firmware":                  {"{binding: [report]}", []ReferenceValue{{ID: "images/b", Measurement: hexOf(5, 48), Covers: "firmware"}}, true},
		"an image by the processor": {"{binding: [report]}", []ReferenceValue{besideValue(), {ID: "images/b", Measurement: hexOf(5, 48), Covers: "image"}}, false},
		"or by enrolment":           {"{binding: [report, enrolled]}", []ReferenceValue{besideValue()}, false},
	} {
		if p := besidePolicy(t, c.tpm, c.values...); warnsOf(p, text) != c.warns {
			t.Errorf("%s: %v", name, p.Warnings())
		}
	}
}

// TestWarnsOfBindingsThatExcludeEachOther: such a rule refuses every guest with a TPM beside its processor.
func TestWarnsOfBindingsThatExcludeEachOther(t *testing.T) {
	const text = "nothing is in both, so every guest of sev-snp is refused"
	for name, c := range map[string]struct {
		own, rule string
		warns     bool
	}{
		"apart":        {"{binding: [enrolled]}", "{tpm: {binding: [certificate, report]}}", true},
		"one common":   {"{binding: [enrolled, report]}", "{tpm: {binding: [certificate, report]}}", false},
		"the rule's":   {"", "{tpm: {binding: [certificate]}}", false},
		"the policy's": {"{binding: [enrolled]}", "{}", false},
	} {
		source := full()
		if c.own != "" {
			source = strings.Replace(source, "\n  reference_values:", "\n  tpm: "+c.own+"\n  reference_values:", 1)
		}
		p, err := Parse([]byte(strings.Replace(source, "\nrules:\n  - resources:", "\nrules:\n  - require: "+c.rule+"\n    resources:", 1)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if warnsOf(p, text) != c.warns {
			t.Errorf("%s: %q", name, p.Warnings())
		}
		if p, err = p.WithReferenceValues([]ReferenceValue{besideValue()}); err != nil {
			t.Fatal(err)
		}
		for _, trust := range []evidence.AKTrust{evidence.AKCertificate, evidence.AKReport, evidence.AKEnrolled} {
			if d := Decide(p, beside(trust)); c.warns && (d.Allowed || d.Reasons[0].Reason != ReasonTPMBinding) {
				t.Errorf("%s: %+v", trust, d)
			}
		}
	}
	// A rule of other kinds asks nothing of a TPM beside a processor.
	source := strings.Replace(full(), "kinds: [sev-snp]", "kinds: [sev-snp, vtpm]", 1)
	source = strings.Replace(source, "\n  reference_values:", "\n  tpm: {ak_trust: [enrolled], pcrs: [0], binding: [enrolled]}\n  reference_values:", 1)
	source = strings.Replace(source, "\nrules:\n  - resources:", "\nwaive: [{check: event-log, reason: a test}]\nrules:\n  - require: {kinds: [vtpm], tpm: {binding: [certificate]}}\n    resources:", 1)
	p, err := Parse([]byte(source))
	if err != nil {
		t.Fatal(err)
	}
	if warnsOf(p, "nothing is in both") {
		t.Errorf("%q", p.Warnings())
	}
}

// TestWarnsOfDevicesThatARuleAsksFor as it does where the policy asks for them.
func TestWarnsOfDevicesThatARuleAsksFor(t *testing.T) {
	const text = "it asks for GPUs"
	firmware := ReferenceValue{ID: "images/b", Measurement: hexOf(5, 48), Covers: "firmware"}
	for _, asks := range []bool{false, true} {
		source := full()
		if asks {
			source = strings.Replace(source, "\nrules:\n  - resources:", "\nrules:\n  - require: {gpu: {minimum: 1}}\n    resources:", 1)
		}
		p, err := Parse([]byte(source))
		if err != nil {
			t.Fatal(err)
		}
		if p, err = p.WithReferenceValues([]ReferenceValue{firmware}); err != nil {
			t.Fatal(err)
		}
		if warnsOf(p, text) != asks {
			t.Errorf("%t: %v", asks, p.Warnings())
		}
	}
}

// TestOnlyRegistersThatThePolicyCountedNameAGuest: those of the value that admits it, of a TPM that the policy itself ties to it.
func TestOnlyRegistersThatThePolicyCountedNameAGuest(t *testing.T) {
	bound := "{binding: [enrolled]}"
	in := beside(evidence.AKEnrolled)
	if got := besidePolicy(t, bound).CountedPCRs(in.Claims); !slices.Equal(got, []string{"pcr4", "pcr9"}) {
		t.Errorf("got %v", got)
	}
	four := besideValue()
	four.Registers = map[string]string{"launch": hexOf(5, 48), "pcr4": hexOf(4, 32)}
	if got := besidePolicy(t, bound, four).CountedPCRs(in.Claims); !slices.Equal(got, []string{"pcr4"}) {
		t.Errorf("a quoted register that no value names: got %v", got)
	}
	alone := in.Claims
	alone.Kind = evidence.KindVTPM
	other := in.Claims
	other.Registers = nil
	for name, got := range map[string][]string{
		"no binding":     besidePolicy(t, "").CountedPCRs(in.Claims),
		"no policy":      (*Policy)(nil).CountedPCRs(in.Claims),
		"a launch alone": besidePolicy(t, bound, ReferenceValue{ID: "images/a", Measurement: hexOf(5, 48)}).CountedPCRs(in.Claims),
		"another kind":   besidePolicy(t, bound).CountedPCRs(alone),
		"no match":       besidePolicy(t, bound).CountedPCRs(other),
	} {
		if len(got) > 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}
