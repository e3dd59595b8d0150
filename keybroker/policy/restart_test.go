package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// TestRestartsArePermittedInWritingAlone: without the setting none, and each half-said permit is refused.
func TestRestartsArePermittedInWritingAlone(t *testing.T) {
	for name, tc := range map[string]struct {
		rule  LocalRestart
		roles protocol.Role
		words string
	}{
		"nothing":                {LocalRestart{}, protocol.RoleServe, "seal"},
		"no seal":                {LocalRestart{MaxHours: 8, MaxRestarts: 3}, protocol.RoleServe, "seal"},
		"an unknown seal":        {LocalRestart{MaxHours: 8, MaxRestarts: 3, Seal: []string{"disk"}}, protocol.RoleServe, "disk"},
		"a seal twice":           {LocalRestart{MaxHours: 8, MaxRestarts: 3, Seal: []string{"tpm", "tpm"}}, protocol.RoleServe, "twice"},
		"no hours":               {LocalRestart{MaxRestarts: 3, Seal: []string{"tpm"}}, protocol.RoleServe, "max_hours"},
		"too many hours":         {LocalRestart{MaxHours: 25, MaxRestarts: 3, Seal: []string{"tpm"}}, protocol.RoleServe, "max_hours"},
		"no restarts":            {LocalRestart{MaxHours: 8, Seal: []string{"tpm"}}, protocol.RoleServe, "max_restarts"},
		"too many restarts":      {LocalRestart{MaxHours: 8, MaxRestarts: 17, Seal: []string{"sev-snp+tpm"}}, protocol.RoleServe, "max_restarts"},
		"a count of nothing":     {LocalRestart{MaxHours: 8, MaxRestarts: 3, Seal: []string{"sev-snp"}, RestartsNotCounted: "why not"}, protocol.RoleServe, "max_restarts"},
		"no count and no reason": {LocalRestart{MaxHours: 8, Seal: []string{"sev-snp"}}, protocol.RoleServe, "restarts_not_counted"},
		"a blank reason":         {LocalRestart{MaxHours: 8, Seal: []string{"sev-snp"}, RestartsNotCounted: " "}, protocol.RoleServe, "restarts_not_counted"},
		"a long reason":          {LocalRestart{MaxHours: 8, Seal: []string{"sev-snp"}, RestartsNotCounted: strings.Repeat("x", maxTextBytes+1)}, protocol.RoleServe, "restarts_not_counted"},
		"a reason for nothing":   {LocalRestart{MaxHours: 8, MaxRestarts: 3, Seal: []string{"tpm"}, RestartsNotCounted: "why not"}, protocol.RoleServe, "restarts_not_counted"},
		"a rule of another role": {LocalRestart{MaxHours: 8, MaxRestarts: 3, Seal: []string{"tpm"}}, protocol.RoleContribute, "role"},
	} {
		if r, err := compileRestart(&tc.rule, tc.roles); err == nil || !strings.Contains(err.Error(), tc.words) || r.Lasts != 0 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	all := []protocol.Sealing{0, protocol.SealingTPM, protocol.SealingSNP, protocol.SealingTPM | protocol.SealingSNP}
	permits := func(l *LocalRestart) (list []protocol.Sealing) {
		r, err := compileRestart(l, protocol.RoleServe)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			if r.Permits(s) {
				list = append(list, s)
			}
			if r.until(0).Permits(s) {
				t.Errorf("%s is permitted past the end of the policy", s)
			}
		}
		return list
	}
	if got := permits(nil); got != nil {
		t.Errorf("a rule that says nothing permits %v", got)
	}
	if got := permits(&LocalRestart{MaxHours: 24, MaxRestarts: 16, Seal: []string{"tpm"}}); len(got) != 1 || got[0] != protocol.SealingTPM {
		t.Errorf("tpm permits %v", got)
	}
	if got := permits(&LocalRestart{MaxHours: 1, MaxRestarts: 1, Seal: []string{"sev-snp", "sev-snp+tpm"}, RestartsNotCounted: "the hosts are ours"}); len(got) != 2 {
		t.Errorf("two permit %v", got)
	}
}

// TestPolicyWithRestartsSaysSo: it reaches the decision, a reviewer and the warnings, and no
// policy without it has another digest than before.
func TestPolicyWithRestartsSaysSo(t *testing.T) {
	base, rule := full(), "  - resources: [models/*]\n"
	plain := mustParse(t, base)
	if strings.Contains(string(plain.canonicals), "local_restart") || strings.Contains(Explain(plain), "without the broker") || strings.Contains(strings.Join(plain.Warnings(), ""), "without this broker") {
		t.Error("a policy without restarts speaks of them")
	}
	p := mustParse(t, strings.Replace(base, rule, rule+"    local_restart: {max_hours: 8, max_restarts: 3, seal: [tpm]}\n", 1))
	if p.Digest() == plain.Digest() {
		t.Error("restarts are no part of the digest")
	}
	in := good()
	d := Decide(p, in)
	if !d.Allowed || !d.Restart.Permits(protocol.SealingTPM) || d.Restart.Most != 3 || d.Restart.Lasts != 8*time.Hour {
		t.Errorf("%+v", d)
	}
	if d := Decide(plain, in); d.Restart.Lasts != 0 {
		t.Errorf("%+v", d.Restart)
	}
	in.Now = p.notAfter.Add(-time.Hour)
	if d := Decide(p, in); d.Restart.Lasts != time.Hour {
		t.Errorf("a permit of %s, an hour before the end of the policy", d.Restart.Lasts)
	}
	in.Guest.Tenant = "tenant-2"
	if d := Decide(p, in); d.Allowed || d.Restart.Permits(protocol.SealingTPM) {
		t.Errorf("a guest that is refused may restart: %+v", d)
	}
	if w := strings.Join(p.Warnings(), "\n"); !strings.Contains(w, "3 times, for 8 h") || !strings.Contains(w, "whoever emulates that TPM") {
		t.Errorf("warnings: %s", w)
	}
	if !strings.Contains(Explain(p), "8h0m0s, 3 restarts, sealed with tpm") {
		t.Error(Explain(p))
	}
}
