package ckks

import (
	"errors"
	"fmt"
	"math"
	"math/big"

	"github.com/tuneinsight/lattigo/v6/core/rlwe"
	"github.com/tuneinsight/lattigo/v6/schemes/ckks"
)

// ErrRange means a value that no ciphertext of the set can carry, or a decryption that cannot be
// a sum: a wrong key, or noise over its budget.
var ErrRange = errors.New("ckks: value out of range")

// Layout is the placement of values in the N/2 complex slots.
type Layout int

// The layouts: one value in the real part of each slot, in the order of SEAL and
// TenSEAL; or two values in each slot, which halves bytes and time for sums.
const (
	Real Layout = 1 + iota
	Pairs
)

// Values is the number of values in one ciphertext; 0 for an unknown layout.
func (p Params) Values(l Layout) int {
	if l != Real && l != Pairs {
		return 0
	}
	return p.N() / 2 * int(l)
}

// slotOrder is the library's slot for each value of a layout's slots. Slot i is the
// value of the polynomial at a root of unity, which is the 5^i-th here and in OpenFHE,
// and the 3^i-th in SEAL: the same roots and their conjugates, in another order. A
// real value does not see which of the two conjugates it stands at.
func (s *scheme) slotOrder(l Layout) []int {
	half, m := s.N()/2, 2*s.N()
	order := make([]int, half)
	at := make([]int, m)
	for i, root := 0, 1; i < half; i, root = i+1, root*5%m {
		order[i] = i
		at[root], at[m-root] = i, i
	}
	if l == Real {
		for i, root := 0, 1; i < half; i, root = i+1, root*3%m {
			order[i] = at[root]
		}
	}
	return order
}

// Encryptor encrypts under one public key, with the system's randomness. It is not safe for
// concurrent use.
type Encryptor struct {
	*scheme
	layout   Layout
	enc      *rlwe.Encryptor
	encoder  *ckks.Encoder
	scale    float64    // of the encoder
	multiple *big.Int   // what that scale lacks; nil for nothing
	plain    [][]uint64 // the encoded values
	cipher   *rlwe.Ciphertext
	slots    []complex128
	order    []int
}

// NewEncryptor returns an encryptor for a public key made by GenerateKey or CombineKeys.
func NewEncryptor(p Params, public []byte, layout Layout) (*Encryptor, error) {
	s, err := newScheme(p)
	if err != nil {
		return nil, err
	}
	common, b, err := s.parseKey(public)
	if err != nil {
		return nil, err
	}
	a := newPoly(s.N(), len(s.primes()))
	uniform(a, s.primes(), stream("fedagg a", s.digest, common[:]))
	return s.encryptor(s.encryptionKey(b, a), layout)
}

func (s *scheme) encryptor(key *rlwe.PublicKey, layout Layout) (*Encryptor, error) {
	if s.Values(layout) == 0 {
		return nil, fmt.Errorf("unknown layout %d: %w", layout, ErrParams)
	}
	e := &Encryptor{
		scheme: s, layout: layout,
		enc:     rlwe.NewEncryptor(s.lib, key),
		encoder: ckks.NewEncoder(s.lib, maxFloatScale),
		plain:   newPoly(s.N(), len(s.Q)),
		cipher:  ckks.NewCiphertext(s.lib, 1, s.lib.MaxLevel()),
		slots:   make([]complex128, s.N()/2),
		order:   s.slotOrder(layout),
	}
	// In coefficient form the encryption ends without a transform, and another
	// library's order of transformed coefficients never matters.
	e.cipher.IsNTT = false
	scale := s.LogScale
	if scale > maxFloatScale {
		scale = 40
		e.multiple = new(big.Int).Lsh(big.NewInt(1), uint(s.LogScale-scale))
	}
	e.scale = math.Exp2(float64(scale))
	return e, nil
}

// Encrypt encrypts up to Values values, followed by zeros, into dst of CiphertextBytes. A value
// that is not a number or is above MaxValue is refused: the library would encode something else.
func (e *Encryptor) Encrypt(dst []byte, values []float64) error {
	if len(values) > e.Values(e.layout) || len(dst) != e.CiphertextBytes() {
		return fmt.Errorf("%d values into a buffer of %d bytes: %w", len(values), len(dst), ErrRange)
	}
	limit := e.MaxValue()
	for i, v := range values {
		if !(math.Abs(v) <= limit) {
			return fmt.Errorf("value %d: %w", i, ErrRange)
		}
	}
	e.fill(values)
	if err := errors.Join(e.encode(), e.enc.EncryptZero(e.cipher)); err != nil {
		return fmt.Errorf("encrypt: %w", err)
	}
	e.lib.RingQ().Add(e.cipher.Value[0], poly(e.plain), e.cipher.Value[0])
	rest := packPoly(dst, e.cipher.Value[0].Coeffs, e.Q)
	packPoly(rest, e.cipher.Value[1].Coeffs, e.Q)
	return nil
}

func (e *Encryptor) fill(values []float64) {
	clear(e.slots)
	each := int(e.layout)
	for i, v := range values {
		if slot := &e.slots[e.order[i/each]]; i%each == 0 {
			*slot = complex(v, 0)
		} else {
			*slot += complex(0, v)
		}
	}
}

// encode embeds the slots and rounds to residues. The library's own rounding
// allocates for each coefficient.
func (e *Encryptor) encode() error {
	if err := e.encoder.IFFT(e.slots, e.LogN-1); err != nil {
		return err
	}
	half := e.N() / 2
	for i, q := range e.Q {
		low, high := e.plain[i][:half], e.plain[i][half:]
		for k, v := range e.slots {
			low[k] = residue(real(v)*e.scale, q)
			high[k] = residue(imag(v)*e.scale, q)
		}
	}
	if e.multiple != nil {
		e.lib.RingQ().MulScalarBigint(poly(e.plain), e.multiple, poly(e.plain))
	}
	return nil
}

// residue rounds a number below 2^62.
func residue(v float64, q uint64) uint64 {
	x := int64(math.RoundToEven(v))
	sign := uint64(x >> 63)
	r := (uint64(x) ^ sign) - sign // its absolute value
	if r >= q {
		r %= q
	}
	r = (r ^ sign) - sign
	return r + q&sign&-((r|-r)>>63)
}

// Wipe forgets the last values.
func (e *Encryptor) Wipe() {
	clear(e.slots)
	clearAll(e.plain)
}
