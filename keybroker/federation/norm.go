package federation

import (
	"math"

	zk "github.com/anchorhold/anchorhold/crypto/statement"
)

// NormCircuit names what proves that a contribution is inside a round's bounds.
type NormCircuit struct {
	Circuit      Digest `json:"circuit"`
	VerifyingKey Digest `json:"verifying_key"`
	// Bits of a coordinate in the proof, 8 or 16.
	Bits uint8 `json:"bits"`
}

// MaxNormLength bounds the vectors whose norm is proven.
const MaxNormLength = 1 << 16

func (r *Round) checkNorm() error {
	c := r.NormCircuit
	switch {
	case r.NormProof != (c != nil):
		return invalid("norm_proof goes with norm_circuit")
	case c != nil && (c.Bits != 8 && c.Bits != 16 || r.Length > MaxNormLength):
		return invalid("norms of %d values in %d bits are not proven; up to %d in 8 or 16", r.Length, c.Bits, MaxNormLength)
	}
	return nil
}

// NormStep is the distance of two coordinates in a proof: the largest is the round's
// bound of one value.
func (r *Round) NormStep() float64 {
	return r.ClipLinf / float64(int(1)<<(r.NormCircuit.Bits-1)-1)
}

// NormStatement is what a contribution has to prove. Rounding to coordinates can
// lengthen a vector by half of the root of its length, in steps; the bound allows it.
func (r *Round) NormStatement(c *Contribution) zk.Statement {
	steps := r.ClipL2/r.NormStep()*(1+1e-6) + math.Sqrt(float64(r.Length))/2
	top := uint64(1)<<(r.NormCircuit.Bits-1) - 1
	most := float64(r.Length) * float64(top) * float64(top)
	return zk.Statement{System: zk.Groth16, Circuit: zk.Digest(r.NormCircuit.Circuit), Gradient: &zk.Gradient{
		Round: zk.Digest(c.RoundDigest), Participant: zk.Digest(c.Agent), Ciphertext: zk.Digest(c.Upload), Commitment: zk.Commitment(c.Commitment),
		Coordinates: uint32(r.Length), LInf: uint32(top), SquaredL2: uint64(math.Floor(min(steps*steps, most)))}}
}
