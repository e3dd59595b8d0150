package daemon

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/systemd/listen/listentest"
)

type underAttack struct {
	Address     string
	Certificate []byte
}

func serveForAttack(t *testing.T, ready func(any)) {
	dir := t.TempDir()
	cert := certificate(t, dir)
	s, err := settings(t, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, s, slog.New(slog.NewTextHandler(os.Stderr, nil)), nil) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("tcp", s.Listen); err == nil {
			c.Close()
			break
		}
		select {
		case err := <-ended:
			t.Fatal(err)
		case <-tick.C:
		}
	}
	ready(underAttack{s.Listen, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestAggregatorUnderAttack: 100 connections without a name held 255 MiB, and one lack
// of descriptors ended the listener for good.
func TestAggregatorUnderAttack(t *testing.T) {
	server := listentest.Start(t, serveForAttack)
	if server == nil {
		return
	}
	var u underAttack
	server.Decode(t, &u)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(u.Certificate)
	cfg, err := hybridtls.ClientConfig("127.0.0.1", roots, hybridtls.ProfileDefault)
	if err != nil {
		t.Fatal(err)
	}
	cfg = hybridtls.For(cfg, hybridtls.ALPNFederation)
	participant := func(who *listentest.Party) listentest.Client {
		relay := who.Relay(t, "tcp", u.Address)
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return hybridtls.Dial(ctx, "tcp", relay, cfg)
		}}}
		return func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://aggregator/v1/rounds", bytes.NewReader(make([]byte, 20_000)))
			if err != nil {
				return err
			}
			resp, err := c.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode >= 500 { // a refusal means that it was read and judged
				return fmt.Errorf("status %d, %s, %v", resp.StatusCode, text, err)
			}
			return nil
		}
	}
	target := listentest.Target{Name: "aggregator", Network: "tcp", Address: u.Address, TLS: cfg, Memory: listentest.UnitMemory(t, "../../../systemd/anchorhold-aggregator.service")}
	server.Withstands(t, target.HTTP("/v1/rounds", 2<<20), participant)
}
