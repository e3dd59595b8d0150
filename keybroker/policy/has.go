package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// evidenceHas says what the evidence has for a check. The claims have the proof that the check is about.
func evidenceHas(id int, in Input) string {
	switch {
	case id >= checkTPMKey:
		return evidenceHasTPM(id, in.Claims)
	case id >= checkTDXTCB:
		return evidenceHasTDX(id, in.Claims.TDX)
	case id >= checkProduct:
		return evidenceHasSNP(id, in.Claims)
	}
	g := in.Guest
	switch id {
	case checkKind:
		return string(in.Claims.Kind)
	case checkSoftwareTEE:
		return map[bool]string{true: "the software TEE", false: "hardware"}[in.Claims.SoftwareTEE]
	case checkMeasurement:
		var list []string
		for _, m := range in.Claims.Shown() {
			list = append(list, m.Name+" "+m.Value.String())
		}
		return strings.Join(list, ", ")
	case checkDebug:
		return onOff(in.Claims.Debug)
	case checkMigration:
		return onOff(in.Claims.Migratable)
	case checkAgentBuild:
		return orNone(g.AgentBuild)
	case checkImage:
		return orNone(g.ImageID)
	case checkTenant:
		return orNone(g.Tenant)
	case checkMemoryLimit:
		return memoryText(g.MemoryLimit)
	case checkClockSource:
		return g.ClockSource.String()
	}
	return ""
}

func onOff(b bool) string { return map[bool]string{true: "on", false: "off"}[b] }

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// value shows bytes; zeros stand for none.
func value(h evidence.Hex) string {
	if allZero(h) {
		return "none"
	}
	return h.String()
}

func tcbText(t evidence.TCB) string {
	return fmt.Sprintf("fmc %d, bootloader %d, tee %d, snp %d, microcode %d", t.FMC, t.BootLoader, t.TEE, t.SNP, t.Microcode)
}

func evidenceHasSNP(id int, claims evidence.Claims) string {
	c := claims.SNP
	switch id {
	case checkProduct, checkMilan:
		return string(claims.Platform)
	case checkVMPL:
		return fmt.Sprint(c.VMPL)
	case checkTCBReported:
		return tcbText(c.TCB.Reported)
	case checkTCBCommitted:
		return tcbText(c.TCB.Committed)
	case checkTCBLaunch:
		return tcbText(c.TCB.Launch)
	case checkTCBCurrent:
		return tcbText(c.TCB.Current)
	case checkFirmware:
		return fmt.Sprintf("current %s, committed %s", orNone(c.CurrentVersion), orNone(c.CommittedVersion))
	case checkReportVersion:
		return fmt.Sprint(c.ReportVersion)
	case checkMitigations:
		return fmt.Sprintf("%#x at launch, %#x now", c.LaunchMitigations, c.CurrentMitigations)
	case checkVLEK:
		if c.VLEK {
			return fmt.Sprintf("signed with the key of provider %q", c.CSPID)
		}
		return "signed with the chip's own key"
	case checkChipIDs:
		return value(c.ChipID)
	case checkPlatformInfo, checkPlatformBits:
		return fmt.Sprintf("%#x", uint64(c.PlatformInfo))
	case checkGuestPolicy, checkGuestPolicyBits:
		return fmt.Sprintf("%#x", uint64(c.PolicyBits))
	case checkGuestSVN:
		return fmt.Sprint(c.GuestSVN)
	}
	return value(map[int]evidence.Hex{checkIDKey: c.IDKeyDigest, checkAuthorKey: c.AuthorKeyDigest, checkFamilyID: c.FamilyID,
		checkBlockImageID: c.ImageID, checkHostData: c.HostData}[id])
}

func evidenceHasTDX(id int, c *evidence.TDXClaims) string {
	switch id {
	case checkTDXTCB:
		return string(c.TCB.Status)
	case checkTDXAdvisories:
		return orNone(strings.Join(c.TCB.Advisories, ", "))
	case checkTDXEvaluation:
		return fmt.Sprint(c.TCB.EvaluationNumber)
	case checkTDXSEPTVE, checkTDXAttributes, checkTDXAttributeBits:
		return fmt.Sprintf("%#x", c.TDAttributes)
	case checkTDXXFAM:
		return fmt.Sprintf("%#x", c.XFAM)
	case checkTDXPartition:
		if c.Extended == nil {
			return "0"
		}
		return fmt.Sprint(c.Extended.VMID)
	}
	return value(map[int]evidence.Hex{checkTDXModule: c.MRSEAM, checkTDXModuleSigner: c.MRSignerSEAM, checkTDXServiceTD: c.MRServiceTD,
		checkTDXConfigID: c.MRConfigID, checkTDXOwner: c.MROwner, checkTDXOwnerConfig: c.MROwnerConfig, checkTDXPlatform: c.FMSPC}[id])
}

func evidenceHasTPM(id int, c evidence.Claims) string {
	switch id {
	case checkTPMKey:
		return string(c.TPM.AKTrust)
	case checkTPMPCRs:
		return fmt.Sprint(sortedPCRs(c.TPM))
	case checkAzure:
		var list []string
		for _, f := range []struct {
			name  string
			value *bool
		}{{"secure boot", c.Azure.SecureBoot}, {"TPM persisted", c.Azure.TPMPersisted}, {"console", c.Azure.Console}} {
			if f.value != nil {
				list = append(list, f.name+" "+onOff(*f.value))
			}
		}
		return orNone(strings.Join(list, ", "))
	case checkEventLog:
		return logText(c.EventLog)
	case checkTPMEventLog:
		return logText(c.TPMEventLog)
	}
	return fmt.Sprintf("%d devices", len(c.GPUs))
}

func logText(log *evidence.EventLogClaims) string {
	if log == nil {
		return "none"
	}
	text := "a log that leads to " + strings.Join(log.Registers, ", ")
	if log.SecureBoot != nil {
		text += ", Secure Boot " + onOff(*log.SecureBoot)
	}
	return text
}

func sortedPCRs(c *evidence.TPMClaims) []int {
	var list []int
	for n := range c.PCRs {
		list = append(list, n)
	}
	slices.Sort(list)
	return list
}
