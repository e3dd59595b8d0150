//go:build !release

package agent

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/tenure"
	"github.com/anchorhold/anchorhold/agent/tenure/openmodel"
	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// TestABrokerCountsOneLeaseForAModelThatCannotBeOpened: a whole agent under a real broker
// says why on every channel, and takes one lease for the file, then one for the next.
func TestABrokerCountsOneLeaseForAModelThatCannotBeOpened(t *testing.T) {
	longtest.Run(t, "it waits for several leases of a real broker")
	if !inSubprocess(t) {
		return
	}
	f, g, dir := brokertest.New(t), tenuretest.New(t), t.TempDir()
	good := filepath.Join(dir, "good.ahm")
	tenuretest.Install(t, g.Sealed, good)
	g.Replace(t, func(path string) { g.Unsupported(t, path) })
	f.Put(brokertest.Resource, tenuretest.ModelKey)
	cfg := underBroker(t, g.Config, f, dir)
	path := filepath.Join(dir, "agent.yaml")
	write(t, path, configText(cfg))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	var log lockedBuffer
	go func() {
		done <- Run(ctx, Options{ConfigPath: path, Config: cfg, Collector: f.TEE, SoftwareTEE: true, Version: "test", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	}()
	api := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", cfg.Socket.Path)
	}}}
	leases := func() (n int) {
		for _, r := range f.Records() {
			if r.Kind == audit.KindGrant {
				n++
			}
		}
		return n
	}
	ask := func(method, path, body string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://agent"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := api.Do(req)
		if err != nil {
			return 0, ""
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(data)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		var s tenure.Status
		if _, body := ask("GET", "/v1/status", ""); json.Unmarshal([]byte(body), &s) == nil && s.State == string(openmodel.ReasonUnsupported) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the status does not say why:\n%s", log.String())
		}
	}
	for _, channel := range [][3]string{{"GET", "/health", ""}, {"POST", "/v1/completions", `{"model":"tiny","prompt":"x"}`}, {"POST", "/v1/chat/completions", `{"model":"tiny","messages":[{"role":"user","content":"x"}]}`}} {
		if code, body := ask(channel[0], channel[1], channel[2]); code != http.StatusServiceUnavailable || !strings.Contains(body, `"code":"model-unsupported"`) || !strings.Contains(body, "llama.final_logit_softcapping") {
			t.Errorf("%s: %d %s", channel[1], code, body)
		}
	}
	if text := log.String(); !strings.Contains(text, "model cannot be opened") || !strings.Contains(text, "reason=model-unsupported") || strings.Contains(text, "attestation failed") {
		t.Errorf("the log says\n%s", text)
	}
	if n := leases(); n != 1 {
		t.Errorf("%d leases", n)
	}
	tenuretest.Install(t, good, g.Sealed)
	waitServing(t, api)
	if n := leases(); n != 2 {
		t.Errorf("%d leases after another file", n)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// lockedBuffer is a log that one goroutine writes and another reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
