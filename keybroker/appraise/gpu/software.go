//go:build !release

package gpu

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
)

// AllowSoftware makes the verifier believe the root certificate of an emulator besides NVIDIA's:
// its claims then say Software. It exists for development alone, is not compiled into a release,
// and is called before the verifier is used.
func (v *Verifier) AllowSoftware(rootPEM []byte) error {
	block, rest := pem.Decode(rootPEM)
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
		return errors.New("gpu: the emulator's root is not one certificate in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	if v.software == nil {
		v.software = map[[32]byte]bool{}
	}
	v.software[sha256.Sum256(cert.RawSubjectPublicKeyInfo)] = true
	return nil
}
