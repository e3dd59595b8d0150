package valuefile

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/policy"
)

// testNow is the clock of these tests.
func testNow() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }

// wantReason checks the reason of a refusal; "" wants success.
func wantReason(tb testing.TB, name string, err error, reason refusal.Reason) {
	tb.Helper()
	if reason == "" {
		if err != nil {
			tb.Errorf("%s: got %v, want success", name, err)
		}
		return
	}
	var r *refusal.Error
	if !errors.As(err, &r) || r.Reason != reason {
		tb.Errorf("%s: got %v, want a refusal %q", name, err, reason)
	}
}

func newEC(tb testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// authority is a root with the key of a signer below it.
type authority struct {
	root *x509.Certificate
	key  crypto.Signer
	leaf []byte // DER
}

// newAuthority issues a signer's certificate; change edits it first.
func newAuthority(tb testing.TB, key crypto.Signer, change func(*x509.Certificate)) authority {
	tb.Helper()
	rootKey := newEC(tb, elliptic.P256())
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, NotBefore: testNow().AddDate(-1, 0, 0), NotAfter: testNow().AddDate(9, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test signer"}, NotBefore: testNow().AddDate(0, -6, 0), NotAfter: testNow().AddDate(0, 6, 0),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if change != nil {
		change(leaf)
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		tb.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(rootDER)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, parsed, key.Public(), rootKey)
	if err != nil {
		tb.Fatal(err)
	}
	return authority{parsed, key, der}
}

func (a authority) trust() Trust { return Trust{Roots: []*x509.Certificate{a.root}} }

// registersOf are a file's values by id.
func registersOf(f File) map[string]map[string]string {
	out := map[string]map[string]string{}
	for _, v := range f.Values {
		out[v.ID] = v.Registers
	}
	return out
}

// checkFile reads what was printed as the broker does, and looks at the values' source.
func checkFile(tb testing.TB, f File, says ...string) {
	tb.Helper()
	values, err := policy.ParseReferenceValues(f.YAML())
	if err != nil {
		tb.Fatalf("%v in\n%s", err, f.YAML())
	}
	if len(values) != len(f.Values) {
		tb.Errorf("got %d values, want %d", len(values), len(f.Values))
	}
	for _, v := range values {
		for _, text := range says {
			if !strings.Contains(v.Source, text) {
				tb.Errorf("source %q does not say %q", v.Source, text)
			}
		}
	}
}

func pemOf(tb testing.TB, kind string, der []byte) []byte {
	tb.Helper()
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestKeysAndRootsAreReadStrictly(t *testing.T) {
	key := newEC(t, elliptic.P384())
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthority(t, key, nil)
	good := pemOf(t, "PUBLIC KEY", spki)
	small, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // refused below
	weak := []byte(nil)
	if err == nil { // Go refuses to make such keys without a GODEBUG setting
		if weak, err = x509.MarshalPKIXPublicKey(small.Public()); err != nil {
			t.Fatal(err)
		}
	}
	p224, err := x509.MarshalPKIXPublicKey(newEC(t, elliptic.P224()).Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data   []byte
		reason refusal.Reason
		count  int
	}{
		"a key":                     {good, "", 1},
		"a certificate":             {pemOf(t, "CERTIFICATE", a.leaf), "", 1},
		"two":                       {slices.Concat(good, good), "", 2},
		"too many":                  {[]byte(strings.Repeat(string(good), maxTrusted+1)), ReasonSize, maxTrusted},
		"nothing":                   {nil, ReasonMalformed, 0},
		"text behind":               {append(slices.Clone(good), "more"...), ReasonMalformed, 1},
		"a private key":             {pemOf(t, "PRIVATE KEY", spki), ReasonMalformed, 0},
		"no key":                    {pemOf(t, "PUBLIC KEY", []byte{1}), ReasonMalformed, 0},
		"no certificate":            {pemOf(t, "CERTIFICATE", []byte{1}), ReasonMalformed, 0},
		"a curve that is not known": {pemOf(t, "PUBLIC KEY", p224), ReasonUnsupported, 1},
	} {
		keys, err := ParseKeys(c.data)
		wantReason(t, name, err, c.reason)
		if len(keys) != c.count {
			t.Errorf("%s: got %d keys, want %d", name, len(keys), c.count)
		}
	}
	if weak != nil {
		_, err := ParseKeys(pemOf(t, "PUBLIC KEY", weak))
		wantReason(t, "RSA of 1024 bits", err, ReasonUnsupported)
	}
	for name, c := range map[string]struct {
		data   []byte
		reason refusal.Reason
	}{
		"DER": {a.root.Raw, ""}, "PEM": {pemOf(t, "CERTIFICATE", a.root.Raw), ""}, "a key": {good, ReasonMalformed}, "nothing": {nil, ReasonMalformed},
		"damaged": {pemOf(t, "CERTIFICATE", a.root.Raw[:90]), ReasonMalformed},
	} {
		_, err := ParseRoots(c.data)
		wantReason(t, "root: "+name, err, c.reason)
	}
}

func TestSchemesTakeTheirOwnKeysAlone(t *testing.T) {
	message := []byte("message")
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signature := ed25519.Sign(edwards, message)
	if !(scheme{}).verifies(edwards.Public(), message, signature) {
		t.Error("Ed25519 does not verify")
	}
	for name, s := range map[string]scheme{"a hash": {hash: crypto.SHA256}, "PSS": {pss: true}, "a curve": {curve: elliptic.P256()}} {
		if s.verifies(edwards.Public(), message, signature) {
			t.Errorf("Ed25519 verifies under a scheme with %s", name)
		}
	}
	key := newEC(t, elliptic.P256())
	signature = coseSign(t, key, crypto.SHA256, message)
	right := scheme{hash: crypto.SHA256, curve: elliptic.P256()}
	if !right.verifies(key.Public(), message, signature) {
		t.Error("ES256 does not verify")
	}
	if right.verifies(key.Public(), message, append(signature, 0)) || right.verifies(key.Public(), message, signature[:63]) {
		t.Error("a signature of another length verifies")
	}
	if (scheme{hash: crypto.SHA256, curve: elliptic.P384()}).verifies(key.Public(), message, signature) || (scheme{hash: crypto.SHA256}).verifies(key.Public(), message, signature) {
		t.Error("ES256 verifies under another scheme")
	}
	if (scheme{}).verifies(nil, message, nil) {
		t.Error("no key verifies")
	}
}

func TestFilesAreToldByTheirBytes(t *testing.T) {
	for name, c := range map[string]struct {
		data   []byte
		reason refusal.Reason
	}{
		"nothing": {nil, ReasonForm}, "text": {[]byte("Hello, world: what is this?"), ReasonForm}, "JSON of Intel's": {[]byte(`{"tcbInfo": {}}`), ReasonForm},
		"too large": {make([]byte, MaxFileBytes+1), ReasonSize}, "an older CoRIM": {[]byte{0xd9, 0x01, 0xf4, 0xa0}, ReasonUnsupported},
		"text in text": {[]byte("4d544977"), ReasonForm},
	} {
		_, err := Read("x", c.data, Options{Now: testNow()})
		wantReason(t, name, err, c.reason)
	}
}
