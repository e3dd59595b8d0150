// Package rlwe encrypts vectors of integers so that their ciphertexts add: CKKS with coefficient
// encoding over one 27-bit prime at ring degree 2048, eight ciphertexts side by side.
//
// The scheme is public-key ring learning with errors as in CKKS (Cheon, Kim, Kim, Song 2017):
// c0 = b*u + e0 + m, c1 = a*u + e1, decrypted as c0 + c1*s = m + noise. Sums need no
// multiplication, so one prime is enough, there is no special prime, and the message is in the
// coefficients instead of behind an embedding. That takes 6.75 bytes per value, where the usual
// set takes 96. Ciphertexts stay in the NTT domain. Eight polynomials are interleaved, so the
// transform is the same few instructions on whole vectors, without a shuffle.
//
// A block that Add accepts has only canonical residues, and no secret decides a branch or an
// address. The package trusts the seeds that it is given: a seed encrypts one vector and must
// never be used again. It refuses blocks and keys of the wrong length, and residues that are not
// below the prime.
//
// The result of Decrypt still contains the noise of the encryption. Publishing it would leak the
// key by linear algebra (Li and Micciancio 2021): the caller adds noise of its own and rounds
// before anything leaves the guest.
//
// The worker encrypts and decrypts with it ([Encryptor], [Decryptor]), the aggregator adds
// ([Sum]), and the broker makes keys ([Generate]).
package rlwe

import "errors"

// The parameters. Security: log2 q = 27 at N = 2048 with uniform ternary secrets
// and errors of standard deviation 3.46 is inside the 256-bit row (29) of the
// Homomorphic Encryption Standard of 2018, far inside the 128-bit rows (51 to 54).
const (
	LogN        = 11
	N           = 1 << LogN // ring degree
	Lanes       = 8         // ciphertexts in one block
	BlockValues = N * Lanes // values in one block
	Modulus     = 134176769 // the largest prime below 2^27 that is 1 mod 2N
	ResidueBits = 27

	polyBytes = BlockValues * ResidueBits / 8
	// BlockBytes is the length of one block: two packed polynomials in each lane.
	BlockBytes = 2 * polyBytes

	// SeedSize is the length of every seed.
	SeedSize = 32
)

// ErrLength means a block, key or vector of the wrong length.
var ErrLength = errors.New("wrong length")

// ErrNotCanonical means a residue that is not below the modulus.
var ErrNotCanonical = errors.New("residue not below the modulus")
