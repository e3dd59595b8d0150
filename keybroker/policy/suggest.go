package policy

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Suggestion is a start for a policy that accepts guests like one that was looked at.
type Suggestion struct {
	// Policy is what to put into a policy of format 2: "require" for what the hardware says, and a
	// waiver for each check that the evidence gives nothing for, such as those of what a guest states of
	// itself: its author replaces these by requirements.
	Policy string
	// ReferenceValues is a file of reference values: the registers as they were.
	ReferenceValues string
	// Warnings say why no policy would accept this guest, or what it would accept besides.
	Warnings []string
}

// Suggest writes requirements that verified claims meet, as strict as the claims allow: every
// version is a minimum, every configuration is as it was. Claims that are of no guest, such as a
// GPU's alone, give the zero Suggestion.
func Suggest(c evidence.Claims, seen time.Time) Suggestion {
	if !c.Kind.Known() {
		return Suggestion{}
	}
	s := &suggester{claims: c}
	id := s.reference(seen)
	for _, id := range []int{checkAgentBuild, checkImage, checkTenant, checkMemoryLimit} {
		s.waive(checks()[id].name, "the evidence does not have what the guest states of itself; replace this by "+settings()[id])
	}
	s.line(0, "require:")
	s.line(1, "kinds: [%s]", c.Kind)
	s.line(1, "reference_values: [%s]", id)
	if c.SNP != nil {
		s.snp(c.SNP)
	}
	if c.TDX != nil {
		s.tdx(c.TDX)
	}
	if s.believesTPM() {
		s.tpm(c.TPM)
	}
	if c.Azure != nil {
		s.azure(c.Azure)
	}
	s.eventLog(c.EventLog)
	s.gpus(c.GPUs)
	s.line(0, "waive:")
	for _, w := range s.waived {
		s.line(1, "- {check: %s, reason: %s}", w.name, w.reason)
	}
	head := ""
	if c.SoftwareTEE {
		head += "allow_software_tee: true\n"
		s.warn("this is a software TEE: it proves nothing")
	}
	if c.Platform == "Milan" {
		head += "allow_milan: true\n"
		s.warn("report keys of Milan have been extracted in software: a Milan chip can be forged")
	}
	if c.Debug {
		s.warn("the host may read this guest's memory (debug): no policy accepts it")
	}
	if c.Migratable {
		s.warn("this guest may be moved by a migration agent: no policy accepts it")
	}
	return Suggestion{Policy: head + s.text.String(), ReferenceValues: s.values.String(), Warnings: s.warnings}
}

type suggester struct {
	claims       evidence.Claims
	text, values strings.Builder
	waived       []suggestedWaiver
	warnings     []string
}

type suggestedWaiver struct{ name, reason string }

func (s *suggester) line(depth int, format string, args ...any) {
	s.text.WriteString(strings.Repeat("  ", depth))
	fmt.Fprintf(&s.text, format+"\n", args...)
}

func (s *suggester) waive(name, reason string) {
	s.waived = append(s.waived, suggestedWaiver{name, reason})
}

func (s *suggester) warn(text string) { s.warnings = append(s.warnings, text) }

// quoted is hexadecimal as YAML does not take for a number.
func quoted(b []byte) string { return `"` + hex.EncodeToString(b) + `"` }

func isZero(b []byte) bool { return !slices.ContainsFunc(b, func(v byte) bool { return v != 0 }) }

// Registers that a reference value has: those of the firmware and of what it starts, without those
// that differ from boot to boot, or that a running system extends.
func suggestedRegisters() []string {
	return []string{"launch", "mrtd", "rtmr1", "rtmr2", "pcr4", "pcr7", "pcr8", "pcr9", "pcr11"}
}

// believesTPM reports whether the registers of a TPM can be asked for: not where the guest alone says that the
// TPM beside its processor is its own.
func (s *suggester) believesTPM() bool {
	return s.claims.TPM != nil && (ofTPM.covers(s.claims.Kind) || s.claims.TPM.AKTrust != evidence.AKReport)
}

// reference writes the file of reference values and returns the value's id.
func (s *suggester) reference(seen time.Time) string {
	var list []evidence.Measured
	image := false
	for _, r := range s.claims.Registers {
		if strings.HasPrefix(r.Name, "pcr") && !s.believesTPM() {
			continue
		}
		if slices.Contains(suggestedRegisters(), r.Name) && (!isZero(r.Value) || r.Name == "launch") {
			list = append(list, r)
			image = image || r.Covers == evidence.CoversImage
		}
	}
	digest := s.claims.Digest()
	id := fmt.Sprintf("seen/%s-%x", s.claims.Kind, digest[:6])
	w := &s.values
	fmt.Fprintf(w, "format: 2\nreference_values:\n  - id: %s\n    kind: %s\n", id, s.claims.Kind)
	if s.claims.SNP != nil {
		fmt.Fprintf(w, "    product: %s\n", s.claims.Platform)
	}
	if s.claims.SoftwareTEE && s.claims.SNP != nil {
		fmt.Fprintf(w, "    software: true\n")
	}
	if image {
		fmt.Fprintf(w, "    covers: image\n")
	} else {
		fmt.Fprintf(w, "    # covers: image, if you know that these values identify the kernel, too; else any image starts under them\n")
		s.warn("what was measured may be the firmware alone, under which any image starts")
	}
	fmt.Fprintf(w, "    source: a guest that was looked at on %s; compare with the values of its build\n    registers:\n", seen.UTC().Format(time.DateOnly))
	for _, r := range list {
		fmt.Fprintf(w, "      %s: %s\n", r.Name, quoted(r.Value))
	}
	return id
}

func (s *suggester) snp(c *evidence.SNPClaims) {
	product := s.claims.Platform
	s.line(1, "sev_snp:")
	s.line(2, "products: [%s]", product)
	s.line(2, "vmpl: %d", c.VMPL)
	s.line(2, "minimum_tcb:")
	s.line(3, "- product: %s", product)
	for _, t := range []struct {
		name string
		tcb  evidence.TCB
	}{{"reported", c.TCB.Reported}, {"committed", c.TCB.Committed}, {"launch", c.TCB.Launch}, {"current", c.TCB.Current}} {
		s.line(4, "%s: {fmc: %d, bootloader: %d, tee: %d, snp: %d, microcode: %d}", t.name, t.tcb.FMC, t.tcb.BootLoader, t.tcb.TEE, t.tcb.SNP, t.tcb.Microcode)
	}
	s.line(2, "minimum_firmware: %q", c.CommittedVersion)
	s.line(2, "minimum_report_version: %d", c.ReportVersion)
	if both := c.LaunchMitigations & c.CurrentMitigations; both != 0 {
		s.line(2, "mitigations: [%s]", strings.TrimPrefix(unknownBits(both, 0), "bit "))
	} else {
		s.waive("mitigations", "the report states none")
	}
	if c.GuestSVN > 0 {
		s.line(2, "minimum_guest_svn: %d", c.GuestSVN)
	} else {
		s.waive("guest-svn", "the guest has none")
	}
	s.bits("platform_info", "platform-info", uint64(c.PlatformInfo), platformBitsOf(product),
		[]string{"ecc-enabled", "ciphertext-hiding-enabled", "alias-check-complete", "rapl-disabled", "iommu-write-safe"}, []string{"smt-enabled"})
	s.bits("guest_policy", "guest-policy", uint64(c.PolicyBits), guestPolicyBits(),
		[]string{"single-socket", "memory-aes-256-xts", "rapl-disabled", "ciphertext-hiding", "page-swap-disabled"}, []string{"smt-allowed", "cxl-allowed"})
	s.identities([]identity{
		{"id_key_digests", "id-key", c.IDKeyDigest}, {"author_key_digests", "author-key", c.AuthorKeyDigest},
		{"family_ids", "family-id", c.FamilyID}, {"id_block_image_ids", "id-block-image", c.ImageID}, {"host_data", "host-data", c.HostData},
	})
	s.unknown("platform-bits", uint64(c.PlatformInfo), maskOf(platformBitsOf(product)))
	s.unknown("guest-policy-bits", uint64(c.PolicyBits), maskOf(guestPolicyBits())|guestPolicyFixed)
	if c.VLEK {
		s.line(2, "vlek_providers: [%q]", c.CSPID)
	}
	s.waive("chip-ids", "any chip of the product may run it; list chip_ids to enrol them")
}

// identity is a value that a guest may have, and zeros where it has none.
type identity struct {
	field, check string
	value        evidence.Hex
}

// identities asks for each value that there is. No policy can ask for zeros.
func (s *suggester) identities(list []identity) {
	for _, i := range list {
		if isZero(i.value) {
			s.waive(i.check, "the guest has none")
		} else {
			s.line(2, "%s: [%s]", i.field, quoted(i.value))
		}
	}
}

// unknown warns of bits that the policy's own check refuses.
func (s *suggester) unknown(check string, value, known uint64) {
	if bits := unknownBits(value, known); bits != "" {
		s.warn(fmt.Sprintf("%s is set, which this version does not know: the check %s refuses it", bits, check))
	}
}

// bits asks for those of the named bits that are as one would have them, or waives the check.
func (s *suggester) bits(field, check string, value uint64, names map[string]uint, wantSet, wantClear []string) {
	pick := func(list []string, set bool) (out []string) {
		for _, name := range list {
			if bit, known := names[name]; known && (value&(1<<bit) != 0) == set {
				out = append(out, name)
			}
		}
		return out
	}
	set, clear := pick(wantSet, true), pick(wantClear, false)
	if len(set)+len(clear) == 0 {
		s.waive(check, "no bit of it is as one would require it")
		return
	}
	s.line(2, "%s: {set: [%s], clear: [%s]}", field, strings.Join(set, ", "), strings.Join(clear, ", "))
}

func (s *suggester) tdx(c *evidence.TDXClaims) {
	s.line(1, "tdx:")
	if _, err := tcbStatuses([]string{string(c.TCB.Status)}); err != nil {
		s.line(2, "tcb_statuses: [%s] # this platform is %s, which no policy accepts", evidence.TCBUpToDate, c.TCB.Status)
		s.warn(fmt.Sprintf("the platform's TCB status is %s: no policy accepts it", c.TCB.Status))
	} else {
		s.line(2, "tcb_statuses: [%s]", c.TCB.Status)
	}
	s.line(2, "accepted_advisories: [%s]", strings.Join(c.TCB.Advisories, ", "))
	s.line(2, "minimum_evaluation_number: %d", max(c.TCB.EvaluationNumber, 1))
	s.bits("attributes", "tdx-attributes", c.TDAttributes, tdAttributeBits(), nil, sortedKeys(tdAttributeBits()))
	var features []string
	for _, name := range sortedKeys(xfamBits()) {
		if c.XFAM&xfamBits()[name] != 0 {
			features = append(features, name)
		}
	}
	s.line(2, "xfam: [%s]", strings.Join(features, ", "))
	if c.TDAttributes&evidence.TDAttributeSEPTVEDisable == 0 {
		s.waive("tdx-sept-ve", "the guest was started without SEPT_VE_DISABLE")
	}
	s.identities([]identity{
		{"mr_seams", "tdx-module", c.MRSEAM}, {"mr_config_ids", "tdx-config-id", c.MRConfigID}, {"mr_owners", "tdx-owner", c.MROwner},
		{"mr_owner_configs", "tdx-owner-config", c.MROwnerConfig}, {"fmspcs", "tdx-platform", c.FMSPC},
	})
	s.unknown("tdx-attribute-bits", c.TDAttributes, maskOf(tdAttributeBits())|tdAttributesFixed)
	if !isZero(c.MRSignerSEAM) {
		s.line(2, "mr_signer_seams: [%s]", quoted(c.MRSignerSEAM))
	}
	if !isZero(c.MRServiceTD) {
		s.line(2, "mr_service_tds: [%s]", quoted(c.MRServiceTD))
	}
}

func (s *suggester) tpm(c *evidence.TPMClaims) {
	s.line(1, "tpm:")
	if ofTPM.covers(s.claims.Kind) {
		s.line(2, "ak_trust: [%s]", c.AKTrust)
	} else {
		s.line(2, "binding: [%s]", c.AKTrust)
	}
	if i := c.AKInstance; i != nil {
		s.line(2, "instances: [{project: %q, project_number: %d, zone: %q, name: %q}]", i.Project, i.ProjectNumber, i.Zone, i.Name)
	} else if c.AKTrust == evidence.AKCertificate {
		s.warn("the certificate of the TPM's key names no virtual machine: any machine of its authority is accepted")
	}
	var list []string
	for _, n := range []int{0, 2, 4, 7, 8, 9, 11} {
		if c.PCRs[n] != nil {
			list = append(list, fmt.Sprint(n))
		}
	}
	s.line(2, "pcrs: [%s]", strings.Join(list, ", "))
}

func (s *suggester) azure(c *evidence.AzureClaims) {
	var list []string
	for _, f := range []struct {
		name  string
		value *bool
	}{{"secure_boot", c.SecureBoot}, {"tpm_persisted", c.TPMPersisted}, {"console_enabled", c.Console}} {
		if f.value != nil {
			list = append(list, fmt.Sprintf("%s: %v", f.name, *f.value))
		}
	}
	if len(list) == 0 {
		s.waive("azure-configuration", "the paravisor states none of it")
		return
	}
	s.line(1, "azure: {%s}", strings.Join(list, ", "))
}

func (s *suggester) eventLog(c *evidence.EventLogClaims) {
	switch {
	case !ofLog.covers(s.claims.Kind):
	case c == nil:
		s.waive("event-log", "the guest showed none; the registers decide")
	default:
		boot := ""
		if c.SecureBoot != nil {
			boot = fmt.Sprintf(", secure_boot: %v", *c.SecureBoot)
		}
		s.line(1, "event_log: {registers: [%s]%s}", strings.Join(c.Registers, ", "), boot)
	}
}

func (s *suggester) gpus(list []evidence.GPUClaims) {
	if len(list) == 0 {
		return
	}
	of := func(value func(evidence.GPUClaims) string) string {
		var out []string
		for _, g := range list {
			if v := fmt.Sprintf("%q", value(g)); !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
		return strings.Join(out, ", ")
	}
	s.line(1, "gpu:")
	s.line(2, "minimum: %d", len(list))
	s.line(2, "architectures: [%s]", of(func(g evidence.GPUClaims) string { return string(g.Architecture) }))
	s.line(2, "drivers: [%s]", of(func(g evidence.GPUClaims) string { return g.Driver }))
	s.line(2, "vbios: [%s]", of(func(g evidence.GPUClaims) string { return g.VBIOS }))
}
