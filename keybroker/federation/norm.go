package federation

import (
	"fmt"
	"math"

	"github.com/anchorhold/anchorhold/crypto/digest"
	zk "github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// NormCircuit names what proves that a contribution is inside a round's bounds.
type NormCircuit struct {
	Circuit      digest.Digest `json:"circuit"`
	VerifyingKey digest.Digest `json:"verifying_key"`
	// Bits of a coordinate in the proof, 8 or 16.
	Bits uint8 `json:"bits"`
}

// MaxNormLength bounds the vectors whose norm is proven.
const MaxNormLength = zk.MaxCoordinates

// checkNorm holds what is to be proven against the circuits' limits, so that every
// contribution to the round has a statement.
func (r *Round) checkNorm() error {
	c := r.NormCircuit
	if r.NormProof != (c != nil) {
		return invalid("norm_proof goes with norm_circuit")
	}
	if c == nil {
		return nil
	}
	switch {
	case c.Bits != 8 && c.Bits != 16 || r.Length > MaxNormLength:
		return invalid("norms of %d values in %d bits are not proven; up to %d in 8 or 16", r.Length, c.Bits, MaxNormLength)
	case c.Circuit == digest.Digest{} || c.VerifyingKey == digest.Digest{}:
		return invalid("norm_circuit names no circuit or no verifying key")
	case !(r.ClipL2 >= r.NormStep() && r.NormStep() > 0):
		return invalid("clip_l2 %g is below %g, the step of a proof in %d bits: lower clip_linf", r.ClipL2, r.NormStep(), c.Bits)
	}
	return nil
}

// normTop is the largest coordinate in a proof.
func (c *NormCircuit) normTop() uint32 { return 1<<(c.Bits-1) - 1 }

// NormStep is the distance of two coordinates in a proof: the largest is the round's
// bound of one value. Coordinates are of values that are scaled to the bound and
// clamped, before they are weighted.
func (r *Round) NormStep() float64 { return r.ClipLinf / float64(r.NormCircuit.normTop()) }

// normRounding is how much rounding can lengthen or shorten a vector of coordinates:
// half a step in each.
func (r *Round) normRounding() float64 { return math.Sqrt(float64(r.Length)) / 2 }

// NormBound bounds the Euclidean norm of a vector, before it is weighted, whose
// coordinates were proven: clip_l2, a millionth of it for floating point, and at most half a step of
// each value twice, because the bound of the coordinates allows for rounding and rounding hides as much.
func (r *Round) NormBound() float64 {
	s := r.NormStatement(&Contribution{})
	return (math.Sqrt(float64(s.Gradient.SquaredL2)) + r.normRounding()) * r.NormStep()
}

// NormStatement is what a contribution has to prove. Agent and aggregator compute it
// apart, so that each product is rounded before it is added, on every processor.
func (r *Round) NormStatement(c *Contribution) zk.Statement {
	steps := float64(r.ClipL2/r.NormStep()*(1+1e-6)) + r.normRounding()
	top := r.NormCircuit.normTop()
	most := float64(r.Length) * float64(top) * float64(top) // below 2^46, exact
	return zk.Statement{System: zk.Groth16, Circuit: digest.Digest(r.NormCircuit.Circuit), Gradient: &zk.Gradient{
		Round: digest.Digest(c.RoundDigest), Participant: digest.Digest(c.Agent), Ciphertext: digest.Digest(c.Upload), Commitment: zk.Commitment(c.Commitment),
		Coordinates: uint32(r.Length), LInf: top, SquaredL2: uint64(math.Floor(min(steps*steps, most)))}}
}

// NormFits says whether a key's record is of the round's circuit and of vectors of the
// round's length.
func (r *Round) NormFits(rec zk.Record) error {
	c, g := r.NormCircuit, rec.Gradient
	switch {
	case g == nil || rec.System != zk.Groth16:
		return fmt.Errorf("key %s is not a %s key of updates", rec.VerifyingKey, zk.Groth16)
	case rec.Circuit != digest.Digest(c.Circuit) || rec.VerifyingKey != digest.Digest(c.VerifyingKey):
		return fmt.Errorf("got key %s of circuit %s, the round names key %s and circuit %s", rec.VerifyingKey, rec.Circuit, c.VerifyingKey, c.Circuit)
	case uint64(g.Coordinates) != r.Length || g.Bits != c.Bits:
		return fmt.Errorf("key %s is for %d values of %d bits, the round has %d values of %d bits", rec.VerifyingKey, g.Coordinates, g.Bits, r.Length, c.Bits)
	}
	return nil
}
