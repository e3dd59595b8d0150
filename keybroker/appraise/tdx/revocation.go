package tdx

import (
	"bytes"
	"crypto/x509"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Limits of a revocation list. Intel's longest has some 3 KB and 50 entries.
const (
	maxListBytes   = 4 << 20
	maxListEntries = 100_000
)

// revocationList is a verified list of one authority, which a key and a name make.
type revocationList struct {
	window
	issuer  holder
	serials map[string]struct{} // big-endian, without leading zeros
}

// parseRevocationList reads a list and verifies that the authority signed it. A list without an end
// has ended.
func parseRevocationList(der []byte, by *x509.Certificate, name string) (*revocationList, error) {
	malformed := func(what string) error { return refusal.New(ReasonCollateralMalformed, "%s %s", name, what) }
	if len(der) > maxListBytes {
		return nil, malformed("is too large")
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, refusal.New(ReasonCollateralMalformed, "%s: %w", name, err)
	}
	switch {
	case list.SignatureAlgorithm != x509.ECDSAWithSHA256:
		return nil, malformed("is not signed with ECDSA and SHA-256")
	case !bytes.Equal(list.RawIssuer, by.RawSubject) || list.CheckSignatureFrom(by) != nil:
		return nil, refusal.New(ReasonCollateralSignature, "%q did not sign %s", by.Subject.CommonName, name)
	case len(list.RevokedCertificateEntries) > maxListEntries:
		return nil, malformed("has too many entries")
	}
	for _, e := range list.Extensions {
		if e.Critical { // it may narrow what the list covers
			return nil, malformed("has an unknown critical extension")
		}
	}
	l := &revocationList{window{name, list.ThisUpdate, list.NextUpdate}, holderOf(by), map[string]struct{}{}}
	for _, entry := range list.RevokedCertificateEntries {
		for _, e := range entry.Extensions {
			if e.Critical { // it may name another issuer
				return nil, malformed("has an entry with a critical extension")
			}
		}
		l.serials[string(entry.SerialNumber.Bytes())] = struct{}{}
	}
	return l, nil
}

// check refuses a certificate that is on the list.
func (l *revocationList) check(h *holder) error {
	if _, found := l.serials[h.serial]; found {
		return refusal.New(ReasonRevoked, "%q with serial number %x is revoked", h.name, h.serial)
	}
	return nil
}
