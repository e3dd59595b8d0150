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
	for _, budget := range []AuditLog{{RefusalMiBPerDay: -1}, {RefusalKiBPerSource: -1}, {RefusalMiBPerDay: maxRefusalMiB + 1}, {RefusalKiBPerSource: maxRefusalMiB<<10 + 1}} {
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
