package tpmquote

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/subtle"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Trust is the caller's reason to believe an attestation key. The zero value believes none. It is
// decided by what the caller verified and configured, never by the quote.
type Trust struct {
	reason       evidence.AKTrust
	key          crypto.PublicKey
	names        [][]byte
	authorities  *Authorities
	certificates [][]byte
}

// TrustCertificate believes the key that the first certificate names, if the others lead from it
// to an authority. The certificates (DER) are a cache that the guest or the operator offers.
func TrustCertificate(a *Authorities, certificates ...[]byte) Trust {
	return Trust{reason: evidence.AKCertificate, authorities: a, certificates: certificates}
}

// TrustReportedKey believes the key, RSA or ECDSA, that a verified CPU report covers. The quote
// may then lack the key's public area: what kind of key it is stands in the report's data, and
// the firmware that wrote it there answers for it.
func TrustReportedKey(key crypto.PublicKey) Trust {
	return Trust{reason: evidence.AKReport, key: key}
}

// TrustReportedName believes the key whose name ([Name]) a verified CPU report covers.
func TrustReportedName(name []byte) Trust {
	return Trust{reason: evidence.AKReport, names: [][]byte{name}}
}

// TrustEnrolled believes the keys whose names the operator listed.
func TrustEnrolled(names ...[]byte) Trust {
	return Trust{reason: evidence.AKEnrolled, names: names}
}

// listed says whether a believed key has a name that the caller listed.
func (t Trust) listed() bool { return t.key == nil && t.reason != evidence.AKCertificate }

// believe finds the key that the signature must be of, and what its certificate says if one is
// the reason. The public area is the quote's; nil if it has none.
func (t Trust) believe(p *publicArea, now time.Time) (certified, error) {
	if t.reason == evidence.AKReport && t.key != nil {
		if accepted(t.key) != nil {
			return certified{}, accepted(t.key)
		}
		if p != nil && !sameKey(p.key, t.key) {
			return certified{}, refusal.New(ReasonKey, "the quote's key is not the one in the CPU's report")
		}
		return certified{key: t.key}, nil
	}
	if p == nil {
		return certified{}, refusal.New(ReasonKey, "the quote lacks its key's public area")
	}
	switch t.reason {
	case evidence.AKReport, evidence.AKEnrolled:
		listed := 0
		for _, name := range t.names {
			listed |= subtle.ConstantTimeCompare(name, p.name)
		}
		if listed != 1 {
			return certified{}, refusal.New(ReasonKey, "the key %x is not listed", p.name)
		}
		return certified{key: p.key}, nil
	case evidence.AKCertificate:
		c, err := t.authorities.certified(t.certificates, now)
		if err != nil {
			return certified{}, err
		}
		if !sameKey(c.key, p.key) {
			return certified{}, refusal.New(ReasonCertificate, "the certificate is of another key than the quote's")
		}
		return c, nil
	}
	return certified{}, refusal.New(ReasonKey, "the caller states no reason to trust the key")
}

// accepted checks that a key which came without a public area has parameters that one could.
func accepted(key crypto.PublicKey) error {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key != nil && key.N != nil && key.E == rsaExponent && key.N.BitLen() >= minRSABits && key.N.BitLen() <= maxRSABits {
			return nil
		}
	case *ecdsa.PublicKey:
		if key == nil || key.Curve == nil {
			break
		}
		if name := key.Params().Name; name == "P-256" || name == "P-384" {
			return nil
		}
	}
	return refusal.New(ReasonAlgorithm, "a reported key of type %T, or of parameters that are not accepted", key)
}

// sameKey compares keys of the two accepted kinds.
func sameKey(a, b crypto.PublicKey) bool {
	switch a := a.(type) {
	case *rsa.PublicKey:
		return a.Equal(b)
	case *ecdsa.PublicKey:
		return a.Equal(b)
	}
	return false
}
