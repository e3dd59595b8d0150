package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Warnings says what the policy accepts that its operator may not have meant: the software TEE, Milan,
// reference values that identify firmware alone, under which every image is given the keys, rules that one
// kind of evidence escapes, and restarts without the broker.
func (p *Policy) Warnings() []string {
	if p == nil || !p.compiled {
		return nil
	}
	var out []string
	if p.doc.AllowSoftwareTEE {
		out = append(out, "it accepts the software TEE, which protects nothing")
	}
	if p.doc.AllowMilan {
		out = append(out, "it accepts Milan, whose report keys have been extracted in software")
	}
	if p.require.kinds[string(evidence.KindVTPM)] {
		out = append(out, "it accepts the quote of a virtual TPM alone, which says nothing about whether the host can read the guest's memory")
	}
	var any, unsaid []string
	for _, v := range p.values {
		if v.Software || imageByRegisters(v) && (!v.namesPCR() || p.require.binding != nil) || p.logsPrograms(v.kind()) {
			continue
		}
		switch v.Covers {
		case string(evidence.CoversFirmware):
			any = append(any, v.ID)
		case "":
			unsaid = append(unsaid, v.ID)
		}
	}
	if len(any) > 0 {
		out = append(out, fmt.Sprintf("%s: the firmware alone is measured, so any image that starts under it is given the keys; "+
			"use values of the image's own registers, or require its event log with event_log.boot", short(any)))
	}
	if len(unsaid) > 0 {
		out = append(out, fmt.Sprintf("%s: the reference value does not say whether it covers the image or the firmware alone; "+
			"write covers: image where kernel, initrd and command line are measured at launch", short(unsaid)))
	}
	return slices.Concat(out, p.besideWarnings(), p.oneSided(), p.restartWarnings())
}

// oneSided finds rules that narrow some kinds of evidence and accept others as the policy does.
func (p *Policy) oneSided() (out []string) {
	for i, rule := range p.doc.Rules {
		r := rule.Require
		kinds := r.Kinds
		if kinds == nil {
			kinds = p.doc.Require.Kinds
		}
		var narrowed []group
		for of, asked := range map[group]bool{ofSNP: r.SNP != nil, ofTDX: r.TDX != nil, ofTPM: r.TPM != nil, ofBeside: r.TPM != nil && r.TPM.Binding != nil || r.EventLog != nil && p.boundIn(r), ofAzure: r.Azure != nil, ofLog: r.EventLog != nil} {
			if asked {
				narrowed = append(narrowed, of)
			}
		}
		var others []string
		for _, kind := range kinds {
			if !slices.ContainsFunc(narrowed, func(of group) bool { return of.covers(evidence.Kind(kind)) }) {
				others = append(others, kind)
			}
		}
		if len(narrowed) > 0 && len(others) > 0 {
			out = append(out, fmt.Sprintf("rule %d: what it asks of reports is not asked of %s; narrow its kinds if they are not meant", i+1, short(others)))
		}
	}
	return out
}

// logsPrograms reports whether guests of a kind must show a log of which each program is listed.
func (p *Policy) logsPrograms(kind evidence.Kind) bool {
	if p.require.log == nil || p.require.log.boot == nil {
		return false
	}
	return ofLog.covers(kind) || ofBeside.covers(kind) && p.require.binding != nil && len(besideLogged(p.require.log)) > 0
}

// imageByRegisters reports whether a value names registers that identify an image: those into which the
// firmware measures the first program, and those into which that measures what it starts. Without the former,
// another first program extends the latter as it likes; without the latter, a boot loader starts any kernel.
func imageByRegisters(v ReferenceValue) bool {
	registers := v.registers()
	has := func(name string) bool { return registers[name] != "" }
	if has("rtmr1") && has("rtmr2") {
		return true
	}
	return has("pcr4") && slices.ContainsFunc([]string{"pcr8", "pcr9", "pcr11", "pcr12"}, has)
}

// short lists the first of many names.
func short(names []string) string {
	const most = 5
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
