// Package params names the parameter sets of encrypted sums, and checks them against the security
// tables.
//
// A [Set] returned by [Lookup] is one of a fixed list, has a digest that covers every number in
// it, and is inside the stricter of the published 128-bit tables, object by object. The package
// trusts those tables. It refuses unknown names, a known name with a different digest, and sums
// that leave fewer bits than requested.
//
// Rounds, participants, aggregators and the command line refer to sets by these names.
package params

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strings"
)

// Encoding says where the values stand in a plaintext.
type Encoding string

// The encodings. Coefficients serve sums alone: the noise is not spread by an
// embedding, and twice as many real values fit.
const (
	Coefficients Encoding = "coefficients"
	Slots        Encoding = "slots"
)

// ShareBlockBytes is a party's share in decrypting one ciphertext of Threshold: a
// head of 98 bytes, and one polynomial.
const ShareBlockBytes = 98 + (1<<14)*(60+60)/8

// Set is one immutable parameter set of CKKS. A set in use never changes; another
// number is another set.
type Set struct {
	// ID is the set's name, version included.
	ID string
	// Encoding says where values stand.
	Encoding Encoding
	// LogN is the logarithm of the ring degree.
	LogN int
	// Q are the primes of ciphertexts, P those of evaluation keys and of
	// encryption with a special prime.
	Q, P []uint64
	// LogScale is the logarithm of the scale of slots; coefficients carry
	// integers on a grid instead.
	LogScale int
	// ErrorVariance is the variance of fresh errors. Secrets are uniform ternary.
	ErrorVariance float64
	// Lanes is the number of ciphertexts in one block of an upload.
	Lanes int
	// MaxContributions is the most that one sum may add.
	MaxContributions int
	// For says in one line what the set is for.
	For string
}

// Default is the set that a round takes when none is named.
const Default = "sum-2048-27"

// Template is the set of the configuration template (docs/architecture.md).
const Template = "ckks-16384"

// Threshold is the set of rounds whose key several parties hold.
const Threshold = "ckks-16384-threshold"

// All returns every set, the default first.
func All() []Set {
	return []Set{
		{
			ID: Default, Encoding: Coefficients, LogN: 11, Q: []uint64{134176769}, ErrorVariance: 12, Lanes: 8,
			MaxContributions: 1024, For: "sums only: one prime, 6.75 bytes per value",
		},
		{
			ID: Template, Encoding: Slots, LogN: 14, LogScale: 40, ErrorVariance: 10.24, Lanes: 1,
			// The primes that SEAL takes for the bit sizes 60, 40, 40 and 60.
			Q:                []uint64{1152921504606683137, 1099508121601, 1099510054913},
			P:                []uint64{1152921504606748673},
			MaxContributions: 1 << 16, For: "exchange with OpenFHE, SEAL and TenSEAL: the configuration template's parameters",
		},
		{
			ID: Threshold, Encoding: Slots, LogN: 14, LogScale: 100, ErrorVariance: 10.24, Lanes: 1,
			// Wide primes and a large scale: the noise that hides a party's share has room.
			Q:                []uint64{1152921504606584833, 1152921504606683137},
			P:                []uint64{1152921504606748673},
			MaxContributions: 1 << 16, For: "keys shared by several parties, none of whom has the whole key",
		},
	}
}

// ErrUnknown means an unknown set.
var ErrUnknown = errors.New("unknown parameter set")

// Lookup returns the set of a name.
func Lookup(id string) (Set, error) {
	var known []string
	for _, s := range All() {
		if s.ID == id {
			return s, nil
		}
		known = append(known, s.ID)
	}
	return Set{}, fmt.Errorf("%q: %w; known sets are %s", id, ErrUnknown, strings.Join(known, ", "))
}

// Match returns the set with the ring degree, the bit sizes of all primes and the scale given by
// a configuration in the template's form.
func Match(degree int, modulusBits []int, logScale int) (Set, error) {
	for _, s := range All() {
		sizes := make([]int, 0, 4)
		for _, p := range append(append([]uint64(nil), s.Q...), s.P...) {
			sizes = append(sizes, bits.Len64(p-1))
		}
		if degree == 1<<s.LogN && fmt.Sprint(sizes) == fmt.Sprint(modulusBits) && (logScale == s.LogScale || s.Encoding == Coefficients) {
			return s, nil
		}
	}
	return Set{}, fmt.Errorf("degree %d, modulus %v, scale 2^%d: %w", degree, modulusBits, logScale, ErrUnknown)
}

// Text is the canonical description that the digest covers.
func (s Set) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "anchorhold/heparams/1\nid %s\nscheme CKKS\nencoding %s\nlogn %d\n", s.ID, s.Encoding, s.LogN)
	for _, q := range s.Q {
		fmt.Fprintf(&b, "q %d\n", q)
	}
	for _, p := range s.P {
		fmt.Fprintf(&b, "p %d\n", p)
	}
	fmt.Fprintf(&b, "logscale %d\nsecret uniform-ternary\nerror-variance %g\nlanes %d\nmax-contributions %d\n",
		s.LogScale, s.ErrorVariance, s.Lanes, s.MaxContributions)
	return b.String()
}

// Digest is the SHA-256 of Text.
func (s Set) Digest() [32]byte { return sha256.Sum256([]byte(s.Text())) }

// LogQ is the logarithm of the ciphertext modulus, LogQP with the special primes.
func (s Set) LogQ() float64 { return logOf(s.Q) }

// LogQP is the logarithm of the whole modulus.
func (s Set) LogQP() float64 { return logOf(s.Q) + logOf(s.P) }

func logOf(primes []uint64) (sum float64) {
	for _, p := range primes {
		sum += math.Log2(float64(p))
	}
	return sum
}

// ValuesPerBlock is the number of values in one block of an upload.
func (s Set) ValuesPerBlock() int {
	n := s.Lanes << s.LogN
	if s.Encoding == Slots {
		n /= 2
	}
	return n
}

// BlockBytes is the length of one block: two polynomials for each lane, residues
// packed at the bit length of their prime.
func (s Set) BlockBytes() int {
	n := 0
	for _, q := range s.Q {
		n += bits.Len64(q-1) * s.Lanes << s.LogN / 8
	}
	return 2 * n
}

// BytesPerValue is the size of one value on the wire.
func (s Set) BytesPerValue() float64 { return float64(s.BlockBytes()) / float64(s.ValuesPerBlock()) }
