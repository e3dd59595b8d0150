package crl_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/keybroker/appraise/crl"
)

const (
	revoked refusal.Reason = "revoked"
	unknown refusal.Reason = "unknown"
)

func noon() time.Time { return time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC) }

// authority has a certificate and its key.
type authority struct {
	*x509.Certificate
	key crypto.Signer
}

func certify(tb testing.TB, name string, serial int64, usage x509.KeyUsage, by *authority) *authority {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(serial), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: usage, NotBefore: noon().Add(-time.Hour), NotAfter: noon().Add(1000 * time.Hour)}
	parent, signer := template, crypto.Signer(key)
	if by != nil {
		parent, signer = by.Certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return &authority{cert, key}
}

const signs = x509.KeyUsageCertSign | x509.KeyUsageCRLSign

// list is a day's list, changed.
func (a *authority) list(tb testing.TB, number int64, change func(*x509.RevocationList), serials ...int64) []byte {
	tb.Helper()
	template := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: noon().Add(-time.Hour), NextUpdate: noon().Add(24 * time.Hour)}
	for _, n := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: noon()})
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.Certificate, a.key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func newLists(tb testing.TB, without bool, raw ...[]byte) *crl.Lists {
	tb.Helper()
	l, err := crl.New(crl.Options{Lists: raw, WithoutRevocation: without, Revoked: revoked, Unknown: unknown})
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// chain is leaf, intermediate and root.
func chain(tb testing.TB) (root, intermediate *authority, list []*x509.Certificate) {
	root = certify(tb, "root", 1, signs, nil)
	intermediate = certify(tb, "intermediate", 2, signs, root)
	leaf := certify(tb, "leaf", 3, x509.KeyUsageDigitalSignature, intermediate)
	return root, intermediate, []*x509.Certificate{leaf.Certificate, intermediate.Certificate, root.Certificate}
}

// TestEveryCertificateNeedsACurrentListOfItsIssuer, and must not be on it.
func TestEveryCertificateNeedsACurrentListOfItsIssuer(t *testing.T) {
	root, intermediate, certs := chain(t)
	namesake := certify(t, "intermediate", 2, signs, root)
	above, below := root.list(t, 1, nil, 3, 77), intermediate.list(t, 1, nil, 2, 77) // the numbers of others' certificates
	ended := func(l *x509.RevocationList) { l.NextUpdate = noon().Add(-time.Second) }
	early := func(l *x509.RevocationList) { l.ThisUpdate = noon().Add(time.Second) }
	for name, c := range map[string]struct {
		lists     [][]byte
		want      refusal.Reason
		otherwise refusal.Reason // without_revocation
	}{
		"both current":             {[][]byte{above, below}, "", ""},
		"none":                     {nil, unknown, ""},
		"none of the root":         {[][]byte{below}, unknown, ""},
		"none of the intermediate": {[][]byte{above}, unknown, ""},
		"of another's key":         {[][]byte{above, namesake.list(t, 1, nil)}, unknown, ""},
		"one has ended":            {[][]byte{above, intermediate.list(t, 1, ended)}, unknown, unknown},
		"one has not begun":        {[][]byte{root.list(t, 1, early), below}, unknown, unknown},
		"the leaf is revoked":      {[][]byte{above, intermediate.list(t, 1, nil, 3)}, revoked, revoked},
		"the authority is revoked": {[][]byte{root.list(t, 1, nil, 2), below}, revoked, revoked},
		"by the newest list":       {[][]byte{above, intermediate.list(t, 10, nil, 3), intermediate.list(t, 9, nil)}, revoked, revoked},
		"by an older list":         {[][]byte{above, intermediate.list(t, 9, nil, 3), intermediate.list(t, 10, nil)}, "", ""},
	} {
		for range 2 { // the second time from memory
			l := newLists(t, false, c.lists...)
			refusaltest.Want(t, name, l.Check(certs, noon()), c.want)
			refusaltest.Want(t, name, l.Check(certs, noon()), c.want)
			refusaltest.Want(t, name+", waived", newLists(t, true, c.lists...).Check(certs, noon()), c.otherwise)
		}
	}
	refusaltest.Want(t, "a root alone", newLists(t, false).Check(certs[2:], noon()), "")
}

// TestAListThatNobodyNeedsIsAskedIfItIsHeld.
func TestAListThatNobodyNeedsIsAskedIfItIsHeld(t *testing.T) {
	_, intermediate, certs := chain(t)
	refusaltest.Want(t, "none", newLists(t, false).Ask(certs[0], certs[1], noon()), "")
	refusaltest.Want(t, "another's entry", newLists(t, false, intermediate.list(t, 1, nil, 2)).Ask(certs[0], certs[1], noon()), "")
	refusaltest.Want(t, "revoked", newLists(t, false, intermediate.list(t, 1, nil, 3)).Ask(certs[0], certs[1], noon()), revoked)
	ended := func(l *x509.RevocationList) { l.NextUpdate = noon().Add(-time.Second) }
	refusaltest.Want(t, "ended", newLists(t, false, intermediate.list(t, 1, ended)).Ask(certs[0], certs[1], noon()), unknown)
}

// TestAnIssuerThatMayNotSignListsSignsNone.
func TestAnIssuerThatMayNotSignListsSignsNone(t *testing.T) {
	root := certify(t, "root", 1, signs, nil)
	mute := certify(t, "mute", 2, x509.KeyUsageCertSign, root)
	leaf := certify(t, "leaf", 3, x509.KeyUsageDigitalSignature, mute)
	able := *mute.Certificate
	able.KeyUsage = signs
	list := (&authority{&able, mute.key}).list(t, 1, nil)
	refusaltest.Want(t, "mute", newLists(t, false, list).Check([]*x509.Certificate{leaf.Certificate, mute.Certificate}, noon()), unknown)
}

// TestNewListsCountAtOnceAndOldOnesBringNothingBack while it runs.
func TestNewListsCountAtOnceAndOldOnesBringNothingBack(t *testing.T) {
	root, intermediate, certs := chain(t)
	above := root.list(t, 1, nil)
	l := newLists(t, false, above, intermediate.list(t, 1, nil))
	refusaltest.Want(t, "at first", l.Check(certs, noon()), "")
	set := func(raw ...[]byte) {
		t.Helper()
		if err := l.Set(raw); err != nil {
			t.Fatal(err)
		}
	}
	set(above, intermediate.list(t, 2, nil, 3))
	refusaltest.Want(t, "a newer one", l.Check(certs, noon()), revoked)
	set(above, intermediate.list(t, 1, nil))
	refusaltest.Want(t, "an older one again", l.Check(certs, noon()), revoked)
	if err := l.Set([][]byte{above, {1}}); err == nil {
		t.Error("a damaged list was taken")
	}
	set()
	refusaltest.Want(t, "none", l.Check(certs, noon()), revoked)
	for n := range int64(crl.MaxLists + 5) {
		set(above, intermediate.list(t, 3+n, func(x *x509.RevocationList) { x.NextUpdate = noon().Add(time.Duration(n+1) * time.Hour) }))
	}
	refusaltest.Want(t, "many later", l.Check(certs, noon()), "")
	if ends := l.Ends(); len(ends) != 2 {
		t.Errorf("%v", ends)
	}
	last := noon().Add((crl.MaxLists + 5) * time.Hour)
	for _, e := range l.Ends() {
		if e.Issuer == "intermediate" && !e.At.Equal(last) {
			t.Errorf("the newest ends at %s, want %s", e.At, last)
		}
	}
	many := make([][]byte, crl.MaxLists+1)
	for i := range many {
		many[i] = intermediate.list(t, 1, func(x *x509.RevocationList) { x.NextUpdate = noon().Add(time.Duration(i+1) * time.Hour) })
	}
	if _, err := crl.New(crl.Options{Lists: many, Revoked: revoked, Unknown: unknown}); err == nil {
		t.Error("no limit")
	}
}

// TestListsThatDoNotSayAllAreNotRead.
func TestListsThatDoNotSayAllAreNotRead(t *testing.T) {
	root := certify(t, "root", 1, signs, nil)
	critical := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}
	for name, raw := range map[string][]byte{
		"not a list":  {1},
		"partitioned": root.list(t, 1, func(l *x509.RevocationList) { l.ExtraExtensions = []pkix.Extension{critical} }),
		"indirect": root.list(t, 1, func(l *x509.RevocationList) {
			l.RevokedCertificateEntries[0].ExtraExtensions = []pkix.Extension{critical}
		}, 7),
		"without a number":  changed(t, root, func(l *tbsList) { l.Extensions = nil }),
		"without an end":    changed(t, root, func(l *tbsList) { l.NextUpdate = time.Time{} }),
		"signed with SHA-1": changed(t, root, func(l *tbsList) { l.Signature.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1} }),
	} {
		if _, err := crl.New(crl.Options{Lists: [][]byte{raw}, Revoked: revoked, Unknown: unknown}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	good := changed(t, root, func(*tbsList) {})
	if _, err := crl.New(crl.Options{Lists: [][]byte{good}, Revoked: revoked, Unknown: unknown}); err != nil {
		t.Error(err)
	}
	for _, o := range []crl.Options{{}, {Revoked: revoked}, {Unknown: unknown}} {
		if _, err := crl.New(o); err == nil {
			t.Error("refusals without reasons")
		}
	}
}

// tbsList is TBSCertList (RFC 5280, 5.1).
type tbsList struct {
	Version    int
	Signature  pkix.AlgorithmIdentifier
	Issuer     asn1.RawValue
	ThisUpdate time.Time
	NextUpdate time.Time        `asn1:"optional"`
	Extensions []pkix.Extension `asn1:"tag:0,optional,explicit"`
}

// changed is a list that crypto/x509 does not write, over a signature that is not looked at here.
func changed(t *testing.T, a *authority, change func(*tbsList)) []byte {
	t.Helper()
	var list struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Value     asn1.BitString
	}
	if _, err := asn1.Unmarshal(a.list(t, 1, nil), &list); err != nil {
		t.Fatal(err)
	}
	var tbs tbsList
	if _, err := asn1.Unmarshal(list.TBS.FullBytes, &tbs); err != nil {
		t.Fatal(err)
	}
	change(&tbs)
	der, err := asn1.Marshal(tbs)
	if err != nil {
		t.Fatal(err)
	}
	list.TBS, list.Algorithm = asn1.RawValue{FullBytes: der}, tbs.Signature
	if der, err = asn1.Marshal(list); err != nil {
		t.Fatal(err)
	}
	return der
}

// FuzzList: whatever is read as a list is judged without a panic.
func FuzzList(f *testing.F) {
	root, intermediate, certs := chain(f)
	f.Add(root.list(f, 1, nil, 2))
	f.Add(intermediate.list(f, 1, nil, 3))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := crl.New(crl.Options{Lists: [][]byte{raw}, Revoked: revoked, Unknown: unknown})
		if err != nil {
			return
		}
		if l.Check(certs, noon()) == nil {
			t.Error("one list vouched for two issuers")
		}
	})
}
