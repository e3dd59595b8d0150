package appraise

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// chain is a verified chain of certificates: who signs reports, and up to which root.
type chain struct {
	root, issuer, leaf *x509.Certificate
	key                *chipKey
	software           bool
	lists              *revocation          // those that were held
	revoked            *x509.RevocationList // the root's newest among them, nil for none
}

// maxChains bounds the cache. Chains are the same for every report of a chip
// until its firmware changes.
const maxChains = 4096

// chainCache keeps chains whose signatures were verified. Time and revocation
// are checked at every use.
type chainCache struct {
	mu     sync.Mutex
	chains map[[32]byte]*chain
}

func (c *chainCache) get(id [32]byte) *chain {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.chains[id]
}

func (c *chainCache) put(id [32]byte, ch *chain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.chains == nil || len(c.chains) >= maxChains {
		c.chains = map[[32]byte]*chain{} // simpler than an order of eviction, and as bounded
	}
	c.chains[id] = ch
}

// chainOf returns the verified chain for a report.
func (v *Verifier) chainOf(env evidence.Envelope, signer signerKind) (*chain, error) {
	leafType, issuerType := evidence.EndorsementVCEK, evidence.EndorsementASK
	if signer == signerVLEK {
		leafType, issuerType = evidence.EndorsementVLEK, evidence.EndorsementASVK
	}
	leafDER := env.Part(leafType)
	if leafDER == nil {
		return nil, refusal.New(ReasonCertificateMissing, "no %s certificate", leafType)
	}
	id := chainID(signer, leafDER, env.Part(issuerType), env.Part(evidence.EndorsementARK))
	lists := v.revocation.Load()
	if c := v.cache.get(id); c != nil && c.lists == lists {
		return c, nil
	}
	leaf, err := parseCertificate(leafDER, string(leafType))
	if err != nil {
		return nil, err
	}
	// Arithmetic comes last, and only with keys whose size is known and whose root is
	// pinned: before that, whoever sent the certificates decides what it costs.
	key, err := parseChipKey(leaf, signer)
	if err != nil {
		return nil, err
	}
	issuers, err := v.authorities(leaf, env.Part(issuerType), string(issuerType))
	if err != nil {
		return nil, err
	}
	for _, issuer := range issuers {
		c := &chain{issuer: issuer, leaf: leaf, key: key}
		if err = v.join(c, issuerType, env.Part(evidence.EndorsementARK)); err == nil {
			c.lists, c.revoked = lists, lists.newest(c.root)
			v.cache.put(id, c)
			return c, nil
		}
	}
	return nil, err
}

// join completes a chain with a root that is pinned, as its issuer is, and that the signatures
// lead to.
func (v *Verifier) join(c *chain, role evidence.PartType, offered []byte) error {
	roots, err := v.authorities(c.issuer, offered, "ark")
	if err != nil {
		return err
	}
	for _, root := range roots {
		c.root = root
		if c.software, err = v.trusted(c, role); err != nil {
			continue
		}
		if err = signedByAuthority(root); err != nil {
			continue
		}
		if err = v.verify(c); err == nil {
			return nil
		}
	}
	return err
}

// verify checks the signatures of a chain from the root down: the key of each
// certificate is used only after it was signed by the one above.
func (v *Verifier) verify(c *chain) error {
	for _, link := range []struct{ cert, by *x509.Certificate }{{c.root, c.root}, {c.issuer, c.root}, {c.leaf, c.issuer}} {
		if err := v.checkSignature(link.cert, link.by); err != nil {
			return refusal.New(ReasonChain, "%q is not signed by %q: %w", link.cert.Subject.CommonName, link.by.Subject.CommonName, err)
		}
	}
	return nil
}

// chainID is the cache's key. The signer's kind is part of it: a certificate
// must not be read as the other kind. Lengths stand before the certificates:
// no two sets of them share a key.
func chainID(signer signerKind, certificates ...[]byte) [32]byte {
	h := sha256.New()
	var n [4]byte
	number := func(v uint32) {
		binary.BigEndian.PutUint32(n[:], v)
		h.Write(n[:])
	}
	number(uint32(signer))
	for _, der := range certificates {
		number(uint32(len(der)))
		h.Write(der)
	}
	return [32]byte(h.Sum(nil))
}

// What AMD's authorities are made of.
const (
	maxCertificateBytes = 4 << 10 // twice what they have
	authorityBits       = 4096    // RSA
	authorityExponent   = 65537
)

func parseCertificate(der []byte, name string) (*x509.Certificate, error) {
	if len(der) > maxCertificateBytes {
		return nil, refusal.New(ReasonCertificate, "%s has %d bytes, the limit is %d", name, len(der), maxCertificateBytes)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, refusal.New(ReasonCertificate, "%s: %w", name, err)
	}
	return c, nil
}

// authorities are the certificates that may have signed another, by what can be seen
// without arithmetic: those configured, and the one that came with the evidence. There
// is one at least.
func (v *Verifier) authorities(cert *x509.Certificate, offered []byte, name string) (list []*x509.Certificate, err error) {
	known := v.certificates
	if more := v.supplied.Load(); more != nil {
		known = slices.Concat(known, *more)
	}
	for _, c := range known {
		if bytes.Equal(c.RawSubject, cert.RawIssuer) && isAuthority(c) {
			list = append(list, c)
		}
	}
	if offered != nil {
		c, err := parseCertificate(offered, name)
		switch {
		case err != nil:
			return nil, err
		case !isAuthority(c):
			return nil, refusal.New(ReasonCertificate, "the key of %s is not RSA with %d bits and exponent %d", name, authorityBits, authorityExponent)
		case bytes.Equal(c.RawSubject, cert.RawIssuer):
			list = append(list, c)
		case len(list) == 0:
			return nil, refusal.New(ReasonChain, "issued by %q, %s is %q", cert.Issuer.CommonName, name, c.Subject.CommonName)
		}
	}
	if len(list) == 0 {
		return nil, refusal.New(ReasonCertificateMissing, "no %s certificate", name)
	}
	return list, signedByAuthority(cert)
}

// signedByAuthority checks the form of a certificate's signature.
func signedByAuthority(cert *x509.Certificate) error {
	if cert.SignatureAlgorithm != x509.SHA384WithRSAPSS || len(cert.Signature) != authorityBits/8 {
		return refusal.New(ReasonChain, "%q is signed with %s in %d bytes, want SHA384-RSAPSS in %d bytes", cert.Subject.CommonName, cert.SignatureAlgorithm, len(cert.Signature), authorityBits/8)
	}
	return nil
}

// isAuthority says whether a key has the form of AMD's authorities.
func isAuthority(c *x509.Certificate) bool {
	key, ok := c.PublicKey.(*rsa.PublicKey)
	return ok && key.N.BitLen() == authorityBits && key.E == authorityExponent
}

// trusted says whether a chain's authorities may vouch for its product, and whether they are the
// software TEE's. It looks at the digests of their keys alone.
func (v *Verifier) trusted(c *chain, role evidence.PartType) (software bool, err error) {
	p := c.key.product
	if software, err = v.trustedRoot(c.root, p); err != nil || software {
		return software, err
	}
	return false, pinnedAuthority(c.issuer, p, role)
}

// trustedRoot says whether a root may vouch for a product, and whether it is the software TEE's.
func (v *Verifier) trustedRoot(root *x509.Certificate, p product) (software bool, err error) {
	digest := sha256.Sum256(root.RawSubjectPublicKeyInfo)
	if v.software[digest] {
		return true, nil
	}
	if !pinned(p, evidence.EndorsementARK, digest) {
		return false, refusal.New(ReasonRoot, "%q with key sha256:%x is not a pinned root for %s", root.Subject.CommonName, digest, p)
	}
	return false, nil
}

// pinnedAuthority refuses an issuer whose key is not the pinned one of its role.
func pinnedAuthority(issuer *x509.Certificate, p product, role evidence.PartType) error {
	if digest := sha256.Sum256(issuer.RawSubjectPublicKeyInfo); !pinned(p, role, digest) {
		return refusal.New(ReasonAuthority, "%q with key sha256:%x is not the pinned %s of %s", issuer.Subject.CommonName, digest, role, p)
	}
	return nil
}

// validAt checks time and revocation, at every use of a chain.
func (v *Verifier) validAt(c *chain, now time.Time) error {
	if err := inTime(now, c.root, c.issuer, c.leaf); err != nil {
		return err
	}
	return c.lists.check(c, now)
}

// inTime checks that certificates are valid at a time, and that nothing in them is unknown and
// critical.
func inTime(now time.Time, certs ...*x509.Certificate) error {
	for _, cert := range certs {
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			return refusal.New(ReasonExpired, "%q is valid from %s to %s", cert.Subject.CommonName,
				cert.NotBefore.Format(time.RFC3339), cert.NotAfter.Format(time.RFC3339))
		}
		if len(cert.UnhandledCriticalExtensions) > 0 {
			return refusal.New(ReasonCertificate, "%q has an unknown critical extension", cert.Subject.CommonName)
		}
	}
	return nil
}
