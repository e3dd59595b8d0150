package statement

import (
	"crypto/rand"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/poseidon2"
)

// How many numbers of a width one element holds, little-endian from its lowest bits.
const (
	BytesPerElement   = 31
	Int32sPerElement  = 7
	Int16sPerElement  = 15
	SaltBytes         = 31
	CommitmentBytes   = poseidon2.Bytes
	offset8, offset16 = 1 << 7, 1 << 15
)

// Commitment is a field element, big-endian; canonical if it is below the modulus.
type Commitment [CommitmentBytes]byte

// Element is the field element of a commitment, or an error if it is not canonical.
func (c Commitment) Element() (poseidon2.Element, error) { return poseidon2.Parse(c) }

// Salt hides what is committed to: 248 random bits.
type Salt [SaltBytes]byte

// NewSalt draws a salt.
func NewSalt() (s Salt, err error) {
	_, err = rand.Read(s[:])
	return s, err
}

// Element is the salt as a field element.
func (s Salt) Element() poseidon2.Element {
	var b [poseidon2.Bytes]byte
	copy(b[1:], s[:])
	return poseidon2.LowBits(b)
}

// pack puts numbers of so many bytes into elements.
func pack(dst []poseidon2.Element, n, size, perElement int, number func(int) uint64) []poseidon2.Element {
	var word [poseidon2.Bytes]byte // big-endian
	for at := 0; at < n; at += perElement {
		clear(word[:])
		for k := range min(perElement, n-at) {
			v := number(at + k)
			for b := range size {
				word[poseidon2.Bytes-1-k*size-b] = byte(v >> (8 * b))
			}
		}
		dst = append(dst, poseidon2.LowBits(word))
	}
	return dst
}

// PackInt8 packs numbers, each with 128 added.
func PackInt8(dst []poseidon2.Element, v []int8) []poseidon2.Element {
	return pack(dst, len(v), 1, BytesPerElement, func(i int) uint64 { return uint64(int(v[i]) + offset8) })
}

// PackInt16 packs numbers, each with 32768 added.
func PackInt16(dst []poseidon2.Element, v []int16) []poseidon2.Element {
	return pack(dst, len(v), 2, Int16sPerElement, func(i int) uint64 { return uint64(int(v[i]) + offset16) })
}

// PackUint32 packs numbers of 32 bits.
func PackUint32(dst []poseidon2.Element, v []uint32) []poseidon2.Element {
	return pack(dst, len(v), 4, Int32sPerElement, func(i int) uint64 { return uint64(v[i]) })
}

// packInt32 packs numbers, each with 2^31 added.
func packInt32(dst []poseidon2.Element, v []int32) []poseidon2.Element {
	return pack(dst, len(v), 4, Int32sPerElement, func(i int) uint64 { return uint64(uint32(v[i]) ^ 1<<31) })
}

// WeightsCommitment commits to every constant of a network: for each layer its biases,
// multipliers, those for what is below zero, and weights. It has no salt, so two guests with the same model can tell that they
// have it; the entropy of a model hides it from others.
func WeightsCommitment(n *intnet.Network) Commitment {
	var all []poseidon2.Element
	for _, l := range n.Parameters.Layers {
		all = packInt32(all, l.Bias)
		all = PackUint32(all, l.Multiplier)
		all = PackUint32(all, l.Negative)
		all = PackInt8(all, l.Weights)
	}
	return Hash(DomainWeights, all).Bytes()
}

// InputCommitment commits to an input. Its length must be known otherwise, from the model's
// architecture: inside the last element, -128 looks like padding. The same is true of gradients,
// whose length is in the statement, and of weights.
func InputCommitment(salt Salt, in []int8) Commitment {
	return Hash(DomainInput, PackInt8([]poseidon2.Element{salt.Element()}, in)).Bytes()
}

// GradientCommitment commits to quantized coordinates.
func GradientCommitment(salt Salt, g []int16) Commitment {
	return Hash(DomainGradient, PackInt16([]poseidon2.Element{salt.Element()}, g)).Bytes()
}

// GradientCommitment8 commits to coordinates of 8 bits, twice as many in an element.
func GradientCommitment8(salt Salt, g []int8) Commitment {
	return Hash(DomainGradient8, PackInt8([]poseidon2.Element{salt.Element()}, g)).Bytes()
}
