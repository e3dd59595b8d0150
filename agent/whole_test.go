//go:build !release

package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure"
	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/systemd/service"
)

// inSubprocess runs the calling test again in a process of its own: the agent
// hardens the process that it runs in.
func inSubprocess(t *testing.T) bool {
	if os.Getenv("AGENT_SUBPROCESS") != "" {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "AGENT_SUBPROCESS=1")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// underBroker completes the configuration of an agent on the software TEE whose broker is the
// fixture's. Its files are in the directory.
func underBroker(t *testing.T, cfg settings.Config, f *brokertest.Fixture, dir string) settings.Config {
	t.Helper()
	root, err := f.Root.Public().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Compute.TEE.Provider = "software"
	cfg.Broker = settings.Broker{Address: f.Address, ServerName: brokertest.ServerName, TLSRoots: filepath.Join(dir, "tls.pem"), RootKeys: []string{string(root)}, MinimumEpoch: 1}
	write(t, cfg.Broker.TLSRoots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate.Certificate[0]}))
	cfg.Guest = settings.Guest{ImageID: "test", StateDir: filepath.Join(dir, "state")}
	cfg.Socket = settings.Socket{Path: filepath.Join(dir, "agent.sock")}
	return cfg
}

// TestWholeAgentServesUnderARealBroker attests to a real broker, answers on its
// socket, issues a receipt that verifies, reloads and drains.
func TestWholeAgentServesUnderARealBroker(t *testing.T) {
	if !inSubprocess(t) {
		return
	}
	f, g, dir := brokertest.New(t), tenuretest.New(t), t.TempDir()
	f.PutFor(brokertest.Resource, tenuretest.ModelKey, g.Model)
	cfg := underBroker(t, g.Config, f, dir)
	path := filepath.Join(dir, "agent.yaml")
	write(t, path, configText(cfg))

	ctx, stop := context.WithCancel(t.Context())
	reload, done := make(chan os.Signal), make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{ConfigPath: path, Config: cfg, Collector: f.TEE, SoftwareTEE: true, Version: "test", Logger: slog.New(slog.DiscardHandler), Reload: reload})
	}()
	api := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", cfg.Socket.Path)
	}}}
	waitServing(t, api)

	answer := post(t, api, `{"model":"tiny","prompt":"the cat","max_tokens":8}`)
	kept := get(t, api, "/v1/receipts/"+answer.Receipt)
	r, _, _, err := receipt.ParseFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	report, err := receipt.Verify(r, []identity.Public{f.Root.Public()}, receipt.Options{})
	if err != nil || report.Body.ModelVersion != 3 || report.Lease.ImageID != "test" || !report.SoftwareTEE {
		t.Errorf("%+v %v", report.Body, err)
	}
	var s tenure.Status
	if err := json.Unmarshal(get(t, api, "/v1/status"), &s); err != nil || s.Lease == nil || s.Model == nil || s.Model.Receipts != "verify" || s.Lease.TLSGroup != "X25519MLKEM768" {
		t.Errorf("%+v %v", s, err)
	}
	metrics := string(get(t, api, "/metrics"))
	if !strings.Contains(metrics, "anchorhold_serving 1") {
		t.Error(metrics)
	}
	for _, kind := range []string{"epoch", "tls_certificate", "certificate"} {
		if !strings.Contains(metrics, "anchorhold_"+kind+"_ends_seconds ") {
			t.Errorf("when the %s ends is not in\n%s", kind, metrics)
		}
	}
	if len(s.Ends) < 5 || s.Ends["epoch the broker's"].IsZero() { // epoch, TLS certificate, three of the evidence
		t.Errorf("%+v", s.Ends)
	}

	d := &daemon{keeper: &tenure.Keeper{}, address: cfg.Socket.Path}
	if err := d.healthy(t.Context()); err != nil {
		t.Errorf("a serving agent is not healthy: %v", err)
	}
	d.keeper.Attempt.Begin(time.Now().Add(-time.Hour))
	if d.healthy(t.Context()) == nil {
		t.Error("an agent whose keeper hangs is healthy")
	}
	d.keeper.Attempt.End()
	d.reloading.Underway.Begin(time.Now().Add(-2 * reloadAfter))
	if d.healthy(t.Context()) == nil {
		t.Error("an agent whose reload hangs is healthy")
	}
	d.reloading.Underway.End()
	if _, err := service.LockState(cfg.Guest.StateDir); !errors.Is(err, service.ErrRunning) {
		t.Errorf("a second agent on the same state: %v", err)
	}

	before := s.Lease.ID
	reload <- os.Interrupt // whatever signal it was: the channel is the request
	for deadline := time.Now().Add(10 * time.Second); ; {
		if err := json.Unmarshal(get(t, api, "/v1/status"), &s); err == nil && s.Lease != nil && s.Lease.ID != before {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a reload did not attest anew")
		}
	}
	post(t, api, `{"model":"tiny","prompt":"the cat","max_tokens":8}`)
	write(t, path, []byte("nonsense: true\n"))
	reload <- os.Interrupt
	post(t, api, `{"model":"tiny","prompt":"the cat","max_tokens":8}`)

	stop()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("the agent ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the agent does not end")
	}
	if d.healthy(t.Context()) == nil {
		t.Error("an agent that ended is healthy")
	}
	if _, err := os.Stat(cfg.Socket.Path); err == nil {
		t.Error("the socket is still there")
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// configText writes the configuration as a user would.
func configText(c settings.Config) []byte {
	m := c.Models[0]
	return fmt.Appendf(nil, `compute: {tee: {provider: software, attestation_ttl_seconds: 600, memory_limit_mb: 64}}
broker: {address: %q, server_name: %q, tls_roots: %q, root_keys: [%q], minimum_epoch: 1}
guest: {image_id: test, state_dir: %q}
models: [{name: tiny, path: %q, resource: models/test, publisher: %q, threads: 1, context: 64}]
socket: {path: %q}
`, c.Broker.Address, c.Broker.ServerName, c.Broker.TLSRoots, c.Broker.RootKeys[0], c.Guest.StateDir, m.Path, m.Publisher, c.Socket.Path)
}

func waitServing(t *testing.T, api *http.Client) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		resp, err := api.Get("http://agent/health")
		if err != nil {
			continue
		}
		code := resp.StatusCode
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if code == http.StatusOK {
			return
		}
	}
	t.Fatal("the agent does not serve")
}

func get(t *testing.T, api *http.Client, path string) []byte {
	t.Helper()
	resp, err := api.Get("http://agent" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v %s", path, resp.Status, err, data)
	}
	return data
}

type completion struct {
	Receipt string `json:"receipt"`
	Choices []struct {
		Text string `json:"text"`
	} `json:"choices"`
}

// post asks until the model is served: while it is opened anew, as after a
// reload, the answer is 503.
func post(t *testing.T, api *http.Client, body string) completion {
	t.Helper()
	var c completion
	for deadline := time.Now().Add(10 * time.Second); ; {
		resp, err := api.Post("http://agent/v1/completions", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(resp.Body)
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == http.StatusServiceUnavailable && time.Now().Before(deadline) {
			continue
		}
		if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(data, &c) != nil || c.Receipt == "" {
			t.Fatalf("%s %v %s", resp.Status, err, data)
		}
		return c
	}
}
