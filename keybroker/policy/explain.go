package policy

import (
	"fmt"
	"strings"
	"time"
)

// Explain describes the policy in plain sentences, for an operator who reviews
// it before it counts.
func Explain(p *Policy) string {
	if p == nil || !p.compiled {
		return "There is no policy: everything is refused.\n"
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("Policy %s, version %d, digest %x.", p.ID(), p.Version(), p.digest)
	line("It counts from %s to %s. A lease lasts %s.", p.notBefore.UTC().Format(time.RFC3339), p.notAfter.UTC().Format(time.RFC3339), p.LeaseTTL())
	for _, w := range p.Warnings() {
		line("WARNING: %s.", w)
	}
	line("\nEvery guest must pass:")
	for id, c := range checks() {
		if p.waived[id] == "" && p.asked(c) {
			line("  %-21s %s", c.name, describe(id, p, &p.require))
		}
	}
	if waived := p.Waived(); len(waived) > 0 {
		line("\nWaived in writing:")
		for _, w := range waived {
			line("  %s", w)
		}
	}
	line("\nResources:")
	for _, pattern := range sortedKeys(p.rules) {
		rule := p.rules[pattern]
		line("  %s, signs as %s, %s", pattern, rule.roles, tenantWords(rule))
		if words := restartWords(rule.restart); words != "" {
			line("    %s", words)
		}
		for id, c := range checks() {
			if c.configured != nil && c.configured(p, rule.require) {
				line("    and %-17s %s", c.name, describe(id, p, rule.require))
			}
		}
	}
	if len(p.rules) == 0 {
		line("  none: everything is refused")
	}
	return b.String()
}

func tenantWords(r *openRule) string {
	if r.tenant == "" {
		return "for no tenant: leases will name none"
	}
	return "for tenant " + r.tenant
}

// describe says what one check asks for.
func describe(id int, p *Policy, r *requirements) string {
	if id >= checkTDXTCB && id <= checkTDXPlatform {
		return describeTDX(id, r)
	}
	if id >= checkTPMKey {
		return describeTPM(id, r)
	}
	switch id {
	case checkKind:
		return strings.Join(sortedKeys(r.kinds), ", ")
	case checkSoftwareTEE:
		return map[bool]string{true: "hardware or the software TEE", false: "hardware only"}[p.doc.AllowSoftwareTEE]
	case checkMeasurement:
		if r.measurements.count == 0 {
			return "one of the reference values that it names, and none of them is known here"
		}
		return fmt.Sprintf("one of %d reference values", r.measurements.count)
	case checkProduct:
		return strings.Join(sortedKeys(r.snp.products), ", ")
	case checkMilan:
		return map[bool]string{true: "accepted", false: "refused"}[p.doc.AllowMilan]
	case checkDebug, checkMigration:
		return "off"
	case checkVMPL:
		return fmt.Sprintf("exactly %d", *r.snp.vmpl)
	case checkTCBReported, checkTCBCommitted, checkTCBLaunch, checkTCBCurrent:
		return describeTCB(id, r)
	case checkVLEK:
		if len(r.snp.vlek) == 0 {
			return "reports signed with a chip's own key only"
		}
		return "or signed with the key of " + strings.Join(sortedKeys(r.snp.vlek), ", ")
	case checkChipIDs:
		return fmt.Sprintf("one of %d enrolled chips, not masked", len(r.snp.chips))
	case checkPlatformInfo:
		return r.snp.platform.String()
	case checkGuestPolicy:
		return r.snp.guestPolicy.String()
	case checkPlatformBits, checkGuestPolicyBits:
		return "no bit that this version does not know"
	case checkMemoryLimit:
		return fmt.Sprintf("%d to %d MiB", r.memory.MinMiB, r.memory.MaxMiB)
	case checkClockSource:
		if r.clocks == nil {
			return "any: the host may slow a guest's clock and so stretch a lease inside the guest"
		}
		return strings.Join(sortedKeys(r.clocks), ", ")
	}
	return describeSet(id, r)
}

func describeSet(id int, r *requirements) string {
	switch id {
	case checkAgentBuild:
		return strings.Join(sortedKeys(r.agentBuilds), ", ")
	case checkImage:
		return strings.Join(sortedKeys(r.images), ", ")
	case checkTenant:
		return strings.Join(sortedKeys(r.tenants), ", ")
	case checkIDKey:
		return fmt.Sprintf("one of %d digests", len(r.snp.idKeys))
	case checkAuthorKey:
		return fmt.Sprintf("one of %d digests", len(r.snp.authorKeys))
	case checkHostData:
		return fmt.Sprintf("one of %d values", len(r.snp.hostData))
	case checkFamilyID:
		return fmt.Sprintf("one of %d values", len(r.snp.families))
	case checkBlockImageID:
		return fmt.Sprintf("one of %d values", len(r.snp.blockImages))
	case checkFirmware:
		return "at least " + firmwareText(r.snp.firmware) + ", current and committed"
	case checkReportVersion:
		return fmt.Sprintf("at least %d", r.snp.reportVersion)
	case checkGuestSVN:
		return fmt.Sprintf("at least %d", r.snp.guestSVN)
	}
	return strings.TrimPrefix(unknownBits(r.snp.mitigations, 0), "bit ") + " set at launch and now"
}

func describeTCB(id int, r *requirements) string {
	var out []string
	for _, product := range sortedKeys(r.snp.tcb) {
		m := r.snp.tcb[product]
		t := map[int]*TCB{checkTCBReported: m.Reported, checkTCBCommitted: m.Committed, checkTCBLaunch: m.Launch, checkTCBCurrent: m.Current}[id]
		if t != nil {
			out = append(out, fmt.Sprintf("%s at least fmc %d, bootloader %d, tee %d, snp %d, microcode %d", product, t.FMC, t.Bootloader, t.TEE, t.SNP, t.Microcode))
		}
	}
	return strings.Join(out, "; ")
}

// String lists the bits, for people.
func (r *bitRule) String() string {
	var out []string
	for _, name := range sortedKeys(r.names) {
		bit := uint64(1) << r.names[name]
		if r.set&bit != 0 {
			out = append(out, name)
		}
		if r.clear&bit != 0 {
			out = append(out, "not "+name)
		}
	}
	return strings.Join(out, ", ")
}
