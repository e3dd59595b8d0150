//go:build !release

package appraisal

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
)

// SoftwareTEE reads the roots of software TEEs in a PEM file: those with RSA keys are of SEV-SNP,
// those with ECDSA keys of TDX, as the vendors' are. It exists for development alone and is not
// compiled into a release.
func SoftwareTEE(rootsPEM []byte) (r Roots, err error) {
	var trustDomains []byte
	for rest := rootsPEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return Roots{}, fmt.Errorf("the software TEE's roots: %w", err)
		}
		switch cert.PublicKeyAlgorithm {
		case x509.RSA:
			r.snp = append(r.snp, pem.EncodeToMemory(block)...)
		case x509.ECDSA:
			trustDomains = append(trustDomains, pem.EncodeToMemory(block)...)
		default:
			return Roots{}, fmt.Errorf("the software TEE's roots: a key of kind %s", cert.PublicKeyAlgorithm)
		}
	}
	if len(r.snp)+len(trustDomains) == 0 {
		return Roots{}, errors.New("the software TEE's roots contain no certificate")
	}
	if len(trustDomains) > 0 {
		r.tdx, err = tdx.SoftwareRoots(trustDomains)
	}
	return r, err
}

// allow has a verifier of SEV-SNP believe the software TEE.
func (r Roots) allow(v *appraise.Verifier) error {
	if len(r.snp) == 0 {
		return nil
	}
	return v.AllowSoftwareTEE(r.snp)
}
