package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

func knownProducts() []string { return []string{"Milan", "Genoa", "Turin"} }

func isKnownProduct(s string) bool { return slices.Contains(knownProducts(), s) }

func judgeProduct(_ *Policy, r *requirements, in Input) *Failure {
	if product := string(in.Claims.Platform); !isKnownProduct(product) || !r.snp.products[product] {
		return failure(ReasonProduct, "%q; allowed: %s", product, strings.Join(sortedKeys(r.snp.products), ", "))
	}
	return nil
}

// judgeMilan refuses first-generation parts, whose report keys have been
// extracted in software, unless the policy says otherwise.
func judgeMilan(p *Policy, _ *requirements, in Input) *Failure {
	if string(in.Claims.Platform) == "Milan" && !p.doc.AllowMilan {
		return failure(ReasonMilan, "report keys of this product line have been extracted; allow_milan is false")
	}
	return nil
}

func judgeVMPL(_ *Policy, r *requirements, in Input) *Failure {
	if in.Claims.SNP.VMPL != *r.snp.vmpl {
		return failure(ReasonVMPL, "the report is from VMPL %d, want %d", in.Claims.SNP.VMPL, *r.snp.vmpl)
	}
	return nil
}

func (m MinimumTCB) reported() *TCB { return m.Reported }

func (m MinimumTCB) committed() *TCB { return m.Committed }

func (m MinimumTCB) launch() *TCB { return m.Launch }

func (m MinimumTCB) current() *TCB { return m.Current }

func tcbCheck(name string, reason refusal.Reason, minimum func(MinimumTCB) *TCB, claimed func(evidence.TCBs) evidence.TCB) check {
	configured := func(_ *Policy, r *requirements) bool {
		for _, m := range r.snp.tcb {
			if minimum(m) != nil {
				return true
			}
		}
		return false
	}
	return check{name, ofSNP, true, configured, false, func(_ *Policy, r *requirements, in Input) *Failure {
		m, ok := r.snp.tcb[string(in.Claims.Platform)]
		if !ok || minimum(m) == nil {
			return failure(reason, "the policy has no minimum for product %q", in.Claims.Platform)
		}
		if low := below(claimed(in.Claims.SNP.TCB), *minimum(m)); low != "" {
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
	if in.Claims.SNP.VLEK && !r.snp.vlek[in.Claims.SNP.CSPID] {
		return failure(ReasonVLEK, "the report is signed with the key of provider %q", in.Claims.SNP.CSPID)
	}
	return nil
}

// judgeChip refuses a masked or absent chip id where chips are enrolled: an
// all-zero id is every chip's id.
func judgeChip(_ *Policy, r *requirements, in Input) *Failure {
	id := in.Claims.SNP.ChipID
	if in.Claims.SNP.ChipMasked || len(id) == 0 || allZero(id) {
		return failure(ReasonChipMasked, "the report names no chip, but the policy enrols chips")
	}
	if !r.snp.chips[string(id)] && !(len(id) == 64 && allZero(id[8:]) && r.snp.chips[string(id[:8])]) {
		return failure(ReasonChip, "chip %s is not one of the %d enrolled ones", id, len(r.snp.chips))
	}
	return nil
}

func judgePlatformInfo(_ *Policy, r *requirements, in Input) *Failure {
	// What a bit means is the product's; another's is not taken for it, even if it is set.
	if foreign := r.snp.platform.foreign(platformBitsOf(in.Claims.Platform)); foreign != "" {
		return failure(ReasonPlatformInfo, "%s does not exist on %s", foreign, in.Claims.Platform)
	}
	if wrong := r.snp.platform.check(uint64(in.Claims.SNP.PlatformInfo)); wrong != "" {
		return failure(ReasonPlatformInfo, "%s", wrong)
	}
	return nil
}

func judgePlatformBits(_ *Policy, _ *requirements, in Input) *Failure {
	if unknown := unknownBits(uint64(in.Claims.SNP.PlatformInfo), maskOf(platformBitsOf(in.Claims.Platform))); unknown != "" {
		return failure(ReasonPlatformBits, "%s of PLATFORM_INFO on %s", unknown, in.Claims.Platform)
	}
	return nil
}

func judgeGuestPolicy(_ *Policy, r *requirements, in Input) *Failure {
	if wrong := r.snp.guestPolicy.check(uint64(in.Claims.SNP.PolicyBits)); wrong != "" {
		return failure(ReasonGuestPolicy, "%s", wrong)
	}
	return nil
}

func judgeGuestPolicyBits(_ *Policy, _ *requirements, in Input) *Failure {
	if unknown := unknownBits(uint64(in.Claims.SNP.PolicyBits), maskOf(guestPolicyBits())|guestPolicyFixed); unknown != "" {
		return failure(ReasonGuestPolicyBits, "%s of the guest policy", unknown)
	}
	return nil
}

func judgeIDKey(_ *Policy, r *requirements, in Input) *Failure {
	return member(ReasonIDKey, r.snp.idKeys, in.Claims.SNP.IDKeyDigest)
}

func judgeAuthorKey(_ *Policy, r *requirements, in Input) *Failure {
	return member(ReasonAuthorKey, r.snp.authorKeys, in.Claims.SNP.AuthorKeyDigest)
}

func judgeHostData(_ *Policy, r *requirements, in Input) *Failure {
	return member(ReasonHostData, r.snp.hostData, in.Claims.SNP.HostData)
}

// judgeFirmware compares both versions of the firmware: the committed one is what the platform
// could be rolled back to.
func judgeFirmware(_ *Policy, r *requirements, in Input) *Failure {
	for _, v := range []struct{ name, text string }{{"current", in.Claims.SNP.CurrentVersion}, {"committed", in.Claims.SNP.CommittedVersion}} {
		have, err := parseFirmware(v.text)
		if err != nil || slices.Compare(have, r.snp.firmware) < 0 {
			return failure(ReasonFirmware, "the %s firmware is %q, the minimum %s", v.name, v.text, firmwareText(r.snp.firmware))
		}
	}
	return nil
}

// parseFirmware reads major.minor.build.
func parseFirmware(s string) ([]uint64, error) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("got %q, want major.minor.build", s)
	}
	out := make([]uint64, len(parts))
	for i, p := range parts {
		var err error
		if out[i], err = strconv.ParseUint(p, 10, 8); err != nil {
			return nil, fmt.Errorf("got %q, want major.minor.build, each at most 255", s)
		}
	}
	return out, nil
}

func firmwareText(v []uint64) string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

func judgeReportVersion(_ *Policy, r *requirements, in Input) *Failure {
	if in.Claims.SNP.ReportVersion < r.snp.reportVersion {
		return failure(ReasonReportVersion, "the report is of version %d, the minimum %d", in.Claims.SNP.ReportVersion, r.snp.reportVersion)
	}
	return nil
}

func judgeMitigations(_ *Policy, r *requirements, in Input) *Failure {
	s := in.Claims.SNP
	if missing := r.snp.mitigations &^ (s.LaunchMitigations & s.CurrentMitigations); missing != 0 {
		return failure(ReasonMitigations, "%s of the mitigation vectors is not set at launch and now", unknownBits(missing, 0))
	}
	return nil
}

func judgeGuestSVN(_ *Policy, r *requirements, in Input) *Failure {
	if in.Claims.SNP.GuestSVN < r.snp.guestSVN {
		return failure(ReasonGuestSVN, "it is %d, the minimum %d", in.Claims.SNP.GuestSVN, r.snp.guestSVN)
	}
	return nil
}

func judgeFamilyID(_ *Policy, r *requirements, in Input) *Failure {
	return member(ReasonFamilyID, r.snp.families, in.Claims.SNP.FamilyID)
}

func judgeBlockImageID(_ *Policy, r *requirements, in Input) *Failure {
	return member(ReasonBlockImageID, r.snp.blockImages, in.Claims.SNP.ImageID)
}
