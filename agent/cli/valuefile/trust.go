package valuefile

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Limits of keys and chains.
const (
	maxTrusted  = 16
	maxChain    = 8
	minRSABits  = 2048
	maxRSABits  = 8192
	maxNameText = 128
)

// Trust says whose signature counts. The zero value believes nobody.
type Trust struct {
	// Keys are public keys that sign such files: *ecdsa.PublicKey, *rsa.PublicKey, ed25519.PublicKey.
	Keys []crypto.PublicKey
	// Roots issue certificates of such keys.
	Roots []*x509.Certificate
	// Publishers sign statements of their own images (package publication).
	Publishers []identity.Public
	// Unsigned is why an unsigned file is accepted; empty refuses it.
	Unsigned string
}

// ParseKeys reads PEM blocks of public keys or certificates, of which the key alone counts.
func ParseKeys(text []byte) (keys []crypto.PublicKey, err error) {
	err = eachPEM(text, func(b *pem.Block) error {
		var key crypto.PublicKey
		switch b.Type {
		case "PUBLIC KEY":
			parsed, err := x509.ParsePKIXPublicKey(b.Bytes)
			if err != nil {
				return refusal.New(ReasonMalformed, "signer's key: %w", err)
			}
			key = parsed
		case "CERTIFICATE":
			c, err := x509.ParseCertificate(b.Bytes)
			if err != nil {
				return refusal.New(ReasonMalformed, "signer's certificate: %w", err)
			}
			key = c.PublicKey
		default:
			return refusal.New(ReasonMalformed, "got a PEM block %q, want PUBLIC KEY or CERTIFICATE", b.Type)
		}
		keys = append(keys, key)
		return checkKey(key)
	})
	return keys, err
}

// ParseRoots reads root certificates, PEM or one in DER.
func ParseRoots(data []byte) (roots []*x509.Certificate, err error) {
	if c, err := x509.ParseCertificate(data); err == nil {
		return []*x509.Certificate{c}, checkKey(c.PublicKey)
	}
	err = eachPEM(data, func(b *pem.Block) error {
		if b.Type != "CERTIFICATE" {
			return refusal.New(ReasonMalformed, "got a PEM block %q, want CERTIFICATE", b.Type)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return refusal.New(ReasonMalformed, "root certificate: %w", err)
		}
		roots = append(roots, c)
		return checkKey(c.PublicKey)
	})
	return roots, err
}

func eachPEM(text []byte, f func(*pem.Block) error) error {
	for n := 0; ; n++ {
		b, rest := pem.Decode(text)
		switch {
		case b == nil && len(bytes.TrimSpace(text)) > 0 || b == nil && n == 0:
			return refusal.New(ReasonMalformed, "want PEM blocks, and nothing after them")
		case b == nil:
			return nil
		case n == maxTrusted:
			return refusal.New(ReasonSize, "got more than %d PEM blocks", maxTrusted)
		}
		if err := f(b); err != nil {
			return err
		}
		text = rest
	}
}

// checkKey refuses keys of other kinds and sizes than signatures are verified with here.
func checkKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() || k.Curve == elliptic.P521() {
			return nil
		}
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits >= minRSABits && bits <= maxRSABits {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	}
	return refusal.New(ReasonUnsupported, "the signer's key is of no kind that is known (ECDSA P-256, P-384, P-521; RSA of %d to %d bits; Ed25519)", minRSABits, maxRSABits)
}

// signer is a key that a signature may be of, and who it is.
type signer struct {
	key  crypto.PublicKey
	name string
}

// candidates are the keys that may have signed: those of the operator, and a chain's first one if the
// chain leads to a root of the operator's.
func (t Trust) candidates(chain [][]byte, now time.Time) (list []signer, err error) {
	for _, k := range t.Keys {
		name, err := keyName(k)
		if err != nil {
			return nil, err
		}
		list = append(list, signer{k, name})
	}
	if len(t.Roots) > 0 && len(chain) > 0 {
		s, err := t.leaf(chain, now)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	switch {
	case len(list) > 0:
		return list, nil
	case len(t.Roots) > 0:
		return nil, refusal.New(ReasonSigner, "the file carries no certificate that could lead to the root: give the signer's key")
	}
	return nil, refusal.New(ReasonSigner, "neither a signer's key nor a root was given, and the file cannot vouch for itself")
}

// leaf verifies a chain, the signer's certificate first, up to a root of the operator's.
func (t Trust) leaf(chain [][]byte, now time.Time) (signer, error) {
	if len(chain) > maxChain {
		return signer{}, refusal.New(ReasonSize, "got a chain of %d certificates, want at most %d", len(chain), maxChain)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range t.Roots {
		roots.AddCert(c)
	}
	var first *x509.Certificate
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return signer{}, refusal.New(ReasonMalformed, "certificate %d of the signer: %w", i, err)
		}
		if i == 0 {
			first = c
		} else {
			between.AddCert(c)
		}
	}
	if now.Before(first.NotBefore) || now.After(first.NotAfter) {
		return signer{}, refusal.New(ReasonPeriod, "the signer's certificate is valid from %s to %s", first.NotBefore.UTC().Format(time.RFC3339), first.NotAfter.UTC().Format(time.RFC3339))
	}
	if first.KeyUsage != 0 && first.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return signer{}, refusal.New(ReasonSigner, "the signer's certificate is not for signatures")
	}
	_, err := first.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return signer{}, refusal.New(ReasonSigner, "the signer's certificate does not lead to a root that was given: %w", err)
	}
	if err := checkKey(first.PublicKey); err != nil {
		return signer{}, err
	}
	name, err := keyName(first.PublicKey)
	return signer{first.PublicKey, subject(first) + " (" + name + ")"}, err
}

func subject(c *x509.Certificate) string {
	s := strings.ToValidUTF8(oneLine(c.Subject.String()), "?")
	if len(s) > maxNameText {
		s = strings.ToValidUTF8(s[:maxNameText], "")
	}
	return s
}

// keyName is a key by the digest of its SubjectPublicKeyInfo.
func keyName(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", refusal.New(ReasonUnsupported, "signer's key: %w", err)
	}
	digest := sha256.Sum256(der)
	return "key sha256:" + hex.EncodeToString(digest[:]), nil
}

// scheme is a signature algorithm: one hash, and either one curve, RSASSA-PSS, or Ed25519.
type scheme struct {
	hash  crypto.Hash
	curve elliptic.Curve
	pss   bool
}

// verifies says whether a signature over a message is one of this key and scheme. ECDSA's is r and
// s of the curve's size, big-endian.
func (s scheme) verifies(key crypto.PublicKey, message, signature []byte) bool {
	var digest []byte
	if s.hash != 0 {
		h := s.hash.New()
		h.Write(message)
		digest = h.Sum(nil)
	}
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if s.curve == nil || k.Curve != s.curve {
			return false
		}
		size := (s.curve.Params().BitSize + 7) / 8
		if len(signature) != 2*size {
			return false
		}
		return ecdsa.Verify(k, digest, new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:]))
	case *rsa.PublicKey:
		return s.pss && rsa.VerifyPSS(k, s.hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	case ed25519.PublicKey:
		return s.hash == 0 && !s.pss && s.curve == nil && ed25519.Verify(k, message, signature)
	}
	return false
}

// verify finds the candidate who signed.
func (s scheme) verify(list []signer, message, signature []byte) (signer, error) {
	for _, one := range list {
		if s.verifies(one.key, message, signature) {
			return one, nil
		}
	}
	return signer{}, refusal.New(ReasonSignature, "the signature verifies under none of the keys that are believed (%d)", len(list))
}
