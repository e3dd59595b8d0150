// Package fedtask describes the tasks of a federated round that the agent hands to
// its workers.
//
// It guarantees nothing by itself: it is the form in which package fed, which
// is linked into the agent, and package fedwork, which is not, understand each
// other.
package fedtask

import (
	"math"

	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// Classes of tasks.
const (
	ClassContribute = "fed-contribute"
	ClassDecrypt    = "fed-decrypt"
	ClassPartyBegin = "fed-party-begin"
	ClassPartyKey   = "fed-party-key"
	ClassPartyShare = "fed-party-share"
)

// Format is how a vector's values are written.
type Format string

// The formats, both little-endian.
const (
	Float32 Format = "float32"
	Float16 Format = "float16"
)

// Bytes is the size of one value.
func (f Format) Bytes() int {
	switch f {
	case Float32:
		return 4
	case Float16:
		return 2
	}
	return 0
}

// Contribute is the task of encrypting one vector. Input 0 is the round (JSON),
// input 1 are the values, output 0 the blocks, output 1 the hash of each block, 32
// bytes each. In a round that wants proofs of norms, output 2 takes the coordinates of
// the proof, 16 bits each, little-endian.
type Contribute struct {
	Weight uint32 `json:"weight"`
	Format Format `json:"format"`
	// Norm is the vector's Euclidean norm as the agent measured it while it stored
	// the values. The worker measures again and refuses a vector with a larger one.
	Norm float64 `json:"norm"`
}

// Contributed is the result.
type Contributed struct {
	Blocks uint64            `json:"blocks"`
	Upload federation.Digest `json:"upload"`
	// Scaled says that the vector was longer than the bound and was scaled down;
	// Clamped counts values that were then still above the bound for one value.
	Scaled  bool   `json:"scaled"`
	Clamped uint64 `json:"clamped"`
}

// Decrypt is the task of opening what a ticket closed. Input 0 is the round (JSON),
// input 1 the round key's seed, by a pipe; the inputs after it are the blocks: of the sum, or of every
// contribution where the round's rule needs them apart. In a round of several
// parties there is no key; after the sum come the shares of the active parties.
// Output 0 takes the values, little-endian int64. The agent has checked the hashes of all blocks on their way.
type Decrypt struct {
	Ticket federation.Digest `json:"ticket"` // digest of the signed ticket
	Count  int               `json:"count"`  // contributions
	// TotalWeight is the sum of the contributions' weights.
	TotalWeight uint64 `json:"total_weight"`
}

// Party is a task of one party of a key that no one has whole.
//
// ClassPartyBegin makes the party: input 0 is its seed, by a pipe; output 0 its
// public share, output 1 what it deals to each other party, in order.
// ClassPartyKey adds the public shares: input 0 has all of them, in order; output 0
// is the public key.
// ClassPartyShare decrypts its part: input 0 has the seed and what each other party
// dealt to it, in order, by a pipe; input 1 the sum's blocks, output 0 the shares.
type Party struct {
	Round     federation.ID `json:"round"`
	Set       string        `json:"set"`
	Parties   int           `json:"parties"`
	Threshold int           `json:"threshold"`
	Index     int           `json:"index"`            // from 1
	Active    []int         `json:"active,omitempty"` // of ClassPartyShare
	Blocks    uint64        `json:"blocks,omitempty"` // of ClassPartyShare
}

// Decrypted is the result.
type Decrypted struct {
	Values  federation.Digest `json:"values"` // SHA-256 of the output
	Step    float64           `json:"step"`
	Divisor float64           `json:"divisor"`
	Sigma   float64           `json:"sigma"`
}

// FromHalf converts an IEEE 754 binary16.
func FromHalf(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10&0x1F), uint32(h&0x3FF)
	switch {
	case exponent == 0x1F:
		return math.Float32frombits(sign | 0x7F800000 | fraction<<13)
	case exponent != 0:
		return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
	}
	v := float32(fraction) / (1 << 24) // subnormal: an exact product
	if sign != 0 {
		return -v
	}
	return v
}
