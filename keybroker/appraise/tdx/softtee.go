//go:build !release

package tdx

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
)

// SoftwareRoots are Intel's key and the roots of software TEEs, in PEM. Claims under one of the
// latter say SoftwareTEE. It exists for development alone and is not compiled into a release.
func SoftwareRoots(rootsPEM []byte) (Roots, error) {
	r := Roots{software: map[[32]byte]bool{}}
	for rest := rootsPEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != "CERTIFICATE" || !bytes.Equal(cert.RawSubject, cert.RawIssuer) {
			return Roots{}, errors.Join(errors.New("tdx: the software TEE's roots contain something other than root certificates"), err)
		}
		r.software[sha256.Sum256(cert.RawSubjectPublicKeyInfo)] = true
	}
	if len(r.software) == 0 {
		return Roots{}, errors.New("tdx: the software TEE's roots contain no certificate")
	}
	return r, nil
}
