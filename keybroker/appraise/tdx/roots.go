package tdx

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// pinIntel is the SHA-256 of the public key (subject public key info) of "Intel SGX Root CA",
// serial 22650cd65a9d3489f383b49552bf501b392706ac, from
// https://certificates.trustedservices.intel.com/IntelSGXRootCA.der. Version 4 of Intel's PCS
// serves TDX under it, too.
const pinIntel = "a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e"

// Roots are the keys at which chains may end. The zero value is Intel's alone, and in a release
// there is no other.
type Roots struct {
	software map[[32]byte]bool
}

// check says whether a root certificate has a trusted key, and whether it is a software TEE's.
// It looks at the key's digest alone.
func (r Roots) check(root *x509.Certificate) (software bool, err error) {
	digest := sha256.Sum256(root.RawSubjectPublicKeyInfo)
	if hex.EncodeToString(digest[:]) == pinIntel {
		return false, nil
	}
	if r.software[digest] {
		return true, nil
	}
	return false, refusal.New(ReasonRoot, "%q with key sha256:%x is not pinned", root.Subject.CommonName, digest)
}
