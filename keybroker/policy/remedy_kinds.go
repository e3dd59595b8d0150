package policy

import (
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

func (d *draft) mendSNP(id int, s Step, r *Require, path string) {
	c := d.in.Claims.SNP
	if r.SNP == nil {
		r.SNP = &RequireSNP{}
	}
	q, path := r.SNP, path+".sev_snp"
	switch id {
	case checkProduct:
		d.add(s, &q.Products, path+".products", string(d.in.Claims.Platform))
	case checkMilan:
		d.doc.AllowMilan = true
		d.change(s.Check, "allow_milan: true; report keys of that line have been extracted")
	case checkVMPL:
		d.change(s.Check, "%s.vmpl: %d, at present %d", path, c.VMPL, *q.VMPL)
		q.VMPL = &c.VMPL
	case checkTCBReported, checkTCBCommitted, checkTCBLaunch, checkTCBCurrent:
		d.mendTCB(id, s, q, path)
	case checkFirmware:
		d.mendFirmware(s, q, path)
	case checkReportVersion:
		d.change(s.Check, "%s.minimum_report_version: %d, at present %d", path, c.ReportVersion, q.MinimumReportVersion)
		q.MinimumReportVersion = c.ReportVersion
	case checkMitigations:
		both := c.LaunchMitigations & c.CurrentMitigations
		q.Mitigations = slices.DeleteFunc(slices.Clone(q.Mitigations), func(bit uint) bool { return both&(1<<bit) == 0 })
		if len(q.Mitigations) == 0 {
			d.drop(s, func() { q.Mitigations = nil }, path+".mitigations")
			return
		}
		d.change(s.Check, "%s.mitigations: %v alone", path, q.Mitigations)
	case checkVLEK:
		d.add(s, &q.VLEKProviders, path+".vlek_providers", c.CSPID)
	case checkPlatformInfo:
		d.mendBits(s, &q.PlatformInfo, path+".platform_info", uint64(c.PlatformInfo), platformBitsOf(d.in.Claims.Platform))
	case checkGuestPolicy:
		d.mendBits(s, &q.GuestPolicy, path+".guest_policy", uint64(c.PolicyBits), guestPolicyBits())
	case checkGuestSVN:
		if c.GuestSVN == 0 {
			d.drop(s, func() { q.MinimumGuestSVN = 0 }, path+".minimum_guest_svn")
			return
		}
		d.change(s.Check, "%s.minimum_guest_svn: %d, at present %d", path, c.GuestSVN, q.MinimumGuestSVN)
		q.MinimumGuestSVN = c.GuestSVN
	case checkPlatformBits, checkGuestPolicyBits:
		d.drop(s, func() {}, "nothing")
	default:
		d.mendSNPValue(id, s, q, path)
	}
}

// mendSNPValue accepts one more value of those that a report has for its owner.
func (d *draft) mendSNPValue(id int, s Step, q *RequireSNP, path string) {
	c := d.in.Claims.SNP
	for _, l := range []struct {
		id    int
		list  *[]string
		name  string
		value evidence.Hex
	}{
		{checkChipIDs, &q.ChipIDs, "chip_ids", c.ChipID}, {checkIDKey, &q.IDKeyDigests, "id_key_digests", c.IDKeyDigest},
		{checkAuthorKey, &q.AuthorKeyDigests, "author_key_digests", c.AuthorKeyDigest}, {checkFamilyID, &q.FamilyIDs, "family_ids", c.FamilyID},
		{checkBlockImageID, &q.BlockImageIDs, "id_block_image_ids", c.ImageID}, {checkHostData, &q.HostData, "host_data", c.HostData},
	} {
		if l.id == id {
			d.addBytes(s, l.list, path+"."+l.name, l.value)
		}
	}
}

// mendTCB lowers those components of one minimum that the platform does not reach.
func (d *draft) mendTCB(id int, s Step, q *RequireSNP, path string) {
	product, claimed := string(d.in.Claims.Platform), d.in.Claims.SNP.TCB
	i := slices.IndexFunc(q.MinimumTCB, func(m MinimumTCB) bool { return m.Product == product })
	if i < 0 {
		q.MinimumTCB = append(q.MinimumTCB, MinimumTCB{Product: product})
		i = len(q.MinimumTCB) - 1
	}
	m := &q.MinimumTCB[i]
	field := map[int]**TCB{checkTCBReported: &m.Reported, checkTCBCommitted: &m.Committed, checkTCBLaunch: &m.Launch, checkTCBCurrent: &m.Current}[id]
	have := map[int]evidence.TCB{checkTCBReported: claimed.Reported, checkTCBCommitted: claimed.Committed, checkTCBLaunch: claimed.Launch, checkTCBCurrent: claimed.Current}[id]
	name := map[int]string{checkTCBReported: "reported", checkTCBCommitted: "committed", checkTCBLaunch: "launch", checkTCBCurrent: "current"}[id]
	low := TCB{have.FMC, have.BootLoader, have.TEE, have.SNP, have.Microcode}
	if now := cmpOr(*field, m.All); now != nil {
		low = TCB{min(low.FMC, now.FMC), min(low.Bootloader, now.Bootloader), min(low.TEE, now.TEE), min(low.SNP, now.SNP), min(low.Microcode, now.Microcode)}
	}
	*field = &low
	d.change(s.Check, "%s.minimum_tcb, product %s: %s: {fmc: %d, bootloader: %d, tee: %d, snp: %d, microcode: %d}", path, product, name, low.FMC, low.Bootloader, low.TEE, low.SNP, low.Microcode)
}

func cmpOr(a, b *TCB) *TCB {
	if a != nil {
		return a
	}
	return b
}

// mendFirmware lowers the minimum to the lower of the two versions that a report has.
func (d *draft) mendFirmware(s Step, q *RequireSNP, path string) {
	c := d.in.Claims.SNP
	low, lowText := []uint64(nil), ""
	for _, text := range []string{c.CurrentVersion, c.CommittedVersion} {
		v, err := parseFirmware(text)
		if err != nil {
			d.drop(s, func() { q.MinimumFirmware = "" }, path+".minimum_firmware")
			return
		}
		if low == nil || slices.Compare(v, low) < 0 {
			low, lowText = v, text
		}
	}
	d.change(s.Check, "%s.minimum_firmware: %q, at present %q", path, lowText, q.MinimumFirmware)
	q.MinimumFirmware = lowText
}

// mendBits takes away those of the bits that are not as they must be.
func (d *draft) mendBits(s Step, bits **Bits, path string, value uint64, names map[string]uint) {
	is := func(name string, set bool) bool {
		bit, known := names[name]
		return known && (value&(1<<bit) != 0) == set
	}
	var kept Bits
	var gone []string
	for _, name := range (*bits).Set {
		if is(name, true) {
			kept.Set = append(kept.Set, name)
		} else {
			gone = append(gone, "set "+name)
		}
	}
	for _, name := range (*bits).Clear {
		if is(name, false) {
			kept.Clear = append(kept.Clear, name)
		} else {
			gone = append(gone, "clear "+name)
		}
	}
	if len(kept.Set)+len(kept.Clear) == 0 {
		d.drop(s, func() { *bits = nil }, path)
		return
	}
	*bits = &kept
	d.change(s.Check, "%s: take away %s", path, short(gone))
}

func (d *draft) mendTDX(id int, s Step, r *Require, path string) {
	c := d.in.Claims.TDX
	if r.TDX == nil {
		r.TDX = &RequireTDX{}
	}
	q, path := r.TDX, path+".tdx"
	switch id {
	case checkTDXTCB:
		if _, err := tcbStatuses([]string{string(c.TCB.Status)}); err != nil {
			d.beyond(s.Check, s.Detail)
			return
		}
		d.add(s, &q.TCBStatuses, path+".tcb_statuses", string(c.TCB.Status))
	case checkTDXAdvisories:
		list := slices.Clone(*q.AcceptedAdvisories)
		for _, a := range c.TCB.Advisories {
			if !slices.Contains(list, a) {
				list = append(list, a)
				d.change(s.Check, "%s.accepted_advisories: add %s", path, a)
			}
		}
		q.AcceptedAdvisories = &list
	case checkTDXEvaluation:
		if c.TCB.EvaluationNumber == 0 {
			d.drop(s, func() { q.MinimumEvaluationNumber = 0 }, path+".minimum_evaluation_number")
			return
		}
		d.change(s.Check, "%s.minimum_evaluation_number: %d, at present %d", path, c.TCB.EvaluationNumber, q.MinimumEvaluationNumber)
		q.MinimumEvaluationNumber = c.TCB.EvaluationNumber
	case checkTDXAttributes:
		d.mendBits(s, &q.Attributes, path+".attributes", c.TDAttributes, tdAttributeBits())
	case checkTDXXFAM:
		for _, name := range sortedKeys(xfamBits()) {
			if c.XFAM&xfamBits()[name] != 0 && !slices.Contains(q.XFAM, name) {
				d.add(s, &q.XFAM, path+".xfam", name)
			}
		}
	case checkTDXSEPTVE, checkTDXAttributeBits:
		d.drop(s, func() {}, "nothing")
	case checkTDXPartition:
		d.beyond(s.Check, s.Detail)
	default:
		d.mendTDXValue(id, s, q, path)
	}
}

// mendTDXValue accepts one more value of those that a quote has.
func (d *draft) mendTDXValue(id int, s Step, q *RequireTDX, path string) {
	c := d.in.Claims.TDX
	for _, l := range []struct {
		id    int
		list  *[]string
		name  string
		value evidence.Hex
	}{
		{checkTDXModule, &q.MRSEAM, "mr_seams", c.MRSEAM}, {checkTDXModuleSigner, &q.ModuleSigners, "mr_signer_seams", c.MRSignerSEAM},
		{checkTDXServiceTD, &q.ServiceTDs, "mr_service_tds", c.MRServiceTD}, {checkTDXConfigID, &q.ConfigIDs, "mr_config_ids", c.MRConfigID},
		{checkTDXOwner, &q.Owners, "mr_owners", c.MROwner}, {checkTDXOwnerConfig, &q.OwnerConfigs, "mr_owner_configs", c.MROwnerConfig},
		{checkTDXPlatform, &q.FMSPCs, "fmspcs", c.FMSPC},
	} {
		if l.id == id {
			d.addBytes(s, l.list, path+"."+l.name, l.value)
		}
	}
}

func (d *draft) mendTPM(id int, s Step, r *Require, path string) {
	c := d.in.Claims
	switch id {
	case checkTPMKey:
		if r.TPM == nil {
			r.TPM = &RequireTPM{}
		}
		d.add(s, &r.TPM.AKTrust, path+".tpm.ak_trust", string(c.TPM.AKTrust))
	case checkTPMPCRs:
		for _, n := range r.TPM.PCRs {
			if c.TPM.PCRs[n] == nil {
				d.change(s.Check, "%s.tpm.pcrs: take away %d", path, n)
			}
		}
		r.TPM.PCRs = slices.DeleteFunc(slices.Clone(r.TPM.PCRs), func(n int) bool { return c.TPM.PCRs[n] == nil })
	case checkAzure:
		d.drop(s, func() { r.Azure = nil }, path+".azure")
	case checkEventLog, checkTPMEventLog:
		d.mendEventLog(s, r, path)
	default:
		d.beyond(s.Check, s.Detail)
	}
}

// mendEventLog accepts what the log says, as far as there is one.
func (d *draft) mendEventLog(s Step, r *Require, path string) {
	c := d.in.Claims.EventLog
	if s.Check == checks()[checkTPMEventLog].name {
		c = d.in.Claims.TPMEventLog
	}
	if c == nil || r.EventLog == nil {
		d.drop(s, func() { r.EventLog = nil }, path+".event_log")
		return
	}
	q := *r.EventLog
	before := len(d.out.Changes)
	if q.SecureBoot != nil && (c.SecureBoot == nil || *c.SecureBoot != *q.SecureBoot) {
		d.change(s.Check, "%s.event_log.secure_boot: take it away, at present %t", path, *q.SecureBoot)
		q.SecureBoot = nil
	}
	if q.Boot != nil {
		q.Boot = slices.Clone(q.Boot)
		for _, e := range c.Boot {
			if text := hex.EncodeToString(e.Digest); !slices.Contains(q.Boot, text) {
				q.Boot = append(q.Boot, text)
				d.change(s.Check, "%s.event_log.boot: add %s (%s into %s)", path, text, e.Type, e.Register)
			}
		}
	}
	if len(d.out.Changes) == before {
		d.drop(s, func() { r.EventLog = nil }, fmt.Sprintf("%s.event_log", path))
		return
	}
	r.EventLog = &q
}
