//go:build !release

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure"
	"github.com/anchorhold/anchorhold/agent/tenure/restart"
	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/clock"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/localseal"
	"github.com/anchorhold/anchorhold/guest/vtpm"
	"github.com/anchorhold/anchorhold/guest/vtpm/vtpmtest"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// line is the network between an agent and its broker, which may be down.
type line struct {
	net.Listener
	to   string
	down atomic.Bool
	wg   sync.WaitGroup
}

func newLine(t *testing.T, to string) *line {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{Listener: ln, to: to}
	l.wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			l.wg.Go(func() { l.carry(in) })
		}
	})
	t.Cleanup(func() { ln.Close(); l.wg.Wait() }) // ends Accept
	return l
}

func (l *line) carry(in net.Conn) {
	defer in.Close() // as its other end does
	if l.down.Load() {
		return
	}
	out, err := net.Dial("tcp", l.to)
	if err != nil {
		return
	}
	defer out.Close()
	var both sync.WaitGroup
	both.Go(func() { io.Copy(out, in); out.Close() }) //nolint:errcheck // a connection that ends is what there is to copy
	both.Go(func() { io.Copy(in, out); in.Close() })  //nolint:errcheck // as above
	both.Wait()
}

// life runs an agent until it is stopped.
func life(t *testing.T, opt Options) (stop func(), api *http.Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, opt) }()
	api = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", opt.Config.Socket.Path)
	}}}
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the agent ended with %v", err)
		}
	}, api
}

// TestWholeAgentRestartsWithoutItsBroker: it serves, is stopped, the broker goes away, it serves again on its permit and says so
// everywhere; the broker returns, is told, and grants a lease.
func TestWholeAgentRestartsWithoutItsBroker(t *testing.T) {
	if _, err := exec.LookPath("swtpm"); err != nil { // the subprocess would skip, which is no pass
		t.Skip("swtpm is not installed; `apt-get install swtpm` has this test run")
	}
	if clock.Source("/") == evidence.ClockUnknown {
		t.Skip("the kernel of this machine does not name its clock source, so no permit is given here")
	}
	if !inSubprocess(t) {
		return
	}
	policy := strings.Replace(brokertest.DefaultPolicy(), `{resources: ["models/*"]}`, `{resources: ["models/*"], local_restart: {max_hours: 1, max_restarts: 1, seal: [tpm]}}`, 1)
	f, g, dir := brokertest.New(t, brokertest.WithPolicy(policy)), tenuretest.New(t), t.TempDir()
	f.PutFor(brokertest.Resource, tenuretest.ModelKey, g.Model)
	network := newLine(t, f.Address)
	cfg := underBroker(t, g.Config, f, dir)
	cfg.Broker.Address = network.Addr().String()
	cfg.LocalRestart = settings.LocalRestart{Seal: settings.SealTPM}
	cfg.Compute.TEE.Provider = settings.ProviderVTPM // which has one; the evidence is the software TEE's all the same
	tpm, err := vtpm.New(vtpm.Options{Device: vtpmtest.Start(t), PCRs: settings.DefaultSealPCRs()})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "agent.yaml")
	text := strings.Replace(string(configText(cfg)), "provider: software,", "provider: vtpm,", 1) + "local_restart: {seal: tpm}\n"
	write(t, path, []byte(text))
	reload := make(chan os.Signal)
	opt := Options{ConfigPath: path, Config: cfg, Collector: f.TEE, Restarts: restart.With(&localseal.Sealer{TPM: tpm}, protocol.SealingTPM), SoftwareTEE: true, Version: "test", Logger: slog.New(slog.NewTextHandler(f.Logs, nil)), Reload: reload}
	sealed := filepath.Join(cfg.Guest.StateDir, "local-restart.sealed")

	stop, api := life(t, opt)
	waitServing(t, api)
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := os.Stat(sealed); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was sealed\n", f.Logs)
		}
		get(t, api, "/health")
	}
	stop()

	network.down.Store(true)
	stop, api = life(t, opt)
	waitServing(t, api)
	answer := post(t, api, `{"model":"tiny","prompt":"the cat","max_tokens":8}`)
	if health := string(get(t, api, "/health")); !strings.Contains(health, `"on":"permit"`) {
		t.Error(health)
	}
	var s tenure.Status
	if err := json.Unmarshal(get(t, api, "/v1/status"), &s); err != nil || s.Lease == nil || s.Lease.Permit == nil || s.Lease.Permit.Restart != 1 || s.Model == nil || s.Model.Receipts != "verify" {
		t.Errorf("%+v %v", s.Lease, err)
	}
	if metrics := string(get(t, api, "/metrics")); !strings.Contains(metrics, "anchorhold_on_permit 1") {
		t.Error(metrics)
	}
	r, _, _, err := receipt.ParseFile(get(t, api, "/v1/receipts/"+answer.Receipt))
	if err != nil {
		t.Fatal(err)
	}
	roots := []identity.Public{f.Root.Public()}
	if _, err := receipt.Verify(r, roots, receipt.Options{}); err == nil {
		t.Error("an answer on a permit passes for one under a lease")
	} else if reason, _ := refusal.ReasonOf(err); reason != protocol.ReasonOnPermit {
		t.Error(err)
	}
	if report, err := receipt.Verify(r, roots, receipt.Options{Expect: receipt.Expect{Permits: true}}); err != nil || report.Permit.Restart != 1 {
		t.Errorf("%+v, %v", report.Permit, err)
	}

	network.down.Store(false)
	reload <- os.Interrupt // attests at once; the keeper would within two minutes
	for deadline := time.Now().Add(10 * time.Second); ; {
		var now tenure.Status
		if err := json.Unmarshal(get(t, api, "/v1/status"), &now); err != nil {
			t.Fatal(err)
		}
		if now.Lease != nil && now.Lease.Permit == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no lease takes the permit's place\n", f.Logs)
		}
	}
	post(t, api, `{"model":"tiny","prompt":"the cat","max_tokens":8}`)
	if health := string(get(t, api, "/health")); strings.Contains(health, "permit") {
		t.Error(health)
	}
	used := 0
	for _, r := range f.Records() {
		if r.Action == keybroker.ActionRestarted && strings.HasPrefix(r.Detail, "restart 1 of 1") {
			used++
		}
	}
	if used != 1 {
		t.Errorf("the broker has %d records of the restart, want 1", used)
	}
	stop()

	// Once the permit's one restart is used, the next without a broker is refused. The last lease brought
	// another permit, so that one goes first.
	network.down.Store(true)
	for n := range 2 {
		copied, err := os.ReadFile(sealed)
		if err != nil {
			t.Fatal(err)
		}
		stop, api = life(t, opt)
		if n == 0 {
			waitServing(t, api)
		} else {
			waitRefused(t, api, "connection-failed", "tls-handshake")
		}
		stop()
		write(t, sealed, copied)
	}
}

// waitRefused waits until the last attempt to attest failed for one of these reasons, and nothing is served.
func waitRefused(t *testing.T, api *http.Client, reasons ...string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		resp, err := api.Get("http://agent/v1/status")
		if err != nil {
			continue
		}
		var s tenure.Status
		err = errors.Join(json.NewDecoder(resp.Body).Decode(&s), resp.Body.Close())
		if err != nil {
			t.Fatal(err)
		}
		if s.State == "serving" {
			t.Fatal("served")
		}
		for _, reason := range reasons {
			if s.LastRefusal != nil && s.LastRefusal.Reason == reason {
				return
			}
		}
	}
	t.Fatal("the agent does not say why it does not serve")
}
