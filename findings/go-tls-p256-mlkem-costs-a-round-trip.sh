#!/usr/bin/env bash
# Go 1.26.8, crypto/tls: a client sends one hybrid key share, that of X25519MLKEM768, whenever it
# offers that group at all; the order of CurvePreferences changes nothing. So a server that takes
# SecP256r1MLKEM768 alone (the hybrid with a NIST curve) costs each such client a
# HelloRetryRequest, a round trip more, even a client that lists it first. A client that offers it
# without X25519MLKEM768 pays nothing. Where both offer both, X25519MLKEM768 wins although both
# list the other first.
set -euo pipefail
dir=$(mktemp -d); trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'GO'
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"runtime"
	"time"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func handshake(cert tls.Certificate, server, client []tls.CurveID) tls.ConnectionState {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	near := must(net.Dial("tcp", l.Addr().String()))
	defer near.Close()
	far := must(l.Accept())
	defer far.Close()
	go func() {
		c := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{cert}, CurvePreferences: server})
		io.Copy(io.Discard, c)
	}()
	roots := x509.NewCertPool()
	roots.AddCert(must(x509.ParseCertificate(cert.Certificate[0])))
	c := tls.Client(near, &tls.Config{RootCAs: roots, ServerName: "localhost", CurvePreferences: client})
	if err := c.Handshake(); err != nil {
		panic(err)
	}
	return c.ConnectionState()
}

func main() {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	form := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Now().Add(time.Hour)}
	cert := tls.Certificate{Certificate: [][]byte{must(x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key))}, PrivateKey: key}
	nist, first := []tls.CurveID{tls.SecP256r1MLKEM768}, []tls.CurveID{tls.SecP256r1MLKEM768, tls.X25519MLKEM768}
	fmt.Println(runtime.Version())
	same := true
	for _, c := range []struct {
		what           string
		server, client []tls.CurveID
		group          tls.CurveID
		retry          bool
	}{
		{"server and client with defaults", nil, nil, tls.X25519MLKEM768, false},
		{"server SecP256r1MLKEM768 alone, client with defaults", nist, nil, tls.SecP256r1MLKEM768, true},
		{"server SecP256r1MLKEM768 alone, client lists it first", nist, first, tls.SecP256r1MLKEM768, true},
		{"server SecP256r1MLKEM768 alone, client too", nist, nist, tls.SecP256r1MLKEM768, false},
		{"both list SecP256r1MLKEM768 first", first, first, tls.X25519MLKEM768, false},
	} {
		got := handshake(cert, c.server, c.client)
		fmt.Printf("%s: %v, HelloRetryRequest %v\n", c.what, got.CurveID, got.HelloRetryRequest)
		same = same && got.CurveID == c.group && got.HelloRetryRequest == c.retry
	}
	if !same {
		fmt.Println("CHANGED: this is not what the finding states")
		os.Exit(1)
	}
	fmt.Println("as stated")
}
GO
export CGO_ENABLED=0 GOTOOLCHAIN=go1.26.8
go mod init finding 2>/dev/null
go run .
