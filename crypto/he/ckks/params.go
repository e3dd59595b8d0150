package ckks

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/bits"

	"github.com/tuneinsight/lattigo/v6/ring"
	"github.com/tuneinsight/lattigo/v6/schemes/ckks"
)

// ErrParams means parameters that are malformed or below the security table.
var ErrParams = errors.New("ckks: parameters refused")

// The distributions are the same in every set: uniform ternary secrets, and errors
// of standard deviation 3.2 cut at six of them.
const (
	secretDensity = 2.0 / 3
	sigma         = 3.2
	errorBound    = 6 * sigma
)

// Limits on parameters.
const (
	minLogN, maxLogN = 10, 15
	maxPrimes        = 8
	minPrimeBits     = 20
	maxPrimeBits     = 60
	// maxFloatScale keeps an encoded value inside a float64; a larger scale is reached
	// by multiplying residues.
	maxFloatScale = 53
	// headroom is what the modulus leaves above the scale: a sum of values and its
	// noise has to fit.
	headroom = 8
)

// Params are the numbers of a set. Its name, digest and budget are up to the callers.
type Params struct {
	// LogN is the logarithm of the ring degree N.
	LogN int
	// Q are the primes of ciphertexts, P the special primes that a public key has in
	// addition: it encrypts modulo QP and divides by P.
	Q, P []uint64
	// LogScale is the logarithm of the factor between a value and its encoding.
	LogScale int
}

// Template is the set of the configuration template (docs/architecture.md): N = 16384, moduli of
// 60, 40 and 40 bits with a special one of 60 bits, scale 2^40. The primes are those
// that SEAL's CoeffModulus::Create, and with it TenSEAL, takes: of the primes of b
// bits that are 1 modulo 2N, the largest, as many as the list names b, from the
// smallest to the largest. OpenFHE chooses its own.
func Template() Params {
	return Params{LogN: 14, Q: []uint64{1152921504606683137, 1099508121601, 1099510054913}, P: []uint64{1152921504606748673}, LogScale: 40}
}

// Threshold is the set of threshold decryption: the noise that hides a share needs
// primes wide enough for it, and a scale far above it. Same degree and rule, moduli
// of 60 and 60 bits with a special one of 60 bits, scale 2^100.
func Threshold() Params {
	return Params{LogN: 14, Q: []uint64{1152921504606584833, 1152921504606683137}, P: []uint64{1152921504606748673}, LogScale: 100}
}

func prime(p uint64) bool { return new(big.Int).SetUint64(p).ProbablyPrime(32) }

// ceiling is the largest log2 of a modulus with 128-bit security against quantum
// attackers, for these distributions (Homomorphic Encryption Standard 2018; the row
// is below the classical one and that of ePrint 2024/463).
func ceiling(logN int) float64 {
	return [...]float64{10: 25, 11: 51, 12: 101, 13: 202, 14: 411, 15: 827}[logN]
}

// Check refuses parameters that are malformed or below the security table. The
// library under this package checks neither security nor headroom.
func (p Params) Check() error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf(format+": %w", append(args, ErrParams)...)
	}
	if p.LogN < minLogN || p.LogN > maxLogN {
		return refuse("ring degree 2^%d is outside 2^%d to 2^%d", p.LogN, minLogN, maxLogN)
	}
	if len(p.Q) < 1 || len(p.P) < 1 || len(p.Q)+len(p.P) > maxPrimes {
		return refuse("got %d ciphertext and %d special primes, want at least one of each and at most %d in all", len(p.Q), len(p.P), maxPrimes)
	}
	seen := map[uint64]bool{}
	for _, q := range p.primes() {
		switch {
		case seen[q]:
			return refuse("prime %d appears twice", q)
		case bits.Len64(q) < minPrimeBits || bits.Len64(q) > maxPrimeBits:
			return refuse("prime %d must have %d to %d bits", q, minPrimeBits, maxPrimeBits)
		case q%(2<<p.LogN) != 1:
			return refuse("%d is not 1 modulo %d", q, 2<<p.LogN)
		case !prime(q):
			return refuse("%d is not prime", q)
		}
		seen[q] = true
	}
	if total := logOf(p.primes()); total > ceiling(p.LogN) {
		return refuse("a modulus of %.1f bits at ring degree %d exceeds the table's limit of %.0f", total, 1<<p.LogN, ceiling(p.LogN))
	}
	if level := p.level(); p.LogScale < 1 || level >= len(p.Q) || float64(p.LogScale+headroom) > logOf(p.Q[:level+1]) {
		return refuse("scale 2^%d does not fit a modulus of %.1f bits", p.LogScale, logOf(p.Q))
	}
	return nil
}

// primes are those of Q, then those of P.
func (p Params) primes() []uint64 { return append(append([]uint64(nil), p.Q...), p.P...) }

// level is how many primes beyond the first a decryption needs: those by which it
// divides, so that the scale fits a float64. It is 0 for the template.
func (p Params) level() int {
	rest, level := float64(p.LogScale), 0
	for rest > maxFloatScale && level+1 < len(p.Q) {
		level++
		rest -= math.Log2(float64(p.Q[level]))
	}
	if rest > maxFloatScale {
		return len(p.Q)
	}
	return level
}

// MaxValue is the largest value of a contribution or a sum. The other half of the modulus is
// left for noise, and for detecting a wrong key.
func (p Params) MaxValue() float64 {
	return math.Exp2(math.Floor(logOf(p.Q[:p.level()+1])) - 1 - float64(p.LogScale))
}

// N is the ring degree.
func (p Params) N() int { return 1 << p.LogN }

// Text is the canonical description that the digest covers.
func (p Params) Text() string {
	text := fmt.Sprintf("anchorhold/fedagg/1\nlogn %d\n", p.LogN)
	for _, q := range p.Q {
		text += fmt.Sprintf("q %d\n", q)
	}
	for _, q := range p.P {
		text += fmt.Sprintf("p %d\n", q)
	}
	return text + fmt.Sprintf("logscale %d\nsecret uniform-ternary\nsigma 3.2\n", p.LogScale)
}

// Digest is the SHA-256 of Text. Keys and shares carry it.
func (p Params) Digest() [32]byte { return sha256.Sum256([]byte(p.Text())) }

func logOf(primes []uint64) (sum float64) {
	for _, q := range primes {
		sum += math.Log2(float64(q))
	}
	return sum
}

// library checks the parameters and makes the library's from them.
func (p Params) library() (ckks.Parameters, error) {
	if err := p.Check(); err != nil {
		return ckks.Parameters{}, err
	}
	c, err := ckks.NewParametersFromLiteral(ckks.ParametersLiteral{
		LogN: p.LogN, Q: p.Q, P: p.P,
		Xs:              ring.Ternary{P: secretDensity},
		Xe:              ring.DiscreteGaussian{Sigma: sigma, Bound: errorBound},
		LogDefaultScale: p.LogScale,
	})
	if err != nil {
		err = fmt.Errorf("%w: %w", err, ErrParams)
	}
	return c, err
}
