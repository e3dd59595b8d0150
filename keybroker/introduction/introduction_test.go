package introduction_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/introduction"
)

// ends are the two ends of one connection.
func ends(t *testing.T) (client, server *hybridtls.Conn) {
	t.Helper()
	certPEM, keyPEM, err := hybridtls.NewCertificate([]string{"localhost"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	serverConfig, err := hybridtls.ServerConfig(pair, hybridtls.ProfileDefault)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	clientConfig, err := hybridtls.ClientConfig("localhost", pool, hybridtls.ProfileDefault)
	if err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	accepted := make(chan error, 1)
	go func() {
		var err error
		server, err = hybridtls.Server(t.Context(), b, serverConfig)
		accepted <- err
	}()
	client, err = hybridtls.Client(t.Context(), a, clientConfig)
	if err := errors.Join(err, <-accepted); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// TestSay: what the server makes of an introduction, and that its silence has an end.
func TestSay(t *testing.T) {
	const ended = `{"error":{"code":"lease-over","message":"it ended"}}`
	answer := func(status, header, body string) string {
		return "HTTP/1.1 " + status + "\r\n" + header + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	}
	for name, tc := range map[string]struct {
		answer  string
		refused refusal.Reason
		want    func(error) bool
	}{
		"believed":               {answer("200 OK", "", "{}"), "", func(err error) bool { return err == nil }},
		"refused":                {answer("401 Unauthorized", "", ended), "lease-over", func(err error) bool { return err != nil }},
		"refused without a word": {answer("401 Unauthorized", "", "no"), "", func(err error) bool { return strings.Contains(err.Error(), "401") }},
		"the last answer":        {answer("200 OK", "Connection: close\r\n", "{}"), "", func(err error) bool { return strings.Contains(err.Error(), "closed the connection") }},
		"no HTTP":                {"hello\r\n\r\n", "", func(err error) bool { return strings.Contains(err.Error(), "malformed") }},
		"silence":                {"", "", func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := ends(t)
				heard := make(chan string, 1)
				go func() {
					req, err := http.ReadRequest(bufio.NewReader(server))
					if err != nil {
						heard <- err.Error()
						return
					}
					body, _ := io.ReadAll(req.Body) // what is short is seen below
					heard <- req.Method + " " + req.URL.Path + " " + string(body)
					if tc.answer != "" {
						_, _ = io.WriteString(server, tc.answer) // the client sees what is missing
					}
				}()
				err := introduction.Say(t.Context(), client, []byte("signed"))
				if got := <-heard; got != "POST /v1/identity signed" {
					t.Errorf("the server heard %q", got)
				}
				if !tc.want(err) {
					t.Errorf("got %v", err)
				}
				_, refused := errors.AsType[*introduction.Refused](err)
				if reason, _ := refusal.ReasonOf(err); reason != tc.refused || refused != strings.HasPrefix(name, "refused") {
					t.Errorf("reason %q, want %q: %v", reason, tc.refused, err)
				}
			})
		})
	}
}

// TestSayEndsWithItsContext: a caller that has less time waits no longer.
func TestSayEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := ends(t)
		go func() { _, _ = io.Copy(io.Discard, server) }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		err := introduction.Say(ctx, client, []byte("signed"))
		if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took != time.Second {
			t.Errorf("after %s: %v", took, err)
		}
	})
}
