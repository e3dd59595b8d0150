package federation

import (
	"fmt"

	"github.com/anchorhold/anchorhold/crypto/heparams"
	"github.com/anchorhold/anchorhold/crypto/rlwe"
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
func NewAdder(set heparams.Set) (Adder, error) {
	switch {
	case set.ID == heparams.Default && set.BlockBytes() == rlwe.BlockBytes:
		return rlwe.NewSum(), nil
	case set.Encoding == heparams.Slots && set.Lanes == 1:
		return rlwe.NewResidueSum(set.Q, 1<<set.LogN), nil
	}
	return nil, fmt.Errorf("no adder for %s", set.ID)
}
