//go:build !release

package gpusim

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

// The library's verifier takes the chain and the signature, which this package made.
func TestReportsAndChainsVerifyWithTheLibrary(t *testing.T) {
	for _, chip := range []string{"", "GB100", "GB20X"} {
		g, err := New(Options{Chip: chip})
		if err != nil {
			t.Fatal(err)
		}
		nonce := [32]byte{9}
		report, ders, err := g.Collect(nonce)
		if err != nil || len(ders) != 5 || !bytes.Equal(report[4:36], nonce[:]) {
			t.Fatalf("%d certificates, %v", len(ders), err)
		}
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		if !roots.AppendCertsFromPEM(g.RootPEM()) {
			t.Fatal("no root")
		}
		var leaf *x509.Certificate
		for i, der := range ders {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			if organizations := cert.Subject.Organization; len(organizations) != 1 || !strings.Contains(organizations[0], "NOT HARDWARE") {
				t.Errorf("certificate %d does not say what it is: %s", i, cert.Subject)
			}
			if i == 0 {
				leaf = cert
			} else {
				between.AddCert(cert)
			}
		}
		_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if err != nil {
			t.Error(err)
		}
		signed, signature := report[:len(report)-96], report[len(report)-96:]
		digest := sha512.Sum384(signed)
		r, s := new(big.Int).SetBytes(signature[:48]), new(big.Int).SetBytes(signature[48:])
		if !ecdsa.Verify(leaf.PublicKey.(*ecdsa.PublicKey), digest[:], r, s) {
			t.Error("the report is not signed by the leaf's key")
		}
	}
}

func TestDevicesOfOneAuthorityShareItsRoot(t *testing.T) {
	authority, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	one, err := New(Options{Authority: authority})
	if err != nil {
		t.Fatal(err)
	}
	two, err := New(Options{Authority: authority})
	if err != nil {
		t.Fatal(err)
	}
	other, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.RootPEM(), two.RootPEM()) || bytes.Equal(one.RootPEM(), other.RootPEM()) || bytes.Equal(one.chain[1], two.chain[1]) {
		t.Error("roots or devices are mixed up")
	}
	block, rest := pem.Decode(one.RootPEM())
	if block == nil || len(rest) > 0 {
		t.Error("the root is not one certificate")
	}
}
