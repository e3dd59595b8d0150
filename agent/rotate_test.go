//go:build !release

package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/tenure"
	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
)

// TestServingGoesOnThroughARotationOfTLSRoots: the new root is added to the images, the
// certificate is replaced, the old root goes. The agent attests anew at each step, and
// answers after each.
func TestServingGoesOnThroughARotationOfTLSRoots(t *testing.T) {
	if !inSubprocess(t) {
		return
	}
	var shown atomic.Pointer[tls.Certificate]
	f := brokertest.New(t, brokertest.WithConfig(func(c *keybroker.Config) {
		shown.Store(&c.TLS.Certificates[0])
		c.TLS.Certificates = nil
		c.TLS.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return shown.Load(), nil }
	}))
	g, dir := tenuretest.New(t), t.TempDir()
	f.PutFor(brokertest.Resource, tenuretest.ModelKey, g.Model)
	oldRoot := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate.Certificate[0]})
	newRoot, rootKey, err := hybridtls.NewRoot("the next root", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := hybridtls.ParseRoot(newRoot, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := issuer.Issue([]string{brokertest.ServerName}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	next, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}

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

	lease := func() string {
		t.Helper()
		var s tenure.Status
		if err := json.Unmarshal(get(t, api, "/v1/status"), &s); err != nil || s.Lease == nil {
			t.Fatalf("no lease: %+v, %v", s, err)
		}
		return s.Lease.ID
	}
	anew := func(step string) {
		t.Helper()
		before := lease()
		reload <- os.Interrupt
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for limit := time.After(20 * time.Second); lease() == before; {
			select {
			case <-tick.C:
			case <-limit:
				t.Fatalf("%s: no new lease", step)
			}
		}
		post(t, api, `{"model":"tiny","prompt":"the cat","max_tokens":8}`)
	}
	write(t, cfg.Broker.TLSRoots, append(bytes.Clone(oldRoot), newRoot...))
	anew("both roots in the image")
	shown.Store(&next)
	f.Broker.DropKept() // as the daemon does when it reads another certificate
	anew("the certificate replaced")
	write(t, cfg.Broker.TLSRoots, newRoot)
	anew("the old root removed")

	// A file that lost its second root in part is refused while there is time.
	before := lease()
	write(t, cfg.Broker.TLSRoots, append(bytes.Clone(newRoot), oldRoot[:len(oldRoot)/2]...))
	reload <- os.Interrupt
	reload <- os.Interrupt // is taken when the one before is done
	if lease() != before {
		t.Error("roots of which one is cut short were taken")
	}
	post(t, api, `{"model":"tiny","prompt":"the cat","max_tokens":8}`)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
