package hybridtls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

func federationPair(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	certPEM, keyPEM, err := NewCertificate([]string{"127.0.0.1"}, 3600e9)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	if server, err = ServerConfig(pair, ProfileDefault); err != nil {
		t.Fatal(err)
	}
	if client, err = ClientConfig("127.0.0.1", pool, ProfileDefault); err != nil {
		t.Fatal(err)
	}
	return server, client
}

func TestListenerHandsOutCheckedConnections(t *testing.T) {
	server, client := federationPair(t)
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusals := make(chan error, 4)
	l := NewListener(raw, For(server, ALPNFederation), func(err error) { refusals <- err })
	go func() {
		conn, err := Dial(context.Background(), "tcp", l.Addr().String(), For(client, ALPNFederation))
		if err != nil {
			return
		}
		_, _ = conn.Write([]byte("x"))
		_ = conn.Close()
	}()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(conn); err != nil || string(data) != "x" {
		t.Errorf("%q, %v", data, err)
	}
	if c, ok := conn.(*Conn); !ok || c.Group() != "X25519MLKEM768" {
		t.Errorf("%T", conn)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	// The key release's protocol name is another one.
	if _, err := Dial(context.Background(), "tcp", l.Addr().String(), client); err == nil {
		t.Error("a connection between two protocols")
	}
	refused := <-refusals
	if reason, _ := refusal.ReasonOf(refused); reason != ReasonALPN {
		t.Errorf("refusal: %v", refused)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("accepted after Close")
	}
}
