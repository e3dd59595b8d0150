package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Warnings says what the policy accepts that its operator may not have meant: the software TEE, Milan,
// and reference values that identify firmware alone, under which every image is given the keys.
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
		if v.Software || imageByRegisters(v) {
			continue
		}
		switch v.Covers {
		case string(evidence.CoversFirmware):
			any = append(any, v.ID)
		case "":
			unsaid = append(unsaid, v.ID)
		}
	}
	logged := p.require.log != nil && p.require.log.boot != nil
	if len(any) > 0 && !logged {
		out = append(out, fmt.Sprintf("%s: the firmware alone is measured, so any image that starts under it is given the keys; "+
			"use values of the image's own registers, or require its event log with event_log.boot", short(any)))
	}
	if len(unsaid) > 0 && !logged {
		out = append(out, fmt.Sprintf("%s: the reference value does not say whether it covers the image or the firmware alone; "+
			"write covers: image where kernel, initrd and command line are measured at launch", short(unsaid)))
	}
	return out
}

// imageByRegisters reports whether a value names registers that what the firmware starts is measured into:
// RTMR1 or RTMR2 of TDX, or PCR 4, 8, 9, 11 or 12 of a TPM.
func imageByRegisters(v ReferenceValue) bool {
	for name := range v.registers() {
		if slices.Contains([]string{"rtmr1", "rtmr2", "pcr4", "pcr8", "pcr9", "pcr11", "pcr12"}, name) {
			return true
		}
	}
	return false
}

// short lists the first of many names.
func short(names []string) string {
	const most = 5
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
