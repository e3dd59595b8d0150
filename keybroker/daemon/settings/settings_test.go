package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/operator"
)

const good = "state_dir: /s\nlisten: 0.0.0.0:8443\nunlock: {credential: broker.kek}\noperator: {socket: /run/s}\n"

func TestConfig(t *testing.T) {
	c, err := Parse([]byte(good))
	if err != nil || c.CheckpointEvery() != time.Minute || len(c.Operator.Operators()) != 2 || c.Limits.Connections() != defaultKept {
		t.Fatal(c, err)
	}
	c.Limits.CheckpointSeconds, c.Operator.OperatorUIDs = 5, []uint32{7}
	if c.CheckpointEvery() != 5*time.Second || c.Operator.Operators()[0] != 7 {
		t.Fatal(c)
	}
	limited := good + "limits: {connections: 10, unproven: 5, per_source: 3, ipv4_prefix: 24, ipv6_prefix: 56, balancers: [192.0.2.0/24], body_mib: 8, verifications: 2, kept: 0}\n" +
		"proofs: {listen: ':1', limits: {connections: 7}}\n"
	limited = strings.Replace(limited, "{socket: /run/s}", "{socket: /run/s, limits: {per_source: 9}}", 1)
	if c, err := Parse([]byte(limited)); err != nil || c.Limits.Unproven != 5 || c.Limits.IPv6Prefix != 56 || c.Limits.Balancers[0] != "192.0.2.0/24" ||
		c.Limits.Verifications != 2 || c.Proofs.Limits.Connections != 7 || c.Operator.Limits.PerSource != 9 || c.Limits.Connections() != 0 {
		t.Errorf("%+v %v", c, err)
	}
	for name, bad := range map[string]string{
		"unknown limit": good + "limits: {per_peer: 1}\n", "balancer": good + "limits: {balancers: [lb.example.org]}\n",
		"operators' limits": strings.Replace(good, "/run/s}", "/run/s, limits: {body_mib: -1}}", 1), "registry's limits": good + "proofs: {listen: ':1', limits: {ipv4_prefix: 33}}\n",
		"empty": "", "unknown": good + "x: 1\n", "relative": strings.Replace(good, "/s", "s", 1), "listen": strings.Replace(good, ":8443", "", 1),
		"profile": good + "profile: classical\n", "both": strings.Replace(good, "{credential: broker.kek}", "{credential: a, passphrase: b}", 1),
		"socket": strings.Replace(good, "/run/s", "s", 1), "long socket": strings.Replace(good, "/run/s", "/"+strings.Repeat("s", operator.MaxPath), 1), "limits": good + "limits: {connections: -1}\n", "kept": good + "limits: {kept: -1}\n", "level": good + "log: {level: loud}\n", "format": good + "log: {format: xml}\n",
	} {
		if _, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	path := filepath.Join(t.TempDir(), "c.yaml")
	if _, err := Load(path); err == nil {
		t.Error("a missing file loaded")
	}
	if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err != nil {
		t.Error(err)
	}
}

func TestAuditBudgetsAreBounded(t *testing.T) {
	for _, budget := range []AuditLog{{RefusalMiBPerDay: -1}, {RefusalKiBPerSource: -1}, {RefusalMiBPerDay: maxRefusalMiB + 1}, {RefusalKiBPerSource: maxRefusalMiB<<10 + 1},
		{InputsMiB: -1}, {InputsMiB: maxInputsMiB + 1}, {InputsDays: new(-1)}, {InputsDays: new(maxInputsDays + 1)}} {
		c, err := Parse([]byte(good))
		if err != nil {
			t.Fatal(err)
		}
		c.Audit = budget
		if c.Check() == nil {
			t.Errorf("%+v was accepted", budget)
		}
	}
}

func TestChangesNeedARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "broker.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(good)
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Changed(path); err != nil {
		t.Errorf("the same file: %v", err)
	}
	if err := c.Changed(""); err != nil {
		t.Errorf("without a file: %v", err)
	}
	write(good + "profile: fips\n")
	if reason, _ := refusal.ReasonOf(c.Changed(path)); reason != ReasonRestart {
		t.Errorf("another profile: %q", reason)
	}
	write("x: 1\n")
	if c.Changed(path) == nil {
		t.Error("a file that is none was passed over")
	}
}

// TestAppraisalSettingsAreChecked: each mistake is refused with the setting's name.
func TestAppraisalSettingsAreChecked(t *testing.T) {
	whole := `appraisal:
  collateral: {directory: /c, kds: "https://mirror.example/kds", pccs: "https://mirror.example/pccs"}
  tdx: {minimum_evaluation_number: 18}
  tpm: {roots: [google, ` + strings.Repeat("5a", 32) + `], certificates: [/x], enrolled: [000b` + strings.Repeat("5a", 32) + `], without_revocation: no lists are published}
  gpu: true
`
	c, err := Parse([]byte(good + whole))
	if err != nil || c.Appraisal.TDX.MinimumEvaluationNumber != 18 || !c.Appraisal.GPU || c.Appraisal.Collateral.Directory != "/c" {
		t.Fatalf("%+v, %v", c.Appraisal, err)
	}
	if keys, err := c.Appraisal.TPM.RootKeys([][32]byte{{1}, {2}}); err != nil || len(keys) != 3 || keys[2][31] != 0x5a {
		t.Error(keys, err)
	}
	if names, err := c.Appraisal.TPM.EnrolledNames(); err != nil || len(names) != 1 || len(names[0]) != 34 {
		t.Error(names, err)
	}
	for text, want := range map[string]string{
		"{revocation_grace_hours: -1}":                                                       "revocation_grace_hours",
		"{collateral: {offline: true}}":                                                      "a directory is required",
		"{collateral: {directory: /c}, revocation_grace_hours: 1}":                           "collateral.grace",
		"{collateral: {directory: /c, grace: {until: '2026-11-01T00:00:00Z'}}}":              "grace.reason",
		"{collateral: {directory: /c, grace: {until: '2026-11-01T00:00:00Z', reason: ' '}}}": "grace.reason",
		"{collateral: {directory: /c, grace: {until: tomorrow, reason: a}}}":                 "grace.until",
		"{collateral: {directory: /c, grace: {reason: a}}}":                                  "grace.until",
		"{collateral: {grace: {until: '2026-11-01T00:00:00Z', reason: a}}}":                  "a directory is required",
		"{collateral: {directory: c}}":                                                       "absolute path",
		"{collateral: {directory: /c}, revocation_lists: [/l]}":                              "revocation_lists",
		"{collateral: {directory: /c, pcs: 'https://a', pccs: 'https://b'}}":                 "pccs stands for",
		"{collateral: {directory: /c, offline: true, kds: 'https://a'}}":                     "offline",
		"{collateral: {directory: /c, kds: 'http://mirror.example'}}":                        "collateral.kds",
		"{collateral: {directory: /c, pcs_root: 'ftp://mirror.example'}}":                    "collateral.pcs_root",
		"{tdx: {minimum_evaluation_number: 18}}":                                             "appraisal.collateral.directory",
		"{tdx: {minimum_evaluation_number: -1}}":                                             "out of range",
		"{tdx: {minimum: 1}}":                                                                "minimum",
		"{tpm: {roots: [google]}}":                                                           "without_revocation",
		"{tpm: {roots: [amazon], without_revocation: x}}":                                    "roots: entry 1",
		"{tpm: {roots: [5a5a], without_revocation: x}}":                                      "roots: entry 1",
		"{tpm: {certificates: [/x]}}":                                                        "certificates: without roots",
		"{tpm: {without_revocation: x}}":                                                     "there are none",
		"{tpm: {enrolled: [5a]}}":                                                            "enrolled: entry 1",
		"{tpm: {enrolled: [000c" + strings.Repeat("5a", 32) + "]}}":                          "enrolled: entry 1",
		"{tpm: {revocation_lists: [/l]}}":                                                    "revocation_lists: they are about roots",
		"{gpu_revocation_lists: [/l]}":                                                       "none is judged",
		"{gpu_without_revocation: x}":                                                        "none is judged",
		"{gpu: 2}":                                                                           "want true or false",
	} {
		if _, err := Parse([]byte(good + "appraisal: " + text + "\n")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestWhatIsNotCheckedForRevocationIsSaid, with the setting that would change it.
func TestWhatIsNotCheckedForRevocationIsSaid(t *testing.T) {
	for text, want := range map[string]string{
		"{}": "",
		"{tpm: {roots: [google], revocation_lists: [/l]}, gpu: true, gpu_revocation_lists: [/g]}":          "",
		"{tpm: {roots: [google], without_revocation: x}}":                                                  "tpm.revocation_lists",
		"{gpu: true, gpu_without_revocation: x}":                                                           "gpu_revocation_lists",
		"{tpm: {roots: [google], revocation_lists: [/l], without_revocation: x}, gpu: true}":               "gpu_revocation_lists",
		"{tpm: {enrolled: [000b" + strings.Repeat("5a", 32) + "]}, gpu: true, gpu_revocation_lists: [/g]}": "",
	} {
		c, err := Parse([]byte(good + "appraisal: " + text + "\n"))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := c.Appraisal.RevocationUnchecked(); len(got) > 1 || (len(got) == 1) != (want != "") || want != "" && !strings.Contains(got[0], want) {
			t.Errorf("%s: got %v, want %q", text, got, want)
		}
	}
}

// TestInputsAreKeptForAYearUnlessSaidOtherwise, and 0 days keep none.
func TestInputsAreKeptForAYearUnlessSaidOtherwise(t *testing.T) {
	for want, a := range map[time.Duration]AuditLog{0: {}, -1: {InputsDays: new(0)}, 48 * time.Hour: {InputsDays: new(2)}} {
		if got := a.InputsKeep(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
