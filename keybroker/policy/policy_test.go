package policy

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

func hexOf(b byte, n int) string { return hex.EncodeToString(bytes.Repeat([]byte{b}, n)) }

// full configures every check.
func full() string {
	return fmt.Sprintf(`
format: 2
id: production
version: 7
not_before: "2026-01-01T00:00:00Z"
not_after: "2027-01-01T00:00:00Z"
attestation_ttl_seconds: 600
require:
  kinds: [sev-snp]
  reference_values: [images/*]
  sev_snp:
    products: [Genoa, Turin, Milan]
    vmpl: 0
    minimum_tcb:
      - {product: Genoa, all: {bootloader: 3, snp: 20, microcode: 70}}
      - {product: Turin, all: {fmc: 1, bootloader: 1, snp: 1, microcode: 1}}
      - {product: Milan, all: {bootloader: 3, snp: 20, microcode: 70}}
    minimum_firmware: 1.55.21
    minimum_report_version: 3
    mitigations: [0, 2]
    minimum_guest_svn: 4
    chip_ids: [%s]
    platform_info: {set: [alias-check-complete], clear: [smt-enabled]}
    guest_policy: {set: [smt-allowed]}
    id_key_digests: [%s]
    author_key_digests: [%s]
    host_data: [%s]
    family_ids: [%s]
    id_block_image_ids: [%s]
  agent_builds: [build-1]
  image_ids: [image-1]
  tenants: [tenant-1]
  memory_limit: {min_mib: 48, max_mib: 1024}
  clock_sources: [secure-tsc, tdx-tsc]
rules:
  - resources: [models/*]
  - resources: [models/narrow]
    require: {image_ids: [image-2]}
`, hexOf(1, 64), hexOf(2, 48), hexOf(3, 48), hexOf(4, 32), hexOf(11, 16), hexOf(12, 16))
}

func values() []ReferenceValue {
	return []ReferenceValue{
		{ID: "images/one", Measurement: hexOf(5, 48)},
		{ID: "images/soft", Measurement: hexOf(6, 48), Software: true},
		{ID: "images/turin", Measurement: hexOf(7, 48), Product: "Turin"},
		{ID: "other/two", Measurement: hexOf(8, 48)},
	}
}

func mustParse(t testing.TB, source string) *Policy {
	t.Helper()
	p, err := Parse([]byte(source))
	if err != nil {
		t.Fatal(err)
	}
	if p, err = p.WithReferenceValues(values()); err != nil {
		t.Fatal(err)
	}
	return p
}

// launched is the register of a guest whose launch digest repeats one byte.
func launched(b byte) []evidence.Measured {
	return []evidence.Measured{evidence.LaunchRegister(bytes.Repeat([]byte{b}, 48))}
}

// good passes every check of full.
func good() Input {
	tcb := evidence.TCB{BootLoader: 3, SNP: 20, Microcode: 70}
	return Input{
		Claims: evidence.Claims{
			Format: evidence.ClaimsFormat, Kind: evidence.KindSNP, Platform: "Genoa", Registers: launched(5),
			SNP: &evidence.SNPClaims{
				Measurement: bytes.Repeat([]byte{5}, 48), HostData: bytes.Repeat([]byte{4}, 32), ReportVersion: 5, GuestSVN: 4,
				IDKeyDigest: bytes.Repeat([]byte{2}, 48), AuthorKeyDigest: bytes.Repeat([]byte{3}, 48), ChipID: bytes.Repeat([]byte{1}, 64),
				FamilyID: bytes.Repeat([]byte{11}, 16), ImageID: bytes.Repeat([]byte{12}, 16),
				TCB:        evidence.TCBs{Reported: tcb, Committed: tcb, Launch: tcb, Current: tcb},
				PolicyBits: 1<<16 | 1<<17, PlatformInfo: 1 << 5, CurrentVersion: "1.55.22", CommittedVersion: "1.55.21",
				LaunchMitigations: 7, CurrentMitigations: 5,
			},
		},
		Guest:    evidence.GuestClaims{ImageID: "image-1", AgentBuild: "build-1", Tenant: "tenant-1", MemoryLimit: 128 << 20, ClockSource: evidence.ClockSecureTSC},
		Resource: "models/tiny",
		Now:      time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
	}
}

// TestEachCheckAloneRefuses changes one thing at a time: exactly one reason
// must be given, the one of that check.
func TestEachCheckAloneRefuses(t *testing.T) {
	p := mustParse(t, full())
	if d := Decide(p, good()); !d.Allowed || len(d.Reasons) != 0 || d.LeaseTTL != 600*time.Second {
		t.Fatalf("%+v", d)
	}
	for reason, change := range map[refusal.Reason]func(*Input){
		ReasonMeasurement:       func(in *Input) { in.Claims.Registers = launched(9) },
		ReasonDebug:             func(in *Input) { in.Claims.Debug = true },
		ReasonMigration:         func(in *Input) { in.Claims.Migratable = true },
		ReasonVMPL:              func(in *Input) { in.Claims.SNP.VMPL = 1 },
		ReasonTCBReported:       func(in *Input) { in.Claims.SNP.TCB.Reported.SNP-- },
		ReasonTCBCommitted:      func(in *Input) { in.Claims.SNP.TCB.Committed.BootLoader-- },
		ReasonTCBLaunch:         func(in *Input) { in.Claims.SNP.TCB.Launch.Microcode-- },
		ReasonTCBCurrent:        func(in *Input) { in.Claims.SNP.TCB.Current.SNP-- },
		ReasonMilan:             func(in *Input) { in.Claims.Platform = "Milan" },
		ReasonFirmware:          func(in *Input) { in.Claims.SNP.CommittedVersion = "1.55.20" },
		ReasonReportVersion:     func(in *Input) { in.Claims.SNP.ReportVersion = 2 },
		ReasonMitigations:       func(in *Input) { in.Claims.SNP.CurrentMitigations = 1 },
		ReasonGuestSVN:          func(in *Input) { in.Claims.SNP.GuestSVN = 3 },
		ReasonFamilyID:          func(in *Input) { in.Claims.SNP.FamilyID = make([]byte, 16) },
		ReasonBlockImageID:      func(in *Input) { in.Claims.SNP.ImageID = bytes.Repeat([]byte{11}, 16) },
		ReasonVLEK:              func(in *Input) { in.Claims.SNP.VLEK, in.Claims.SNP.CSPID = true, "aws" },
		ReasonChip:              func(in *Input) { in.Claims.SNP.ChipID = bytes.Repeat([]byte{9}, 64) },
		ReasonChipMasked:        func(in *Input) { in.Claims.SNP.ChipID = make([]byte, 64) },
		ReasonPlatformInfo:      func(in *Input) { in.Claims.SNP.PlatformInfo = 0 },
		ReasonPlatformBits:      func(in *Input) { in.Claims.SNP.PlatformInfo |= 1 << 40 },
		ReasonGuestPolicy:       func(in *Input) { in.Claims.SNP.PolicyBits = 1 << 17 },
		ReasonGuestPolicyBits:   func(in *Input) { in.Claims.SNP.PolicyBits |= 1 << 50 },
		ReasonIDKey:             func(in *Input) { in.Claims.SNP.IDKeyDigest = make([]byte, 48) },
		ReasonAuthorKey:         func(in *Input) { in.Claims.SNP.AuthorKeyDigest = nil },
		ReasonHostData:          func(in *Input) { in.Claims.SNP.HostData = bytes.Repeat([]byte{5}, 32) },
		ReasonAgentBuild:        func(in *Input) { in.Guest.AgentBuild = "build-2" },
		ReasonImage:             func(in *Input) { in.Guest.ImageID = "" },
		ReasonTenant:            func(in *Input) { in.Guest.Tenant = "tenant-2" },
		ReasonMemoryLimit:       func(in *Input) { in.Guest.MemoryLimit = 1025 << 20 },
		ReasonClockSource:       func(in *Input) { in.Guest.ClockSource = evidence.ClockTSC },
		ReasonResource:          func(in *Input) { in.Resource = "other/tiny" },
		ReasonPolicyExpired:     func(in *Input) { in.Now = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC) },
		ReasonPolicyNotYetValid: func(in *Input) { in.Now = time.Date(2025, 12, 31, 23, 59, 59, 0, time.UTC) },
	} {
		in := good()
		change(&in)
		d := Decide(p, in)
		if d.Allowed || d.LeaseTTL != 0 || len(d.Reasons) != 1 || d.Reasons[0].Reason != reason {
			t.Errorf("%s: %+v", reason, d)
		}
	}
	nines := Input{Claims: evidence.Claims{Kind: evidence.KindSNP, Registers: launched(9), SNP: &evidence.SNPClaims{ChipID: bytes.Repeat([]byte{9}, 64)}}}
	for _, f := range Decide(p, nines).Reasons {
		if f.Reason == ReasonMeasurement && !strings.Contains(f.Detail, strings.Repeat("09", 48)) || f.Reason == ReasonChip && !strings.Contains(f.Detail, strings.Repeat("09", 64)) {
			t.Errorf("the value that was refused does not stand in %q as it is written everywhere else", f.Detail)
		}
	}
	in := good()
	in.Claims.Kind = evidence.KindTDX
	if d := Decide(p, in); !has(d, ReasonKind) {
		t.Errorf("another kind: %+v", d)
	}
	in = good()
	in.Claims.SNP = nil
	if d := Decide(p, in); !has(d, ReasonClaimsMissing) {
		t.Errorf("no report: %+v", d)
	}
	in = good()
	in.Claims.Platform = "Bergamo"
	if d := Decide(p, in); !has(d, ReasonProduct) || !has(d, ReasonTCBReported) {
		t.Errorf("unknown product: %+v", d)
	}
	in = good()
	in.Claims.SoftwareTEE = true
	if d := Decide(p, in); !has(d, ReasonSoftwareTEE) || !has(d, ReasonMeasurement) {
		t.Errorf("software TEE: %+v", d)
	}
}

func has(d Decision, r refusal.Reason) bool {
	for _, f := range d.Reasons {
		if f.Reason == r {
			return !d.Allowed
		}
	}
	return false
}

func TestAllFailuresAreReported(t *testing.T) {
	in := good()
	in.Claims.Debug, in.Claims.SNP.VMPL, in.Guest.Tenant = true, 2, ""
	if d := Decide(mustParse(t, full()), in); len(d.Reasons) != 3 {
		t.Fatalf("%+v", d)
	}
}

// TestPitfall15EmptyPolicyRefusesAll: neither nil, nor the zero policy, nor
// one whose requirements are all absent allows anything.
func TestPitfall15EmptyPolicyRefusesAll(t *testing.T) {
	for _, p := range []*Policy{nil, {}} {
		if d := Decide(p, good()); d.Allowed || !has(d, ReasonNoPolicy) {
			t.Errorf("%+v", d)
		}
		if !strings.Contains(Explain(p), "everything is refused") {
			t.Error(Explain(p))
		}
		if _, err := p.WithReferenceValues(nil); err == nil {
			t.Error("reference values on an empty policy")
		}
	}
	hollow := &Policy{compiled: true, rules: map[string]*openRule{"models/*": {require: &requirements{}}}, notAfter: good().Now.Add(time.Hour)}
	d := Decide(hollow, good())
	unconfigured := 0
	for _, f := range d.Reasons {
		if f.Reason == ReasonCheckNotConfigured {
			unconfigured++
		}
	}
	if d.Allowed || unconfigured != 24 {
		t.Errorf("%d checks refused for lack of configuration: %+v", unconfigured, d.Reasons)
	}
	for _, source := range []string{"", "{}", "format: 2", "null", "[]", "format: 2\nid: x\nversion: 1"} {
		if _, err := Parse([]byte(source)); err == nil {
			t.Errorf("%q loaded", source)
		}
	}
}

// TestPitfall16MissingClaimsRefuse: the zero claims pass no check that needs a
// value.
func TestPitfall16MissingClaimsRefuse(t *testing.T) {
	p := mustParse(t, full())
	d := Decide(p, Input{Resource: "models/tiny", Now: good().Now})
	if d.Allowed || len(d.Reasons) < 7 {
		t.Fatalf("%+v", d)
	}
}

// TestPitfall17MinimumsHoldPerComponent: a high component does not make up for
// a low one, and all four versions count.
func TestPitfall17MinimumsHoldPerComponent(t *testing.T) {
	in := good()
	in.Claims.SNP.TCB.Committed = evidence.TCB{FMC: 255, BootLoader: 255, TEE: 255, SNP: 19, Microcode: 255}
	if d := Decide(mustParse(t, full()), in); len(d.Reasons) != 1 || !has(d, ReasonTCBCommitted) {
		t.Fatalf("%+v", d)
	}
}

// TestPitfall20MaskedChipNeverMatches: zeros cannot be enrolled, and a masked
// id is refused by name.
func TestPitfall20MaskedChipNeverMatches(t *testing.T) {
	if _, err := Parse([]byte(strings.Replace(full(), hexOf(1, 64), hexOf(0, 64), 1))); err == nil {
		t.Fatal("a zero chip id was enrolled")
	}
	in := good()
	in.Claims.SNP.ChipMasked = true
	if d := Decide(mustParse(t, full()), in); !has(d, ReasonChipMasked) {
		t.Fatalf("%+v", d)
	}
	in = good()
	in.Claims.SNP.ChipID = append(bytes.Repeat([]byte{1}, 8), make([]byte, 56)...)
	if d := Decide(mustParse(t, strings.Replace(full(), hexOf(1, 64), `"`+hexOf(1, 8)+`"`, 1)), in); !d.Allowed {
		t.Fatalf("an 8-byte chip id: %+v", d)
	}
}

// TestPitfall21MilanIsOffByDefault needs two things written to accept Milan.
func TestPitfall21MilanIsOffByDefault(t *testing.T) {
	in := good()
	in.Claims.Platform = "Milan"
	if d := Decide(mustParse(t, full()), in); !has(d, ReasonMilan) {
		t.Fatalf("%+v", d)
	}
	if d := Decide(mustParse(t, full()+"allow_milan: true\n"), in); !d.Allowed {
		t.Fatalf("%+v", d)
	}
}

// TestPitfall45EvaluationIsBounded: limits on the file bound the work.
func TestPitfall45EvaluationIsBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString(full())
	for i := range maxRules + 1 {
		fmt.Fprintf(&b, "  - resources: [r%d]\n", i)
	}
	if _, err := Parse([]byte(b.String())); err == nil {
		t.Error("too many rules loaded")
	}
	if _, err := Parse(make([]byte, maxPolicyBytes+1)); err == nil {
		t.Error("too large a file loaded")
	}
	deep := strings.Repeat("a/", 60) + "a"
	if d := Decide(mustParse(t, full()), Input{Resource: deep}); d.Allowed {
		t.Error("allowed")
	}
}

func TestRulesNarrowAndTheMostSpecificDecides(t *testing.T) {
	p := mustParse(t, full())
	in := good()
	in.Resource = "models/narrow"
	if d := Decide(p, in); len(d.Reasons) != 1 || !has(d, ReasonImage) {
		t.Fatalf("%+v", d)
	}
	in.Guest.ImageID = "image-2" // satisfies the rule, not the policy
	if d := Decide(p, in); !has(d, ReasonImage) {
		t.Fatalf("a rule widened the policy: %+v", d)
	}
	for _, name := range []string{"models", "models/", "/models/x", "models/../x", "", "Models/x", "modelsx/y"} {
		in := good()
		in.Resource = name
		if d := Decide(p, in); !has(d, ReasonResource) {
			t.Errorf("%q: %+v", name, d)
		}
	}
	in = good()
	in.Resource = "models/a/b/c"
	if d := Decide(p, in); !d.Allowed {
		t.Errorf("a subtree reaches all the way down: %+v", d)
	}
}

// TestSecretsOfServicesGiveNoRole: who gets a web server's key may sign nothing for it, whether the
// rule says so or is silent.
func TestSecretsOfServicesGiveNoRole(t *testing.T) {
	const rule = "resources: [models/narrow]"
	for name, edit := range map[string]string{
		"silent":  "resources: [\"secrets/*\", volumes/narrow]",
		"none":    "resources: [\"secrets/*\", volumes/narrow]\n    roles: []",
		"a model": "resources: [\"secrets/*\", volumes/narrow, models/narrow]\n    roles: []",
	} {
		p := mustParse(t, strings.Replace(full(), rule, edit, 1))
		for _, resource := range []string{"secrets/a/b", "volumes/narrow"} {
			if r := p.ruleFor(resource); r == nil || r.roles != 0 {
				t.Errorf("%s: %s: %+v", name, resource, r)
			}
		}
	}
	p := mustParse(t, full())
	if r := p.ruleFor("models/narrow"); r == nil || r.roles != protocol.RoleServe {
		t.Errorf("a model's rule that is silent: %+v", r)
	}
	none := mustParse(t, strings.Replace(full(), rule, rule+"\n    roles: []", 1))
	if none.Digest() == p.Digest() || none.ruleFor("models/narrow").roles != 0 {
		t.Error("no roles and silence have the same digest")
	}
}

// waivers leaves out everything that may be.
func waivers() string {
	var b strings.Builder
	b.WriteString(`
format: 2
id: demo
version: 1
not_before: "2026-01-01T00:00:00Z"
not_after: "2027-01-01T00:00:00Z"
attestation_ttl_seconds: 300
allow_software_tee: true
require: {kinds: [sev-snp], reference_values: [images/soft], sev_snp: {products: [Genoa], vmpl: 0}}
rules: [{resources: [models/*]}]
waive:
`)
	for _, c := range ChecksOf(evidence.KindSNP) {
		if c.Waivable {
			fmt.Fprintf(&b, "  - {check: %s, reason: a demonstration}\n", c.Name)
		}
	}
	return b.String()
}

func TestWaiversAreShownAndOnlyWaive(t *testing.T) {
	p := mustParse(t, waivers())
	in := Input{Resource: "models/x", Now: good().Now, Claims: evidence.Claims{Kind: evidence.KindSNP, Platform: "Genoa", SoftwareTEE: true,
		Registers: launched(6), SNP: &evidence.SNPClaims{PolicyBits: 1 << 60, PlatformInfo: 1 << 60}}}
	d := Decide(p, in)
	if !d.Allowed || len(d.Waived) != 23 || d.Waived[0] != "agent-build: a demonstration" {
		t.Fatalf("%+v", d)
	}
	in.Claims.SoftwareTEE = false
	if d := Decide(p, in); !has(d, ReasonMeasurement) {
		t.Fatalf("a software measurement stood for hardware: %+v", d)
	}
	in.Now = p.notAfter.Add(-10 * time.Second)
	in.Claims.SoftwareTEE = true
	if d := Decide(p, in); !d.Allowed || d.LeaseTTL != 10*time.Second {
		t.Fatalf("a lease outlives its policy: %+v", d)
	}
	text := Explain(p)
	for _, want := range []string{"WARNING: it accepts the software TEE", "chip-ids: a demonstration", "models/*", "demo, version 1"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if text := Explain(mustParse(t, full()+"allow_milan: true\n")); !strings.Contains(text, "extracted") || !strings.Contains(text, "exactly 0") || !strings.Contains(text, "not smt-enabled") {
		t.Error(text)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, edit := range map[string][2]string{
		"unknown key":        {"version: 7", "version: 7\nunknown: 1"},
		"duplicate key":      {"version: 7", "version: 7\nversion: 8"},
		"format":             {"format: 2", "format: 3"},
		"former format":      {"format: 2", "format: 1"},
		"kinds":              {"kinds: [sev-snp]", "kinds: [sgx]"},
		"no kinds":           {"kinds: [sev-snp]\n", "# none\n"},
		"a kind not asked":   {"kinds: [sev-snp]", "kinds: [sev-snp, tdx]"},
		"firmware":           {"1.55.21", "1.55"},
		"report version":     {"minimum_report_version: 3", "minimum_report_version: 6"},
		"mitigation bit":     {"[0, 2]", "[64]"},
		"other group":        {"  agent_builds:", "  tdx: {tcb_statuses: [UpToDate]}\n  agent_builds:"},
		"other waiver":       {"rules:", "waive: [{check: tdx-xfam, reason: a}]\nrules:"},
		"rule of other kind": {"require: {image_ids: [image-2]}", "require: {kinds: [tdx]}"},
		"id":                 {"id: production", "id: ../x"},
		"version":            {"version: 7", "version: 0"},
		"short lease":        {"_seconds: 600", "_seconds: 299"},
		"long lease":         {"_seconds: 600", "_seconds: 901"},
		"not before":         {`not_before: "2026-01-01T00:00:00Z"`, `not_before: "yesterday"`},
		"not after":          {`not_after: "2027-01-01T00:00:00Z"`, `not_after: ""`},
		"order":              {`not_after: "2027`, `not_after: "2025`},
		"vmpl":               {"vmpl: 0", "vmpl: 4"},
		"missing check":      {"vmpl: 0", "# none"},
		"product":            {"[Genoa, Turin, Milan]", "[Genoa, Rome]"},
		"empty list":         {"[tenant-1]", "[]"},
		"twice":              {"[tenant-1]", "[tenant-1, tenant-1]"},
		"tcb for product":    {"- {product: Turin,", "# - {product: Turin,"},
		"tcb product":        {"- {product: Turin, all: {fmc: 1", "- {product: Rome, all: {fmc: 0"},
		"tcb twice":          {"- {product: Turin, all: {fmc: 1", "- {product: Genoa, all: {fmc: 0"},
		"fmc on Genoa":       {"all: {bootloader: 3", "all: {fmc: 1, bootloader: 3"},
		"component range":    {"snp: 20", "snp: 256"},
		"platform bit":       {"alias-check-complete", "no-such-bit"},
		"contradiction":      {"clear: [smt-enabled]", "clear: [alias-check-complete]"},
		"no bits":            {"guest_policy: {set: [smt-allowed]}", "guest_policy: {}"},
		"memory":             {"min_mib: 48", "min_mib: 2048"},
		"hex length":         {hexOf(4, 32), hexOf(4, 31)},
		"hex":                {hexOf(4, 32), "xyz"},
		"pattern":            {"resources: [models/*]", "resources: [\"*\"]"},
		"inner star":         {"resources: [models/*]", "resources: [models/*/x]"},
		"rule twice":         {"[models/narrow]", "[models/*]"},
		"rule of nothing":    {"resources: [models/narrow]", "resources: []"},
		"reference pattern":  {"[images/*]", "[\"*\"]"},
		"waived twice":       {"rules:", "waive: [{check: chip-ids, reason: a}]\nrules:"},
		"unknown waiver":     {"rules:", "waive: [{check: nothing, reason: a}]\nrules:"},
		"waiver of debug":    {"rules:", "waive: [{check: debug, reason: a}]\nrules:"},
		"waiver, no reason":  {"rules:", "waive: [{check: platform-bits, reason: ' '}]\nrules:"},
		"bad rule":           {"require: {image_ids: [image-2]}", "require: {sev_snp: {vmpl: 9}}"},
		"role of a secret":   {"[models/narrow]", "[secrets/tls]\n    roles: [serve]"},
		"roles of volumes":   {"[models/narrow]", "[\"volumes/*\", models/narrow]\n    roles: [contribute]"},
		"secrets and models": {"[models/narrow]", "[\"secrets/*\", models/narrow]"},
		"a very long reason": {"rules:", "waive: [{check: platform-bits, reason: " + strings.Repeat("x", 600) + "}]\nrules:"},
	} {
		source := strings.Replace(full(), edit[0], edit[1], 1)
		if source == full() {
			t.Errorf("%s: nothing changed", name)
		}
		if _, err := Parse([]byte(source)); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

func TestDigestCoversMeaningNotSpelling(t *testing.T) {
	p := mustParse(t, full())
	respelt := strings.Replace(full(), "resources: [models/*]", "resources:\n      - \"models/*\"", 1)
	if q := mustParse(t, "# a comment\n"+respelt); q.Digest() != p.Digest() || !bytes.Equal(q.Canonical(), p.Canonical()) {
		t.Error("another spelling has another digest")
	}
	if q := mustParse(t, strings.Replace(full(), "vmpl: 0", "vmpl: 1", 1)); q.Digest() == p.Digest() {
		t.Error("another meaning has the same digest")
	}
	q, err := p.WithReferenceValues(values()[:1])
	if err != nil || q.Digest() == p.Digest() {
		t.Error("the digest does not cover the reference values", err)
	}
	if q, err = p.WithReferenceValues(append(values(), ReferenceValue{ID: "unused/x", Measurement: hexOf(9, 48)})); err != nil || q.Digest() != p.Digest() {
		t.Error("the digest covers values that the policy does not refer to", err)
	}
	if len(p.ReferenceValues()) != 3 || p.Document().ID != "production" || p.ID() != "production" || p.Version() != 7 {
		t.Error("accessors")
	}
}

func TestReferenceValues(t *testing.T) {
	file := fmt.Sprintf("format: 1\nreference_values:\n  - {id: images/a, measurement: %s, product: Genoa, description: first}\n", hexOf(1, 48))
	v, err := ParseReferenceValues([]byte(file))
	if err != nil || len(v) != 1 || v[0].Product != "Genoa" {
		t.Fatal(v, err)
	}
	json := fmt.Sprintf(`{"format":1,"reference_values":[{"id":"a","measurement":%q,"software":true}]}`, hexOf(1, 48))
	if v, err := ParseReferenceValues([]byte(json)); err != nil || !v[0].Software {
		t.Fatal(v, err)
	}
	printed := strings.Replace(file, hexOf(1, 48), "\"sha384:"+hexOf(1, 48)+"\"", 1) // as anchorhold evidence prints it
	if p, err := ParseReferenceValues([]byte(printed)); err != nil || !reflect.DeepEqual(p, v) {
		t.Error(p, err)
	}
	for name, bad := range map[string]string{
		"empty":   "",
		"none":    "format: 1\nreference_values: []\n",
		"format":  strings.Replace(file, "format: 1", "format: 3", 1),
		"zeros":   strings.Replace(file, hexOf(1, 48), hexOf(0, 48), 1),
		"short":   strings.Replace(file, hexOf(1, 48), hexOf(1, 47), 1),
		"product": strings.Replace(file, "Genoa", "Rome", 1),
		"id":      strings.Replace(file, "images/a", "Images", 1),
		"twice":   file + fmt.Sprintf("  - {id: images/a, measurement: %s}\n", hexOf(2, 48)),
		"unknown": strings.Replace(file, "description", "note", 1),
	} {
		if _, err := ParseReferenceValues([]byte(bad)); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
	merged := Merge(values(), []ReferenceValue{{ID: "images/one", Measurement: hexOf(9, 48)}, {ID: "new", Measurement: hexOf(9, 48)}})
	if len(merged) != 5 || merged[0].Measurement != hexOf(9, 48) {
		t.Error(merged)
	}
	if _, err := mustParse(t, full()).WithReferenceValues([]ReferenceValue{{ID: "a", Measurement: "x"}}); err == nil {
		t.Error("a malformed value was merged")
	}
	in := good() // a value for one product holds for that product alone
	in.Claims.Registers = launched(7)
	if d := Decide(mustParse(t, full()), in); !has(d, ReasonMeasurement) {
		t.Errorf("%+v", d)
	}
}

func TestVLEKNeedsItsProvider(t *testing.T) {
	in := good()
	in.Claims.SNP.VLEK, in.Claims.SNP.CSPID = true, "provider-a"
	source := strings.Replace(full(), "vmpl: 0", "vmpl: 0\n    vlek_providers: [provider-a]", 1)
	if d := Decide(mustParse(t, source), in); !d.Allowed {
		t.Errorf("%+v", d)
	}
	in.Claims.SNP.CSPID = "provider-b"
	if d := Decide(mustParse(t, source), in); !has(d, ReasonVLEK) {
		t.Errorf("%+v", d)
	}
}

// TestClockSourceIsAskedForOnlyWhereAPolicyDoes: without a list every clock is
// good enough, with one an unknown clock never is, and a rule alone may ask.
func TestClockSourceIsAskedForOnlyWhereAPolicyDoes(t *testing.T) {
	silent := strings.Replace(full(), "  clock_sources: [secure-tsc, tdx-tsc]\n", "", 1)
	in := good()
	in.Guest.ClockSource = evidence.ClockUnknown
	if d := Decide(mustParse(t, silent), in); !d.Allowed {
		t.Errorf("a policy that asks for no clock: %+v", d)
	}
	if text := Explain(mustParse(t, silent)); !strings.Contains(text, "the host may slow a guest's clock") {
		t.Error(text)
	}
	if d := Decide(mustParse(t, full()), in); d.Allowed || !has(d, ReasonClockSource) {
		t.Errorf("an unknown clock: %+v", d)
	}
	if text := Explain(mustParse(t, full())); !strings.Contains(text, "secure-tsc, tdx-tsc") {
		t.Error(text)
	}
	narrow := mustParse(t, strings.Replace(silent, "require: {image_ids: [image-2]}", "require: {clock_sources: [secure-tsc]}", 1))
	in.Guest.ClockSource = evidence.ClockParavirtual
	if d := Decide(narrow, in); !d.Allowed {
		t.Errorf("another rule's clock: %+v", d)
	}
	in.Resource = "models/narrow"
	if d := Decide(narrow, in); d.Allowed || !has(d, ReasonClockSource) {
		t.Errorf("a rule's clock: %+v", d)
	}
	for _, list := range []string{"[]", "[unknown]", "[sundial]", "[tsc, tsc]"} {
		if _, err := Parse([]byte(strings.Replace(full(), "[secure-tsc, tdx-tsc]", list, 1))); err == nil {
			t.Errorf("clock_sources: %s", list)
		}
	}
}

// TestChecksAreComplete: the table is in the order of its numbers, and no
// check lacks a part.
func TestChecksAreComplete(t *testing.T) {
	names := map[string]bool{}
	for id, c := range checks() {
		if c.name == "" || c.run == nil || names[c.name] || (c.configured == nil && !c.always) {
			t.Errorf("check %d: %+v", id, c)
		}
		names[c.name] = true
	}
	for id, name := range map[int]string{checkKind: "evidence-kind", checkVLEK: "vlek", checkMemoryLimit: "memory-limit", checkClockSource: "clock-source", checkTCBCurrent: "tcb-current", checkHostData: "host-data"} {
		if checks()[id].name != name {
			t.Errorf("check %d is %s", id, checks()[id].name)
		}
	}
	if f := (Failure{ReasonDebug, "x"}); f.Error() != "debug-enabled: x" {
		t.Error(f)
	}
}
