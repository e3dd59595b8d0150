// Package fedtask describes the tasks of federated rounds that the agent hands to its
// workers, and decodes the vectors that both of them read.
//
// It is the common language of the agent's packages, such as fed and decrypt, and of package
// fedwork, which only workers link. [Values] is the one decoder of a vector.
package fedtask

import "github.com/anchorhold/anchorhold/crypto/digest"

// Classes of tasks.
const (
	ClassContribute = "fed-contribute"
	ClassDecrypt    = "fed-decrypt"
	ClassPartyBegin = "fed-party-begin"
	ClassPartyKey   = "fed-party-key"
	ClassPartyShare = "fed-party-share"
)

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
	Blocks uint64        `json:"blocks"`
	Upload digest.Digest `json:"upload"`
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
	Ticket digest.Digest `json:"ticket"` // digest of the signed ticket
	Count  int           `json:"count"`  // contributions
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
	Round     digest.RoundID `json:"round"`
	Set       string         `json:"set"`
	Parties   int            `json:"parties"`
	Threshold int            `json:"threshold"`
	Index     int            `json:"index"`            // from 1
	Active    []int          `json:"active,omitempty"` // of ClassPartyShare
	Blocks    uint64         `json:"blocks,omitempty"` // of ClassPartyShare
}

// Decrypted is the result.
type Decrypted struct {
	Values  digest.Digest `json:"values"` // SHA-256 of the output
	Step    float64       `json:"step"`
	Divisor float64       `json:"divisor"`
	Sigma   float64       `json:"sigma"`
}
