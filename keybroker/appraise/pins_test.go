//go:build !release

package appraise

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Every pin is the digest of the key in AMD's certificate, as go-sev-guest carries it, and every
// line has all three.
func TestPinsAreAMDsAuthorities(t *testing.T) {
	dir := filepath.Join(sevGuestDir(t), "verify", "trust")
	certificate := map[string]*x509.Certificate{}
	for _, file := range []string{"ask_ark_milan.pem", "ask_ark_milan_vlek.pem", "ask_ark_genoa.pem", "ask_ark_genoa_vlek.pem",
		"ask_ark_turin_vcek.pem", "ask_ark_turin_vlek.pem"} {
		for _, der := range ders(readFile(t, dir, file)) {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			if other := certificate[cert.Subject.CommonName]; other != nil && !other.Equal(cert) {
				t.Errorf("two certificates of %s", cert.Subject.CommonName)
			}
			certificate[cert.Subject.CommonName] = cert
		}
	}
	seen := map[string]bool{}
	for _, a := range PinnedAuthorities() {
		cert := certificate[a.Name]
		if cert == nil || !strings.HasSuffix(a.Name, string(a.Product)) || a.Source == "" || seen[a.Name] {
			t.Fatalf("%+v", a)
		}
		seen[a.Name] = true
		digest := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
		if got := hex.EncodeToString(digest[:]); got != a.KeySHA256 {
			t.Errorf("%s: the key is %s, pinned is %s", a.Name, got, a.KeySHA256)
		}
		if ark := certificate["ARK-"+string(a.Product)]; cert.CheckSignatureFrom(ark) != nil {
			t.Errorf("%s is not signed by its root", a.Name)
		}
		for _, p := range []product{milan, genoa, turin, "Venice", ""} {
			for _, role := range []evidence.PartType{evidence.EndorsementARK, evidence.EndorsementASK, evidence.EndorsementASVK, evidence.EndorsementVCEK, ""} {
				if is := pinned(p, role, digest); is != (p == product(a.Product) && role == a.Role) {
					t.Errorf("%s as %s of %q: %v", a.Name, role, p, is)
				}
			}
		}
	}
	if len(seen) != 3*3 || len(certificate) != len(seen) {
		t.Errorf("%d authorities are pinned, there are %d", len(seen), len(certificate))
	}
}

// A pin that is missing is no pin: the digest of nothing, or an empty one, matches none.
func TestAuthorityWithoutAPinIsNotBelieved(t *testing.T) {
	if pinned(milan, evidence.EndorsementASK, [32]byte{}) || pinned(milan, evidence.EndorsementASK, sha256.Sum256(nil)) {
		t.Error("a key that is not there is pinned")
	}
}

// An authority that the pinned root has signed, as every check of signatures says, but that is
// not the line's: refused before any of them is made.
func TestAuthorityThatIsNotPinnedIsRefusedBeforeArithmetic(t *testing.T) {
	s := moduleSample(t)
	ask, err := x509.ParseCertificate(s.issuers[0])
	if err != nil {
		t.Fatal(err)
	}
	ark, err := x509.ParseCertificate(s.issuers[1])
	if err != nil {
		t.Fatal(err)
	}
	n := new(big.Int).Lsh(big.NewInt(1), authorityBits-1)
	stranger := &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: authorityExponent}
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), RawSubject: ask.RawSubject, NotBefore: ask.NotBefore,
		NotAfter: ask.NotAfter, IsCA: true, BasicConstraintsValid: true, SignatureAlgorithm: x509.SHA384WithRSAPSS},
		&x509.Certificate{RawSubject: ark.RawSubject, Subject: pkix.Name{}}, stranger, key)
	if err != nil {
		t.Fatal(err)
	}
	s.issuers = [][]byte{signedAtLength(t, made, authorityBits/8), s.issuers[1]}
	v := lenient(t)
	signatures := 0
	v.checkSignature = func(_, _ *x509.Certificate) error { signatures++; return nil }
	_, err = v.Appraise(t.Context(), s.envelope(), s.reportData(), s.now)
	wantReason(t, err, ReasonAuthority)
	if signatures != 0 {
		t.Errorf("%d signatures were checked", signatures)
	}
}
