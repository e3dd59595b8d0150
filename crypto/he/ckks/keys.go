package ckks

import (
	"errors"
	"fmt"

	"github.com/tuneinsight/lattigo/v6/core/rlwe"
	"github.com/tuneinsight/lattigo/v6/ring"
	"github.com/tuneinsight/lattigo/v6/ring/ringqp"
	"github.com/tuneinsight/lattigo/v6/schemes/ckks"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// SeedSize is the length of a key's seed.
const SeedSize = 32

// keyVersion is the first byte of a public key.
const keyVersion = 1

// ErrKey means a key that is malformed, or for a different set.
var ErrKey = errors.New("ckks: key refused")

// scheme is what one parameter set needs: the library's rings and tables.
type scheme struct {
	Params
	lib    ckks.Parameters
	digest [32]byte
}

func newScheme(p Params) (*scheme, error) {
	lib, err := p.library()
	if err != nil {
		return nil, err
	}
	return &scheme{Params: p, lib: lib, digest: p.Digest()}, nil
}

// qp shows residues over Q and P to the library.
func (s *scheme) qp(coeffs [][]uint64) ringqp.Poly {
	n := len(s.Q)
	return ringqp.Poly{Q: poly(coeffs[:n]), P: poly(coeffs[n:])}
}

func poly(coeffs [][]uint64) ring.Poly { return ring.Poly{Coeffs: coeffs} }

// GenerateKey makes the key pair of a seed of SeedSize bytes: the same pair for the same seed on
// every machine. The secret has 2 bits for each coefficient; to store a key, store its seed. The
// public key is a version, the digest of the parameters, the seed of a, and b = -a*s + e modulo
// QP, packed; PublicKeyBytes in all.
func GenerateKey(p Params, seed *keybuf.Buffer) (secret *keybuf.Buffer, public []byte, err error) {
	s, err := newScheme(p)
	if err != nil {
		return nil, nil, err
	}
	if seed.Len() != SeedSize {
		return nil, nil, fmt.Errorf("a seed of %d bytes has the wrong length: %w", seed.Len(), ErrKey)
	}
	n := p.N()
	small := make([]int8, n)
	defer clear(small)
	secrets := stream("fedagg secret", s.digest, seed.Bytes())
	defer secrets.Reset()
	ternary(small, secrets)
	if secret, err = keybuf.New(secretBytes(n)); err != nil {
		return nil, nil, err
	}
	packSecret(secret.Bytes(), small)
	key, err := s.spread(secret)
	if err != nil {
		secret.Wipe()
		return nil, nil, err
	}
	defer key.wipe()
	var common [SeedSize]byte
	_, _ = stream("fedagg seed of a", s.digest, seed.Bytes()).Read(common[:])
	noise := stream("fedagg error", s.digest, seed.Bytes())
	defer noise.Reset()
	centred(small, noise)
	return secret, s.publicKey(key, common, small), nil
}

// spread makes a secret's residues over QP, transformed and in Montgomery form, the
// form that the library multiplies with.
func (s *scheme) spread(secret *keybuf.Buffer) (*locked, error) {
	if secret.Len() != secretBytes(s.N()) {
		return nil, fmt.Errorf("secret has %d bytes, want %d: %w", secret.Len(), secretBytes(s.N()), ErrKey)
	}
	small := make([]int8, s.N())
	defer clear(small)
	if !unpackSecret(small, secret.Bytes()) {
		return nil, fmt.Errorf("a coefficient of the secret is not ternary: %w", ErrKey)
	}
	all := s.primes()
	key, err := newLocked(s.N(), len(all))
	if err != nil {
		return nil, err
	}
	setSmall(key.coeffs, small, all)
	ringQP, x := s.lib.RingQP(), s.qp(key.coeffs)
	ringQP.NTT(x, x)
	ringQP.MForm(x, x)
	return key, nil
}

// publicKey computes b for the a of a common seed.
func (s *scheme) publicKey(key *locked, common [SeedSize]byte, noise []int8) []byte {
	all := s.primes()
	a, e := newPoly(s.N(), len(all)), newPoly(s.N(), len(all))
	uniform(a, all, stream("fedagg a", s.digest, common[:]))
	setSmall(e, noise, all)
	ringQP, b, x := s.lib.RingQP(), s.qp(a), s.qp(e)
	ringQP.NTT(b, b)
	ringQP.MulCoeffsMontgomery(b, s.qp(key.coeffs), b)
	ringQP.INTT(b, b)
	ringQP.Sub(x, b, b)
	clearAll(e)
	return s.marshalKey(common, a)
}

func (s *scheme) marshalKey(common [SeedSize]byte, b [][]uint64) []byte {
	out := make([]byte, s.PublicKeyBytes())
	out[0] = keyVersion
	copy(out[1:], s.digest[:])
	copy(out[33:], common[:])
	packPoly(out[keyHeader:], b, s.primes())
	return out
}

const keyHeader = 1 + 32 + SeedSize

// PublicKeyBytes is the length of every public key of a set.
func (p Params) PublicKeyBytes() int { return keyHeader + polyBytes(p.N(), p.primes()) }

// parseKey returns the seed of a, and b.
func (s *scheme) parseKey(public []byte) (common [SeedSize]byte, b [][]uint64, err error) {
	switch {
	case len(public) != s.PublicKeyBytes() || public[0] != keyVersion:
		return common, nil, fmt.Errorf("got a public key of %d bytes, want %d of version %d: %w", len(public), s.PublicKeyBytes(), keyVersion, ErrKey)
	case [32]byte(public[1:33]) != s.digest:
		return common, nil, fmt.Errorf("the public key is for a different parameter set: %w", ErrKey)
	}
	b = newPoly(s.N(), len(s.primes()))
	if !unpackPoly(b, public[keyHeader:], s.primes()) {
		return common, nil, fmt.Errorf("public key: %w: %w", ErrNotCanonical, ErrKey)
	}
	return [SeedSize]byte(public[33:keyHeader]), b, nil
}

// encryptionKey makes the library's key from b and a in coefficient form.
func (s *scheme) encryptionKey(b, a [][]uint64) *rlwe.PublicKey {
	pk := rlwe.NewPublicKey(s.lib)
	ringQP := s.lib.RingQP()
	for i, part := range [][][]uint64{b, a} {
		ringQP.NTT(s.qp(part), pk.Value[i])
		ringQP.MForm(pk.Value[i], pk.Value[i])
	}
	return pk
}
