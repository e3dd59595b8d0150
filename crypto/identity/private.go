package identity

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"runtime"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// SeedSize is the size in bytes of ML-DSA's and Ed25519's seeds together.
const SeedSize = mldsaSeedSize + ed25519.SeedSize

// ErrWiped is returned for a key that [Private.Wipe] cleared.
var ErrWiped = errors.New("identity: the key was wiped")

// Private is an identity that signs. Its seeds live in locked memory; the
// expanded ML-DSA key, which the library keeps in ordinary memory, is cleared
// with them. It may be used by several goroutines; Wipe is for the last of them.
type Private struct {
	seed   *keybuf.Buffer // ML-DSA seed, Ed25519 seed
	level  Level
	public Public
	mldsa  func() mldsaPrivate // a function, because reflection, and so fmt, stops at one
	ed     *keybuf.Buffer      // ed25519.PrivateKey
}

// Generate makes an identity.
func Generate(level Level) (*Private, error) {
	seed, err := keybuf.Random(SeedSize)
	if err != nil {
		return nil, fmt.Errorf("generate identity: %w", err)
	}
	return FromSeed(level, seed)
}

// FromSeed returns the identity of a level and a seed of [SeedSize] bytes, ML-DSA's first. It
// takes ownership of the seed, and wipes it if it fails.
func FromSeed(level Level, seed *keybuf.Buffer) (*Private, error) {
	if seed.Len() != SeedSize {
		seed.Wipe()
		return nil, fmt.Errorf("identity: a seed has %d bytes", SeedSize)
	}
	var mldsaSeed [mldsaSeedSize]byte
	copy(mldsaSeed[:], seed.Bytes())
	defer keybuf.Wipe(mldsaSeed[:])
	mldsa, mldsaPublic, err := expandMLDSA(level, &mldsaSeed)
	if err != nil {
		seed.Wipe()
		return nil, err
	}
	ed, err := keybuf.Take(ed25519.NewKeyFromSeed(seed.Bytes()[mldsaSeedSize:]))
	if err != nil {
		seed.Wipe()
		return nil, fmt.Errorf("expand identity: %w", err)
	}
	encoded := append([]byte{byte(level)}, mldsaPublic...)
	encoded = append(encoded, ed.Bytes()[ed25519.SeedSize:]...)
	public, err := ParsePublic(encoded)
	if err != nil {
		seed.Wipe()
		ed.Wipe()
		return nil, err
	}
	return &Private{seed: seed, level: level, public: public, mldsa: func() mldsaPrivate { return mldsa }, ed: ed}, nil
}

// Public returns the public half.
func (k *Private) Public() Public { return k.public }

// Seed lends the identity's seed to code that stores it encrypted. The identity keeps owning the
// seed, which is empty once the identity was wiped.
func (k *Private) Seed() *keybuf.Buffer {
	if k == nil {
		return nil
	}
	return k.seed
}

// Sign signs msg under a context, as "anchorhold/kbp/1/M2". The signature is
// level (1 byte), ML-DSA signature, Ed25519 signature.
func (k *Private) Sign(context string, msg []byte) ([]byte, error) {
	if len(context) == 0 || len(context) > maxContextBytes {
		return nil, ErrContext
	}
	if k == nil || k.ed.Len() == 0 {
		return nil, ErrWiped
	}
	_, n := k.level.sizes()
	sig := make([]byte, 1+n, k.level.signatureSize())
	sig[0] = byte(k.level)
	bound := k.public.bind(context, msg)
	if err := k.mldsa().sign(bound, []byte(context), sig[1:]); err != nil {
		return nil, fmt.Errorf("identity: sign: %w", err)
	}
	// The standard library remembers the key's address in a way that works for
	// the Go heap only, and locked memory is outside of it.
	heap := bytes.Clone(k.ed.Bytes())
	defer keybuf.Wipe(heap)
	runtime.KeepAlive(k) // an unreachable buffer is unmapped, even while it is copied
	return append(sig, ed25519.Sign(heap, bound)...), nil
}

const redacted = "[redacted identity]"

// Format prints the same words for every verb of fmt: for an unsuitable verb, fmt would
// otherwise follow the pointer to the expanded key and print that.
func (k Private) Format(s fmt.State, _ rune) {
	_, _ = s.Write([]byte(redacted)) // fmt offers no way to report it
}

// LogValue tells slog that there is a key, and nothing about it.
func (k Private) LogValue() slog.Value { return slog.StringValue(redacted) }

// Wipe clears the secret. It may be called on nil and more than once.
func (k *Private) Wipe() {
	if k == nil {
		return
	}
	k.seed.Wipe()
	k.ed.Wipe()
	if k.mldsa != nil {
		k.mldsa().wipe()
		k.mldsa = nil
	}
}
