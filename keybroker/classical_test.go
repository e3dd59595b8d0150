//go:build !release

package keybroker_test

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/client"
)

// TestClassicalPeerIsToldWhy connects without a hybrid group, from either end:
// the operator of the broker and the user of the agent each get a sentence.
func TestClassicalPeerIsToldWhy(t *testing.T) {
	f := brokertest.New(t)
	classical := []tls.CurveID{tls.X25519, tls.CurveP256}
	_, err := tls.Dial("tcp", f.Address, &tls.Config{RootCAs: f.TLSRoots, ServerName: brokertest.ServerName,
		NextProtos: []string{hybridtls.ALPN}, CurvePreferences: classical})
	if err == nil {
		t.Fatal("a classical connection was made")
	}
	f.Stop()
	if logs := f.Logs.String(); !strings.Contains(logs, string(hybridtls.ReasonClassical)) || !strings.Contains(logs, "offered=\"[X25519 CurveP256]\"") {
		t.Errorf("the broker's log does not say why: %s", logs)
	}

	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{f.Certificate},
		NextProtos: []string{hybridtls.ALPN}, CurvePreferences: classical})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	asked := &countingCollector{next: f.TEE}
	c := f.Client(func(c *client.Config) { c.Address, c.Collector = ln.Addr().String(), asked })
	_, err = c.Acquire(context.Background(), []string{brokertest.Resource})
	wantClientReason(t, err, hybridtls.ReasonClassical)
	if asked.n != 0 {
		t.Error("evidence was made")
	}
}

// TestStrangersAreLoggedInOneLine connects and says nothing of use.
func TestStrangersAreLoggedInOneLine(t *testing.T) {
	f := brokertest.New(t)
	conn, err := net.Dial("tcp", f.Address)
	if err != nil {
		t.Fatal(err)
	}
	conn.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	conn.Read(make([]byte, 64))
	conn.Close()
	f.Stop()
	if n := strings.Count(f.Logs.String(), "\n"); n != 1 {
		t.Errorf("%d lines: %s", n, f.Logs)
	}
	if len(f.Records()) != 0 {
		t.Error("a stranger without TLS wrote an audit record")
	}
}
