package crl

import (
	"crypto/x509"
	"testing"
)

// TestIssuersAreForgottenBeforeTheyFillTheMemory: a guest shows as many intermediate certificates as its authority gives it.
func TestIssuersAreForgottenBeforeTheyFillTheMemory(t *testing.T) {
	l, err := New(Options{Revoked: "revoked", Unknown: "unknown"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxIssuers + 5 {
		l.of(&x509.Certificate{Raw: []byte{byte(i >> 8), byte(i)}})
	}
	if n := len(l.newest); n != 5 {
		t.Errorf("%d issuers are remembered, want 5", n)
	}
}
