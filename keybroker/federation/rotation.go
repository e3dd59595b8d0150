package federation

import (
	"crypto/sha256"
	"math"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// ReasonRotation says that the round's rule, noise or proofs do not go with rotated values.
const ReasonRotation refusal.Reason = "rotation-refused"

// Rotation has each participant rotate each block of its vector by a random signed
// Walsh-Hadamard transform (package hadamard) before values are clamped, and whoever opens
// the sum rotate it back. The seed is in what the broker signs before it is sent any
// contribution; each contribution names what it signed.
type Rotation struct {
	Seed digest.Digest `json:"seed"`
}

const rotationLabel = labelPrefix + "rotation/1\x00"

// RotationKey is the seed of the rotation in the round: of both, the broker's seed and the
// round's ID.
func (r *Round) RotationKey() [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(rotationLabel))
	h.Write(r.ID[:])
	h.Write(r.Rotation.Seed[:])
	return [sha256.Size]byte(h.Sum(nil))
}

// checkRotation refuses by name what would mean something else on rotated values: the
// coordinates of a proof, and rules that look at each coordinate. The absolute norm, which
// Laplace noise is measured by, is bounded by the number of places, of which padding adds some.
func (r *Round) checkRotation() error {
	switch {
	case r.Rotation == nil:
		return nil
	case r.Rotation.Seed == digest.Digest{}:
		return invalid("rotation: no seed")
	}
	return r.Rotatable()
}

// Rotatable refuses a round that has to be without rotation, and says why.
func (r *Round) Rotatable() error {
	switch {
	case r.NormProof || r.NormCircuit != nil:
		return refusal.New(ReasonRotation, "norm proofs cover unrotated values only: open a round with norm_proof without rotation")
	case r.Rule != WeightedMean:
		return refusal.New(ReasonRotation, "a %s is taken per coordinate, and rotation changes the coordinates: open the round without rotation", r.Rule)
	case r.Noise.Mechanism == DiscreteLaplace:
		return refusal.New(ReasonRotation, "%s noise is scaled to the L1 norm, which rotation enlarges: open the round without rotation", DiscreteLaplace)
	}
	return nil
}

// places is how many values are encrypted: the vector's, and in a round that is rotated those of
// its last block that are zero besides.
func (r *Round) places() (uint64, error) {
	if r.Rotation == nil {
		return r.Length, nil
	}
	set, _, err := r.Parameters()
	if err != nil {
		return 0, err
	}
	per := set.ValuesPerBlock()
	return BlockCount(r.Length, per) * uint64(per), nil
}

// gain is what rotating a block back multiplies integers with, without the factor that
// makes it a rotation.
func (r *Round) gain() (float64, error) {
	if r.Rotation == nil {
		return 1, nil
	}
	set, _, err := r.Parameters()
	return math.Sqrt(float64(set.ValuesPerBlock())), err
}

// Published returns the step of the published integers, and what noise of the mechanism they
// carry, in that step. In a round that is rotated they are sums and differences of a block's
// integers, exact, so that the grid's step is divided by the root of the block's length and
// the noise multiplied with it.
func (r *Round) Published() (step, sigma float64, err error) {
	g, err := r.Grid()
	if err != nil {
		return 0, 0, err
	}
	if sigma, err = r.Sigma(); err != nil {
		return 0, 0, err
	}
	gain, err := r.gain()
	return g.Step / gain, sigma * gain, err
}

// safeSigmas bounds rotated values: of a block of norm b, whatever is in it, a value is beyond
// so many times b divided by the root of the block's length with a probability below 2^-24.
const safeSigmas = 6

// SafeClipLinf is a bound of each rotated value that contributions of norm up to clipL2
// keep, a single value that stands out as well as many alike.
func SafeClipLinf(clipL2 float64, valuesPerBlock int) float64 {
	return clipL2 * min(1, safeSigmas/math.Sqrt(float64(valuesPerBlock)))
}
