package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/keybroker/operator"
)

// TestTLSCertificateRotatesAsDocumented follows docs/operations.md beside a running broker,
// and connects after each step with the roots that an image has then.
func TestTLSCertificateRotatesAsDocumented(t *testing.T) {
	steps := documented(t, "**A TLS certificate.**")
	dir := t.TempDir()
	t.Chdir(dir)
	state := filepath.Join(dir, "state")
	at := []string{"/var/lib/anchorhold/broker", state, "broker.example.org", "localhost"}
	follow(t, "anchorhold keygen credential --out broker.kek")
	follow(t, "anchorhold keygen broker --state state --root root.key --host localhost --credential-file broker.kek --tls-days 2")
	socket, reload := startBroker(t, state, filepath.Join(dir, "broker.kek"))
	st, err := operator.NewClient(socket).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var end time.Time
	for name, at := range st.Ends {
		if strings.HasPrefix(name, "tls_certificate") {
			end = at
		}
	}
	if left := time.Until(end); left > 49*time.Hour || left < 47*time.Hour {
		t.Errorf("the chosen validity is two days, and the certificate ends at %s", end)
	}
	connects := func(roots string) bool {
		t.Helper()
		raw, err := os.ReadFile(roots)
		if err != nil {
			t.Fatal(err)
		}
		pool, err := hybridtls.Roots(raw)
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := hybridtls.ClientConfig("localhost", pool, hybridtls.ProfileDefault)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := hybridtls.Dial(t.Context(), "tcp", st.Address, cfg)
		if err != nil {
			return false
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		return true
	}
	first, err := os.ReadFile(filepath.Join(state, "tls.crt"))
	if err != nil {
		t.Fatal(err)
	}
	clitest.Write(t, "first.pem", string(first))
	image, reloads := "first.pem", 0
	for _, line := range steps {
		switch {
		case strings.HasPrefix(line, "systemctl reload"):
			reload()
			reloads++
		case strings.HasPrefix(line, "anchorhold "):
			follow(t, line, at...)
		default: // cat, cp, chown, mv
			line = strings.Replace(line, "chown anchorhold-broker:", fmt.Sprintf("chown %d", os.Geteuid()), 1)
			if out, err := exec.CommandContext(t.Context(), "sh", "-c", strings.NewReplacer(at...).Replace(line)).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v, %s", line, err, out)
			}
		}
		if strings.HasSuffix(line, "tls-roots.pem") {
			image = "tls-roots.pem"
		}
		if strings.HasPrefix(line, "mv ") && strings.HasSuffix(line, ".key") {
			reload() // half of the pair: refused, the broker goes on
		}
		if !connects(image) {
			t.Fatalf("after %q no guest with %s connects", line, image)
		}
	}
	if reloads != 2 || image == "first.pem" {
		t.Fatalf("%d reloads, the image has %s", reloads, image)
	}
	if connects("first.pem") {
		t.Error("the first certificate is still shown")
	}
}

func TestTLSCertificatesAreIssuedWithinTheirRoot(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	expectRun(t, 0, "keep it offline", "keygen", "tls-root", "--out", "root", "--days", "30")
	out, code, err := run(t, "keygen", "tls", "--out", "a", "--host", "localhost", "--days", "10", "--under", "root", "--json")
	var made struct {
		Root     string
		NotAfter time.Time `json:"not_after"`
	}
	if bad := json.Unmarshal([]byte(out), &made); code != 0 || bad != nil || made.Root != "root.crt" || time.Until(made.NotAfter) > 241*time.Hour {
		t.Errorf("%d, %s, %v, %v", code, out, err, bad)
	}
	expectRun(t, cli.StatusFailed, "its root expires", "keygen", "tls", "--out", "b", "--host", "localhost", "--days", "31", "--under", "root")
	expectRun(t, cli.StatusFailed, "not a root", "keygen", "tls", "--out", "b", "--host", "localhost", "--days", "1", "--under", "a")
	expectRun(t, cli.StatusFailed, "no such file", "keygen", "tls", "--out", "b", "--host", "localhost", "--under", "absent")
	expectRun(t, cli.StatusUsage, "1 to 3650 days", "keygen", "tls", "--out", "b", "--host", "localhost", "--days", "0")
	expectRun(t, cli.StatusUsage, "1 to 3650 days", "keygen", "tls-root", "--out", "b", "--days", "3651")
	clitest.Write(t, "b.crt", "somebody's")
	expectRun(t, cli.StatusFailed, "never replaced", "keygen", "tls", "--out", "b", "--host", "localhost")
	if _, err := os.Stat("b.key"); err == nil {
		t.Error("a key was left without its certificate")
	}
}
