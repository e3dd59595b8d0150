package tpmquote

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/appraise/crl"
)

// Limits of certificates.
const (
	MaxCertificates     = 6
	MaxCertificateBytes = 8 << 10

	maxKnownChains = 1024
)

// AuthorityOptions say which authorities certify attestation keys. The zero value is refused.
type AuthorityOptions struct {
	// Roots are the SHA-256 digests of the public keys (SubjectPublicKeyInfo) that chains may end
	// at, such as [GoogleRoots].
	Roots [][32]byte
	// Certificates are root and intermediate certificates (DER) that evidence may leave out. They
	// are no more believed than those that come with evidence.
	Certificates [][]byte
	// RevocationLists (DER) are of the authorities. Every certificate below the root then needs a current one of
	// its issuer.
	RevocationLists [][]byte
	// WithoutRevocation believes certificates of issuers that no list is held of. Without lists it must be set: whoever
	// relies on certificates that nobody can revoke accepts that in writing.
	WithoutRevocation bool
}

// GoogleRoots are the keys of the authorities that certify the attestation keys of Google
// Compute Engine's vTPMs: "EK/AK CA Root" of 2022 and its predecessor of 2018,
// "tpm_ek_v1_cloud_host_root". Source: google/go-tpm-tools v0.4.5, server/ca-certs,
// gcp_ek_ak_ca_root.crt and tpm_ek_root_1.cer.
func GoogleRoots() [][32]byte {
	return [][32]byte{
		{
			0x56, 0xa6, 0x13, 0xf5, 0x71, 0x26, 0xa3, 0x85, 0xdd, 0x69, 0x49, 0x29, 0x4e, 0x93, 0xb0, 0xb5,
			0x66, 0xf9, 0x6a, 0xb0, 0x57, 0x3b, 0xe0, 0xc2, 0x36, 0x8e, 0x6f, 0x5c, 0xa7, 0x79, 0x83, 0x1f,
		},
		{
			0xf2, 0x30, 0x57, 0xf4, 0xf9, 0x7d, 0x1d, 0x90, 0xe4, 0xca, 0xe0, 0xce, 0x91, 0xd5, 0xa0, 0xfc,
			0x99, 0x06, 0x9f, 0x0a, 0x1b, 0xc1, 0x47, 0x02, 0x1d, 0xca, 0x33, 0xb1, 0xe9, 0xc4, 0xd0, 0xd9,
		},
	}
}

// Authorities certify attestation keys. They may be used by several goroutines.
type Authorities struct {
	roots        map[[32]byte]bool
	certificates []*x509.Certificate
	lists        *crl.Lists

	mu    sync.Mutex
	known map[[32]byte]certified // verified chains by their bytes; owned by mu
}

// certified is what a verified chain says.
type certified struct {
	chain     []*x509.Certificate
	key       crypto.PublicKey
	subject   string
	instance  *evidence.CloudInstance // nil if the certificate names none
	notBefore time.Time               // of the whole chain
	notAfter  time.Time
}

// NewAuthorities checks the options.
func NewAuthorities(o AuthorityOptions) (*Authorities, error) {
	if len(o.Roots) == 0 {
		return nil, errors.New("tpmquote: no root is pinned")
	}
	if !o.WithoutRevocation && len(o.RevocationLists) == 0 {
		return nil, errors.New("tpmquote: there is no list of revoked attestation keys; WithoutRevocation accepts that")
	}
	lists, err := crl.New(crl.Options{Lists: o.RevocationLists, WithoutRevocation: o.WithoutRevocation, Revoked: ReasonRevoked, Unknown: ReasonRevocationUnknown})
	if err != nil {
		return nil, fmt.Errorf("tpmquote: %w", err)
	}
	a := &Authorities{roots: map[[32]byte]bool{}, lists: lists, known: map[[32]byte]certified{}}
	for _, digest := range o.Roots {
		a.roots[digest] = true
	}
	for i, der := range o.Certificates {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("tpmquote: certificate %d: %w", i, err)
		}
		a.certificates = append(a.certificates, cert)
	}
	return a, nil
}

// SetRevocationLists takes new lists besides those that are held: see [crl.Lists.Set].
func (a *Authorities) SetRevocationLists(raw [][]byte) error { return a.lists.Set(raw) }

// ListEnds are when the lists end.
func (a *Authorities) ListEnds() []crl.End { return a.lists.Ends() }

// certified verifies a chain at a time, and asks the lists that are held then.
func (a *Authorities) certified(ders [][]byte, now time.Time) (certified, error) {
	c, err := a.verified(ders, now)
	if err != nil {
		return certified{}, err
	}
	if err := a.lists.Check(c.chain, now); err != nil {
		return certified{}, err
	}
	return c, nil
}

// verified verifies a chain at a time; one that was verified before is only checked for its dates.
func (a *Authorities) verified(ders [][]byte, now time.Time) (certified, error) {
	if a == nil {
		return certified{}, refusal.New(ReasonKey, "no authority is configured")
	}
	if len(ders) == 0 || len(ders) > MaxCertificates {
		return certified{}, refusal.New(ReasonCertificate, "%d certificates, want 1 to %d", len(ders), MaxCertificates)
	}
	h := sha256.New()
	for _, der := range ders {
		if len(der) > MaxCertificateBytes {
			return certified{}, refusal.New(ReasonCertificate, "a certificate of %d bytes", len(der))
		}
		var size [4]byte
		binary.BigEndian.PutUint32(size[:], uint32(len(der)))
		h.Write(size[:]) // hash.Hash never fails
		h.Write(der)
	}
	digest := [32]byte(h.Sum(nil))
	a.mu.Lock()
	c, seen := a.known[digest]
	a.mu.Unlock()
	if seen && !now.Before(c.notBefore) && !now.After(c.notAfter) {
		return c, nil
	}
	c, err := a.chain(ders, now)
	if err != nil {
		return certified{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= maxKnownChains {
		clear(a.known) // cheap, rare, and bounded; a chain is verified in a millisecond
	}
	a.known[digest] = c
	return c, nil
}

// chain verifies certificates from the attestation key's to a pinned root (RFC 5280, 6.1).
func (a *Authorities) chain(ders [][]byte, now time.Time) (certified, error) {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	add := func(cert *x509.Certificate) {
		if a.roots[sha256.Sum256(cert.RawSubjectPublicKeyInfo)] {
			roots.AddCert(cert)
		} else {
			intermediates.AddCert(cert)
		}
	}
	var leaf *x509.Certificate
	for i, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return certified{}, refusal.New(ReasonCertificate, "certificate %d: %w", i, err)
		}
		if leaf == nil {
			leaf = cert
		} else {
			add(cert)
		}
	}
	for _, cert := range a.certificates {
		add(cert)
	}
	if err := checkUsage(leaf); err != nil {
		return certified{}, err
	}
	// The TCG has certificates of TPMs' keys name the device in a critical alternative name, a directory name
	// that crypto/x509 does not read. Nothing is concluded from it.
	leaf.UnhandledCriticalExtensions = slices.DeleteFunc(leaf.UnhandledCriticalExtensions, func(id asn1.ObjectIdentifier) bool {
		return id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17})
	})
	// The usages of the authorities' own certificates name endorsement keys alone, so usage is
	// judged at the leaf.
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return certified{}, refusal.New(ReasonChain, "%w", err)
	}
	instance, err := instanceOf(leaf)
	if err != nil {
		return certified{}, err
	}
	c := certified{chain: chains[0], key: leaf.PublicKey, subject: leaf.Subject.String(), instance: instance, notBefore: leaf.NotBefore, notAfter: leaf.NotAfter}
	for _, cert := range chains[0] {
		if cert.NotBefore.After(c.notBefore) {
			c.notBefore = cert.NotBefore
		}
		if cert.NotAfter.Before(c.notAfter) {
			c.notAfter = cert.NotAfter
		}
	}
	return c, nil
}

// checkUsage checks that the certificate is one of an attestation key: it signs, does nothing
// else, and certifies nobody. An endorsement key's decrypts. Purposes may be left out, as clouds
// do; if there are any, tcg-kp-AIKCertificate is the only one.
func checkUsage(leaf *x509.Certificate) error {
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		return refusal.New(ReasonCertificate, "key usage %#x, authority %t: not an attestation key's", int(leaf.KeyUsage), leaf.IsCA)
	}
	attestation := asn1.ObjectIdentifier{2, 23, 133, 8, 3}
	for _, purpose := range leaf.UnknownExtKeyUsage {
		if !purpose.Equal(attestation) {
			return refusal.New(ReasonCertificate, "the certificate is for %s", purpose)
		}
	}
	if len(leaf.ExtKeyUsage) > 0 {
		return refusal.New(ReasonCertificate, "the certificate is for other purposes, too: %v", slices.Clone(leaf.ExtKeyUsage))
	}
	return nil
}
