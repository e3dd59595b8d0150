// Package keyseal is the broker's half of crypto/keywrap: it seals keys to attested guests at less
// than half the cost, with the assembly of cloudflare/circl.
//
// The scheme is that of keywrap: HPKE (RFC 9180) in base mode with MLKEM768-X25519, HKDF-SHA256
// and AES-256-GCM. Tests open with the standard library what is sealed here, so each
// implementation checks the other. The package trusts circl's HPKE, X-Wing and ML-KEM with
// one-time randomness; long-lived secrets never enter them. Guests do not link it, because they
// seal and open only a few keys per lease.
package keyseal

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"runtime"

	"github.com/cloudflare/circl/hpke"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/keywrap"
)

// Sealed is one wrapped secret, and the export of its context.
type Sealed struct {
	Enc, Ciphertext []byte
	// Export is a secret of keywrap.ExportSize bytes that only the two ends of this
	// context can compute.
	Export []byte
}

// Seal wraps a secret to a recipient's public key under info, which must not be empty
// and is not sent. exporter is the exporter context of RFC 9180 for Export. The secret
// has 1 to keywrap.MaxSecretBytes bytes.
func Seal(publicKey, info []byte, secret *keybuf.Buffer, exporter string) (Sealed, error) {
	if len(publicKey) != keywrap.PublicKeySize {
		return Sealed{}, keywrap.ErrPublicKey
	}
	if len(info) == 0 {
		return Sealed{}, keywrap.ErrInfo
	}
	if secret.Len() == 0 || secret.Len() > keywrap.MaxSecretBytes {
		return Sealed{}, fmt.Errorf("keyseal: a secret must have 1 to %d bytes, got %d", keywrap.MaxSecretBytes, secret.Len())
	}
	public, err := hpke.KEM_XWING.Scheme().UnmarshalBinaryPublicKey(publicKey)
	if err != nil || lowOrder(publicKey[len(publicKey)-32:]) {
		return Sealed{}, keywrap.ErrPublicKey
	}
	sender, err := hpke.NewSuite(hpke.KEM_XWING, hpke.KDF_HKDF_SHA256, hpke.AEAD_AES256GCM).NewSender(public, info)
	if err != nil {
		return Sealed{}, fmt.Errorf("keyseal: %w", err)
	}
	enc, sealer, err := sender.Setup(rand.Reader)
	if err != nil {
		return Sealed{}, fmt.Errorf("keyseal: %w", err)
	}
	ciphertext, err := sealer.Seal(secret.Bytes(), nil)
	runtime.KeepAlive(secret) // an unreachable buffer is wiped, even while it is read
	if err != nil {
		return Sealed{}, fmt.Errorf("keyseal: %w", err)
	}
	return Sealed{enc, ciphertext, sealer.Export([]byte(exporter), keywrap.ExportSize)}, nil
}

// points are the u-coordinates of X25519 whose shared secret is zero whatever the other
// half, with the unused highest bit cleared: 0, 1, the two of order eight, p-1, p, p+1
// (RFC 7748 6.1; https://cr.yp.to/ecdh.html). circl's X-Wing takes them.
var points = func() (all [][]byte) {
	for _, h := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		p, err := hex.DecodeString(h)
		if err != nil {
			panic(err)
		}
		all = append(all, p)
	}
	return all
}()

// lowOrder says whether half of the hybrid would give nothing.
func lowOrder(point []byte) bool {
	u := bytes.Clone(point)
	u[31] &= 0x7f
	for _, p := range points {
		if bytes.Equal(p, u) {
			return true
		}
	}
	return false
}
