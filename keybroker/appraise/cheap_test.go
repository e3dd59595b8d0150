//go:build !release

package appraise

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// largeKey is an RSA key of so many bits, with a public exponent as large as verifiers
// take. Nobody can sign with it; a verifier would only find that out.
func largeKey(t *testing.T, bits uint, e int) *rsa.PublicKey {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), bits-1))
	if err != nil {
		t.Fatal(err)
	}
	n.SetBit(n, int(bits)-1, 1).SetBit(n, 0, 1)
	return &rsa.PublicKey{N: n, E: e}
}

// signedAtLength is a certificate with another signature, of so many random bytes.
func signedAtLength(t *testing.T, der []byte, bytes int) []byte {
	t.Helper()
	var c struct {
		Body, Algorithm asn1.RawValue
		Signature       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		t.Fatal(err)
	}
	c.Signature.Bytes, c.Signature.BitLength = make([]byte, bytes), 8*bytes
	rand.Read(c.Signature.Bytes[1:]) // below the modulus
	return mustDER(t, c, "")
}

// An 8 KiB certificate with a key of 54,400 bits cost 117 to 263 ms before anything was
// trusted: its signature was checked, to find out that it does not chain to a pinned root.
func TestNothingIsVerifiedUnderCertificatesOfStrangers(t *testing.T) {
	p := genoaPlatform()
	good := p.evidence(t, bound)
	stranger := authority{key: signingKeys()[2]}
	stranger.cert = issueCertificate(t, template("ARK-Genoa", 1, true, nil), stranger, stranger.key.Public())
	issue := func(name string, key *rsa.PublicKey) []byte {
		return issueCertificate(t, template(name, 2, true, nil), stranger, key).Raw
	}
	for _, row := range []struct {
		name    string
		issuer  []byte
		root    []byte
		want    refusal.Reason
		without bool // no certificates are configured
		leaf    []byte
	}{
		{"chip key's certificate with a signature for 54,400 bits", issue("SEV-Genoa", largeKey(t, 54_400, 1<<31-1)), nil, ReasonCertificate, true, signedAtLength(t, good.Parts[3].Data, 6800)},
		{"chip key's certificate with a signature for 16,800 bits", nil, nil, ReasonChain, false, signedAtLength(t, good.Parts[3].Data, 2100)},
		{"issuer's key of 54,400 bits", issue("SEV-Genoa", largeKey(t, 54_400, 65537)), nil, ReasonCertificate, true, nil},
		{"issuer's key as long as the limit on certificates lets it be", issue("SEV-Genoa", largeKey(t, 25_000, 65537)), nil, ReasonCertificate, true, nil},
		{"issuer's key of one bit more", issue("SEV-Genoa", largeKey(t, authorityBits+1, 65537)), nil, ReasonCertificate, true, nil},
		{"issuer's key of one bit less", issue("SEV-Genoa", largeKey(t, authorityBits-1, 65537)), nil, ReasonCertificate, true, nil},
		{"issuer's key with a large exponent", issue("SEV-Genoa", largeKey(t, authorityBits, 1<<31-1)), nil, ReasonCertificate, true, nil},
		{"root's key of 54,400 bits", nil, issue("ARK-Genoa", largeKey(t, 54_400, 65537)), ReasonCertificate, true, nil},
		{"root that is not pinned", nil, stranger.cert.Raw, ReasonRoot, true, nil},
		{"issuer's key of 54,400 bits beside configured ones", issue("SEV-Genoa", largeKey(t, 54_400, 65537)), nil, ReasonCertificate, false, nil},
	} {
		v := p.trusting(t, Options{})
		if row.without {
			v.certificates = nil
		}
		verified := 0
		v.checkSignature = func(cert, by *x509.Certificate) error {
			verified++
			return cert.CheckSignatureFrom(by)
		}
		env := good
		env.Parts = slices.Clone(good.Parts)
		if row.root != nil {
			env.Parts[1].Data = row.root
		}
		if row.issuer != nil {
			env.Parts[2].Data = row.issuer
		}
		if row.leaf != nil {
			env.Parts[3].Data = row.leaf
		}
		began := time.Now()
		_, err := v.Appraise(t.Context(), env, bound, pkiNow)
		t.Logf("%s: %s, %v", row.name, time.Since(began), err)
		if reason, _ := refusal.ReasonOf(err); reason != row.want {
			t.Errorf("%s: %v, want %s", row.name, err, row.want)
		}
		if verified != 0 {
			t.Errorf("%s: %d signatures were verified", row.name, verified)
		}
	}
}

// A key is used only after the one above signed it.
func TestSignaturesAreCheckedFromTheRootDown(t *testing.T) {
	p := genoaPlatform()
	env := p.evidence(t, bound)
	v := p.trusting(t, Options{})
	var order []string
	v.checkSignature = func(cert, by *x509.Certificate) error {
		order = append(order, cert.Subject.CommonName)
		return cert.CheckSignatureFrom(by)
	}
	if _, err := v.Appraise(t.Context(), env, bound, pkiNow); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(order, []string{"ARK-Genoa", "SEV-Genoa", "SEV-VCEK"}) {
		t.Errorf("%q", order)
	}
}
