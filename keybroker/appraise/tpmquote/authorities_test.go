package tpmquote

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

func TestCertifiedKeyIsBelieved(t *testing.T) {
	p, m := newPKI(t), newMaker(t)
	leaf, a, want := p.leaf(t, leafTemplate(), m.key.Public()), p.authorities(t), m.expected()
	want.Trust = TrustCertificate(a, leaf.Raw, p.intermediate.Raw, p.root.Raw)
	for range 2 { // the second time from memory
		c, err := Verify(m.quote(t), want)
		if err != nil || c.AKTrust != evidence.AKCertificate || c.AKSubject != "CN=instance 1" {
			t.Errorf("%+v, %v", c, err)
		}
	}
	if len(a.known) != 1 {
		t.Errorf("%d chains are known", len(a.known))
	}
	// The authority's own certificates may be configured.
	configured, err := NewAuthorities(AuthorityOptions{Roots: [][32]byte{sha256.Sum256(p.root.RawSubjectPublicKeyInfo)},
		Certificates: [][]byte{p.root.Raw, p.intermediate.Raw}, WithoutRevocation: true})
	if err != nil {
		t.Fatal(err)
	}
	want.Trust = TrustCertificate(configured, leaf.Raw)
	if _, err := Verify(m.quote(t), want); err != nil {
		t.Error(err)
	}
}

func TestCertificatesAreCheckedAtTheClock(t *testing.T) {
	p, m := newPKI(t), newMaker(t)
	leaf, a, want := p.leaf(t, leafTemplate(), m.key.Public()), p.authorities(t), m.expected()
	want.Trust = TrustCertificate(a, leaf.Raw, p.intermediate.Raw, p.root.Raw)
	for _, known := range []bool{false, true} {
		for _, at := range []time.Duration{-2 * time.Hour, 25 * time.Hour} {
			want.Now = noon().Add(at)
			_, err := Verify(m.quote(t), want)
			wantReason(t, err, ReasonChain)
		}
		if want.Now = noon(); !known {
			if _, err := Verify(m.quote(t), want); err != nil {
				t.Fatal(err)
			}
		}
	}
	// An intermediate that ends before its leaf ends the chain, also from memory.
	short := newPKI(t)
	short.intermediate = certify(t, &x509.Certificate{Subject: short.intermediate.Subject, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: noon().Add(-time.Minute), NotAfter: noon().Add(time.Minute)}, short.root, short.intermediateKey.Public(), short.rootKey)
	leaf = short.leaf(t, leafTemplate(), m.key.Public())
	want.Trust = TrustCertificate(short.authorities(t), leaf.Raw, short.intermediate.Raw, short.root.Raw)
	if _, err := Verify(m.quote(t), want); err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Duration{-2 * time.Minute, 2 * time.Minute} {
		want.Now = noon().Add(at)
		_, err := Verify(m.quote(t), want)
		wantReason(t, err, ReasonChain)
	}
}

func TestOtherCertificatesAreRefused(t *testing.T) {
	p, m, other := newPKI(t), newMaker(t), newPKI(t)
	good := p.leaf(t, leafTemplate(), m.key.Public())
	with := func(change func(*x509.Certificate)) []byte {
		template := leafTemplate()
		change(template)
		return p.leaf(t, template, m.key.Public()).Raw
	}
	rest := [][]byte{p.intermediate.Raw, p.root.Raw}
	for name, c := range map[string]struct {
		certificates [][]byte
		reason       refusal.Reason
	}{
		"none":                   {nil, ReasonCertificate},
		"too many":               {[][]byte{good.Raw, good.Raw, good.Raw, good.Raw, good.Raw, good.Raw, good.Raw}, ReasonCertificate},
		"too large":              {[][]byte{make([]byte, MaxCertificateBytes+1)}, ReasonCertificate},
		"no certificate":         {[][]byte{{1, 2, 3}}, ReasonCertificate},
		"no certificate behind":  {[][]byte{good.Raw, {1, 2, 3}}, ReasonCertificate},
		"of another key":         {append([][]byte{p.leaf(t, leafTemplate(), newKey(t, elliptic.P256()).Public()).Raw}, rest...), ReasonCertificate},
		"no intermediate":        {[][]byte{good.Raw, p.root.Raw}, ReasonChain},
		"no root":                {[][]byte{good.Raw, p.intermediate.Raw}, ReasonChain},
		"of another authority":   {[][]byte{other.leaf(t, leafTemplate(), m.key.Public()).Raw, other.intermediate.Raw, other.root.Raw}, ReasonChain},
		"signed by another":      {[][]byte{other.leaf(t, leafTemplate(), m.key.Public()).Raw, p.intermediate.Raw, p.root.Raw}, ReasonChain},
		"an endorsement key":     {append([][]byte{with(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })}, rest...), ReasonCertificate},
		"signs and decrypts":     {append([][]byte{with(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment })}, rest...), ReasonCertificate},
		"no usage":               {append([][]byte{with(func(c *x509.Certificate) { c.KeyUsage = 0 })}, rest...), ReasonCertificate},
		"an authority":           {append([][]byte{with(func(c *x509.Certificate) { c.IsCA = true })}, rest...), ReasonCertificate},
		"a server":               {append([][]byte{with(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })}, rest...), ReasonCertificate},
		"purpose of endorsement": {append([][]byte{with(func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}} })}, rest...), ReasonCertificate},
	} {
		want := m.expected()
		want.Trust = TrustCertificate(p.authorities(t), c.certificates...)
		_, err := Verify(m.quote(t), want)
		if got, _ := refusal.ReasonOf(err); got != c.reason {
			t.Errorf("%s: got %v, want %q", name, err, c.reason)
		}
	}
	want := m.expected()
	purpose := with(func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{2, 23, 133, 8, 3}} })
	want.Trust = TrustCertificate(p.authorities(t), append([][]byte{purpose}, rest...)...)
	if _, err := Verify(m.quote(t), want); err != nil {
		t.Errorf("the purpose of an attestation key: %v", err)
	}
}

func TestAuthoritiesMustBeStated(t *testing.T) {
	for name, o := range map[string]AuthorityOptions{
		"none": {}, "no root": {WithoutRevocation: true}, "revocation not waived": {Roots: GoogleRoots()},
		"no certificate": {Roots: GoogleRoots(), WithoutRevocation: true, Certificates: [][]byte{{1}}},
	} {
		if _, err := NewAuthorities(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewAuthorities(AuthorityOptions{Roots: GoogleRoots(), WithoutRevocation: true}); err != nil {
		t.Error(err)
	}
}

func TestKnownChainsAreBounded(t *testing.T) {
	p, m := newPKI(t), newMaker(t)
	a := p.authorities(t)
	for i := range maxKnownChains {
		a.known[sha256.Sum256([]byte{byte(i), byte(i >> 8)})] = certified{}
	}
	want := m.expected()
	want.Trust = TrustCertificate(a, p.leaf(t, leafTemplate(), m.key.Public()).Raw, p.intermediate.Raw, p.root.Raw)
	if _, err := Verify(m.quote(t), want); err != nil || len(a.known) != 1 {
		t.Errorf("%d chains are known, %v", len(a.known), err)
	}
}

// TestRevokedKeysAreRefusedAtEveryUse: a chain that was verified before is judged by the lists that are held now.
func TestRevokedKeysAreRefusedAtEveryUse(t *testing.T) {
	p, m := newPKI(t), newMaker(t)
	leaf, want := p.leaf(t, leafTemplate(), m.key.Public()), m.expected()
	list := func(by *x509.Certificate, key *ecdsa.PrivateKey, number int64, revoked ...*x509.Certificate) []byte {
		t.Helper()
		l := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: noon().Add(-time.Minute), NextUpdate: noon().Add(time.Hour)}
		for _, cert := range revoked {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: cert.SerialNumber, RevocationTime: noon()})
		}
		der, err := x509.CreateRevocationList(rand.Reader, l, by, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	root, below := list(p.root, p.rootKey, 1), list(p.intermediate, p.intermediateKey, 1)
	authorities := func(without bool, lists ...[]byte) *Authorities {
		t.Helper()
		a, err := NewAuthorities(AuthorityOptions{Roots: [][32]byte{sha256.Sum256(p.root.RawSubjectPublicKeyInfo)}, RevocationLists: lists, WithoutRevocation: without})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	verify := func(a *Authorities, at time.Time) error {
		want.Trust, want.Now = TrustCertificate(a, leaf.Raw, p.intermediate.Raw, p.root.Raw), at
		_, err := Verify(m.quote(t), want)
		return err
	}
	for _, newer := range [][]byte{list(p.root, p.rootKey, 2, p.intermediate), list(p.intermediate, p.intermediateKey, 2, leaf)} {
		a := authorities(false, root, below)
		if err := verify(a, noon()); err != nil {
			t.Fatal(err)
		}
		if err := a.SetRevocationLists([][]byte{newer}); err != nil {
			t.Fatal(err)
		}
		wantReason(t, verify(a, noon()), ReasonRevoked)
		if len(a.known) != 1 || len(a.ListEnds()) != 2 {
			t.Errorf("%d chains, lists %v", len(a.known), a.ListEnds())
		}
	}
	a := authorities(false, root, below)
	if err := verify(a, noon()); err != nil {
		t.Fatal(err)
	}
	wantReason(t, verify(a, noon().Add(2*time.Hour)), ReasonRevocationUnknown)
	wantReason(t, verify(authorities(false, root), noon()), ReasonRevocationUnknown)
	wantReason(t, verify(authorities(false, below), noon()), ReasonRevocationUnknown)
	if err := verify(authorities(true, root), noon()); err != nil {
		t.Errorf("waived: %v", err)
	}
	if _, err := NewAuthorities(AuthorityOptions{Roots: GoogleRoots(), RevocationLists: [][]byte{{1}}}); err == nil {
		t.Error("a damaged list was taken")
	}
}
