package poseidon2

import (
	"encoding/binary"
	"errors"
)

// ErrNotCanonical means the bytes of a number that is not below the modulus.
var ErrNotCanonical = errors.New("poseidon2: number is not below the modulus")

// Bytes is the length of an element's encoding.
const Bytes = 32

// Element is an element of the field: a number below the modulus of BN254's scalars. The
// zero value is 0, and == compares.
type Element struct {
	mont limbs // the number times 2^256, reduced
}

// Parse reads a big-endian number, and returns ErrNotCanonical if it is not below the modulus.
func Parse(b [Bytes]byte) (Element, error) {
	n := load(b)
	_, below := sub(n, modulus)
	if below == 0 {
		return Element{}, ErrNotCanonical
	}
	return Element{montgomery(n)}, nil
}

// LowBits reads the lowest 253 bits of a big-endian number, which are always below the
// modulus.
func LowBits(b [Bytes]byte) Element {
	b[0] &= 0x1f
	return Element{montgomery(load(b))}
}

// FromUint64 is the element of a number.
func FromUint64(n uint64) Element { return Element{montgomery(limbs{n})} }

// FromInt64 is the element of a number; a negative one is the modulus minus its absolute value.
func FromInt64(n int64) Element {
	sign := uint64(n >> 63) // all ones if negative
	amount := limbs{(uint64(n) ^ sign) - sign}
	negative, _ := sub(modulus, amount)
	return Element{montgomery(choose(sign, negative, amount))}
}

// Bytes is the number, big-endian.
func (e Element) Bytes() (b [Bytes]byte) {
	var n limbs
	mul(&n, &limbs{1}, &e.mont)
	n = canonical(n)
	for i, word := range n {
		binary.BigEndian.PutUint64(b[8*(3-i):], word)
	}
	return b
}

func load(b [Bytes]byte) (n limbs) {
	for i := range n {
		n[i] = binary.BigEndian.Uint64(b[8*(3-i):])
	}
	return n
}

// montgomery is a number in Montgomery form, reduced.
func montgomery(n limbs) limbs {
	mul(&n, &n, &squaredRadix)
	return canonical(n)
}
