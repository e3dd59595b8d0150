package policy

import (
	"fmt"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// The checks by number. The table below has exactly numChecks entries or
// the package does not compile.
const (
	checkKind = iota
	checkSoftwareTEE
	checkMeasurement
	checkDebug
	checkMigration
	checkAgentBuild
	checkImage
	checkTenant
	checkMemoryLimit
	checkClockSource

	checkProduct
	checkMilan
	checkVMPL
	checkTCBReported
	checkTCBCommitted
	checkTCBLaunch
	checkTCBCurrent
	checkFirmware
	checkReportVersion
	checkMitigations
	checkVLEK
	checkChipIDs
	checkPlatformInfo
	checkPlatformBits
	checkGuestPolicy
	checkGuestPolicyBits
	checkIDKey
	checkAuthorKey
	checkGuestSVN
	checkFamilyID
	checkBlockImageID
	checkHostData

	checkTDXTCB
	checkTDXAdvisories
	checkTDXEvaluation
	checkTDXSEPTVE
	checkTDXAttributes
	checkTDXAttributeBits
	checkTDXXFAM
	checkTDXModule
	checkTDXModuleSigner
	checkTDXServiceTD
	checkTDXPartition
	checkTDXConfigID
	checkTDXOwner
	checkTDXOwnerConfig
	checkTDXPlatform

	checkTPMKey
	checkTPMPCRs
	checkTPMBinding
	checkTPMInstance
	checkAzure
	checkEventLog
	checkTPMEventLog
	checkGPU
	numChecks
)

// group is the proof that a check is about.
type group uint8

const (
	ofGuest group = iota // every guest
	ofSNP
	ofTDX
	ofTPM
	ofBeside // a TPM beside a processor that does not vouch for it
	ofAnyTPM // every TPM
	ofAzure
	ofLog
)

// covers reports whether evidence of a kind holds such a proof.
func (g group) covers(k evidence.Kind) bool {
	switch g {
	case ofGuest:
		return true
	case ofSNP:
		return k == evidence.KindSNP || k == evidence.KindAzureSNP
	case ofTDX:
		return k == evidence.KindTDX || k == evidence.KindAzureTDX
	case ofTPM:
		return k == evidence.KindVTPM || k == evidence.KindAzureSNP || k == evidence.KindAzureTDX
	case ofBeside:
		return k.TPMBeside()
	case ofAnyTPM:
		return k.Known()
	case ofAzure:
		return k == evidence.KindAzureSNP || k == evidence.KindAzureTDX
	case ofLog:
		return k != evidence.KindSNP && k.Known()
	}
	return false
}

// in reports whether the claims have the proof.
func (g group) in(c evidence.Claims) bool {
	switch g {
	case ofSNP:
		return c.SNP != nil
	case ofTDX:
		return c.TDX != nil
	case ofTPM:
		return c.TPM != nil
	case ofAzure:
		return c.Azure != nil
	}
	return true // an event log may be absent, and then its check refuses
}

// check is one entry of the table.
type check struct {
	name     string
	of       group
	waivable bool
	// configured reports whether the requirements ask for something; nil
	// means that the check always runs and asks for nothing in the file.
	configured func(*Policy, *requirements) bool
	// always runs the check at the policy's level even if nothing is
	// configured: its default refuses, but for clock-source, gpu, tpm-binding,
	// tpm-instance and tpm-event-log, which ask for something only where a policy does.
	always bool
	run    func(*Policy, *requirements, Input) *Failure
}

// judge runs a check. A check without configuration is refused here as well, although such a
// policy does not load.
func (c check) judge(p *Policy, r *requirements, in Input) *Failure {
	if c.configured != nil && !c.always && !c.configured(p, r) {
		return &Failure{ReasonCheckNotConfigured, c.name}
	}
	if !c.of.in(in.Claims) {
		return failure(ReasonClaimsMissing, "nothing was claimed that %s could be decided on", c.name)
	}
	return c.run(p, r, in)
}

// asks makes a configured function of one that looks at the requirements alone.
func asks(f func(*requirements) bool) func(*Policy, *requirements) bool {
	return func(_ *Policy, r *requirements) bool { return f(r) }
}

func checks() [numChecks]check {
	return [...]check{
		{"evidence-kind", ofGuest, false, asks(func(r *requirements) bool { return r.kinds != nil }), false, judgeKind},
		{"software-tee", ofGuest, false, nil, true, judgeSoftwareTEE},
		{"measurement", ofGuest, false, asks(func(r *requirements) bool { return r.measurements != nil }), false, judgeMeasurement},
		{"debug", ofGuest, false, nil, true, judgeDebug},
		{"migration", ofGuest, false, nil, true, judgeMigration},
		{"agent-build", ofGuest, true, asks(func(r *requirements) bool { return r.agentBuilds != nil }), false, judgeAgentBuild},
		{"image", ofGuest, true, asks(func(r *requirements) bool { return r.images != nil }), false, judgeImage},
		{"tenant", ofGuest, true, asks(func(r *requirements) bool { return r.tenants != nil }), false, judgeTenant},
		{"memory-limit", ofGuest, true, asks(func(r *requirements) bool { return r.memory != nil }), false, judgeMemoryLimit},
		{"clock-source", ofGuest, false, asks(func(r *requirements) bool { return r.clocks != nil }), true, judgeClockSource},

		{"product", ofSNP, false, asks(func(r *requirements) bool { return r.snp.products != nil }), false, judgeProduct},
		{"milan", ofSNP, false, nil, true, judgeMilan},
		{"vmpl", ofSNP, false, asks(func(r *requirements) bool { return r.snp.vmpl != nil }), false, judgeVMPL},
		tcbCheck("tcb-reported", ReasonTCBReported, MinimumTCB.reported, func(c evidence.TCBs) evidence.TCB { return c.Reported }),
		tcbCheck("tcb-committed", ReasonTCBCommitted, MinimumTCB.committed, func(c evidence.TCBs) evidence.TCB { return c.Committed }),
		tcbCheck("tcb-launch", ReasonTCBLaunch, MinimumTCB.launch, func(c evidence.TCBs) evidence.TCB { return c.Launch }),
		tcbCheck("tcb-current", ReasonTCBCurrent, MinimumTCB.current, func(c evidence.TCBs) evidence.TCB { return c.Current }),
		{"firmware-version", ofSNP, true, asks(func(r *requirements) bool { return r.snp.firmware != nil }), false, judgeFirmware},
		{"report-version", ofSNP, true, asks(func(r *requirements) bool { return r.snp.reportVersion != 0 }), false, judgeReportVersion},
		{"mitigations", ofSNP, true, asks(func(r *requirements) bool { return r.snp.mitigations != 0 }), false, judgeMitigations},
		{"vlek", ofSNP, false, asks(func(r *requirements) bool { return r.snp.vlek != nil }), true, judgeVLEK},
		{"chip-ids", ofSNP, true, asks(func(r *requirements) bool { return r.snp.chips != nil }), false, judgeChip},
		{"platform-info", ofSNP, true, asks(func(r *requirements) bool { return r.snp.platform != nil }), false, judgePlatformInfo},
		{"platform-bits", ofSNP, true, nil, true, judgePlatformBits},
		{"guest-policy", ofSNP, true, asks(func(r *requirements) bool { return r.snp.guestPolicy != nil }), false, judgeGuestPolicy},
		{"guest-policy-bits", ofSNP, true, nil, true, judgeGuestPolicyBits},
		{"id-key", ofSNP, true, asks(func(r *requirements) bool { return r.snp.idKeys != nil }), false, judgeIDKey},
		{"author-key", ofSNP, true, asks(func(r *requirements) bool { return r.snp.authorKeys != nil }), false, judgeAuthorKey},
		{"guest-svn", ofSNP, true, asks(func(r *requirements) bool { return r.snp.guestSVN != 0 }), false, judgeGuestSVN},
		{"family-id", ofSNP, true, asks(func(r *requirements) bool { return r.snp.families != nil }), false, judgeFamilyID},
		{"id-block-image", ofSNP, true, asks(func(r *requirements) bool { return r.snp.blockImages != nil }), false, judgeBlockImageID},
		{"host-data", ofSNP, true, asks(func(r *requirements) bool { return r.snp.hostData != nil }), false, judgeHostData},

		{"tdx-tcb", ofTDX, false, asks(func(r *requirements) bool { return r.tdx.statuses != nil }), false, judgeTDXTCB},
		{"tdx-advisories", ofTDX, true, asks(func(r *requirements) bool { return r.tdx.advisories != nil }), false, judgeTDXAdvisories},
		{"tdx-evaluation-number", ofTDX, true, asks(func(r *requirements) bool { return r.tdx.evaluation != 0 }), false, judgeTDXEvaluation},
		{"tdx-sept-ve", ofTDX, true, nil, true, judgeTDXSEPTVE},
		{"tdx-attributes", ofTDX, true, asks(func(r *requirements) bool { return r.tdx.attributes != nil }), false, judgeTDXAttributes},
		{"tdx-attribute-bits", ofTDX, true, nil, true, judgeTDXAttributeBits},
		{"tdx-xfam", ofTDX, true, asks(func(r *requirements) bool { return r.tdx.xfam != 0 }), false, judgeTDXXFAM},
		{"tdx-module", ofTDX, true, asks(func(r *requirements) bool { return r.tdx.modules != nil }), false, judgeTDXModule},
		{"tdx-module-signer", ofTDX, false, asks(func(r *requirements) bool { return r.tdx.signers != nil }), true, judgeTDXModuleSigner},
		{"tdx-service-td", ofTDX, false, asks(func(r *requirements) bool { return r.tdx.services != nil }), true, judgeTDXServiceTD},
		{"tdx-partition", ofTDX, false, nil, true, judgeTDXPartition},
		{"tdx-config-id", ofTDX, true, asks(func(r *requirements) bool { return r.tdx.configIDs != nil }), false, judgeTDXConfigID},
		{"tdx-owner", ofTDX, true, asks(func(r *requirements) bool { return r.tdx.owners != nil }), false, judgeTDXOwner},
		{"tdx-owner-config", ofTDX, true, asks(func(r *requirements) bool { return r.tdx.ownerConfigs != nil }), false, judgeTDXOwnerConfig},
		{"tdx-platform", ofTDX, true, asks(func(r *requirements) bool { return r.tdx.fmspcs != nil }), false, judgeTDXPlatform},

		{"tpm-key", ofTPM, false, asks(func(r *requirements) bool { return r.akTrust != nil }), false, judgeTPMKey},
		{"tpm-pcrs", ofTPM, false, asks(func(r *requirements) bool { return r.pcrs != nil }), false, judgeTPMPCRs},
		{"tpm-binding", ofBeside, true, asks(func(r *requirements) bool { return r.binding != nil }), true, judgeTPMBinding},
		{"tpm-instance", ofAnyTPM, false, asks(func(r *requirements) bool { return r.instances != nil }), true, judgeTPMInstance},
		{"azure-configuration", ofAzure, true, asks(func(r *requirements) bool { return r.azure != nil }), false, judgeAzure},
		{"event-log", ofLog, true, asks(func(r *requirements) bool { return r.log != nil }), false, judgeEventLog},
		{"tpm-event-log", ofBeside, false, asks(func(r *requirements) bool { return r.log != nil && len(besideLogged(r.log)) > 0 }), true, judgeTPMEventLog},
		{"gpu", ofGuest, false, asks(func(r *requirements) bool { return r.gpu != nil }), true, judgeGPU},
	}
}

// Check describes one check to people.
type Check struct {
	// Name is what a waiver calls it.
	Name string `json:"name"`
	// Setting is where a policy configures it under "require"; empty if there is nothing to configure.
	Setting string `json:"setting,omitempty"`
	// Waivable says whether a policy may leave it out.
	Waivable bool `json:"waivable"`
	// Kinds are the kinds of evidence that it is about.
	Kinds []evidence.Kind `json:"kinds"`
}

// Checks lists every check that there is, in order.
func Checks() []Check {
	var out []Check
	for id, c := range checks() {
		kinds := slices.DeleteFunc(evidence.Kinds(), func(k evidence.Kind) bool { return !c.of.covers(k) })
		out = append(out, Check{c.name, settings()[id], c.waivable, kinds})
	}
	return out
}

// ChecksOf lists those that a policy which accepts evidence of one kind alone must
// require or waive.
func ChecksOf(kind evidence.Kind) []Check {
	return slices.DeleteFunc(Checks(), func(c Check) bool { return !slices.Contains(c.Kinds, kind) })
}

func checkByName(name string) (int, bool) {
	all := checks()
	i := slices.IndexFunc(all[:], func(c check) bool { return c.name == name })
	return i, i >= 0
}

func failure(r refusal.Reason, format string, args ...any) *Failure {
	return &Failure{r, fmt.Sprintf(format, args...)}
}
