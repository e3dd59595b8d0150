package statement

import (
	"sync"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr/poseidon2"
)

// The sponge: Poseidon2 over the scalar field of BN254 with the S-box x^5, 16 elements
// wide, 8 full and 57 partial rounds, one element of capacity. The round constants and
// the internal matrix are those that gnark-crypto v0.22.0 ships for this width; a golden
// vector under testdata pins them.
const (
	Width         = 16
	Rate          = Width - 1
	FullRounds    = 8
	PartialRounds = 57
)

// Domain separates the uses of the sponge.
type Domain uint64

// The domains.
const (
	DomainWeights   Domain = 1
	DomainInput     Domain = 2
	DomainGradient  Domain = 3
	DomainGradient8 Domain = 4
)

var permutation = sync.OnceValue(func() *poseidon2.Permutation { return poseidon2.NewPermutation(Width, FullRounds, PartialRounds) })

// Capacity is what the capacity element starts with: 2^64 times the domain, and the
// number of elements.
func Capacity(d Domain, elements int) fr.Element {
	var c, n fr.Element
	c.SetUint64(uint64(d))
	n.SetUint64(1 << 32)
	c.Mul(&c, &n).Mul(&c, &n)
	n.SetUint64(uint64(elements))
	return *c.Add(&c, &n)
}

// Hash absorbs the elements and squeezes one.
func Hash(d Domain, elements []fr.Element) fr.Element {
	var state [Width]fr.Element
	state[Rate] = Capacity(d, len(elements))
	for first := true; first || len(elements) > 0; first = false {
		n := min(Rate, len(elements))
		for i := range n {
			state[i].Add(&state[i], &elements[i])
		}
		elements = elements[n:]
		if err := permutation().Permutation(state[:]); err != nil {
			panic(err) // only for another width
		}
	}
	return state[0]
}
