package rlwe

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// PublicKey encrypts. Its encoding is a public seed, from which a is expanded, and
// b packed at 27 bits; PublicKeySize bytes.
type PublicKey struct {
	ring  *ring
	a, b  []factor // N each
	bytes []byte
}

// PublicKeySize is the length of a public key's encoding.
const PublicKeySize = SeedSize + N*ResidueBits/8

// SecretKey decrypts. It is a function of its seed.
type SecretKey struct {
	ring *ring
	s    []factor // N, in the NTT domain
}

// PublicKeyOf is the encoded public key of a seed.
func PublicKeyOf(seed *keybuf.Buffer) ([]byte, error) {
	secret, public, err := Generate(seed)
	if err != nil {
		return nil, err
	}
	secret.Wipe()
	return public.Bytes(), nil
}

// Generate makes the key pair of a 32-byte secret seed: the same pair for the same seed. The
// caller keeps the seed and wipes the secret key.
func Generate(seed *keybuf.Buffer) (*SecretKey, *PublicKey, error) {
	if seed.Len() != SeedSize {
		return nil, nil, fmt.Errorf("seed of %d bytes: %w", seed.Len(), ErrLength)
	}
	r := newRing()
	var key, public [SeedSize]byte
	copy(key[:], seed.Bytes())
	random, err := newStream(&key)
	clear(key[:])
	if err != nil {
		return nil, nil, err
	}
	defer random.wipe()
	copy(public[:], random.next(SeedSize))
	secret, noise := make([]int32, BlockValues), make([]int32, BlockValues)
	defer func() { clear(secret); clear(noise) }()
	r.ternary(secret, random.next(ternaryBytes))
	r.addErrors(noise, random.next(errorBytes))
	r.ntt(secret)
	r.ntt(noise)

	sk := &SecretKey{ring: r, s: make([]factor, N)}
	a, err := expand(&public)
	if err != nil {
		return nil, nil, err
	}
	residues := make([]uint32, N)
	for row := range N { // lane 0 alone
		s := canonical(r.one.mul(secret[row*Lanes]))
		e := canonical(r.one.mul(noise[row*Lanes]))
		sk.s[row] = factorOf(s)
		residues[row] = (Modulus - mulMod(a[row], s) + e) % Modulus // b = e - a*s
	}
	pk, err := newPublicKey(r, &public, residues)
	return sk, pk, err
}

// expand draws the uniform polynomial a, in the NTT domain, from a public seed:
// 27 bits at a time, again when they are not below q.
func expand(seed *[SeedSize]byte) ([]uint32, error) {
	random, err := newStream(seed)
	if err != nil {
		return nil, err
	}
	a := make([]uint32, 0, N)
	for len(a) < N {
		for b := random.next(4096); len(b) > 0 && len(a) < N; b = b[4:] {
			if v := binary.LittleEndian.Uint32(b) & mask; v < Modulus {
				a = append(a, v)
			}
		}
	}
	return a, nil
}

func newPublicKey(r *ring, seed *[SeedSize]byte, b []uint32) (*PublicKey, error) {
	a, err := expand(seed)
	if err != nil {
		return nil, err
	}
	pk := &PublicKey{ring: r, a: make([]factor, N), b: make([]factor, N), bytes: append([]byte(nil), seed[:]...)}
	var held uint64
	n := 0
	for i := range N {
		pk.a[i], pk.b[i] = factorOf(a[i]), factorOf(b[i])
		held |= uint64(b[i]) << n
		for n += ResidueBits; n >= 8; n -= 8 {
			pk.bytes = append(pk.bytes, byte(held))
			held >>= 8
		}
	}
	return pk, nil
}

// ParsePublicKey reads an encoding; only canonical ones are accepted.
func ParsePublicKey(data []byte) (*PublicKey, error) {
	if len(data) != PublicKeySize {
		return nil, fmt.Errorf("public key of %d bytes: %w", len(data), ErrLength)
	}
	residues := make([]uint32, N)
	var held uint64
	n, rest := 0, data[SeedSize:]
	for i := range residues {
		for ; n < ResidueBits; n += 8 {
			held |= uint64(rest[0]) << n
			rest = rest[1:]
		}
		residues[i] = uint32(held) & mask
		held, n = held>>ResidueBits, n-ResidueBits
		if residues[i] >= Modulus {
			return nil, fmt.Errorf("public key: %w", ErrNotCanonical)
		}
	}
	return newPublicKey(newRing(), (*[SeedSize]byte)(data[:SeedSize]), residues)
}

// Bytes is the encoding.
func (k *PublicKey) Bytes() []byte { return bytes.Clone(k.bytes) }

// Wipe clears the key.
func (k *SecretKey) Wipe() {
	if k != nil {
		clear(k.s)
	}
}
