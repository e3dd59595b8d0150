// Package chunksealtest signs sealed files for tests. Only tests may import it.
package chunksealtest

import (
	"bytes"
	"crypto/ed25519"
	"errors"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
)

// Publisher stands in for an identity: one Ed25519 key, whose signatures are deterministic.
type Publisher struct{ key ed25519.PrivateKey }

// NewPublisher is the publisher of a seed.
func NewPublisher(seed byte) Publisher {
	return Publisher{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))}
}

// Bytes is the public key, as sealed files have it.
func (p Publisher) Bytes() []byte { return p.key.Public().(ed25519.PublicKey) }

// Verify checks a signature of the publisher's.
func (p Publisher) Verify(label string, msg, sig []byte) error {
	if !ed25519.Verify(p.key.Public().(ed25519.PublicKey), append([]byte(label), msg...), sig) {
		return errors.New("bad signature")
	}
	return nil
}

// Sign signs the root of a sealed file, and returns the public key and the signature.
func (p Publisher) Sign(root []byte) (public, signature []byte, err error) {
	return p.Bytes(), ed25519.Sign(p.key, append([]byte(chunkseal.SignContext), root...)), nil
}
