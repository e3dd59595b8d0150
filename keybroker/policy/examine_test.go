package policy

import (
	"bytes"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// remedied are guests that are refused, each for what its name says, and whether a policy could be
// changed to allow them.
func remedied() map[string]struct {
	change func(*Input)
	checks string
	beyond bool
} {
	type c = struct {
		change func(*Input)
		checks string
		beyond bool
	}
	seven := func(n int) []byte { return bytes.Repeat([]byte{0x77}, n) }
	return map[string]c{
		"resource":         {func(in *Input) { in.Resource = "other/tiny" }, "", false},
		"not a name":       {func(in *Input) { in.Resource = "../x" }, "", true},
		"before":           {func(in *Input) { in.Now = in.Now.AddDate(-20, 0, 0) }, "", false},
		"after":            {func(in *Input) { in.Now = in.Now.AddDate(20, 0, 0) }, "", false},
		"measurement":      {func(in *Input) { in.Claims.Registers[0].Value = seven(48) }, "measurement", false},
		"image":            {func(in *Input) { in.Guest.ImageID = "image-9" }, "image", false},
		"no image":         {func(in *Input) { in.Guest.ImageID = "" }, "image", true},
		"build":            {func(in *Input) { in.Guest.AgentBuild = "build-9" }, "agent-build", false},
		"tenant":           {func(in *Input) { in.Guest.Tenant = "tenant-9" }, "tenant", false},
		"little memory":    {func(in *Input) { in.Guest.MemoryLimit = 1 << 20 }, "memory-limit", false},
		"much memory":      {func(in *Input) { in.Guest.MemoryLimit = 1<<50 + 1 }, "memory-limit", false},
		"debug":            {func(in *Input) { in.Claims.Debug = true }, "debug", true},
		"migration":        {func(in *Input) { in.Claims.Migratable = true }, "migration", true},
		"vmpl":             {func(in *Input) { in.Claims.SNP.VMPL = 3 }, "vmpl", false},
		"committed":        {func(in *Input) { in.Claims.SNP.TCB.Committed.SNP = 1 }, "tcb-committed", false},
		"reported, launch": {func(in *Input) { in.Claims.SNP.TCB.Reported.SNP, in.Claims.SNP.TCB.Launch.Microcode = 1, 1 }, "tcb-reported tcb-launch", false},
		"chip":             {func(in *Input) { in.Claims.SNP.ChipID = seven(64) }, "chip-ids", false},
		"masked chip":      {func(in *Input) { in.Claims.SNP.ChipID, in.Claims.SNP.ChipMasked = make([]byte, 64), true }, "chip-ids", false},
		"id key":           {func(in *Input) { in.Claims.SNP.IDKeyDigest = seven(48) }, "id-key", false},
		"no id key":        {func(in *Input) { in.Claims.SNP.IDKeyDigest = make([]byte, 48) }, "id-key", false},
		"host data":        {func(in *Input) { in.Claims.SNP.HostData = seven(32) }, "host-data", false},
		"report version":   {func(in *Input) { in.Claims.SNP.ReportVersion = 2 }, "report-version", false},
		"unknown bits":     {func(in *Input) { in.Claims.SNP.PlatformInfo |= 1 << 40 }, "platform-bits", false},
		"no report":        {func(in *Input) { in.Claims.SNP = nil }, "", true},
	}
}

// TestTheRemedyAllowsAndNothingLessDoes: each change of a remedy is for a check that failed, the policy
// with all of them allows, and where no policy could allow, none is claimed.
func TestTheRemedyAllowsAndNothingLessDoes(t *testing.T) {
	p := mustParse(t, full())
	if e := Examine(p, good()); !e.Allowed || e.Remedy != nil || len(e.Rules) == 0 || !e.Rules[0].Decides {
		t.Fatalf("%+v", e)
	}
	for name, c := range remedied() {
		in := good()
		c.change(&in)
		e := Examine(p, in)
		if e.Allowed || e.Remedy == nil {
			t.Errorf("%s: %+v", name, e.Decision)
			continue
		}
		if beyond := len(e.Remedy.Beyond) > 0; beyond != c.beyond || e.Remedy.Allows == c.beyond {
			t.Errorf("%s: %+v", name, e.Remedy)
		}
		checkSteps(t, name, e)
		if c.checks == "" {
			continue
		}
		for _, check := range strings.Fields(c.checks) {
			if !strings.Contains(failedSteps(e), check) {
				t.Errorf("%s: failed: %s", name, failedSteps(e))
			}
		}
		for _, change := range e.Remedy.Changes {
			if !strings.Contains(c.checks, change.Check) || change.Text == "" {
				t.Errorf("%s: needless: %+v", name, change)
			}
		}
	}
	if again := mustParse(t, full()); again.Digest() != p.Digest() || !Decide(p, good()).Allowed {
		t.Error("the policy was changed")
	}
}

func failedSteps(e Examination) string {
	var out []string
	for _, s := range e.Steps {
		if s.Outcome == Failed {
			out = append(out, s.Check)
		}
	}
	return strings.Join(out, " ")
}

// checkSteps wants every reason of the decision at a step, and no step to fail without one.
func checkSteps(t *testing.T, name string, e Examination) {
	t.Helper()
	for _, s := range e.Steps {
		found := false
		for _, f := range e.Reasons {
			found = found || string(f.Reason) == s.Reason && f.Detail == s.Detail
		}
		if found != (s.Outcome == Failed) {
			t.Errorf("%s: step %+v, reasons %+v", name, s, e.Reasons)
		}
	}
}

// TestTheRemedyOfDomains is that of trust domains.
func TestTheRemedyOfDomains(t *testing.T) {
	p := tdxParse(t, tdxFull())
	six := bytes.Repeat([]byte{0x66}, 48)
	for name, c := range map[string]struct {
		change func(*evidence.Claims)
		beyond bool
	}{
		"register":       {func(c *evidence.Claims) { c.Registers[2].Value = six }, false},
		"status":         {func(c *evidence.Claims) { c.TDX.TCB.Status = evidence.TCBConfigurationNeeded }, false},
		"revoked":        {func(c *evidence.Claims) { c.TDX.TCB.Status = evidence.TCBRevoked }, true},
		"advisory":       {func(c *evidence.Claims) { c.TDX.TCB.Advisories = []string{"INTEL-SA-00002"} }, false},
		"evaluation":     {func(c *evidence.Claims) { c.TDX.TCB.EvaluationNumber = 16 }, false},
		"sept ve":        {func(c *evidence.Claims) { c.TDX.TDAttributes &^= evidence.TDAttributeSEPTVEDisable }, false},
		"attribute":      {func(c *evidence.Claims) { c.TDX.TDAttributes |= evidence.TDAttributePerfmon }, false},
		"attribute bit":  {func(c *evidence.Claims) { c.TDX.TDAttributes |= 1 << 40 }, false},
		"xfam":           {func(c *evidence.Claims) { c.TDX.XFAM |= 1 << 9 }, false},
		"module":         {func(c *evidence.Claims) { c.TDX.MRSEAM = six }, false},
		"signer":         {func(c *evidence.Claims) { c.TDX.MRSignerSEAM = six }, false},
		"service domain": {func(c *evidence.Claims) { c.TDX.MRServiceTD = six }, false},
		"partition":      {func(c *evidence.Claims) { c.TDX.Extended = &evidence.TDXExtended{VMID: 1} }, true},
		"no config id":   {func(c *evidence.Claims) { c.TDX.MRConfigID = make([]byte, 48) }, false},
		"platform":       {func(c *evidence.Claims) { c.TDX.FMSPC = six[:6] }, false},
		"no log":         {func(c *evidence.Claims) { c.EventLog = nil }, false},
		"secure boot":    {func(c *evidence.Claims) { c.EventLog.SecureBoot = nil }, false},
		"program":        {func(c *evidence.Claims) { c.EventLog.Boot[0].Digest = six }, false},
	} {
		in := tdxGood()
		c.change(&in.Claims)
		e := Examine(p, in)
		if e.Allowed || e.Remedy == nil || e.Remedy.Allows == c.beyond || (len(e.Remedy.Beyond) > 0) != c.beyond {
			t.Errorf("%s: %+v, %+v", name, e.Reasons, e.Remedy)
		}
		checkSteps(t, name, e)
	}
}

// TestARuleIsMendedWhereItStands: the policy's own requirement is not widened for what a rule narrows.
func TestARuleIsMendedWhereItStands(t *testing.T) {
	p := mustParse(t, full())
	in := good()
	in.Resource = "models/narrow"
	e := Examine(p, in)
	if e.Allowed || !e.Remedy.Allows || len(e.Remedy.Changes) != 1 || !strings.HasPrefix(e.Remedy.Changes[0].Text, "rules[1].require.image_ids: add ") {
		t.Errorf("%+v", e.Remedy)
	}
	if len(e.Rules) != 2 || e.Rules[0].Pattern != "models/narrow" || e.Rules[1].Decides {
		t.Errorf("%+v", e.Rules)
	}
}

// TestNothingIsExaminedUnderNoPolicy, and the zero policy's steps refuse.
func TestNothingIsExaminedUnderNoPolicy(t *testing.T) {
	if e := Examine(nil, good()); e.Allowed || len(e.Steps) != 0 || !has(e.Decision, ReasonNoPolicy) {
		t.Errorf("%+v", e)
	}
}

// TestARemedyThatDoesNotHelpSaysSo: the changed policy is asked, and not only made.
func TestARemedyThatDoesNotHelpSaysSo(t *testing.T) {
	in := tdxGood()
	in.Claims.TDX.MRSignerSEAM = bytes.Repeat([]byte{0x66}, 48)
	p := tdxParse(t, tdxFull())
	if e := Examine(p, in); !e.Remedy.Allows {
		t.Errorf("another signer: %+v", e.Remedy)
	}
	in.Claims.TDX.SEAMAttributes = 1 // no list of signers accepts those
	if e := Examine(p, in); e.Allowed || e.Remedy.Allows {
		t.Errorf("%+v", e.Remedy)
	}
}
