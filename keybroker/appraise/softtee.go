//go:build !release

package appraise

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
)

// AllowSoftwareTEE makes the verifier believe the root certificates of a
// software TEE besides AMD's: its claims then say SoftwareTEE. It exists for
// development alone, is not compiled into a release, and is called before the
// verifier is used.
func (v *Verifier) AllowSoftwareTEE(rootsPEM []byte) error {
	found := map[[32]byte]bool{}
	for rest := rootsPEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != "CERTIFICATE" {
			return errors.Join(errors.New("appraise: the software TEE's roots contain something other than certificates"), err)
		}
		if bytes.Equal(cert.RawSubject, cert.RawIssuer) {
			found[sha256.Sum256(cert.RawSubjectPublicKeyInfo)] = true
		}
		v.certificates = append(v.certificates, cert)
	}
	if len(found) == 0 {
		return errors.New("appraise: the software TEE's roots contain no root certificate")
	}
	v.software = found
	return nil
}
