package policy

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/systemd/config"
)

// tdxFull configures every check of trust domains, and says no word about SEV-SNP.
func tdxFull() string {
	return fmt.Sprintf(`
format: 2
id: domains
version: 1
not_before: "2026-01-01T00:00:00Z"
not_after: "2027-01-01T00:00:00Z"
attestation_ttl_seconds: 300
require:
  kinds: [tdx]
  reference_values: [images/*]
  agent_builds: [build-1]
  image_ids: [image-1]
  tenants: [tenant-1]
  memory_limit: {min_mib: 48, max_mib: 1024}
  tdx:
    tcb_statuses: [UpToDate, SWHardeningNeeded]
    tcb_grace: {status: OutOfDate, until: "2026-07-01T00:00:00Z", reason: the hosts are updated in June}
    accepted_advisories: [INTEL-SA-00001]
    minimum_evaluation_number: 17
    attributes: {set: [pks], clear: [perfmon]}
    xfam: [x87, sse, avx, amx]
    mr_seams: [%s]
    mr_config_ids: [%s]
    mr_owners: [%s]
    mr_owner_configs: [%s]
    fmspcs: [%s]
  event_log: {registers: [rtmr1, rtmr2], secure_boot: true, boot: [%s]}
rules: [{resources: [models/*]}]
`, hexOf(1, 48), hexOf(2, 48), hexOf(3, 48), hexOf(4, 48), `"`+hexOf(5, 6)+`"`, hexOf(6, 48))
}

func tdxValues() []ReferenceValue {
	return []ReferenceValue{
		{ID: "images/one", Kind: "tdx", Registers: map[string]string{"mrtd": hexOf(7, 48), "rtmr1": hexOf(8, 48)}, Covers: "image"},
		{ID: "images/two", Kind: "tdx", Registers: map[string]string{"mrtd": hexOf(17, 48), "rtmr1": hexOf(8, 48), "rtmr3": hexOf(0, 48)}},
	}
}

func tdxParse(t testing.TB, source string) *Policy {
	t.Helper()
	p, err := Parse([]byte(source))
	if err != nil {
		t.Fatal(err)
	}
	if p, err = p.WithReferenceValues(tdxValues()); err != nil {
		t.Fatal(err)
	}
	return p
}

func yes() *bool { b := true; return &b }

// tdxGood passes every check of tdxFull.
func tdxGood() Input {
	b := func(v byte) []byte { return bytes.Repeat([]byte{v}, 48) }
	in := good()
	in.Now = time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
	in.Claims = evidence.Claims{
		Format: evidence.ClaimsFormat, Kind: evidence.KindTDX, Platform: "TDX",
		Registers: []evidence.Measured{
			{Register: evidence.Register{Name: "mrtd", Value: b(7)}, Covers: evidence.CoversFirmware},
			{Register: evidence.Register{Name: "rtmr0", Value: b(9)}, Covers: evidence.CoversFirmware},
			{Register: evidence.Register{Name: "rtmr1", Value: b(8)}, Covers: evidence.CoversImage},
		},
		TDX: &evidence.TDXClaims{
			FMSPC: bytes.Repeat([]byte{5}, 6), TDAttributes: evidence.TDAttributeSEPTVEDisable | evidence.TDAttributePKS, XFAM: 0x60007,
			MRSEAM: b(1), MRSignerSEAM: b(0), MRServiceTD: b(0), MRConfigID: b(2), MROwner: b(3), MROwnerConfig: b(4),
			TCB: evidence.TDXTCB{Status: evidence.TCBUpToDate, EvaluationNumber: 17, Advisories: []string{"INTEL-SA-00001"}},
		},
		EventLog: &evidence.EventLogClaims{Registers: []string{"rtmr0", "rtmr1", "rtmr2"}, SecureBoot: yes(), Boot: []evidence.BootEvent{{Digest: b(6)}}},
	}
	return in
}

// TestEachCheckOfTDXAloneRefuses changes one thing at a time.
func TestEachCheckOfTDXAloneRefuses(t *testing.T) {
	p := tdxParse(t, tdxFull())
	if d := Decide(p, tdxGood()); !d.Allowed {
		t.Fatalf("%+v", d)
	}
	six := bytes.Repeat([]byte{6}, 48)
	for name, c := range map[string]struct {
		reason refusal.Reason
		change func(*evidence.Claims)
	}{
		"register of the image":    {ReasonMeasurement, func(c *evidence.Claims) { c.Registers[2].Value = six }},
		"register of the firmware": {ReasonMeasurement, func(c *evidence.Claims) { c.Registers[0].Value = six }},
		"a register is absent":     {ReasonMeasurement, func(c *evidence.Claims) { c.Registers = c.Registers[1:] }},
		"debug":                    {ReasonDebug, func(c *evidence.Claims) { c.Debug = true }},
		"migration":                {ReasonMigration, func(c *evidence.Claims) { c.Migratable = true }},
		"status":                   {ReasonTDXTCB, func(c *evidence.Claims) { c.TDX.TCB.Status = evidence.TCBConfigurationNeeded }},
		"grace is over":            {ReasonTDXTCB, func(c *evidence.Claims) { c.TDX.TCB.Status = evidence.TCBOutOfDate }},
		"unknown status":           {ReasonTDXTCB, func(c *evidence.Claims) { c.TDX.TCB.Status = "Fine" }},
		"no status":                {ReasonTDXTCB, func(c *evidence.Claims) { c.TDX.TCB.Status = "" }},
		"revoked":                  {ReasonTDXRevoked, func(c *evidence.Claims) { c.TDX.TCB.Status = evidence.TCBRevoked }},
		"no level":                 {ReasonTDXUnmatched, func(c *evidence.Claims) { c.TDX.TCB.Status = evidence.TCBUnmatched }},
		"advisory":                 {ReasonTDXAdvisory, func(c *evidence.Claims) { c.TDX.TCB.Advisories = []string{"INTEL-SA-00002"} }},
		"evaluation":               {ReasonTDXEvaluation, func(c *evidence.Claims) { c.TDX.TCB.EvaluationNumber = 16 }},
		"sept ve":                  {ReasonTDXSEPTVE, func(c *evidence.Claims) { c.TDX.TDAttributes &^= evidence.TDAttributeSEPTVEDisable }},
		"attribute":                {ReasonTDXAttributes, func(c *evidence.Claims) { c.TDX.TDAttributes |= evidence.TDAttributePerfmon }},
		"attribute bit":            {ReasonTDXUnknownBits, func(c *evidence.Claims) { c.TDX.TDAttributes |= 1 << 40 }},
		"xfam":                     {ReasonTDXXFAM, func(c *evidence.Claims) { c.TDX.XFAM |= 1 << 9 }},
		"module":                   {ReasonTDXModule, func(c *evidence.Claims) { c.TDX.MRSEAM = six }},
		"module's signer":          {ReasonTDXModuleOwner, func(c *evidence.Claims) { c.TDX.MRSignerSEAM = six }},
		"module's attributes":      {ReasonTDXModuleOwner, func(c *evidence.Claims) { c.TDX.SEAMAttributes = 1 }},
		"service domain":           {ReasonTDXServiceTD, func(c *evidence.Claims) { c.TDX.MRServiceTD = six }},
		"first service domain":     {ReasonTDXServiceTD, func(c *evidence.Claims) { c.TDX.Extended = &evidence.TDXExtended{InitialServiceTD: six} }},
		"service domain now":       {ReasonTDXServiceTD, func(c *evidence.Claims) { c.TDX.Extended = &evidence.TDXExtended{CurrentServiceTD: six} }},
		"partition":                {ReasonTDXPartition, func(c *evidence.Claims) { c.TDX.Extended = &evidence.TDXExtended{VMID: 1} }},
		"config id":                {ReasonTDXConfigID, func(c *evidence.Claims) { c.TDX.MRConfigID = six }},
		"owner":                    {ReasonTDXOwner, func(c *evidence.Claims) { c.TDX.MROwner = nil }},
		"owner's config":           {ReasonTDXOwnerConfig, func(c *evidence.Claims) { c.TDX.MROwnerConfig = make([]byte, 48) }},
		"platform":                 {ReasonTDXPlatform, func(c *evidence.Claims) { c.TDX.FMSPC = six[:6] }},
		"no log":                   {ReasonEventLog, func(c *evidence.Claims) { c.EventLog = nil }},
		"register of the log":      {ReasonEventLog, func(c *evidence.Claims) { c.EventLog.Registers = []string{"rtmr1"} }},
		"secure boot":              {ReasonEventLog, func(c *evidence.Claims) { c.EventLog.SecureBoot = nil }},
		"program":                  {ReasonEventLog, func(c *evidence.Claims) { c.EventLog.Boot[0].Digest = make([]byte, 48) }},
		"no program":               {ReasonEventLog, func(c *evidence.Claims) { c.EventLog.Boot = nil }},
		"kind":                     {ReasonKind, func(c *evidence.Claims) { c.Kind = evidence.KindAzureTDX }},
	} {
		in := tdxGood()
		c.change(&in.Claims)
		d := Decide(p, in)
		if d.Allowed || !has(d, c.reason) || c.reason != ReasonKind && len(d.Reasons) != 1 {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestGraceIsDatedAndSaid: a status is accepted until the date, and each decision that used it
// says so.
func TestGraceIsDatedAndSaid(t *testing.T) {
	p := tdxParse(t, tdxFull())
	in := tdxGood()
	in.Claims.TDX.TCB.Status, in.Now = evidence.TCBOutOfDate, time.Date(2026, 6, 30, 0, 0, 0, 0, time.UTC)
	if d := Decide(p, in); !d.Allowed || len(d.Waived) != 1 || !strings.Contains(d.Waived[0], "OutOfDate until 2026-07-01") {
		t.Errorf("%+v", d)
	}
	in.Claims.TDX.TCB.Status = evidence.TCBUpToDate
	if d := Decide(p, in); !d.Allowed || len(d.Waived) != 0 {
		t.Errorf("a grace that was not used: %+v", d)
	}
	for _, bad := range []string{"{status: Revoked, until: \"2026-07-01T00:00:00Z\", reason: a}", "{status: OutOfDate, until: soon, reason: a}", "{status: OutOfDate, until: \"2026-07-01T00:00:00Z\", reason: \"\"}"} {
		source := strings.Replace(tdxFull(), `{status: OutOfDate, until: "2026-07-01T00:00:00Z", reason: the hosts are updated in June}`, bad, 1)
		if _, err := Parse([]byte(source)); err == nil {
			t.Errorf("loaded %s", bad)
		}
	}
}

// TestGraceOfARuleIsSaid as the policy's own is, and is none without a list of statuses, which it adds to.
func TestGraceOfARuleIsSaid(t *testing.T) {
	rule := func(statuses string) string {
		source := strings.Replace(tdxFull(), "[UpToDate, SWHardeningNeeded]", "[UpToDate, OutOfDate]", 1)
		return strings.Replace(source, "rules: [{resources: [models/*]}]", "rules: [{resources: [models/*], require: {tdx: {"+statuses+
			"tcb_grace: {status: OutOfDate, until: \"2026-09-01T00:00:00Z\", reason: the rule's}}}}]", 1)
	}
	in := tdxGood()
	in.Claims.TDX.TCB.Status = evidence.TCBOutOfDate
	if d := Decide(tdxParse(t, rule("tcb_statuses: [UpToDate], ")), in); !d.Allowed || len(d.Waived) != 1 || !strings.Contains(d.Waived[0], "the rule's") {
		t.Errorf("%+v", d)
	}
	if _, err := Parse([]byte(rule(""))); err == nil {
		t.Error("loaded a grace that adds to no list")
	}
}

// TestTDXPolicyNeedsNoWordAboutSNP, and asks for each of its own checks.
func TestTDXPolicyNeedsNoWordAboutSNP(t *testing.T) {
	for line, name := range map[string]string{
		"tcb_statuses: [UpToDate, SWHardeningNeeded]": "tdx-tcb", "accepted_advisories: [INTEL-SA-00001]": "tdx-advisories",
		"minimum_evaluation_number: 17": "tdx-evaluation-number", "xfam: [x87, sse, avx, amx]": "tdx-xfam", "attributes: {set: [pks], clear: [perfmon]}": "tdx-attributes",
	} {
		_, err := Parse([]byte(strings.Replace(tdxFull(), line, "# none", 1)))
		if err == nil || !strings.Contains(err.Error(), "neither required nor waived: "+name) {
			t.Errorf("without %s: %v", line, err)
		}
	}
	if p := tdxParse(t, strings.Replace(tdxFull(), "[INTEL-SA-00001]", "[]", 1)); Decide(p, tdxGood()).Allowed {
		t.Error("an empty list of advisories accepted one")
	}
	if text := Explain(tdxParse(t, tdxFull())); strings.Contains(text, "vmpl") || !strings.Contains(text, "Intel's TDX module") {
		t.Error(text)
	}
}

// TestTPMAndGPUChecks of a guest under Azure's paravisor.
func TestTPMAndGPUChecks(t *testing.T) {
	var b strings.Builder
	b.WriteString(`
format: 2
id: azure
version: 1
not_before: "2026-01-01T00:00:00Z"
not_after: "2027-01-01T00:00:00Z"
attestation_ttl_seconds: 300
require:
  kinds: [azure-sev-snp]
  reference_values: [images/*]
  sev_snp: {products: [Genoa], vmpl: 0}
  tpm: {ak_trust: [report], pcrs: [4, 7]}
  azure: {secure_boot: true, console_enabled: false}
  gpu: {minimum: 1, architectures: [hopper], drivers: ["550.1"], modes: [spt]}
rules: [{resources: [models/*]}]
waive:
`)
	for _, c := range ChecksOf(evidence.KindAzureSNP) {
		if c.Waivable && c.Name != "azure-configuration" {
			fmt.Fprintf(&b, "  - {check: %s, reason: a demonstration}\n", c.Name)
		}
	}
	p, err := Parse([]byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	if p, err = p.WithReferenceValues([]ReferenceValue{{ID: "images/a", Kind: "azure-sev-snp", Registers: map[string]string{"launch": hexOf(5, 48), "pcr4": hexOf(4, 32)}}}); err != nil {
		t.Fatal(err)
	}
	pcr := bytes.Repeat([]byte{4}, 32)
	fresh := func() Input {
		in := good()
		no := false
		in.Claims.Kind = evidence.KindAzureSNP
		in.Claims.Registers = append(in.Claims.Registers, evidence.Measured{Register: evidence.Register{Name: "pcr4", Value: pcr}, Covers: evidence.CoversImage})
		in.Claims.TPM = &evidence.TPMClaims{AKTrust: evidence.AKReport, PCRs: map[int]evidence.Hex{4: pcr, 7: pcr}}
		in.Claims.Azure = &evidence.AzureClaims{SecureBoot: yes(), Console: &no}
		in.Claims.GPUs = []evidence.GPUClaims{{Architecture: "hopper", Driver: "550.1", Mode: evidence.GPUModeSPT}}
		return in
	}
	if d := Decide(p, fresh()); !d.Allowed {
		t.Fatalf("%+v", d)
	}
	for name, c := range map[string]struct {
		reason refusal.Reason
		change func(*evidence.Claims)
	}{
		"key's trust":   {ReasonTPMKey, func(c *evidence.Claims) { c.TPM.AKTrust = evidence.AKEnrolled }},
		"no trust":      {ReasonTPMKey, func(c *evidence.Claims) { c.TPM.AKTrust = "" }},
		"pcr":           {ReasonTPMPCRs, func(c *evidence.Claims) { delete(c.TPM.PCRs, 7) }},
		"secure boot":   {ReasonAzure, func(c *evidence.Claims) { c.Azure.SecureBoot = nil }},
		"console":       {ReasonAzure, func(c *evidence.Claims) { c.Azure.Console = yes() }},
		"no device":     {ReasonGPU, func(c *evidence.Claims) { c.GPUs = nil }},
		"driver":        {ReasonGPU, func(c *evidence.Claims) { c.GPUs[0].Driver = "551" }},
		"debug device":  {ReasonGPU, func(c *evidence.Claims) { c.GPUs[0].Debug = true }},
		"recovery":      {ReasonGPU, func(c *evidence.Claims) { c.GPUs[0].Recovery = true }},
		"not secure":    {ReasonGPU, func(c *evidence.Claims) { c.GPUs[0].NotSecure = true }},
		"emulator":      {ReasonGPU, func(c *evidence.Claims) { c.GPUs[0].Software = true }},
		"mode":          {ReasonGPU, func(c *evidence.Claims) { c.GPUs[0].Mode = evidence.GPUModePPCIe }},
		"no TPM claims": {ReasonClaimsMissing, func(c *evidence.Claims) { c.TPM = nil }},
		"pcr's value":   {ReasonMeasurement, func(c *evidence.Claims) { c.Registers[1].Value = make([]byte, 32) }},
	} {
		in := fresh()
		c.change(&in.Claims)
		if d := Decide(p, in); d.Allowed || !has(d, c.reason) {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestGPUsAreAskedForByNumber: whatever else is asked of devices, a guest that shows none would pass.
func TestGPUsAreAskedForByNumber(t *testing.T) {
	for gpu, ok := range map[string]bool{"{}": false, "{drivers: [\"550.1\"]}": false, "{minimum: 9}": false, "{minimum: 1}": true} {
		source := strings.Replace(tdxFull(), "  event_log:", "  gpu: "+gpu+"\n  event_log:", 1)
		if _, err := Parse([]byte(source)); (err == nil) != ok {
			t.Errorf("%s: %v", gpu, err)
		}
	}
}

// TestFirmwareAloneIsWarnedAbout: nobody should release to any image by accident.
func TestFirmwareAloneIsWarnedAbout(t *testing.T) {
	warned := func(v ReferenceValue) bool {
		p, err := Parse([]byte(tdxFull()))
		if err != nil {
			t.Fatal(err)
		}
		p.require.log = nil
		p.values = []ReferenceValue{v}
		return slices.ContainsFunc(p.Warnings(), func(w string) bool { return strings.Contains(w, v.ID) })
	}
	firmware := ReferenceValue{ID: "a", Kind: "tdx", Registers: map[string]string{"mrtd": hexOf(1, 48)}, Covers: "firmware"}
	image := firmware
	image.Registers = map[string]string{"mrtd": hexOf(1, 48), "rtmr1": hexOf(2, 48), "rtmr2": hexOf(2, 48)}
	unsaid := ReferenceValue{ID: "b", Measurement: hexOf(1, 48)}
	whole := unsaid
	whole.Covers = "image"
	tpm, err := Parse([]byte(strings.NewReplacer("kinds: [tdx]", "kinds: [tdx, vtpm]", "  event_log: {registers: [", "  tpm: {ak_trust: [certificate], pcrs: [4]}\n  event_log: {registers: [pcr4, pcr8, pcr9, pcr14, pcr11, pcr12, pcr13, ").Replace(tdxFull())))
	if err != nil || !strings.Contains(strings.Join(tpm.Warnings(), "\n"), "TPM alone") {
		t.Errorf("a TPM alone: %v", err)
	}
	if !warned(firmware) || warned(image) || !warned(unsaid) || warned(whole) {
		t.Error(warned(firmware), warned(image), warned(unsaid), warned(whole))
	}
}

// TestHalfOfAnImageIsWarnedAbout: what a guest's owner may choose freely identifies nothing.
func TestHalfOfAnImageIsWarnedAbout(t *testing.T) {
	p, err := Parse([]byte(tdxFull()))
	if err != nil {
		t.Fatal(err)
	}
	logs := p.require.log
	for name, tc := range map[string]struct {
		log    *logRequirements
		kind   string
		names  []string
		warned bool
	}{
		"any kernel":                       {nil, "tdx", []string{"mrtd", "rtmr1"}, true},
		"any boot loader":                  {nil, "tdx", []string{"mrtd", "rtmr2"}, true},
		"both":                             {nil, "tdx", []string{"mrtd", "rtmr1", "rtmr2"}, false},
		"any first program of a TPM's":     {nil, "vtpm", []string{"pcr0", "pcr11"}, true},
		"any second program of a TPM's":    {nil, "vtpm", []string{"pcr4"}, true},
		"both of a TPM's":                  {nil, "vtpm", []string{"pcr4", "pcr9"}, false},
		"any kernel, its log":              {logs, "tdx", []string{"mrtd", "rtmr1"}, false},
		"a log that SEV-SNP does not have": {logs, "sev-snp", []string{"launch"}, true},
	} {
		v := ReferenceValue{ID: "a", Kind: tc.kind, Registers: map[string]string{}}
		for _, register := range tc.names {
			v.Registers[register] = hexOf(1, 48)
		}
		p.require.log, p.values = tc.log, []ReferenceValue{v}
		if got := len(p.Warnings()) > 0; got != tc.warned {
			t.Errorf("%s: %v", name, p.Warnings())
		}
	}
}

// TestRulesThatAKindEscapesAreWarnedAbout: enrolled chips say nothing of trust domains.
func TestRulesThatAKindEscapesAreWarnedAbout(t *testing.T) {
	for rule, warned := range map[string]bool{
		"sev_snp: {vmpl: 0}":                                     true,
		"sev_snp: {vmpl: 0}, kinds: [sev-snp]":                   false,
		"sev_snp: {vmpl: 0}, tdx: {tcb_statuses: [UpToDate]}":    false,
		"tdx: {tcb_statuses: [UpToDate]}, kinds: [azure-tdx]":    false,
		"event_log: {registers: [rtmr1]}, kinds: [sev-snp, tdx]": true,
		"image_ids: [a]": false,
	} {
		var doc Document
		if err := config.Decode([]byte("rules: [{resources: [a], require: {"+rule+"}}]\nrequire: {kinds: [sev-snp, tdx]}"), &doc); err != nil {
			t.Fatal(err)
		}
		p := &Policy{doc: doc, compiled: true}
		if got := p.Warnings(); len(got) > 0 != warned {
			t.Errorf("%s: %v", rule, got)
		}
	}
}

// TestTenantsWithOverlappingRegistersHaveNone: a value of the firmware alone and one of an image under
// it may both be a guest's.
func TestTenantsWithOverlappingRegistersHaveNone(t *testing.T) {
	source := strings.Replace(tdxFull(), "tenants: [tenant-1]", "tenants: [tenant-1, tenant-2]", 1)
	source = strings.Replace(source, "rules: [{resources: [models/*]}]", "rules:\n  - {resources: [models/*], require: {tenants: [tenant-1], reference_values: [images/one]}}\n  - {resources: [a/*], require: {tenants: [tenant-2], reference_values: [images/two]}}", 1)
	p := tdxParse(t, source)
	if d := Decide(p, tdxGood()); !d.Allowed || d.Tenant != "" {
		t.Errorf("registers of two shapes: %+v", d)
	}
	same := tdxValues()
	same[1].Registers = map[string]string{"mrtd": hexOf(17, 48), "rtmr1": hexOf(8, 48)}
	p, err := p.WithReferenceValues(same)
	if err != nil {
		t.Fatal(err)
	}
	if d := Decide(p, tdxGood()); d.Tenant != "tenant-1" {
		t.Errorf("registers of one shape: %+v", d)
	}
}

// TestMigrateKeepsTheMeaning of a policy of format 1 and says what it changed.
func TestMigrateKeepsTheMeaning(t *testing.T) {
	old := `
format: 1
id: production
version: 7
not_before: "2026-01-01T00:00:00Z"
not_after: "2027-01-01T00:00:00Z"
attestation_ttl_seconds: 600
require:
  reference_values: [images/*]
  products: [Genoa]
  vmpl: 0
  minimum_tcb:
    - {product: Genoa, all: {bootloader: 3, snp: 20, microcode: 70}}
  tenants: [tenant-1]
  memory_limit: {min_mib: 48, max_mib: 1024}
waive:
  - {check: chip-ids, reason: "any chip: \"here\""}
  - {check: platform-info, reason: a}
  - {check: guest-policy, reason: a}
  - {check: id-key, reason: a}
  - {check: author-key, reason: a}
  - {check: host-data, reason: a}
  - {check: agent-build, reason: a}
  - {check: image, reason: a}
rules:
  - resources: [models/*]
  - {resources: [models/narrow], roles: [serve, contribute], require: {image_ids: [image-2], vmpl: 0}}
`
	out, changes, err := Migrate([]byte(old))
	if err != nil || len(changes) != 10 {
		t.Fatal(changes, err)
	}
	p := mustParse(t, string(out))
	if p.Version() != 8 || len(p.Waived()) != 14 {
		t.Errorf("%s", out)
	}
	if d := Decide(p, good()); !d.Allowed || d.LeaseTTL != 600*time.Second {
		t.Errorf("%+v\n%s", d, out)
	}
	in := good()
	in.Claims.SNP.TCB.Launch.SNP = 19
	in.Claims.SNP.VMPL = 1
	if d := Decide(p, in); !has(d, ReasonTCBLaunch) || !has(d, ReasonVMPL) {
		t.Errorf("%+v", d)
	}
	in = good()
	in.Resource = "models/narrow"
	if d := Decide(p, in); !has(d, ReasonImage) {
		t.Errorf("%+v", d)
	}
	for name, bad := range map[string]string{"format 2": full(), "none": "{}", "not a policy": "x: 1", "incomplete": strings.Replace(old, "vmpl: 0\n", "\n", 1)} {
		if _, _, err := Migrate([]byte(bad)); err == nil {
			t.Errorf("%s was migrated", name)
		}
	}
}

func TestReferenceValuesOfEachKind(t *testing.T) {
	file := func(v string) []byte { return []byte("format: 2\nreference_values: [" + v + "]\n") }
	ok := "{id: a, kind: tdx, registers: {mrtd: " + hexOf(1, 48) + ", rtmr1: " + hexOf(2, 48) + "}, covers: image, source: a build}"
	if v, err := ParseReferenceValues(file(ok)); err != nil || v[0].Registers["rtmr1"] != hexOf(2, 48) {
		t.Fatal(v, err)
	}
	for name, bad := range map[string]string{
		"unknown kind":     strings.Replace(ok, "tdx", "sgx", 1),
		"unknown register": strings.Replace(ok, "rtmr1", "rtmr4", 1),
		"of another kind":  strings.Replace(ok, "rtmr1", "launch", 1),
		"size":             strings.Replace(ok, hexOf(2, 48), hexOf(2, 32), 1),
		"zeros":            strings.Replace(ok, hexOf(2, 48), hexOf(0, 48), 1),
		"covers":           strings.Replace(ok, "covers: image", "covers: all", 1),
		"nothing":          "{id: a, kind: tdx}",
		"both":             "{id: a, measurement: " + hexOf(1, 48) + ", registers: {launch: " + hexOf(1, 48) + "}}",
		"measurement":      "{id: a, kind: tdx, measurement: " + hexOf(1, 48) + "}",
	} {
		if _, err := ParseReferenceValues(file(bad)); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
	if _, err := ParseReferenceValues([]byte("format: 1\nreference_values: [" + ok + "]\n")); err == nil {
		t.Error("format 1 has no registers")
	}
	if _, err := ParseReferenceValues(file("{id: a, kind: vtpm, registers: {pcr4: " + hexOf(1, 32) + ", pcr07: " + hexOf(1, 32) + "}}")); err == nil {
		t.Error("a PCR has one name")
	}
}
