package identity

import (
	"crypto/ed25519"
	"errors"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
	"github.com/cloudflare/circl/sign/mldsa/mldsa87"
)

// Level is the strength of an identity.
type Level byte

const (
	// LevelEpoch is ML-DSA-65 with Ed25519: broker epochs, agents, publishers.
	LevelEpoch Level = 1
	// LevelRoot is ML-DSA-87 with Ed25519: the offline root.
	LevelRoot Level = 2
)

// String names the pair of schemes.
func (l Level) String() string {
	switch l {
	case LevelEpoch:
		return "ML-DSA-65+Ed25519"
	case LevelRoot:
		return "ML-DSA-87+Ed25519"
	}
	return "unknown"
}

// Known reports whether this level has a scheme.
func (l Level) Known() bool {
	n, _ := l.sizes()
	return n != 0
}

var errLevel = errors.New("identity: unknown level")

const mldsaSeedSize = 32

// sizes of the ML-DSA half: public key and signature, 0 for an unknown level.
func (l Level) sizes() (public, signature int) {
	switch l {
	case LevelEpoch:
		return mldsa65.PublicKeySize, mldsa65.SignatureSize
	case LevelRoot:
		return mldsa87.PublicKeySize, mldsa87.SignatureSize
	}
	return 0, 0
}

// publicSize and signatureSize are the exact lengths of the encodings.
func (l Level) publicSize() int {
	n, _ := l.sizes()
	return 1 + n + ed25519.PublicKeySize
}

func (l Level) signatureSize() int {
	_, n := l.sizes()
	return 1 + n + ed25519.SignatureSize
}

// mldsaPublic and mldsaPrivate are one ML-DSA key of either level.
type mldsaPublic interface {
	verify(msg, context, sig []byte) bool
}

type mldsaPrivate interface {
	sign(msg, context, sig []byte) error
	// wipe clears the expanded key, which lies in ordinary memory.
	wipe()
}

type public65 struct{ key mldsa65.PublicKey }

func (p *public65) verify(msg, context, sig []byte) bool {
	return mldsa65.Verify(&p.key, msg, context, sig)
}

type public87 struct{ key mldsa87.PublicKey }

func (p *public87) verify(msg, context, sig []byte) bool {
	return mldsa87.Verify(&p.key, msg, context, sig)
}

type private65 struct{ key *mldsa65.PrivateKey }

// sign is hedged (FIPS 204, 3.4): fresh randomness enters every signature.
func (p private65) sign(msg, context, sig []byte) error {
	return mldsa65.SignTo(p.key, msg, context, true, sig)
}

func (p private65) wipe() { *p.key = mldsa65.PrivateKey{} }

type private87 struct{ key *mldsa87.PrivateKey }

func (p private87) sign(msg, context, sig []byte) error {
	return mldsa87.SignTo(p.key, msg, context, true, sig)
}

func (p private87) wipe() { *p.key = mldsa87.PrivateKey{} }

// parseMLDSA reads the public key of a level.
func parseMLDSA(l Level, b []byte) (mldsaPublic, error) {
	switch l {
	case LevelEpoch:
		p := new(public65)
		return p, p.key.UnmarshalBinary(b)
	case LevelRoot:
		p := new(public87)
		return p, p.key.UnmarshalBinary(b)
	}
	return nil, errLevel
}

// expandMLDSA derives the key pair of a level from its seed (FIPS 204,
// algorithm 6) and returns the public key's encoding.
func expandMLDSA(l Level, seed *[mldsaSeedSize]byte) (mldsaPrivate, []byte, error) {
	switch l {
	case LevelEpoch:
		pub, priv := mldsa65.NewKeyFromSeed(seed)
		return private65{priv}, pub.Bytes(), nil
	case LevelRoot:
		pub, priv := mldsa87.NewKeyFromSeed(seed)
		return private87{priv}, pub.Bytes(), nil
	}
	return nil, nil, errLevel
}
