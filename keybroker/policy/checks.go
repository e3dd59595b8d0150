package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// The checks by number. The table below has exactly numChecks entries or
// the package does not compile.
const (
	checkKind = iota
	checkSoftwareTEE
	checkMeasurement
	checkProduct
	checkMilan
	checkDebug
	checkMigration
	checkVMPL
	checkTCBReported
	checkTCBCommitted
	checkTCBLaunch
	checkTCBCurrent
	checkVLEK
	checkChipIDs
	checkPlatformInfo
	checkPlatformBits
	checkGuestPolicy
	checkGuestPolicyBits
	checkIDKey
	checkAuthorKey
	checkHostData
	checkAgentBuild
	checkImage
	checkTenant
	checkMemoryLimit
	checkClockSource
	numChecks
)

// check is one entry of the table.
type check struct {
	name     string
	waivable bool
	// configured reports whether the requirements ask for something; nil
	// means that the check always runs and asks for nothing in the file.
	configured func(*Policy, *requirements) bool
	// always runs the check at the policy's level even if nothing is
	// configured: its default refuses, but for clock-source, which asks for
	// something only where a policy does.
	always bool
	run    func(*Policy, *requirements, Input) *Failure
}

// judge runs a check at the policy's level. A check without configuration is
// refused here as well, although such a policy does not load.
func (c check) judge(p *Policy, r *requirements, in Input) *Failure {
	if c.configured != nil && !c.always && !c.configured(p, r) {
		return &Failure{ReasonCheckNotConfigured, c.name}
	}
	return c.run(p, r, in)
}

func checks() [numChecks]check {
	return [...]check{
		{"evidence-kind", false, nil, true, judgeKind},
		{"software-tee", false, nil, true, judgeSoftwareTEE},
		{"measurement", false, func(_ *Policy, r *requirements) bool { return r.measurements != nil }, false, judgeMeasurement},
		{"product", false, func(_ *Policy, r *requirements) bool { return r.products != nil }, false, judgeProduct},
		{"milan", false, nil, true, judgeMilan},
		{"debug", false, nil, true, judgeDebug},
		{"migration", false, nil, true, judgeMigration},
		{"vmpl", false, func(_ *Policy, r *requirements) bool { return r.vmpl != nil }, false, judgeVMPL},
		tcbCheck("tcb-reported", ReasonTCBReported, MinimumTCB.reported, func(c evidence.Claims) evidence.TCB { return c.TCB.Reported }),
		tcbCheck("tcb-committed", ReasonTCBCommitted, MinimumTCB.committed, func(c evidence.Claims) evidence.TCB { return c.TCB.Committed }),
		tcbCheck("tcb-launch", ReasonTCBLaunch, MinimumTCB.launch, func(c evidence.Claims) evidence.TCB { return c.TCB.Launch }),
		tcbCheck("tcb-current", ReasonTCBCurrent, MinimumTCB.current, func(c evidence.Claims) evidence.TCB { return c.TCB.Current }),
		{"vlek", false, func(_ *Policy, r *requirements) bool { return r.vlek != nil }, true, judgeVLEK},
		{"chip-ids", true, func(_ *Policy, r *requirements) bool { return r.chips != nil }, false, judgeChip},
		{"platform-info", true, func(_ *Policy, r *requirements) bool { return r.platform != nil }, false, judgePlatformInfo},
		{"platform-bits", true, nil, true, judgePlatformBits},
		{"guest-policy", true, func(_ *Policy, r *requirements) bool { return r.guestPolicy != nil }, false, judgeGuestPolicy},
		{"guest-policy-bits", true, nil, true, judgeGuestPolicyBits},
		{"id-key", true, func(_ *Policy, r *requirements) bool { return r.idKeys != nil }, false, judgeIDKey},
		{"author-key", true, func(_ *Policy, r *requirements) bool { return r.authorKeys != nil }, false, judgeAuthorKey},
		{"host-data", true, func(_ *Policy, r *requirements) bool { return r.hostData != nil }, false, judgeHostData},
		{"agent-build", true, func(_ *Policy, r *requirements) bool { return r.agentBuilds != nil }, false, judgeAgentBuild},
		{"image", true, func(_ *Policy, r *requirements) bool { return r.images != nil }, false, judgeImage},
		{"tenant", true, func(_ *Policy, r *requirements) bool { return r.tenants != nil }, false, judgeTenant},
		{"memory-limit", true, func(_ *Policy, r *requirements) bool { return r.memory != nil }, false, judgeMemoryLimit},
		{"clock-source", false, func(_ *Policy, r *requirements) bool { return r.clocks != nil }, true, judgeClockSource},
	}
}

// Check describes one check to people.
type Check struct {
	// Name is what a waiver calls it.
	Name string `json:"name"`
	// Waivable says whether a policy may leave it out.
	Waivable bool `json:"waivable"`
}

// Checks lists every check that there is, in order.
func Checks() []Check {
	var out []Check
	for _, c := range checks() {
		out = append(out, Check{c.name, c.waivable})
	}
	return out
}

func checkByName(name string) (int, bool) {
	all := checks()
	i := slices.IndexFunc(all[:], func(c check) bool { return c.name == name })
	return i, i >= 0
}

func knownProducts() []string { return []string{"Milan", "Genoa", "Turin"} }

func isKnownProduct(s string) bool { return slices.Contains(knownProducts(), s) }

func failure(r refusal.Reason, format string, args ...any) *Failure {
	return &Failure{r, fmt.Sprintf(format, args...)}
}

func judgeKind(_ *Policy, _ *requirements, in Input) *Failure {
	if in.Claims.Kind != evidence.KindSNP {
		return failure(ReasonKind, "%q; this version knows %s", in.Claims.Kind, evidence.KindSNP)
	}
	return nil
}

func judgeSoftwareTEE(p *Policy, _ *requirements, in Input) *Failure {
	if in.Claims.SoftwareTEE && !p.doc.AllowSoftwareTEE {
		return failure(ReasonSoftwareTEE, "the evidence is of the software TEE")
	}
	return nil
}

func judgeMeasurement(_ *Policy, r *requirements, in Input) *Failure {
	c := in.Claims
	if len(c.Measurement) == measurementBytes && !allZero(c.Measurement) {
		for _, product := range []string{"", string(c.Product)} {
			if _, ok := r.measurements[measurementKey(c.Measurement, c.SoftwareTEE, product)]; ok {
				return nil
			}
		}
	}
	return failure(ReasonMeasurement, "%s is not among %d reference values", c.Measurement, len(r.measurements))
}

func judgeProduct(_ *Policy, r *requirements, in Input) *Failure {
	if product := string(in.Claims.Product); !isKnownProduct(product) || !r.products[product] {
		return failure(ReasonProduct, "%q; allowed: %s", product, strings.Join(sortedKeys(r.products), ", "))
	}
	return nil
}

// judgeMilan refuses first-generation parts, whose report keys have been
// extracted in software, unless the policy says otherwise.
func judgeMilan(p *Policy, _ *requirements, in Input) *Failure {
	if string(in.Claims.Product) == "Milan" && !p.doc.AllowMilan {
		return failure(ReasonMilan, "report keys of this product line have been extracted; allow_milan is false")
	}
	return nil
}

func judgeDebug(_ *Policy, _ *requirements, in Input) *Failure {
	if in.Claims.Debug {
		return failure(ReasonDebug, "the host may read this guest's memory")
	}
	return nil
}

func judgeMigration(_ *Policy, _ *requirements, in Input) *Failure {
	if in.Claims.MigrateMA {
		return failure(ReasonMigration, "a migration agent may move this guest")
	}
	return nil
}

func judgeVMPL(_ *Policy, r *requirements, in Input) *Failure {
	if in.Claims.VMPL != *r.vmpl {
		return failure(ReasonVMPL, "the report is from VMPL %d, want %d", in.Claims.VMPL, *r.vmpl)
	}
	return nil
}

func (m MinimumTCB) reported() *TCB  { return m.Reported }
func (m MinimumTCB) committed() *TCB { return m.Committed }
func (m MinimumTCB) launch() *TCB    { return m.Launch }
func (m MinimumTCB) current() *TCB   { return m.Current }

func tcbCheck(name string, reason refusal.Reason, minimum func(MinimumTCB) *TCB, claimed func(evidence.Claims) evidence.TCB) check {
	configured := func(_ *Policy, r *requirements) bool {
		for _, m := range r.tcb {
			if minimum(m) != nil {
				return true
			}
		}
		return false
	}
	return check{name, true, configured, false, func(_ *Policy, r *requirements, in Input) *Failure {
		m, ok := r.tcb[string(in.Claims.Product)]
		if !ok || minimum(m) == nil {
			return failure(reason, "the policy has no minimum for product %q", in.Claims.Product)
		}
		if low := below(claimed(in.Claims), *minimum(m)); low != "" {
			return failure(reason, "%s", low)
		}
		return nil
	}}
}

// below names the components that are too low, or returns "". Each component
// counts alone: a high one does not make up for a low one.
func below(have evidence.TCB, want TCB) string {
	var low []string
	for _, c := range []struct {
		name       string
		have, want uint8
	}{
		{"fmc", have.FMC, want.FMC}, {"bootloader", have.BootLoader, want.Bootloader}, {"tee", have.TEE, want.TEE},
		{"snp", have.SNP, want.SNP}, {"microcode", have.Microcode, want.Microcode},
	} {
		if c.have < c.want {
			low = append(low, fmt.Sprintf("%s is %d, the minimum %d", c.name, c.have, c.want))
		}
	}
	return strings.Join(low, ", ")
}

func judgeVLEK(_ *Policy, r *requirements, in Input) *Failure {
	if in.Claims.VLEK && !r.vlek[in.Claims.CSPID] {
		return failure(ReasonVLEK, "the report is signed with the key of provider %q", in.Claims.CSPID)
	}
	return nil
}

// judgeChip refuses a masked or absent chip id where chips are enrolled: an
// all-zero id is every chip's id.
func judgeChip(_ *Policy, r *requirements, in Input) *Failure {
	id := in.Claims.ChipID
	if in.Claims.ChipMasked || len(id) == 0 || allZero(id) {
		return failure(ReasonChipMasked, "the report names no chip, but the policy enrols chips")
	}
	if !r.chips[string(id)] && !(len(id) == 64 && allZero(id[8:]) && r.chips[string(id[:8])]) {
		return failure(ReasonChip, "chip %s is not one of the %d enrolled ones", id, len(r.chips))
	}
	return nil
}

func judgePlatformInfo(_ *Policy, r *requirements, in Input) *Failure {
	if wrong := r.platform.check(uint64(in.Claims.PlatformInfo)); wrong != "" {
		return failure(ReasonPlatformInfo, "%s", wrong)
	}
	return nil
}

func judgePlatformBits(_ *Policy, _ *requirements, in Input) *Failure {
	if unknown := unknownBits(uint64(in.Claims.PlatformInfo), maskOf(platformBits())); unknown != "" {
		return failure(ReasonPlatformBits, "%s of PLATFORM_INFO", unknown)
	}
	return nil
}

func judgeGuestPolicy(_ *Policy, r *requirements, in Input) *Failure {
	if wrong := r.guestPolicy.check(uint64(in.Claims.PolicyBits)); wrong != "" {
		return failure(ReasonGuestPolicy, "%s", wrong)
	}
	return nil
}

func judgeGuestPolicyBits(_ *Policy, _ *requirements, in Input) *Failure {
	if unknown := unknownBits(uint64(in.Claims.PolicyBits), maskOf(guestPolicyBits())|guestPolicyFixed); unknown != "" {
		return failure(ReasonGuestPolicyBits, "%s of the guest policy", unknown)
	}
	return nil
}

func judgeIDKey(_ *Policy, r *requirements, in Input) *Failure {
	return member(ReasonIDKey, r.idKeys, in.Claims.IDKeyDigest)
}

func judgeAuthorKey(_ *Policy, r *requirements, in Input) *Failure {
	return member(ReasonAuthorKey, r.authorKeys, in.Claims.AuthorKeyDigest)
}

func judgeHostData(_ *Policy, r *requirements, in Input) *Failure {
	return member(ReasonHostData, r.hostData, in.Claims.HostData)
}

// member accepts a listed value. Zeros are never one: the parser refuses them.
func member(reason refusal.Reason, allowed map[string]bool, value []byte) *Failure {
	if !allowed[string(value)] || allZero(value) {
		return failure(reason, "%x is not among %d allowed", value, len(allowed))
	}
	return nil
}

func judgeAgentBuild(_ *Policy, r *requirements, in Input) *Failure {
	return stated(ReasonAgentBuild, r.agentBuilds, in.Guest.AgentBuild)
}

func judgeImage(_ *Policy, r *requirements, in Input) *Failure {
	return stated(ReasonImage, r.images, in.Guest.ImageID)
}

func judgeTenant(_ *Policy, r *requirements, in Input) *Failure {
	return stated(ReasonTenant, r.tenants, in.Guest.Tenant)
}

func stated(reason refusal.Reason, allowed map[string]bool, value string) *Failure {
	if value == "" || !allowed[value] {
		return failure(reason, "%q is not among %d allowed", value, len(allowed))
	}
	return nil
}

func judgeMemoryLimit(_ *Policy, r *requirements, in Input) *Failure {
	limit := in.Guest.MemoryLimit
	if limit < r.memory.MinMiB<<20 || limit > r.memory.MaxMiB<<20 {
		return failure(ReasonMemoryLimit, "%d bytes; allowed are %d to %d MiB", limit, r.memory.MinMiB, r.memory.MaxMiB)
	}
	return nil
}

// judgeClockSource refuses a clock that is not listed. A policy without a list
// accepts every clock: the broker's own clock decides about renewals anyway, and
// a list of none would lock out most kernels in use.
func judgeClockSource(_ *Policy, r *requirements, in Input) *Failure {
	if r.clocks == nil {
		return nil
	}
	if c := in.Guest.ClockSource; c == evidence.ClockUnknown || !r.clocks[c.String()] {
		return failure(ReasonClockSource, "the guest counts its lease on %q; allowed: %s", c, strings.Join(sortedKeys(r.clocks), ", "))
	}
	return nil
}
