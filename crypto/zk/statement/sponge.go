package statement

import (
	"encoding/binary"

	"github.com/anchorhold/anchorhold/crypto/zk/poseidon2"
)

// Domain separates the uses of the sponge, which is that of package poseidon2. A golden
// vector under testdata pins its permutation.
type Domain uint64

// The domains.
const (
	DomainWeights   Domain = 1
	DomainInput     Domain = 2
	DomainGradient  Domain = 3
	DomainGradient8 Domain = 4
)

// Capacity is what the capacity element starts with: 2^64 times the domain, and the
// number of elements.
func Capacity(d Domain, elements int) poseidon2.Element {
	var b [poseidon2.Bytes]byte
	binary.BigEndian.PutUint64(b[16:], uint64(d))
	binary.BigEndian.PutUint64(b[24:], uint64(elements))
	return poseidon2.LowBits(b)
}

// Hash absorbs the elements and squeezes one.
func Hash(d Domain, elements []poseidon2.Element) poseidon2.Element {
	return poseidon2.Hash(Capacity(d, len(elements)), elements)
}
