package policy

import (
	"fmt"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// tdxRequirements is a checked RequireTDX.
type tdxRequirements struct {
	statuses     map[string]bool
	grace        *tcbGrace
	advisories   map[string]bool
	evaluation   uint32
	attributes   *bitRule
	xfam         uint64 // features that a guest may use; 0 asks for nothing
	modules      map[string]bool
	signers      map[string]bool
	services     map[string]bool
	configIDs    map[string]bool
	owners       map[string]bool
	ownerConfigs map[string]bool
	fmspcs       map[string]bool
}

// tcbGrace is a checked TCBGrace.
type tcbGrace struct {
	status evidence.TCBStatus
	until  time.Time
	reason string
}

// String is how decisions name it.
func (g *tcbGrace) String() string {
	return fmt.Sprintf("tdx-tcb: %s until %s: %s", g.status, g.until.UTC().Format(time.RFC3339), g.reason)
}

// used reports whether the status is accepted by the grace alone.
func (g *tcbGrace) used(statuses map[string]bool, in Input) bool {
	return in.Claims.TDX != nil && in.Claims.TDX.TCB.Status == g.status && !statuses[string(g.status)] && in.Now.Before(g.until)
}

// tdAttributeBits names the bits of TDATTRIBUTES that a policy may ask for (Intel TDX Module ABI,
// ATTRIBUTES). Those of tdAttributesFixed have checks of their own.
func tdAttributeBits() map[string]uint {
	return map[string]uint{"lass": 27, "pks": 30, "kl": 31, "perfmon": 63, "tpa": 62}
}

const tdAttributesFixed = evidence.TDAttributeDebug | evidence.TDAttributeSEPTVEDisable | evidence.TDAttributeMigratable

// xfamBits are the bits of XFAM by feature (Intel SDM, XCR0 and IA32_XSS).
func xfamBits() map[string]uint64 {
	return map[string]uint64{
		"x87": 1 << 0, "sse": 1 << 1, "avx": 1 << 2, "avx-512": 7 << 5, "pt": 1 << 8, "pkru": 1 << 9, "cet": 3 << 11,
		"uintr": 1 << 14, "lbr": 1 << 15, "amx": 3 << 17,
	}
}

// judgeTDXTCB accepts the listed statuses. A revoked platform, one that matches no level,
// and a word that this version does not know are never accepted.
func judgeTDXTCB(_ *Policy, r *requirements, in Input) *Failure {
	tcb := in.Claims.TDX.TCB
	detail := fmt.Sprintf("%s (platform %s, module %s, quoting enclave %s)", tcb.Status, tcb.Platform, tcb.Module, tcb.QE)
	switch {
	case tcb.Status == evidence.TCBUnmatched:
		return failure(ReasonTDXUnmatched, "%s: Intel lists no level that this platform reaches", detail)
	case tcb.Status == evidence.TCBRevoked:
		return failure(ReasonTDXRevoked, "%s", detail)
	case !tcb.Status.Known():
		return failure(ReasonTDXTCB, "%s: unknown to this version", detail)
	case r.tdx.statuses[string(tcb.Status)], r.tdx.grace != nil && r.tdx.grace.used(r.tdx.statuses, in):
		return nil
	}
	return failure(ReasonTDXTCB, "%s; accepted: %s", detail, strings.Join(sortedKeys(r.tdx.statuses), ", "))
}

func judgeTDXAdvisories(_ *Policy, r *requirements, in Input) *Failure {
	var open []string
	for _, a := range in.Claims.TDX.TCB.Advisories {
		if !r.tdx.advisories[a] {
			open = append(open, a)
		}
	}
	if len(open) > 0 {
		return failure(ReasonTDXAdvisory, "%s", strings.Join(open, ", "))
	}
	return nil
}

func judgeTDXEvaluation(_ *Policy, r *requirements, in Input) *Failure {
	if n := in.Claims.TDX.TCB.EvaluationNumber; n < r.tdx.evaluation {
		return failure(ReasonTDXEvaluation, "Intel's documents have number %d, the minimum is %d", n, r.tdx.evaluation)
	}
	return nil
}

// judgeTDXSEPTVE refuses guests in which the host can inject #VE by removing a page.
func judgeTDXSEPTVE(_ *Policy, _ *requirements, in Input) *Failure {
	if in.Claims.TDX.TDAttributes&evidence.TDAttributeSEPTVEDisable == 0 {
		return failure(ReasonTDXSEPTVE, "SEPT_VE_DISABLE is not set")
	}
	return nil
}

func judgeTDXAttributes(_ *Policy, r *requirements, in Input) *Failure {
	if wrong := r.tdx.attributes.check(in.Claims.TDX.TDAttributes); wrong != "" {
		return failure(ReasonTDXAttributes, "%s", wrong)
	}
	return nil
}

func judgeTDXAttributeBits(_ *Policy, _ *requirements, in Input) *Failure {
	if unknown := unknownBits(in.Claims.TDX.TDAttributes, maskOf(tdAttributeBits())|tdAttributesFixed); unknown != "" {
		return failure(ReasonTDXUnknownBits, "%s of TDATTRIBUTES", unknown)
	}
	return nil
}

func judgeTDXXFAM(_ *Policy, r *requirements, in Input) *Failure {
	if other := unknownBits(in.Claims.TDX.XFAM, r.tdx.xfam); other != "" {
		return failure(ReasonTDXXFAM, "%s of XFAM, a feature that the policy does not list", other)
	}
	return nil
}

func judgeTDXModule(_ *Policy, r *requirements, in Input) *Failure {
	return member(ReasonTDXModule, r.tdx.modules, in.Claims.TDX.MRSEAM)
}

// judgeTDXModuleSigner accepts Intel, whose value is zeros, and signers that are listed.
func judgeTDXModuleSigner(_ *Policy, r *requirements, in Input) *Failure {
	c := in.Claims.TDX
	if c.SEAMAttributes != 0 {
		return failure(ReasonTDXModuleOwner, "the module has attributes %#x", c.SEAMAttributes)
	}
	return zeroOr(ReasonTDXModuleOwner, r.tdx.signers, c.MRSignerSEAM)
}

// judgeTDXServiceTD refuses guests to which a service domain is bound, or was at first, but listed ones: it may
// have given the guest's memory to whom it liked. TDX 1.0 has none.
func judgeTDXServiceTD(_ *Policy, r *requirements, in Input) *Failure {
	c := in.Claims.TDX
	bound := []evidence.Hex{c.MRServiceTD}
	if c.Extended != nil {
		bound = append(bound, c.Extended.InitialServiceTD, c.Extended.CurrentServiceTD)
	}
	for _, value := range bound {
		if f := zeroOr(ReasonTDXServiceTD, r.tdx.services, value); f != nil {
			return f
		}
	}
	return nil
}

// judgeTDXPartition refuses what a partition asked for. The measurements are those of the whole domain, of which the
// first partition, 0, governs the others, as VMPL 0 does.
func judgeTDXPartition(_ *Policy, _ *requirements, in Input) *Failure {
	if e := in.Claims.TDX.Extended; e != nil && e.VMID != 0 {
		return failure(ReasonTDXPartition, "the quote is of partition %d, want 0", e.VMID)
	}
	return nil
}

// zeroOr accepts zeros, and nothing else unless it is listed.
func zeroOr(reason refusal.Reason, allowed map[string]bool, value []byte) *Failure {
	if allZero(value) {
		return nil
	}
	return member(reason, allowed, value)
}

func judgeTDXConfigID(_ *Policy, r *requirements, in Input) *Failure {
	return member(ReasonTDXConfigID, r.tdx.configIDs, in.Claims.TDX.MRConfigID)
}

func judgeTDXOwner(_ *Policy, r *requirements, in Input) *Failure {
	return member(ReasonTDXOwner, r.tdx.owners, in.Claims.TDX.MROwner)
}

func judgeTDXOwnerConfig(_ *Policy, r *requirements, in Input) *Failure {
	return member(ReasonTDXOwnerConfig, r.tdx.ownerConfigs, in.Claims.TDX.MROwnerConfig)
}

func judgeTDXPlatform(_ *Policy, r *requirements, in Input) *Failure {
	return member(ReasonTDXPlatform, r.tdx.fmspcs, in.Claims.TDX.FMSPC)
}

func compileTDX(r *RequireTDX) (out tdxRequirements, err error) {
	if r == nil {
		return out, nil
	}
	if out.statuses, err = tcbStatuses(r.TCBStatuses); err != nil {
		return out, err
	}
	if out.grace, err = compileGrace(r.Grace); err != nil {
		return out, err
	}
	if out.advisories, err = compileAdvisories(r.AcceptedAdvisories); err != nil {
		return out, err
	}
	out.evaluation = r.MinimumEvaluationNumber
	if out.attributes, err = compileBits(r.Attributes, tdAttributeBits(), "tdx.attributes"); err != nil {
		return out, err
	}
	if r.XFAM != nil && len(r.XFAM) == 0 {
		return out, invalid("tdx.xfam: got an empty list")
	}
	for _, name := range r.XFAM {
		bits, ok := xfamBits()[name]
		if !ok {
			return out, invalid("tdx.xfam: %q is unknown (known: %s)", name, strings.Join(sortedKeys(xfamBits()), ", "))
		}
		out.xfam |= bits
	}
	return out, sets([]listed{
		{&out.modules, r.MRSEAM, 48, "tdx.mr_seams"},
		{&out.signers, r.ModuleSigners, 48, "tdx.mr_signer_seams"},
		{&out.services, r.ServiceTDs, 48, "tdx.mr_service_tds"},
		{&out.configIDs, r.ConfigIDs, 48, "tdx.mr_config_ids"},
		{&out.owners, r.Owners, 48, "tdx.mr_owners"},
		{&out.ownerConfigs, r.OwnerConfigs, 48, "tdx.mr_owner_configs"},
		{&out.fmspcs, r.FMSPCs, 6, "tdx.fmspcs"},
	})
}

// tcbStatuses checks a list of statuses that may be accepted.
func tcbStatuses(list []string) (map[string]bool, error) {
	out, err := set(list, 0, "tdx.tcb_statuses")
	for s := range out {
		if status := evidence.TCBStatus(s); !status.Known() || status == evidence.TCBRevoked || status == evidence.TCBUnmatched {
			return nil, invalid("tdx.tcb_statuses: %q is not a status that can be accepted", s)
		}
	}
	return out, err
}

func compileGrace(g *TCBGrace) (*tcbGrace, error) {
	if g == nil {
		return nil, nil
	}
	if _, err := tcbStatuses([]string{g.Status}); err != nil {
		return nil, invalid("tdx.tcb_grace: %q is not a status that can be accepted", g.Status)
	}
	until, err := time.Parse(time.RFC3339, g.Until)
	if err != nil {
		return nil, invalid(wantTime, "tdx.tcb_grace.until", g.Until)
	}
	if strings.TrimSpace(g.Reason) == "" || len(g.Reason) > maxTextBytes {
		return nil, invalid("tdx.tcb_grace: want a reason of 1 to %d bytes", maxTextBytes)
	}
	return &tcbGrace{evidence.TCBStatus(g.Status), until, g.Reason}, nil
}

// compileAdvisories makes a set of a list that may be empty: then none is accepted.
func compileAdvisories(list *[]string) (map[string]bool, error) {
	switch {
	case list == nil:
		return nil, nil
	case len(*list) == 0:
		return map[string]bool{}, nil
	}
	return set(*list, 0, "tdx.accepted_advisories")
}

// describeTDX says what a check of TDX asks for.
func describeTDX(id int, r *requirements) string {
	switch id {
	case checkTDXTCB:
		text := strings.Join(sortedKeys(r.tdx.statuses), ", ")
		if r.tdx.grace != nil {
			text += "; " + strings.TrimPrefix(r.tdx.grace.String(), "tdx-tcb: ")
		}
		return text
	case checkTDXAdvisories:
		if len(r.tdx.advisories) == 0 {
			return "no advisory may apply"
		}
		return "no advisory but " + strings.Join(sortedKeys(r.tdx.advisories), ", ")
	case checkTDXEvaluation:
		return fmt.Sprintf("at least %d", r.tdx.evaluation)
	case checkTDXSEPTVE:
		return "SEPT_VE_DISABLE is set"
	case checkTDXAttributes:
		return r.tdx.attributes.String()
	case checkTDXAttributeBits:
		return "no bit that this version does not know"
	case checkTDXXFAM:
		var names []string
		for _, name := range sortedKeys(xfamBits()) {
			if r.tdx.xfam&xfamBits()[name] != 0 {
				names = append(names, name)
			}
		}
		return "at most " + strings.Join(names, ", ")
	case checkTDXModuleSigner:
		return describeZeroOr(r.tdx.signers, "Intel's TDX module")
	case checkTDXPartition:
		return "the domain itself, no partition of it"
	case checkTDXServiceTD:
		return describeZeroOr(r.tdx.services, "no service domain")
	}
	sizes := map[int]map[string]bool{checkTDXModule: r.tdx.modules, checkTDXConfigID: r.tdx.configIDs, checkTDXOwner: r.tdx.owners,
		checkTDXOwnerConfig: r.tdx.ownerConfigs, checkTDXPlatform: r.tdx.fmspcs}
	return fmt.Sprintf("one of %d values", len(sizes[id]))
}

func describeZeroOr(listed map[string]bool, none string) string {
	if listed == nil {
		return none
	}
	return fmt.Sprintf("%s, or one of %d values", none, len(listed))
}
