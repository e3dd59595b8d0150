//go:build !release

package agent

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// secretsConfig is an agent that serves nothing itself.
func secretsConfig(t *testing.T, f *brokertest.Fixture, dir string) settings.Config {
	cfg := settings.Config{}
	cfg.Compute.TEE.AttestationTTLSeconds, cfg.Compute.TEE.MemoryLimitMB = 600, 64
	cfg = underBroker(t, cfg, f, dir)
	cfg.Credentials.Socket = filepath.Join(dir, "credentials.sock")
	return cfg
}

func secretsText(c settings.Config, secrets string) string {
	text, err := json.Marshal(map[string]any{
		"compute":     map[string]any{"tee": map[string]any{"provider": "software", "attestation_ttl_seconds": 600, "memory_limit_mb": 64}},
		"broker":      map[string]any{"address": c.Broker.Address, "server_name": c.Broker.ServerName, "tls_roots": c.Broker.TLSRoots, "root_keys": c.Broker.RootKeys, "minimum_epoch": 1},
		"guest":       map[string]any{"image_id": "test", "state_dir": c.Guest.StateDir},
		"socket":      map[string]any{"path": c.Socket.Path},
		"credentials": map[string]any{"socket": c.Credentials.Socket},
	})
	if err != nil {
		panic(err) // strings and numbers
	}
	return strings.TrimSuffix(string(text), "}") + `, "secrets": ` + secrets + "}"
}

// TestWholeAgentHandsSecretsOn: an agent without a model attests to a real broker, hands what it is
// released to a unit and a user, takes up a rotation and a changed list, and its lease makes it no
// server of models.
func TestWholeAgentHandsSecretsOn(t *testing.T) {
	if !inSubprocess(t) {
		return
	}
	f, dir := brokertest.New(t), t.TempDir()
	f.SetPolicy(strings.Replace(brokertest.DefaultPolicy(), `{resources: ["models/*"]}`, `{resources: ["secrets/*"]}`, 1))
	f.Put("secrets/web-tls", "the first key")
	cfg := secretsConfig(t, f, dir)
	path := filepath.Join(dir, "agent.yaml")
	uid := strconv.Itoa(os.Getuid())
	with := func(units string) {
		write(t, path, []byte(secretsText(cfg, `[{"name": "tls.key", "resource": "secrets/web-tls", "units": [`+units+`], "users": ["`+uid+`"]}]`)))
	}
	with(`"nginx.service"`)
	cfg, findings, err := settings.Read(path)
	if err != nil || findings.Runnable() != nil {
		t.Fatal(err, findings.Runnable())
	}
	ctx, stop := context.WithCancel(t.Context())
	reload, done := make(chan os.Signal), make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{ConfigPath: path, Config: cfg, Collector: f.TEE, SoftwareTEE: true, Version: "test", Logger: slog.New(slog.DiscardHandler), Reload: reload})
	}()
	api := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", cfg.Socket.Path)
	}}}
	waitServing(t, api)
	load := func(unit string) string {
		t.Helper()
		c, err := net.DialUnix("unix", &net.UnixAddr{Name: "@1f/unit/" + unit + "/tls.key", Net: "unix"}, &net.UnixAddr{Name: cfg.Credentials.Socket, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		got, err := io.ReadAll(c)
		if err != nil {
			t.Fatal(err)
		}
		return string(got)
	}
	if os.Getuid() == 0 { // systemd is root
		if got := load("nginx.service"); got != "the first key" {
			t.Errorf("the unit got %.40q", got)
		}
		if got := load("apache.service"); len(got) <= 1<<20 {
			t.Errorf("another unit got %d bytes", len(got))
		}
	}
	if got := get(t, api, "/v1/secrets/tls.key?wait=20"); string(got) != "the first key" {
		t.Errorf("the user got %q", got)
	}
	var s tenure.Status
	if err := json.Unmarshal(get(t, api, "/v1/status"), &s); err != nil || s.Lease == nil || s.State != "serving" || s.Secrets["tls.key"] != 1 {
		t.Errorf("%+v %v", s, err)
	}

	f.Put("secrets/web-tls", "the second key")
	with(`"apache.service"`)
	reload <- nil
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if string(get(t, api, "/v1/secrets/tls.key")) == "the second key" {
			break
		}
	}
	reload <- nil // taken only when the first has come to its end
	if got := get(t, api, "/v1/secrets/tls.key"); string(got) != "the second key" {
		t.Errorf("after a rotation: %q", got)
	}
	if os.Getuid() == 0 {
		if got := load("apache.service"); got != "the second key" {
			t.Errorf("the unit that is allowed now got %.40q", got)
		}
		if got := load("nginx.service"); len(got) <= 1<<20 {
			t.Errorf("the unit that was allowed got %.40q", got)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestASecretMakesNobodyAServer: the lease of a web server's key lets the guest sign nothing.
func TestASecretMakesNobodyAServer(t *testing.T) {
	f := brokertest.New(t)
	f.SetPolicy(strings.Replace(brokertest.DefaultPolicy(), `{resources: ["models/*"]}`, `{resources: ["secrets/*"]}`, 1))
	f.Put("secrets/web-tls", "the key")
	lease, err := f.Client(nil).Acquire(t.Context(), []string{"secrets/web-tls"})
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Wipe()
	roots := []identity.Public{f.Root.Public()}
	for _, role := range []protocol.Role{protocol.RoleServe, protocol.RoleContribute, protocol.RoleDecrypt, protocol.RoleParty} {
		_, err := protocol.VerifyAuthority(lease.Certificate, roots, protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1)), role, protocol.NoResource(), protocol.Everyone())
		if reason, _ := refusal.ReasonOf(err); reason != protocol.ReasonRole {
			t.Errorf("as %s: %v, want %s", role, err, protocol.ReasonRole)
		}
	}
}
