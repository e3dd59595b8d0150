package appraise

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// SHA-256 digests of AMD's root public keys: the subject public key info of
// ARK-Milan, ARK-Genoa and ARK-Turin.
const (
	pinMilan = "9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9"
	pinGenoa = "429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831"
	pinTurin = "4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08"
)

// pinned says whether a key may be the root of a product line.
func pinned(p product, digest [32]byte) bool {
	hex := hex.EncodeToString(digest[:])
	switch p {
	case milan:
		return hex == pinMilan
	case genoa:
		return hex == pinGenoa
	case turin:
		return hex == pinTurin
	}
	return false
}

// chain is a verified chain of certificates: who signs reports, and up to which root.
type chain struct {
	root, issuer, leaf *x509.Certificate
	key                *chipKey
	software           bool
	revoked            *x509.RevocationList // the root's newest list, nil for none
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
	leafDER := env.Endorsement(leafType)
	if leafDER == nil {
		return nil, evidence.Refuse(ReasonCertificateMissing, "no %s certificate", leafType)
	}
	id := chainID(signer, leafDER, env.Endorsement(issuerType), env.Endorsement(evidence.EndorsementARK))
	if c := v.cache.get(id); c != nil {
		return c, nil
	}
	leaf, err := x509.ParseCertificate(leafDER)
	if err != nil {
		return nil, evidence.Refuse(ReasonCertificate, "%s: %w", leafType, err)
	}
	issuer, err := v.issuerOf(leaf, env.Endorsement(issuerType), string(issuerType))
	if err != nil {
		return nil, err
	}
	root, err := v.issuerOf(issuer, env.Endorsement(evidence.EndorsementARK), "ark")
	if err != nil {
		return nil, err
	}
	c := &chain{root: root, issuer: issuer, leaf: leaf}
	if c.key, err = parseChipKey(leaf, signer); err != nil {
		return nil, err
	}
	if c.software, err = v.trusted(root, c.key.product); err != nil {
		return nil, err
	}
	c.revoked = v.revocation.newest(root)
	v.cache.put(id, c)
	return c, nil
}

// chainID is the cache's key. The signer's kind is part of it: a certificate
// must not be read as the other kind. Lengths stand before the certificates:
// no two sets of them share a key.
func chainID(signer signerKind, certificates ...[]byte) [32]byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(signer))
	for _, der := range certificates {
		b = binary.BigEndian.AppendUint32(b, uint32(len(der)))
		b = append(b, der...)
	}
	return sha256.Sum256(b)
}

// issuerOf finds the certificate that signed another: among those configured, or
// the one that came with the evidence. It verifies the signature.
func (v *Verifier) issuerOf(cert *x509.Certificate, offered []byte, name string) (*x509.Certificate, error) {
	var candidates []*x509.Certificate
	for _, c := range v.certificates {
		if bytes.Equal(c.RawSubject, cert.RawIssuer) {
			candidates = append(candidates, c)
		}
	}
	if offered != nil {
		c, err := x509.ParseCertificate(offered)
		if err != nil {
			return nil, evidence.Refuse(ReasonCertificate, "%s: %w", name, err)
		}
		candidates = append(candidates, c)
	}
	if len(candidates) == 0 {
		return nil, evidence.Refuse(ReasonCertificateMissing, "no %s certificate", name)
	}
	if cert.SignatureAlgorithm != x509.SHA384WithRSAPSS {
		return nil, evidence.Refuse(ReasonChain, "a certificate under %s is signed with %s; SHA384-RSAPSS is known", name, cert.SignatureAlgorithm)
	}
	var last error
	for _, c := range candidates {
		if !bytes.Equal(c.RawSubject, cert.RawIssuer) {
			last = evidence.Refuse(ReasonChain, "issued by %q, %s is %q", cert.Issuer.CommonName, name, c.Subject.CommonName)
			continue
		}
		if err := cert.CheckSignatureFrom(c); err != nil {
			last = evidence.Refuse(ReasonChain, "not signed by %s: %w", name, err)
			continue
		}
		return c, nil
	}
	return nil, last
}

// trusted says whether a root may vouch for a product, and whether it is the
// software TEE's.
func (v *Verifier) trusted(root *x509.Certificate, p product) (software bool, err error) {
	if root.SignatureAlgorithm != x509.SHA384WithRSAPSS || root.CheckSignatureFrom(root) != nil {
		return false, evidence.Refuse(ReasonChain, "the root certificate %q is not signed by its own key", root.Subject.CommonName)
	}
	digest := sha256.Sum256(root.RawSubjectPublicKeyInfo)
	if pinned(p, digest) {
		return false, nil
	}
	if v.software[digest] {
		return true, nil
	}
	return false, evidence.Refuse(ReasonRoot, "%q with key sha256:%x is not a pinned root for %s", root.Subject.CommonName, digest, p)
}

// validAt checks time and revocation, at every use of a chain.
func (v *Verifier) validAt(c *chain, now time.Time) error {
	for _, cert := range []*x509.Certificate{c.root, c.issuer, c.leaf} {
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			return evidence.Refuse(ReasonExpired, "%q is valid from %s to %s", cert.Subject.CommonName,
				cert.NotBefore.Format(time.RFC3339), cert.NotAfter.Format(time.RFC3339))
		}
		if len(cert.UnhandledCriticalExtensions) > 0 {
			return evidence.Refuse(ReasonCertificate, "%q has an unknown critical extension", cert.Subject.CommonName)
		}
	}
	return v.revocation.check(c, now)
}
