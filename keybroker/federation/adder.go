package federation

import (
	"fmt"

	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
)

// Adder adds blocks of one set at one place of their vectors. It needs no key.
type Adder interface {
	// Reset begins again.
	Reset()
	// Add adds a block; one that is not canonical is an error, after which the sum
	// is worth nothing until Reset.
	Add(block []byte) error
	// Write writes the sum as a block.
	Write(dst []byte) error
}

// NewAdder returns the adder of a set.
func NewAdder(set params.Set) (Adder, error) {
	switch {
	case set.ID == params.Default && set.BlockBytes() == rlwe.BlockBytes:
		return rlwe.NewSum(), nil
	case set.Encoding == params.Slots && set.Lanes == 1:
		return rlwe.NewResidueSum(set.Q, 1<<set.LogN), nil
	}
	return nil, fmt.Errorf("no adder for %s", set.ID)
}
