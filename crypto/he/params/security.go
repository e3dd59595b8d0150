package params

import (
	"errors"
	"fmt"
	"math"
	"math/big"
)

// ErrInsecure means parameters outside the accepted tables.
var ErrInsecure = errors.New("below the security table")

// minErrorVariance is the square of 3.19, the least that the tables assume.
const minErrorVariance = 3.19 * 3.19

// ceiling returns the largest log2 of a modulus with 128-bit security at a ring
// degree, for uniform ternary secrets and errors of standard deviation 3.19 or
// more: the least of three rows, the Homomorphic Encryption Standard 2018
// (classical and quantum attackers) and the guidelines of 2024 (ePrint 2024/463,
// table 5.2). It is the quantum row throughout: what is recorded today may be
// attacked later.
func ceiling(logN int) float64 {
	quantum := [...]float64{10: 25, 11: 51, 12: 101, 13: 202, 14: 411, 15: 827, 16: 1663, 17: 3348}
	classical := [...]float64{10: 27, 11: 54, 12: 109, 13: 218, 14: 438, 15: 881, 16: 1747, 17: 3523}
	guidelines := [...]float64{10: 26, 11: 53, 12: 106, 13: 214, 14: 430, 15: 868, 16: 1747, 17: 3523}
	if logN < 10 || logN >= len(quantum) {
		return 0
	}
	return min(quantum[logN], classical[logN], guidelines[logN])
}

// Object is one thing that an attacker sees, with the modulus it lives in.
type Object struct {
	Name    string  // "ciphertext", "evaluation key"
	LogQ    float64 // of its modulus
	Ceiling float64 // of the table
}

// Objects lists the objects that the use of the set reveals to an attacker.
func (s Set) Objects() []Object {
	list := []Object{{"ciphertext", s.LogQ(), ceiling(s.LogN)}}
	if len(s.P) > 0 {
		list = append(list, Object{"public key with the special prime", s.LogQP(), ceiling(s.LogN)})
	}
	return list
}

// Check compares the set with the tables and checks its form. It is called before anything is
// computed with a set.
func (s Set) Check() error {
	for _, o := range s.Objects() {
		if o.LogQ > o.Ceiling {
			return fmt.Errorf("%s: the %s modulus of %.1f bits at ring degree %d exceeds the table's limit of %.0f: %w", s.ID, o.Name, o.LogQ, 1<<s.LogN, o.Ceiling, ErrInsecure)
		}
	}
	if s.ErrorVariance < minErrorVariance {
		return fmt.Errorf("%s: error variance %.2f is below the %.2f that the table assumes: %w", s.ID, s.ErrorVariance, minErrorVariance, ErrInsecure)
	}
	seen := map[uint64]bool{}
	for _, p := range append(append([]uint64(nil), s.Q...), s.P...) {
		switch {
		case seen[p]:
			return fmt.Errorf("%s: prime %d appears twice: %w", s.ID, p, ErrInsecure)
		case p%(2<<s.LogN) != 1 || !new(big.Int).SetUint64(p).ProbablyPrime(32):
			return fmt.Errorf("%s: %d is not a prime that is 1 modulo %d: %w", s.ID, p, 2<<s.LogN, ErrInsecure)
		}
		seen[p] = true
	}
	if len(s.Q) == 0 || s.Lanes < 1 || s.MaxContributions < 1 || (s.Encoding != Coefficients && s.Encoding != Slots) {
		return fmt.Errorf("%s: the set is incomplete: %w", s.ID, ErrInsecure)
	}
	return nil
}

// Budget is what remains after a sum of some number of contributions.
type Budget struct {
	// Contributions that are added.
	Contributions int
	// NoiseSD is the standard deviation of the noise in one coefficient of the
	// sum; NoiseBound is not exceeded but with a probability below 2^-128.
	NoiseSD, NoiseBound float64
	// NoiseBits are the bits between noise and modulus: log2(Q / (2*bound)).
	NoiseBits float64
	// Limit is the largest absolute value of one contribution on the integer grid.
	Limit int32
	// GridSD is the standard deviation, in grid steps, of the encryption's noise in one
	// value of the sum, and FloodSD that of the noise that is added to hide it.
	GridSD, FloodSD float64
	// ErrorOfMean is the standard deviation of a value of the mean of so many contributions, as
	// a part of the largest value: of their rounding to the grid, of the encryption's noise and
	// of what is added. To a sum that parties open with Threshold nothing is added: what hides
	// their shares is far below a step of the grid.
	ErrorOfMean float64
}

// floodFactor is how many times wider than the encryption's own noise the noise is that
// hides it.
const floodFactor = 8

// SlotUnit is the grid integer that stands in a slot as 1: no sum is larger, so that
// the scale is used whole.
const SlotUnit = 1 << 30

// ErrBudget means that a sum would leave fewer bits than requested.
var ErrBudget = errors.New("noise budget exhausted")

// sigmas is the distance, in standard deviations, that a sum of noise keeps but
// with probability below 2^-160 for one value: below 2^-128 for 2^32 of them.
const sigmas = 15

// Budget computes what a sum of contributions leaves, or refuses it.
func (s Set) Budget(contributions int) (Budget, error) {
	if contributions < 1 || contributions > s.MaxContributions {
		return Budget{}, fmt.Errorf("%s: got %d contributions, want 1 to %d: %w", s.ID, contributions, s.MaxContributions, ErrBudget)
	}
	n, k := float64(int(1)<<s.LogN), float64(contributions)
	b := Budget{Contributions: contributions}
	// Public-key encryption: e0 + e1*s + e*u, secrets of variance 2/3.
	b.NoiseSD = math.Sqrt(k * s.ErrorVariance * (1 + 2*n*2/3))
	b.NoiseBound = sigmas * b.NoiseSD
	b.NoiseBits = s.LogQ() - 1 - math.Log2(b.NoiseBound)
	if s.Encoding == Slots {
		// A slot gathers the noise of all coefficients; values are on a grid that
		// the published 32-bit sum can hold.
		b.Limit = int32(float64(SlotUnit) / k)
		b.GridSD = b.NoiseSD * math.Sqrt(n) / math.Exp2(float64(s.LogScale)) * SlotUnit
		b.FloodSD = floodFactor * math.Max(1, b.GridSD) // rounding to the grid hides a step by itself
	} else {
		b.Limit = int32(min((math.Exp2(s.LogQ()-1)-b.NoiseBound)/k, math.Exp2(s.LogQ()-2)))
		b.GridSD, b.FloodSD = b.NoiseSD, floodFactor*b.NoiseSD
	}
	variance := k/4 + b.GridSD*b.GridSD // rounding at random has a variance of a quarter at most
	if s.ID != Threshold {
		variance += b.FloodSD * b.FloodSD
	}
	b.ErrorOfMean = math.Sqrt(variance) / k / float64(b.Limit)
	if b.NoiseBits <= 0 || b.Limit < 256 {
		return Budget{}, fmt.Errorf("%s: no bits are left after %d contributions: %w", s.ID, contributions, ErrBudget)
	}
	return b, nil
}

// Require is Budget, and refuses a sum that leaves fewer than threshold NoiseBits.
func (s Set) Require(contributions, threshold int) (Budget, error) {
	b, err := s.Budget(contributions)
	if err == nil && b.NoiseBits < float64(threshold) {
		err = fmt.Errorf("%s: %.1f bits are left after %d contributions, want at least %d: %w", s.ID, b.NoiseBits, contributions, threshold, ErrBudget)
	}
	return b, err
}
